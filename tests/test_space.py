"""The laws of the space: configs and rows undo each other, samples are legal, what is inactive is absent."""

import json
import math
import pickle
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mpibo.space import ENUMERABLE, Choice, Constant, Float, Int, Space
from mpibo.values import key

TUNE = {
    "lr": (1e-5, 1e-1, "log"),
    "layers": (1, 6),
    "batch": Int(16, 256, step=16),
    "optimizer": ["adam", "sgd"],
    "momentum": Float(0.0, 0.99, when="optimizer == 'sgd'"),
    "nesterov": Choice([True, False], when="momentum > 0.5"),
    "depth": Choice([None, 3, 10], ordered=True),
    "epochs": 3,
    "restarts": Constant((1, 2), when="nesterov"),
}
FORBID = ["layers > 4 and batch > 128"]


@pytest.fixture
def space():
    return Space(TUNE, forbid=FORBID)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


# ---- random spaces


@st.composite
def floats(draw, when):
    log = draw(st.booleans())
    low = draw(st.floats(1e-12, 1e12) if log else st.floats(-1e9, 1e9) | st.sampled_from([0.0, -1.0, 1e-7]))
    high = low + abs(low) * draw(st.floats(0.0, 1e6)) + draw(st.sampled_from([0.0, 1.0, 1e-3]))
    step = draw(
        st.sampled_from([0.1, 0.25, 0.3, 1.0, 7.0]).map(lambda part: part * (high - low) / 3 or None) | st.none()
    )
    step = draw(st.sampled_from([step, None if step is None else float(f"{step:.2g}")]))
    assume(step is None or step > high - low or step > 1e-12 * max(abs(low), abs(high)))
    return Float(low, high, log=log, step=step, when=when)


@st.composite
def ints(draw, when):
    log = draw(st.booleans())
    low = draw(st.integers(1 if log else -1000, 1000) | st.just(1 if log else -(2**48)))
    high = low + draw(st.integers(0, 20) | st.sampled_from([1000, 10**12 - 1000 if log else 2**48]))
    return Int(low, high, log=log, step=draw(st.integers(1, 7) | st.none()), when=when)


PLAIN = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([1.0, 0.5, -2.0, 0.0]) | st.text(max_size=2)
VALUES = PLAIN | st.tuples(PLAIN, PLAIN) | st.tuples(PLAIN)


def choices(when):
    values = st.lists(VALUES, min_size=1, max_size=5, unique_by=key)
    return st.builds(Choice, values, ordered=st.booleans(), when=st.just(when))


@st.composite
def comparisons(draw, known):
    """The text of a comparison of one of the parameters that are there."""
    name = draw(st.sampled_from(list(known)))
    p = known[name]
    written = name if name.isidentifier() else f"`{name}`"
    if p.levels is not None:
        level = st.sampled_from(p.levels)
        sign = draw(st.sampled_from(["==", "!=", "in", "not in"]))
        right = draw(st.lists(level, min_size=1, max_size=3).map(tuple) if "in" in sign else level)
        return f"{written} {sign} {right!r}"
    value = p.low + (p.high - p.low) * draw(st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0]))
    other = [f"`{n}`" for n, q in known.items() if q.levels is None and n != name]
    right = draw(st.just(repr(value)) | st.sampled_from([*other, repr(value)]))
    return f"{written} {draw(st.sampled_from(['<', '<=', '>', '>=', '!=']))} {right}"


@st.composite
def expressions(draw, known):
    text = draw(comparisons(known))
    for _ in range(draw(st.integers(0, 2))):
        joined = f"{text} {draw(st.sampled_from(['and', 'or']))} {draw(comparisons(known))}"
        text = draw(st.sampled_from([joined, f"not ({joined})"]))
    return text


@st.composite
def spaces(draw, finite=False):
    """A space of one to six parameters of all kinds, with conditions on earlier ones and forbidden combinations."""
    known = {}
    for i in range(draw(st.integers(1, 6))):
        when = draw(st.none() | expressions(known)) if known else None
        levels = choices(when) | st.builds(Constant, VALUES, when=st.just(when))
        small = levels | st.builds(Int, st.just(1), st.integers(1, 4), log=st.booleans(), when=st.just(when))
        known[f"p{i}" if i % 2 else f"p:{i}"] = draw(small if finite else levels | floats(when) | ints(when))
    forbid = draw(st.lists(expressions(known), max_size=2))
    try:
        return Space(known, forbid)
    except ValueError as error:
        if "no legal config" not in str(error):
            raise
        assume(False)


