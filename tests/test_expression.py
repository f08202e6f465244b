"""Conditions in text: what they mean, what they refuse, and that arrays and single configs agree."""

import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibo.expression import All, Compare, Fixed, Name, Not, Some, names, parse, text_of
from mpibo.space import Choice, Float, Int, Space
from mpibo.values import alike, is_number

SPACE = {
    "lr": Float(1e-5, 1e-1, log=True),
    "layers": Int(1, 6),
    "optimizer": Choice(["adam", "sgd"]),
    "size": Choice(["s", "m", "l"], ordered=True),
    "depth": Choice([None, 3, 10]),
    "kernel": Choice([(1, 1), (3, 3)]),
    "fancy": Choice([True, False]),
    "kind": Choice([1, 1.0, True, "1"]),
    "svm:C": Float(0.0, 1.0),
    "momentum": Float(0.0, 1.0, when="optimizer == 'sgd'"),
}
BASE = {
    "lr": 0.01, "layers": 3, "optimizer": "sgd", "size": "m", "depth": 3, "kernel": (3, 3), "fancy": True, "kind": 1,
    "svm:C": 0.5, "momentum": 0.9,
}  # fmt: skip


def holds(text, **changes):
    """Whether an expression is true of BASE with some values changed; None leaves a name out."""
    config = {name: value for name, value in (BASE | changes).items() if value is not ...}
    test = Space(SPACE | {"probe": Float(0.0, 1.0, when=text)})
    rows = []
    for copies in (1, 20):  # one config and many take different ways
        for probe in ({"probe": 0.5}, {}):
            try:
                rows.append((test.encode([config | probe] * copies), bool(probe)))
            except ValueError:
                pass
    assert len(rows) == 2 and rows[0][1] is rows[1][1]
    return rows[0][1]


@pytest.mark.parametrize(
    ("text", "changes", "truth"),
    [
        ("layers > 2", {}, True),
        ("layers > 2", {"layers": 2}, False),
        ("2 < layers <= 4", {}, True),
        ("2 < layers <= 4", {"layers": 5}, False),
        ("3 == layers", {}, True),
        ("lr < 1e-2 or lr >= 0.05", {}, False),
        ("layers in (1, 3, 5)", {}, True),
        ("layers not in [1, 3, 5]", {}, False),
        ("layers in ()", {}, False),
        ("layers > -1", {}, True),
        ("optimizer == 'sgd' and not layers == 3", {}, False),
        ("optimizer in ('adam',) or fancy", {}, True),
        ("not fancy", {}, False),
        ("fancy == False", {"fancy": False}, True),
        ("True", {}, True),
        ("False or size == 'm'", {}, True),
        ("size < 'l'", {}, True),  # an ordered choice of text goes by position
        ("size > 's' and size >= 'm'", {}, True),
        ("depth == None", {"depth": None}, True),
        ("depth > 5", {"depth": None}, False),  # what is no number is not larger
        ("depth <= 3", {}, True),
        ("depth != 3", {"depth": None}, True),
        ("kernel == (3, 3)", {}, True),
        ("kernel in ((1, 1), (2.0, 2)) or kernel == [3, 3]", {"kernel": (1, 1)}, None),  # (2.0, 2) is no level
        ("kernel in ((1, 1), (3.0, 3))", {}, True),
        ("layers == depth", {}, True),
        ("layers < depth", {"depth": 10}, True),
        ("layers != depth", {"depth": None}, True),
        ("`svm:C` >= 0.5", {}, True),
        ("`svm:C`<lr", {}, False),
        ("size == 'm' and `size` == \"m\"", {}, True),
        ("momentum > 0.5", {}, True),
        ("momentum > 0.5", {"optimizer": "adam", "momentum": ...}, False),
        ("momentum != 0.5", {"optimizer": "adam", "momentum": ...}, False),
        ("momentum not in (0.5,)", {"optimizer": "adam", "momentum": ...}, False),
        ("not momentum == 0.5", {"optimizer": "adam", "momentum": ...}, True),
        ("momentum <= 2 or momentum > 2", {"optimizer": "adam", "momentum": ...}, False),
        ("0 < momentum < lr", {"optimizer": "adam", "momentum": ...}, False),
    ],
)
def test_meaning(text, changes, truth):
    """A table of what expressions mean; a comparison on an inactive parameter is false, whatever its sign."""
    if truth is None:
        with pytest.raises(ValueError, match=r"kernel is never \(2.0, 2\): it is one of"):
            holds(text, **changes)
    else:
        assert holds(text, **changes) is truth


