"""Designs keep their laws: stratification, the Sobol sequence, the grid's points, no repeats."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import qmc

from mpibo.space import Choice, Float, Int, Space
from mpibo.strategies import make
from mpibo.strategies.design import latin_hypercube
from mpibo.strategies.distinct import Distinct
from mpibo.strategies.joe_kuo import BITS, DIMENSIONS, sobol
from mpibo.table import key
from mpibo.testing import Run, maker_of, mixed_space, small_space


def cube(p):
    return Space({f"x{i}": (0.0, 1.0) for i in range(p)})


@pytest.mark.parametrize("dimensions", [1, 2, 21, DIMENSIONS])
def test_sobol_is_scipys(dimensions):
    """Point for point the unscrambled sequence of scipy, wherever one begins."""
    theirs = qmc.Sobol(dimensions, scramble=False, bits=BITS).random(512)
    assert (sobol(0, 512, dimensions) / 2**BITS == theirs).all()
    assert (sobol(300, 37, dimensions) / 2**BITS == theirs[300:337]).all()


def test_sobol_strategy_goes_on_with_its_sequence():
    """Over several asks it is one sequence, each coordinate shifted by one pattern of bits."""
    run = Run(maker_of("sobol"), cube(5))
    for n in (1, 3, 12, 16):
        run.ask(n)
        run.start()
    points = np.rint(run.trials.X * 2**BITS).astype(np.uint32)
    shift = points[0] ^ sobol(0, 1, 5)[0]
    np.testing.assert_allclose(run.trials.X, (sobol(0, 32, 5) ^ shift) / 2**BITS, atol=1e-9)
    for column in run.trials.X.T:  # of the first 32 points one lies in each 32nd part
        assert (np.bincount((column * 32).astype(int), minlength=32) == 1).all()


def test_sobol_of_more_than_200_axes():
    """The further axes are uniform draws."""
    run = Run(maker_of("sobol"), cube(DIMENSIONS + 5))
    run.ask(32)
    run.start()
    assert ((run.trials.X >= 0) & (run.trials.X <= 1)).all() and run.trials.X[:, -1].std() > 0.2


def test_sobol_is_told_what_it_cannot_do():
    with pytest.raises(ValueError, match="at most 200 dimensions"):
        sobol(0, 4, DIMENSIONS + 1)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 50), p=st.integers(0, 6), seed=st.integers(0, 2**32))
def test_latin_hypercube_has_one_point_in_each_bin(n, p, seed):
    points = latin_hypercube(n, p, np.random.default_rng(seed))
    assert points.shape == (n, p)
    for column in points.T:
        assert sorted(np.floor(column * n).astype(int)) == list(range(n))


def test_lhs_uses_up_one_hypercube_after_the_other():
    """However it is asked, each ten rows are a Latin hypercube; forgotten proposals come again."""
    run = Run(maker_of("lhs:size=10"), cube(3))
    for n in (4, 3, 8, 5):
        run.ask(n)
        run.start()
    run.ask(6)
    run.start(1)
    run.waiting.clear()  # five are never started
    run.ask(9)
    run.start()
    for block in run.trials.X.reshape(3, 10, 3):
        for column in block.T:
            assert sorted(np.floor(column * 10).astype(int)) == list(range(10))


def test_grid_has_every_combination_once_in_order():
    """Ends included, log scales in equal ratios, whole numbers of few steps all; the last parameter is fastest."""
    space = Space({"lr": (1e-4, 1e0, "log"), "n": (1, 3), "c": ["a", "b"], "w": Int(1, 100), "e": 7})
    run = Run(maker_of("grid"), space)
    found = []
    for n in (7, 1, 1000):
        found += [p.config for p in run.ask(n)]
        run.start()
    expected = product([1e-4, 1e-3, 1e-2, 1e-1, 1.0], [1, 2, 3], "ab", [1, 26, 50, 75, 100])
    assert len(found) == 5 * 3 * 2 * 5
    for config, (lr, n, c, w) in zip(found, expected, strict=True):
        assert config == {"lr": pytest.approx(lr), "n": n, "c": c, "w": pytest.approx(w, abs=1), "e": 7}
    assert run.ask(5) == []


def test_grid_takes_levels_of_its_own():
    """A number of levels for each parameter, and steps that are fewer than the levels."""
    space = Space(
        {
            "x": (0.0, 1.0),
            "y": Float(0.0, 1.0, step=0.25),
            "z": (0.0, 1.0),
            "o": Choice([1, 5, 9, 10, 20, 30], ordered=True),
        }
    )
    for levels, count in (({"x": 3, "z": 1}, 3 * 5 * 1 * 6), (2, 2 * 2 * 2 * 6), (7, 7 * 5 * 7 * 6)):
        from mpibo.strategies.grid import Grid

        run = Run(lambda levels=levels: Grid(levels=levels), space)
        assert len(run.ask(5000)) == count


def test_grid_counts_inactive_parameters_once():
    """As many points as there are different configs; forbidden ones are left out."""
    space = Space(
        {
            "k": ["svm", "mlp"],
            "C": Float(1e-2, 1e2, log=True, when="k == 'svm'"),
            "layers": Int(1, 4, when="k == 'mlp'"),
            "drop": Float(0.0, 1.0, when="k == 'mlp' and layers > 2"),
            "t": (1, 2),
        },
        forbid=["layers == 2 and t == 1"],
    )
    run = Run(maker_of("grid:levels=3"), space)
    # svm: 3 C; mlp: layers 1 to 4 in three steps (1, 2 or 3, 4)
    found = [p.config for p in run.ask(10_000)]
    layers = {config.get("layers") for config in found} - {None}
    expected = {("svm", None)} | {("mlp", n) for n in layers}
    assert len(layers) == 3 and {(c["k"], c.get("layers")) for c in found} == expected
    per_t = [3 + sum(3 if n > 2 else 1 for n in layers if (n, t) != (2, 1)) for t in (1, 2)]
    assert len(found) == sum(per_t)
    assert len({key(x) for x in space.encode(found)}) == len(found)


def test_grid_comes_back_to_what_was_forgotten():
    """Proposals that never start are proposed again, so that no point of the grid is missed."""
    run = Run(maker_of("grid:levels=4"), cube(2))
    run.ask(10)
    run.start(3)
    run.waiting.clear()
    while run.ask(2):
        run.start()
    assert len({key(x) for x in run.trials.X}) == 16 == run.trials.n


def test_large_grid_is_not_laid_out():
    """5 to the power 40 points are no trouble."""
    run = Run(maker_of("grid"), cube(40))
    assert len(run.ask(3)) == 3


@pytest.mark.parametrize("method", ["random", "lhs", "sobol"])
def test_designs_follow_the_scales(method):
    """Uniform on the (log) scale, over the levels of a choice and over those of a whole number."""
    space = Space({"lr": (1e-4, 1e0, "log"), "c": ["a", "b", "c"], "n": (1, 4), "x": (-1.0, 1.0)})
    configs = [p.config for p in Run(maker_of(method), space).ask(960)]
    assert np.mean([c["lr"] < 1e-2 for c in configs]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([c["c"] == "a" for c in configs]) == pytest.approx(1 / 3, abs=0.05)
    assert np.mean([c["n"] == 4 for c in configs]) == pytest.approx(1 / 4, abs=0.05)
    assert np.mean([c["x"] for c in configs]) == pytest.approx(0.0, abs=0.05)


def test_every_design_avoids_what_is_forbidden():
    """Also where only one point in a hundred is legal."""
    space = Space({"a": (0.0, 1.0), "b": (0.0, 1.0)}, forbid=["a > 0.1", "b > 0.1"])
    for method in ("random", "lhs", "sobol"):
        assert len(Run(maker_of(method), space).ask(30)) == 30


def test_designs_differ_by_seed_and_after_a_restart():
    """A fresh strategy in the middle of a run (cold caches) does not repeat points."""
    for method in ("lhs", "sobol"):
        first, second = Run(maker_of(method), cube(2), 0), Run(maker_of(method), cube(2), 1)
        assert first.ask(4) != second.ask(4)
        first.start()
        first.strategy = make(method)
        first.ask(8)
        first.start()
        assert len({key(x) for x in first.trials.X}) == 12


def test_picks_know_what_is_left():
    """Of a small space the rest can be listed; a large one is never called exhausted."""
    run = Run(maker_of("random"), small_space())
    distinct = Distinct()
    assert len(distinct.begin(run.trials).left()) == len(run.space.enumerate(20_000))
    run.ask(4)
    run.start(2)
    picks = distinct.begin(run.trials)
    assert not picks.add(run.trials.X[0])
    left = picks.left()
    run.trials.apply({"kind": "ask", "ask": 9, "count": 1, "fit": True, "keep": [[0, 2], [0, 3]]})
    picks = distinct.begin(run.trials)
    assert len(picks.left()) == len(left) - 2
    picks.take(picks.left(), 100)
    assert picks.exhausted and len(picks) == len(left) - 2 and not len(picks.left())
    large = distinct.begin(Run(maker_of("random"), mixed_space()).trials)
    assert large.left() is None and not large.exhausted and math.isinf(mixed_space().size)