SEEDS = st.integers(0, 2**32 - 1)


def units(space, n, seed):
    free = sum(not isinstance(p, Constant) for p in space.parameters.values())
    return np.random.default_rng(seed).random((n, free))


def sampled(space, n, seed):
    """Samples of a space that is small or of which one config in a hundred is legal (else it takes long)."""
    assume(space.size <= ENUMERABLE or space.legal(space.spread(units(space, 1000, seed))).mean() > 0.01)
    return space.sample(n, np.random.default_rng(seed))


def same(one, other, space):
    """Equal configs: the very objects, floats to 1e-9 of themselves or of what their linear scale can hold."""
    assert list(one) == list(other)
    for name, value in one.items():
        p = space.parameters[name]
        assert type(value) is type(other[name])
        if isinstance(p, Float):
            scale = 0.0 if p.log else 1e-13 * max(abs(p.low), abs(p.high))
            assert p.low <= other[name] <= p.high
            assert math.isclose(value, other[name], rel_tol=1e-9, abs_tol=scale)
        else:
            assert key(value) == key(other[name])


@given(spaces(), SEEDS)
@settings(max_examples=80, deadline=None)
def test_configs_and_rows_undo_each_other(space, seed):
    """config -> encode -> decode is that config; encode(decode(X)) is snap(X) bit for bit; one row is as many rows."""
    X = sampled(space, 20, seed)
    configs = space.decode(X)
    assert X.shape == (20, space.dimension) and X.min(initial=0.0) >= 0.0 and X.max(initial=1.0) <= 1.0
    for config, again in zip(configs, space.decode(space.encode(configs)), strict=True):
        assert config == again
        same(config, again, space)
    encoded = space.encode(configs)
    assert encoded.tobytes() == X.tobytes() == space.snap(X).tobytes()
    assert np.concatenate([space.encode([config]) for config in configs]).tobytes() == encoded.tobytes()
    noise = np.random.default_rng(seed).random((20, space.dimension)) * 1.2 - 0.1
    snapped = space.snap(noise)
    assert snapped.tobytes() == space.encode(space.decode(noise)).tobytes() == space.snap(snapped).tobytes()
    assert space.legal(noise).tolist() == space.legal(snapped).tolist()


@given(spaces(), SEEDS)
@settings(max_examples=60, deadline=None)
def test_samples_are_legal_and_plain(space, seed):
    """Every sample passes ``check``, which gives it back; inactive names are absent; a choice is the space's object."""
    X = sampled(space, 20, seed)
    assert space.legal(X).all()
    for config in space.decode(X):
        assert space.check(config) == config
        assert list(config) == [name for name in space.names if name in config]
        for name, value in config.items():
            p = space.parameters[name]
            assert any(value is level for level in p.levels) if p.levels else type(value) is type(p.low)
        for name in set(space.names) - set(config):
            assert space.parameters[name].when is not None


@given(spaces(), SEEDS)
@settings(max_examples=60, deadline=None)
def test_text_forms(space, seed):
    """JSON and TOML, each through its text, and pickle give the same space, which also decodes alike."""
    X = sampled(space, 5, seed)
    text = json.dumps(space.to_json(), allow_nan=False)
    for other in (
        Space.from_json(json.loads(text)),
        Space.from_toml(space.to_toml()),
        pickle.loads(pickle.dumps(space)),
    ):
        assert other == space and hash(other) == hash(space) and other.parameters == space.parameters
        assert repr(other.decode(X)) == repr(space.decode(X))
    assert len(space.describe().splitlines()) == len(space.names) + len(space.forbid)
    assert repr(eval(repr(space), {k.__name__: k for k in (Space, Float, Int, Choice, Constant)})) == repr(space)


@given(spaces(finite=True), SEEDS)
@settings(max_examples=80, deadline=None)
def test_enumerate_is_complete(space, seed):
    """All that can be sampled is enumerated, each once, and all of it is legal."""
    X = space.enumerate(ENUMERABLE)
    assert space.legal(X).all() and space.snap(X).tobytes() == X.tobytes()
    rows = {row.tobytes() for row in X}
    assert len(rows) == len(X) <= space.size
    assert {row.tobytes() for row in sampled(space, 300, seed)} <= rows
    spread = space.spread(units(space, 300, seed))
    assert {row.tobytes() for row in spread[space.legal(spread)]} <= rows
    assert space.enumerate(space.size - 1) is None