@pytest.mark.parametrize("value", [1, 1.0, True, "1"])
def test_constants_of_different_type_are_kept_apart(value):
    """Where 1, 1.0 and True are all there, each constant means its own; elsewhere 1 means 1.0, but never True."""
    assert [holds(f"kind == {other!r}", kind=value) for other in (1, 1.0, True, "1")] == [
        type(value) is type(other) for other in (1, 1.0, True, "1")
    ]
    assert Space({"a": [2.0, 3.0], "b": Float(0.0, 1.0, when="a == 2")}).check({"a": 2.0, "b": 0.5})
    with pytest.raises(ValueError, match="a is never 1: it is one of True, False"):
        Space({"a": [True, False], "b": Float(0.0, 1.0, when="a == 1")})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("layers = 3", "write == for equality"),
        ("layers ==", "cannot read"),
        ("layers + 1 > 2", r"layers \+ 1 is neither a name nor a constant"),
        ("__import__('os').system('true')", "is no condition"),
        ("(lambda: 1)() == layers", "is neither a name nor a constant"),
        ("layers if fancy else size", "is no condition"),
        ("layers.real > 1", "is neither a name nor a constant"),
        ("lr < 1j", "1j is neither"),
        ("lr in 3", "expected NAME in"),
        ("optimizer in ('sgd')", "expected NAME in"),
        ("3 in (1, 2)", "expected NAME in"),
        ("layers in (1, lr)", "lr is neither a name nor a constant|lr"),
        ("1 < 2", "names no parameter"),
        ("depth is None", "write == or !="),
        ("layer > 3", "unknown name 'layer' in 'layer > 3'; did you mean 'layers'"),
        ("`svm:D` > 3", "unknown name 'svm:D'.*did you mean 'svm:C'"),
        ("`svm:C > 3", "a backtick is not closed"),
        ("`svm:C` + 1 > 3", r"`svm:C` \+ 1 is neither"),
        ("optimizer == 'sdg'", "optimizer is never 'sdg': it is one of 'adam', 'sgd'"),
        ("optimizer < 'sgd'", "needs numbers or an ordered choice"),
        ("size < 'x'", "size is never 'x'"),
        ("size < 3", "size is never 3"),
        ("layers == 'a'", "layers is a number and cannot be compared with 'a'"),
        ("layers > True", "cannot be compared with True"),
        ("layers in (1, None)", "cannot be compared with None"),
        ("layers", "cannot be compared with True"),
        ("optimizer", "optimizer is never True"),
        ("layers < optimizer", "compares a number with one of"),
        ("size < optimizer", "needs numbers or two choices ordered alike"),
        ("not " * 100_000 + "fancy", "nested too deeply"),
        ("fancy; lr", "cannot read"),
        ("lambda > 3", "a name that is no Python identifier stands in backticks"),
        ("f'{lr}' == 'a'", "neither a name nor a constant"),
    ],
)
def test_what_is_refused(text, message):
    """One line for each thing that an expression cannot be; it also says where it stands."""
    for where, make in {
        "when of 'probe': ": lambda: Space(SPACE | {"probe": Float(0.0, 1.0, when=text)}),
        "forbid[0]: ": lambda: Space(SPACE, forbid=[text]),
    }.items():
        with pytest.raises(ValueError, match=message) as caught:
            make()
        assert str(caught.value).startswith(where) and "\n" not in str(caught.value)


def test_names_of_any_text():
    """A keyword, a name with signs, and letters that Python itself would change into others are names too."""
    texts = ["lambda", "svm:C", "µ", "ﬁt", "a-b", "x.y", "#", "名", "1st", "_quoted0"]
    space = Space({name: Float(0.0, 1.0) for name in texts}, forbid=[f"`{name}` < 0.5" for name in texts])
    assert dict.fromkeys(texts, 0.7) == space.check(dict.fromkeys(texts, 0.7))
    with pytest.raises(ValueError, match=r"forbidden by '`µ` < 0\.5'"):
        space.check({name: 0.1 if name == "µ" else 0.7 for name in texts})
    assert Space({"µ": ["a", "b"], "ﬁt": Float(0.0, 1.0, when="µ == 'a'")}, forbid=["ﬁt < 0.5"]).parameters
    assert Space({"a": ["`", "'"]}, forbid=["a == '`'"]).sample(1, np.random.default_rng(0)).tolist() == [[0.0, 1.0]]


