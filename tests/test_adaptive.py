"""Adaptive selection: a coarse phase, then boxes around the best that narrow with each result."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibo import testing
from mpibo.space import Space
from mpibo.strategies.adaptive import Adaptive, box
from mpibo.testing import Run, mixed_space, small_space

MAKERS = {"default": Adaptive, "few": lambda: Adaptive(n_initial=2, best=1, narrow=3.0, initial="lhs")}


@pytest.mark.parametrize("check", testing.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("method", MAKERS)
def test_contract(method, check):
    check(MAKERS[method])


def test_a_small_space_is_used_up_and_a_batch_is_distinct():
    """All legal configs once, then nothing; a batch around the best has no two alike (``Run`` would tell)."""
    run = Run(MAKERS["few"], small_space())
    for n in (2, 2, 40):
        run.ask(n)
        for trial in run.start():
            run.end(trial, run.value(trial))
    assert run.trials.n == len(run.space.enumerate(20_000)) and run.ask(3) == []
    run = Run(Adaptive, mixed_space())
    run.results(20)
    answer = run.ask(128)
    assert len(answer) == 128 and all(p.origin == "model" for p in answer)


def test_it_pickles_and_needs_no_fit():
    run = Run(Adaptive, mixed_space())
    run.results(25)
    twin = copy.deepcopy(run)
    twin.strategy = pickle.loads(pickle.dumps(run.strategy))
    assert twin.ask(4, fit=False) == run.ask(4)


def test_the_coarse_phase_comes_first():
    """max(10, 2 p) results, then points of the box."""
    run = Run(Adaptive, Space({"x": (0.0, 1.0), "y": (0.0, 1.0)}))
    for _ in range(10):
        assert [p.origin for p in run.ask(1)] == ["design"]
        for trial in run.start():
            run.end(trial, run.value(trial))
    assert [p.origin for p in run.ask(1)] == ["model"]


def test_it_narrows_and_follows_the_best():
    """With m results each point lies within width * n_initial / m of one of the best three, in every number."""
    run = Run(lambda: Adaptive(n_initial=10, width=0.5), Space({"x": (0.0, 1.0), "y": (0.0, 1.0)}))
    run.results(10)
    spread = []
    for m in (10, 40, 160):
        run.results(m - run.trials.n)
        best = run.trials.X[np.argsort(run.trials.y)[:3]]
        near = run.space.encode([p.config for p in run.ask(50)])
        away = np.abs(near[:, None, :] - best[None]).max(axis=2).min(axis=1)
        assert away.max() <= 0.5 * 10 / m + 1e-9
        spread.append(away.mean())
        run.waiting.clear()
    assert spread[0] > 2 * spread[1] > 4 * spread[2]


@given(st.floats(0.001, 1.0), st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_a_box_stays_in_the_cube_and_around_its_centre(reach, seed):
    """Numbers stay within reach; as boxes close, choices stay what they are."""
    space, rng = mixed_space(), np.random.default_rng(seed)
    centres = space.sample(20, rng)
    X = box(space, centres, reach, rng)
    assert ((X >= 0) & (X <= 1)).all()
    for i, column in enumerate(space.columns):
        if column.kind == "numeric" and column.name != "momentum":
            assert (np.abs(X - centres)[:, i] <= reach + 1e-12).all()
    off = [c.name == "momentum" and c.kind == "activity" for c in space.columns].index(True)
    here = np.flatnonzero(centres[:, off] == 0.0)
    assert not (X[here, off - 1] == 0.5).any()  # what may become active is drawn anew
    still = space.snap(box(space, centres, 0.0, rng))
    choices = [i for i, column in enumerate(space.columns) if column.kind == "onehot"]
    np.testing.assert_array_equal(still[:, choices], centres[:, choices])


def test_it_beats_chance():
    """On a bowl of ten numbers 60 trials of it find lower values than as many random ones."""

    def best(method):
        found = []
        for seed in range(3):
            run = Run(method, Space({f"x{i}": (0.0, 1.0) for i in range(10)}), seed)
            run.results(60)
            found.append(run.trials.y.min())
        return np.mean(found)

    assert best(Adaptive) < 0.7 * best(testing.maker_of("random"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"n_initial": 0}, "n_initial >= 1"),
        ({"best": 0}, "best >= 1"),
        ({"width": 0.0}, "width"),
        ({"narrow": -1.0}, "narrow"),
    ],
)
def test_what_is_wrong_is_told(options, told):
    with pytest.raises(ValueError, match=told):
        Adaptive(**options)