@given(spaces(), SEEDS, st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_neighbours_differ_in_one_active_parameter(space, seed, count):
    """Each neighbour is a legal config; but for what became active or inactive, one active parameter changed."""
    rng = np.random.default_rng(seed)
    x = sampled(space, 1, seed)[0]
    here = space.decode(x[None])[0]
    found = space.neighbours(x, rng, count)
    assert len({row.tobytes() for row in found} | {x.tobytes()}) == len(found) + 1
    assert space.snap(found).tobytes() == found.tobytes() and space.legal(found).all()
    for there in space.decode(found):
        changed = [name for name in here if name in there and key(here[name]) != key(there[name])]
        assert len(changed) == 1


@given(spaces(), SEEDS)
@settings(max_examples=60, deadline=None)
def test_trim_drops_what_is_inactive(space, seed):
    """A row of a table has something in every cell; what is left of it is the config."""
    first, second = space.decode(sampled(space, 2, seed))
    assert space.trim(second | first) == first
    assert space.trim(first) == first


@given(spaces(), SEEDS, st.data())
@settings(max_examples=60, deadline=None)
def test_complete_keeps_what_is_given(space, seed, data):
    """A part of a legal config becomes a legal config; what is active of the given values stays."""
    whole = space.decode(sampled(space, 1, seed))[0]
    part = {name: whole[name] for name in data.draw(st.lists(st.sampled_from(list(whole)), unique=True))}
    try:
        config = space.complete(part, np.random.default_rng(seed))
    except ValueError as error:
        if "found no legal config" not in str(error) or space.size <= ENUMERABLE:
            raise
        return
    assert space.check(config) == config
    for name, value in part.items():
        assert name not in config or key(config[name]) == key(value)


# ---- one by one


def test_encoding_column_by_column(space):
    """The layout that models rely on, written out."""
    assert [(c.name, c.kind, c.index) for c in space.columns] == [
        ("lr", "numeric", 0), ("layers", "numeric", 1), ("batch", "numeric", 2), ("optimizer", "onehot", 3),
        ("optimizer", "onehot", 3), ("momentum", "numeric", 4), ("momentum", "activity", 4), ("nesterov", "onehot", 5),
        ("nesterov", "onehot", 5), ("nesterov", "activity", 5), ("depth", "numeric", 6),
    ]  # fmt: skip
    adam = {"lr": 1e-3, "layers": 6, "batch": 16, "optimizer": "adam", "depth": 3, "epochs": 3}
    sgd = adam | {"optimizer": "sgd", "momentum": 0.99, "nesterov": False, "depth": None}
    assert space.dimension == len(space.columns) == 11 and space.size == math.inf
    np.testing.assert_allclose(
        space.encode([adam, sgd]),
        [[0.5, 1, 0, 1, 0, 0.5, 0, 0.5, 0.5, 0, 0.5], [0.5, 1, 0, 0, 1, 1, 1, 0, 1, 1, 0]],
        rtol=1e-12,
    )
    inactive = Space({"a": [0, 1, 2], "b": Choice(["x", "y", "z"], when="a == 2")})
    assert inactive.encode([{"a": 0}]).tolist() == [[1, 0, 0, 1 / 3, 1 / 3, 1 / 3, 0]]
    assert Space({"a": Int(3, 3), "b": Choice(["x"], ordered=True)}).encode([{"a": 3, "b": "x"}]).tolist() == [
        [0.5, 0.5]
    ]


def test_equal_configs_have_equal_rows():
    """1 and 1.0 for a number, -0.0 and 0.0, NumPy scalars, lists from JSON: the same config, so the same bits."""
    ranges = {"x": (-1.0, 1.0), "z": (0.0, 9.0), "n": (1, 1000, "log"), "c": (1.0, 9.0, "log")}
    space = Space(ranges | {"t": [(1, 2), (3, 4)]})
    one = {"x": 0.0, "z": 0.0, "n": 37, "c": 2.0, "t": (3, 4)}
    for other in (
        {"x": -0.0, "z": -0.0, "n": 37.0, "t": [3, 4], "c": 2},
        {"x": np.float32(0), "z": np.int64(0), "n": np.int16(37), "t": (np.int64(3), 4), "c": np.float64(2)},
        json.loads(json.dumps(one)),
    ):
        for many in (1, 50):
            assert space.encode([other] * many).tobytes() == space.encode([one] * many).tobytes()
        assert repr(space.check(other)) == repr(one)


def test_the_objective_gets_that_very_object(rng):
    """None, bool, int, float, text and tuples come back as the objects they are; 1, 1.0 and True are different."""
    values = [None, True, 1, 1.0, "1", (1, "a", None), (True, 2.0), False, 0]
    space = Space({"a": values, "b": Choice(values, ordered=True), "c": np.float64(0.5)})
    for config in space.decode(space.sample(200, rng)):
        assert any(config["a"] is value for value in values) and any(config["b"] is value for value in values)
        assert type(config["c"]) is float
        assert repr(space.decode(space.encode([json.loads(json.dumps(config))]))[0]) == repr(config)
    assert len(space.enumerate()) == 81
    assert space.check({"a": [1, "a", None], "b": np.int64(1)}) == {"a": values[5], "b": 1, "c": 0.5}


def test_shorthand():
    """Tuples are ranges, lists choices, plain values constants; NumPy scalars count as numbers."""
    short = {
        "a": (0.0, 1), "b": (1, 6), "c": (1e-5, 1e-1, "log"), "d": (1, 64, "log"), "e": ["x", None], "f": "x",
        "g": None, "h": (np.float64(0), np.int64(1)), "i": (np.int64(2), np.int64(4)), "j": False,
    }  # fmt: skip
    long = {
        "a": Float(0.0, 1.0), "b": Int(1, 6), "c": Float(1e-5, 1e-1, log=True), "d": Int(1, 64, log=True),
        "e": Choice(["x", None]), "f": Constant("x"), "g": Constant(None), "h": Float(0.0, 1.0), "i": Int(2, 4),
        "j": Constant(False),
    }  # fmt: skip
    assert Space(short) == Space(long)
    assert Space({"a": [1]}) != Space({"a": [True]}) != Space({"a": [1.0]}) and Choice([1]) != Choice([True])
    assert Choice([1]) == Choice([1]) and Float(0, 1) == Float(0.0, 1.0) != Int(0, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Space({"a": (0, 1)}), r"'a': \(0, 1\) could mean two things: write \(0.0, 1.0\).*Int\(0, 1\)"),
        (lambda: Space({"a": (2.0, 1.0)}), "'a': Float needs low <= high, got low=2.0, high=1.0"),
        (lambda: Space({"a": (5, 1)}), "'a': Int needs low <= high"),
        (lambda: Space({"a": (0.0, 1.0, "log")}), "'a': Float on a log scale needs low > 0, got low=0.0"),
        (lambda: Space({"a": (0, 8, "log")}), "'a': Int on a log scale needs low > 0"),
        (lambda: Space({"a": (0.0, math.nan)}), "'a': Float needs a finite high, got nan"),
        (lambda: Space({"a": (0.0, math.inf)}), "needs a finite high"),
        (lambda: Space({"a": (-1.7e308, 1.7e308)}), "needs a range that a float can hold"),
        (lambda: Space({"a": (0, 2**60)}), "needs numbers within"),
        (lambda: Space({"a": (1, 2, "lgo")}), r"a range is \(low, high\) or"),
        (lambda: Space({"a": (1, 2, 3)}), "write a list for a choice"),
        (lambda: Space({"a": ("x", "y")}), "write a list for a choice"),
        (lambda: Space({"a": (False, True)}), "write a list for a choice"),
        (lambda: Space({"a": []}), "'a': Choice needs at least one value"),
        (lambda: Space({"a": [1, 2, 1]}), "'a': Choice has the value 1 twice in 1, 2, 1"),
        (lambda: Space({"a": [1, np.int64(1)]}), "twice"),
        (lambda: Space({"a": [(1, 2), (1, 2)]}), r"the value \(1, 2\) twice"),
        (lambda: Space({"a": [0.0, math.inf]}), "a value must be finite, got inf"),
        (lambda: Space({"a": [[1, 2], [3]]}), r"a value must be None.*got \[1, 2\]"),
        (lambda: Space({"a": [print]}), "a value must be None, bool"),
        (lambda: Space({"a": {"x": 1}}), "a value must be None"),
        (lambda: Space({"a": np.arange(3)}), "a value must be None"),
        (lambda: Choice("abc"), "needs a list of values, got 'abc'"),
        (lambda: Float("0", 1), "needs a number as low, got '0'"),
        (lambda: Float(True, 2.0), "needs a number as low, got True"),
        (lambda: Int(1, 2.5), "needs a whole number as high, got 2.5"),
        (lambda: Float(0.0, 1.0, step=0.0), "needs step > 0"),
        (lambda: Float(0.0, 1.0, step=1e-17), "needs steps of at least 1e-12 .* got steps of 1e-17"),
        (lambda: Float(5e11, 5.1e11, step=0.4), "needs steps of at least 1e-12 of its largest number"),
        (lambda: Int(1, 10**13, log=True), "Int needs steps on a log scale of at least 1e-12 of its largest number"),
        (lambda: Float(0.0, 1.0, log="log"), "needs log=True or log=False"),
        (lambda: Float(0.0, 1.0, default=2.0), r"default must lie in \[0.0, 1.0\], got 2.0"),
        (lambda: Int(1, 9, step=4, default=4), "default must be 1 plus a whole number of steps of 4, got 4"),
        (lambda: Choice(["a"], default=None), "default must be one of 'a', got None"),
        (lambda: Float(0.0, 1.0, when=3), "when must be an expression in text"),
        (lambda: Space({"trial": 1}), "the name 'trial' is reserved"),
        (lambda: Space({"config": 1}), "the name 'config' is reserved"),
        *(
            (lambda name=name: Space({name: 1}), "without blanks, quotes, = and braces")
            for name in ("", "a b", "a\n", "'", '"', "`", "a=b", "{a", "}", "\u2003")
        ),
        (lambda: Space({3: 1}), "a parameter's name must be text, got 3"),
        (lambda: Space({}), "a space is a dict of at least one parameter"),
        (lambda: Space([("a", 1)]), "a space is a dict"),
        (lambda: Space({"a": 1}, forbid="a > 1"), "forbid must be a list of expressions"),
        (lambda: Space({"a": Int(1, 2, when="b > 1")}), "when of 'a': unknown name 'b'"),
        (lambda: Space({"a": Int(1, 2, when="a > 1")}), "go in a circle: a needs a"),
        (
            lambda: Space({"a": Int(1, 2, when="c > 1"), "b": Int(1, 2, when="a > 1"), "c": Int(1, 2, when="b > 1")}),
            "go in a circle: a needs c needs b needs a",
        ),
        (lambda: Space({"a": (1, 6)}, ["a > 3", "a < 4"]), "no legal config: forbid rules out all 6 combinations"),
        (lambda: Space({"a": (0.0, 1.0)}, ["a >= 0.5", "a < 0.5"]), "no legal config among 200,000 random ones"),
        (lambda: Space({"a": 3}, ["a == 3"]), "no legal config"),
    ],
)  # fmt: skip
def test_one_clear_error_each(make, message):
    """What a space cannot be is said in one line, with the name of the parameter."""
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lrr": 1.0}, "unknown parameter 'lrr'.*; did you mean 'lr'"),
        ({"lr": ...}, "lr is missing"),
        ({"lr": ..., "lrr": 0.1}, "unknown parameter 'lrr'.*; did you mean 'lr'"),
        ({"lr": 1.0}, r"lr must lie in \[1e-05, 0.1\], got 1.0"),
        ({"lr": math.nan}, "lr must lie in"),
        ({"lr": "0.01"}, "lr must be a number in .* got '0.01'"),
        ({"lr": None}, "lr must be a number"),
        ({"layers": 2.5}, "layers must be a whole number in .* got 2.5"),
        ({"layers": True}, "layers must be a whole number"),
        ({"layers": 10**400}, "layers must lie in"),
        ({"batch": 17}, "batch must be 16 plus a whole number of steps of 16, got 17"),
        ({"optimizer": "adamw"}, "optimizer must be one of 'adam', 'sgd', got 'adamw'"),
        ({"depth": "None"}, "depth must be one of None, 3, 10, got 'None'"),
        ({"nesterov": 1}, "nesterov must be one of True, False, got 1"),
        ({"optimizer": "adam"}, "momentum is given but inactive.*: it is active when optimizer == 'sgd'"),
        ({"nesterov": ...}, "nesterov is missing.*: it is active when momentum > 0.5"),
        ({"epochs": 4}, "epochs must be 3, got 4"),
        ({"nesterov": False}, "restarts is given but inactive.*: it is active when nesterov"),
    ],
)
def test_wrong_configs(space, changes, message):
    """``check`` and ``encode``, of one config or among many, name the parameter; ``encode`` also says which config."""
    good = {
        "lr": 1e-3, "layers": 2, "batch": 64, "optimizer": "sgd", "momentum": 0.9, "nesterov": True, "depth": None,
        "epochs": 3, "restarts": (1, 2),
    }  # fmt: skip
    bad = {name: value for name, value in (good | changes).items() if value is not ...}
    assert space.check(good) == good
    with pytest.raises(ValueError, match=message) as caught:
        space.check(bad)
    assert "\n" not in str(caught.value)
    for many in (2, 40):
        with pytest.raises(ValueError, match=message) as caught:
            space.encode([good] * many + [bad])
        assert f"in config {many}" in str(caught.value)
    fewer = {name: value for name, value in good.items() if name not in ("epochs", "restarts")}
    assert space.check(fewer) == good and space.encode([fewer] * 30).tobytes() == space.encode([good] * 30).tobytes()
    with pytest.raises(ValueError, match="the config is forbidden by 'layers > 4 and batch > 128'"):
        space.check(good | {"layers": 5, "batch": 144})