NUMBERS = st.integers(-9, 9) | st.floats(-9, 9).filter(lambda value: str(value) != "-0.0")
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=3), lambda inner: st.tuples(inner, inner), max_leaves=3
)
NAMES = st.sampled_from(["a", "b1", "svm:C", "lambda", "µ", "_quoted0"]).map(Name)
TREES = st.recursive(
    st.builds(Compare, NAMES, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), VALUES | NAMES)
    | st.builds(Compare, NAMES, st.sampled_from(["in", "not in"]), st.lists(VALUES, max_size=3).map(tuple))
    | st.booleans().map(Fixed),
    lambda inner: (
        st.builds(Not, inner)
        | st.lists(inner, min_size=2, max_size=3).map(tuple).flatmap(lambda p: st.sampled_from([All(p), Some(p)]))
    ),
    max_leaves=8,
)


@given(TREES)
@settings(max_examples=200, deadline=None)
def test_text_of_undoes_parse(tree):
    """Every tree can be written, and what is written reads back as that tree."""
    assert repr(parse(text_of(tree))) == repr(tree)  # repr keeps 1 and True apart


DOMAINS = {
    "x": Float(-2.0, 2.0, step=0.5),
    "n": Int(-2, 2),
    "c": Choice(["u", "v", "w"]),
    "o": Choice(["u", "v", "w"], ordered=True),
    "m": Choice([None, 1, 1.5, True]),
    "k": Int(-1, 3, when="c != 'u'"),
    "q": Choice([0, 2], when="n > -2 and k < 2"),
}
SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": alike}
numeric = st.sampled_from(["x", "n", "k", "q", "m"]).map(Name)
leveled = st.sampled_from(["c", "o", "m", "q"])


@st.composite
def comparisons(draw):
    """A comparison that has a meaning in DOMAINS."""
    if draw(st.booleans()):
        left = draw(numeric)
        sign = draw(st.sampled_from([*SIGNS, "!="]))
        number = st.sampled_from([1, 2] if sign not in ("==", "!=") or left.name in "xnk" else [])
        right = draw(numeric if draw(st.booleans()) or left.name in "qm" else number)
        return Compare(left, sign, right)
    name = draw(leveled)
    levels = DOMAINS[name].values
    if name == "o" and draw(st.booleans()):
        return Compare(Name(name), draw(st.sampled_from(list(SIGNS))), draw(st.sampled_from(levels)))
    sign = draw(st.sampled_from(["==", "!=", "in", "not in"]))
    level = st.sampled_from(levels)
    return Compare(Name(name), sign, draw(st.lists(level, max_size=3).map(tuple) if "in" in sign else level))


def truth(tree, config):
    """The meaning of a tree, said as plainly as can be."""
    if isinstance(tree, Fixed):
        return tree.value
    if isinstance(tree, Not):
        return not truth(tree.part, config)
    if isinstance(tree, (All, Some)):
        return (all if isinstance(tree, All) else any)(truth(part, config) for part in tree.parts)
    if any(name not in config for name in names(tree)):
        return False
    left, sign, right = config[tree.left.name], tree.sign, tree.right
    if sign in ("in", "not in"):
        return any(same(left, item) for item in right) is (sign == "in")
    if sign in ("==", "!="):
        equal = alike(left, config[right.name]) if isinstance(right, Name) else same(left, right)
        return equal is (sign == "==")
    if tree.left.name == "o":
        return SIGNS[sign]("uvw".index(left), "uvw".index(right))
    right = config[right.name] if isinstance(right, Name) else right
    return is_number(left) and is_number(right) and SIGNS[sign](left, right)


def same(one, other):
    return alike(one, other) and (isinstance(one, bool) is isinstance(other, bool))


@given(
    st.recursive(
        comparisons(),
        lambda inner: st.builds(Not, inner) | st.tuples(inner, inner).map(All) | st.tuples(inner, inner).map(Some),
        max_leaves=5,
    ),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_arrays_and_single_configs_agree_with_the_plain_meaning(tree, seed):
    """``legal`` of many rows, ``check`` of one config, and a naive evaluation say the same of every config."""
    free = Space(DOMAINS)
    X = free.sample(40, np.random.default_rng(seed))
    configs = free.decode(X)
    expected = [not truth(tree, config) for config in configs]
    if not any(expected):
        return
    space = Space(DOMAINS, forbid=[text_of(tree)])
    assert space.legal(X).tolist() == expected
    for config, legal in zip(configs, expected, strict=True):
        if legal:
            assert space.check(config) == config
        else:
            with pytest.raises(ValueError, match="is forbidden by"):
                space.check(config)