def test_levels():
    """Decimals stay decimals, and the last level is the largest ``low + k * step`` that is not over ``high``."""
    drop = Space({"x": Float(0.0, 1.0, step=0.3)})
    assert [c["x"] for c in drop.decode(drop.enumerate())] == [0.0, 0.3, 0.6, 0.9]
    tenths = Space({"x": Float(0.1, 0.7, step=0.1)})
    assert [c["x"] for c in tenths.decode(tenths.enumerate())] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    batch = Space({"n": Int(16, 100, step=32, log=True)})
    assert [c["n"] for c in batch.decode(batch.enumerate())] == [16, 48, 80] and batch.size == 3
    assert batch.encode([{"n": 16}, {"n": 80}]).tolist() == [[0.0], [1.0]]
    assert tenths.check({"x": 0.1 + 0.2}) == {"x": 0.3} and tenths.check({"x": 0.30000000001}) == {"x": 0.3}
    fine = Space({"x": Float(0.1 + 0.2, 1e5, step=0.1)})
    assert (fine.snap(fine.snap(np.array([[0.37]]))) == fine.snap(np.array([[0.37]]))).all()


def test_snap_takes_the_nearest_level():
    """On linear and on log scales the nearest row is the nearest level."""
    for p in (Int(1, 9), Int(1, 1000, log=True), Int(3, 50, step=7, log=True), Float(0.1, 2.0, step=0.3, log=True)):
        space = Space({"a": p})
        every = space.enumerate()[:, 0]
        u = np.linspace(0, 1, 997)
        nearest = np.abs(u[:, None] - every).min(axis=1)
        np.testing.assert_allclose(np.abs(space.snap(u[:, None])[:, 0] - u), nearest, atol=1e-12)


def test_floats_come_back_short_and_within_bounds():
    """What a person writes comes back as it was; bounds come back exactly."""
    space = Space({"a": (1e-300, 1e300, "log"), "b": (-1 / 3, 2 / 3), "c": (0.0, 1 / 3), "d": (1e-5, 0.1, "log")})
    for config in (
        {"a": 1e-300, "b": -1 / 3, "c": 0.0, "d": 1e-5},
        {"a": 1e300, "b": 2 / 3, "c": 1 / 3, "d": 0.1},
        {"a": 3e-7, "b": 0.1, "c": 1e-9, "d": 0.003},
        {"a": 1.5, "b": -0.123, "c": 0.25, "d": 2e-5},
    ):
        assert space.decode(space.encode([config])) == [config]


def test_sampling_is_uniform_over_levels_and_log_uniform(rng):
    """Levels come equally often, log scales by decades, both when drawn at random and when picked from a list."""
    space = Space(
        {"c": list("abcd"), "o": Choice([1, 2, 3, 4, 5], ordered=True), "n": (1, 4), "lr": (1e-4, 1.0, "log")}
    )
    configs = space.decode(space.sample(20_000, rng))
    for name, count in (("c", 4), ("o", 5), ("n", 4)):
        shares = Counter(config[name] for config in configs).values()
        assert len(shares) == count and max(abs(share / 20_000 - 1 / count) for share in shares) < 0.02
    decades = Counter(math.floor(math.log10(config["lr"])) for config in configs)
    assert max(abs(share / 20_000 - 1 / 4) for share in decades.values()) < 0.02
    log = Space({"n": (1, 64, "log")})
    drawn = Counter(config["n"] for config in log.decode(log.sample(40_000, rng)))
    picked = Counter(config["n"] for config in log.decode(log._legal.pick(40_000, rng)))
    assert all(abs(drawn[n] - picked[n]) < 6 * math.sqrt(drawn[n] + picked[n] + 1) for n in range(1, 65))


def test_rare_legal_configs_are_found(rng):
    """A small space is sampled even where one config in thousands is legal; a large one says that it can't be."""
    rare = Space(dict.fromkeys("abc", (1, 25)), ["not (a == 7 and b == 3 and c in (1, 2))"])
    assert {tuple(c.values()) for c in rare.decode(rare.sample(500, rng))} == {(7, 3, 1), (7, 3, 2)}
    assert rare.complete({"c": 2}, rng) == {"a": 7, "b": 3, "c": 2}
    with pytest.raises(ValueError, match=r"found no legal config with \{'a': 8\}"):
        rare.complete({"a": 8}, rng)
    thin = Space({"x": (0.0, 1.0), "y": (0.0, 1.0)}, ["x < 0.999 or y < 0.99"])
    assert thin.legal(thin.sample(20, rng)).all()
    with pytest.raises(ValueError, match=r"too few configs to sample 100000 obey forbid: \d+ of \d+,\d+ random ones"):
        Space({"x": (0.0, 1.0), "y": (0.0, 1.0)}, ["x < 0.9999 or y < 0.9"]).sample(100_000, rng)


def test_complete_makes_given_values_active(space, rng):
    """A start config that names momentum alone gets the optimizer that has it; what can't be active is dropped."""
    for _ in range(20):
        config = space.complete({"momentum": 0.9, "layers": 5}, rng)
        assert config["optimizer"] == "sgd" and config["momentum"] == 0.9 and config["batch"] <= 128
    assert "momentum" not in space.complete({"momentum": 0.9, "optimizer": "adam"}, rng)
    with pytest.raises(ValueError, match=r"momentum must lie in \[0.0, 0.99\], got 1.5"):
        space.complete({"momentum": 1.5}, rng)
    with pytest.raises(ValueError, match="unknown parameter 'momentun'; did you mean 'momentum'"):
        space.complete({"momentun": 0.5}, rng)


def test_neighbours_by_kind(rng):
    """All other levels of a small choice, one step both ways and further moves of a number, nothing of a constant."""
    space = Space({"c": list("abcd"), "n": (1, 100), "o": Choice([1, 2, 3], ordered=True), "k": 5})
    here = {"c": "a", "n": 50, "o": 2, "k": 5}
    found = space.decode(space.neighbours(space.encode([here])[0], rng))
    assert {c["c"] for c in found} == set("abcd") and {c["o"] for c in found} == {1, 2, 3}
    assert {49, 51} <= {c["n"] for c in found} and len({c["n"] for c in found}) > 4
    many = Space({"c": list(range(50))})
    assert len(many.neighbours(many.encode([{"c": 7}])[0], rng, count=6)) == 6
    assert Space({"c": ["only"]}).neighbours(np.array([1.0]), rng).shape == (0, 1)


def test_a_space_of_constants(rng):
    """It has one config, a row without columns."""
    space = Space({"a": 3, "b": Constant("x", when="a == 3"), "c": Constant("y", when="a == 4")})
    assert space.decode(space.sample(2, rng)) == [{"a": 3, "b": "x"}] * 2 and space.size == 1.0
    assert (
        space.enumerate().shape == (1, 0)
        and space.encode([{}] * 3).shape == (3, 0)
        and space.encode([]).shape == (0, 0)
    )
    assert space.sample(0, rng).shape == (0, 0) and space.neighbours(np.empty(0), rng).shape == (0, 0)


TOML = """
forbid = ["layers > 4 and batch > 128", "`svm:C` > 0.5 and not flag"]

[space]
lr = {float = [1e-5, 1e-1], log = true}
layers = {int = [1, 6], default = 2}
batch = {int = [16, 256], step = 16}
optimizer = ["adam", "sgd", {none = true}]
momentum = {float = [0, 0.99], when = "optimizer == 'sgd'"}
size = {choice = ["s", "m"], ordered = true, default = "m"}
kernel = [[1, 1], [3, 3]]
flag = [true, false]
"svm:C" = {float = [0.0, 1.0]}
epochs = 3
nothing = {none = true}
pair = {constant = [1, 2], when = "flag"}
"""


def test_toml():
    """The form of the documentation, read, written and read again."""
    space = Space.from_toml(TOML)
    assert space == Space(
        {
            "lr": Float(1e-5, 1e-1, log=True), "layers": Int(1, 6, default=2), "batch": Int(16, 256, step=16),
            "optimizer": Choice(["adam", "sgd", None]), "momentum": Float(0.0, 0.99, when="optimizer == 'sgd'"),
            "size": Choice(["s", "m"], ordered=True, default="m"), "kernel": Choice([(1, 1), (3, 3)]),
            "flag": Choice([True, False]), "svm:C": Float(0.0, 1.0), "epochs": 3, "nothing": None,
            "pair": Constant((1, 2), when="flag"),
        },
        forbid=["layers > 4 and batch > 128", "`svm:C` > 0.5 and not flag"],
    )  # fmt: skip
    assert Space.from_toml(space.to_toml()) == space
    zero = Space({"a": Int(-1, 1, default=0), "b": Float(0.0, 1.0, default=0.0), "c": Choice([1, None], default=None)})
    assert Space.from_toml(zero.to_toml()) == zero == Space.from_json(zero.to_json())
    odd = Space({'a"'[:1] + "\\": ["\x7f\x01\\", "é\U0001f600"], "1": [1e22, 1e-7, 5e-324]})
    assert Space.from_toml(odd.to_toml()) == odd


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1", r"expected a table \[space\]"),
        ("[space]\na = ", "not TOML"),
        ("[space]\na = 1\na = 2", "not TOML: Cannot overwrite a value"),
        ("forbidden = []\n[space]\na = 1", "unknown key 'forbidden'; known are space, forbid"),
        ("[space]\na = {flaot = [0, 1]}", "'a': a table needs one of the keys float, int, choice, constant, got flaot"),
        ("[space]\na = {float = [0, 1], lgo = true}", "'a': unknown key 'lgo'"),
        ("[space]\na = {float = [0, 1, 2]}", r"'a': expected float = \[low, high\]"),
        ("[space]\na = {int = 3}", "'a': int must be an array, got 3"),
        ("[space]\na = {int = [0, 1.5]}", "'a': Int needs a whole number as high"),
        ("[space]\na.b = 1", "'a': a table needs one of the keys"),
        ("[space]\na = 2020-01-01", "'a': a value must be None"),
        ("[space]\na = [{none = false}]", "'a': a value must be None"),
    ],
)
def test_wrong_files(tmp_path, text, message):
    """An error in a file starts with the file's name."""
    path = tmp_path / "space.toml"
    path.write_text(text)
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        Space.load(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_json_files(tmp_path, space):
    """JSON in either form; a name or key that comes twice is an error, as JSON's own readers take the last."""
    path = tmp_path / "space.json"
    path.write_text(json.dumps(space.to_json()))
    assert Space.load(path) == space
    path.write_text('{"space": {"a": {"float": [0, 1]}, "b": ["x", null]}, "forbid": ["a > 0.5"]}')
    assert Space.load(path) == Space({"a": (0.0, 1.0), "b": ["x", None]}, ["a > 0.5"])
    for text, message in {
        '{"space": {"a": 1, "a": 2}}': "the name 'a' is there twice",
        '{"parameters": [{"name": "a", "type": "constant", "value": 1}, {"name": "a", "type": "constant"}]}':
            "the parameter 'a' is there twice",
        '{"parameters": [{"name": "a", "type": "integer"}]}': "'a': a parameter in JSON is an object with a type",
        '{"parameters": [{"name": "a", "type": "int", "low": 1}]}': "'a': the key 'high' is missing",
        '{"parameters": [{"type": "int"}]}': "is an object with a name",
        '{"parameters": {}}': "a space in JSON is",
        "[1]": r"expected a table \[space\]",
        "{": "Expecting",
    }.items():  # fmt: skip
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            Space.load(path)
    with pytest.raises(ValueError, match=r"expected a \.toml or \.json file"):
        Space.load(tmp_path / "space.yaml")


def test_describe(space):
    """What the start of a run prints."""
    assert space.describe().splitlines() == [
        "lr         float     [1e-05, 0.1] log",
        "layers     int       [1, 6]",
        "batch      int       [16, 256] step 16",
        "optimizer  choice    'adam', 'sgd'",
        "momentum   float     [0.0, 0.99]        when optimizer == 'sgd'",
        "nesterov   choice    True, False        when momentum > 0.5",
        "depth      choice    None < 3 < 10",
        "epochs     constant  3",
        "restarts   constant  (1, 2)             when nesterov",
        "forbid  layers > 4 and batch > 128",
    ]


def test_importing_the_space_costs_little():
    """NumPy and the standard library are all that it needs."""
    code = "import sys, mpibo.space; print(*{'scipy', 'sklearn', 'ConfigSpace', 'h5py', 'mpi4py'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
