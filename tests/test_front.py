"""Fronts, hypervolumes and the numbers made of several: laws against brute force."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibo.front import hypervolume, nondominated
from mpibo.goals import dominates
from mpibo.merit import behind, chebyshev


@st.composite
def points(draw, most_goals=4):
    goals = draw(st.integers(1, most_goals))
    number = st.integers(0, 4).map(float)
    return np.array(draw(st.lists(st.tuples(*[number] * goals), max_size=30)), float).reshape(-1, goals)


@given(points(), st.data())
@settings(max_examples=200, deadline=None)
def test_the_front_is_what_nothing_dominates(F, data):
    """Against brute force; a row with NaN is out of it, and equal rows are in it together."""
    if len(F):
        F[data.draw(st.integers(0, len(F) - 1)), -1] = data.draw(st.sampled_from([np.nan, 2.0]))
    known = [tuple(row) for row in F if not np.isnan(row).any()]
    expected = [not np.isnan(row).any() and not any(dominates(other, tuple(row)) for other in known) for row in F]
    assert nondominated(F).tolist() == expected


@given(points(most_goals=3))
@settings(max_examples=200, deadline=None)
def test_hypervolume_counts_the_cells_that_are_dominated(F):
    """On a grid of whole numbers it is the number of unit cells with a point at or below their lower corner."""
    goals = F.shape[1]
    corners = np.stack(np.meshgrid(*[np.arange(4.0)] * goals), axis=-1).reshape(-1, goals)
    expected = sum(bool((corner >= F).all(axis=1).any()) for corner in corners)
    assert hypervolume(F, np.full(goals, 4.0)) == pytest.approx(expected)


def test_ten_thousand_points_and_too_many_goals():
    rng = np.random.default_rng(0)
    F = rng.random((10_000, 3))
    front = F[nondominated(F)]
    assert 50 < len(front) < 1000 and nondominated(front).all()
    circle = np.stack([np.cos(a := np.linspace(0, np.pi / 2, 10_000)), np.sin(a)], axis=1)
    assert nondominated(-circle).all() and nondominated(circle).sum() == 10_000
    assert hypervolume(-circle, np.zeros(2)) == pytest.approx(np.pi / 4, abs=1e-3)
    with pytest.raises(ValueError, match="at most 3 goals"):
        hypervolume(rng.random((2, 4)), np.ones(4))


@given(points(), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_best_by_any_positive_weights_is_in_the_front(F, dice):
    weights = np.array([dice.uniform(0.05, 1.0) for _ in range(F.shape[1])])
    if len(F):
        assert nondominated(F)[np.argmin(chebyshev(F, weights / weights.sum()))]


@given(st.lists(st.tuples(st.one_of(st.just(math.nan), st.floats(-1e3, 1e3)), st.integers(-2, 3), st.integers(-2, 3))))
@settings(deadline=None)
def test_what_breaks_a_limit_comes_behind_all_that_breaks_none(rows):
    y, excess = np.array([row[0] for row in rows], float), np.array([row[1:] for row in rows], float).reshape(-1, 2)
    merit = behind(y, excess)
    assert (np.isnan(merit) == np.isnan(y)).all()
    good = (excess <= 0).all(axis=1)
    assert (merit[good & ~np.isnan(y)] == y[good & ~np.isnan(y)]).all()
    bad = np.flatnonzero(~good & ~np.isnan(y))
    if len(bad) and (good & ~np.isnan(y)).any():
        assert merit[bad].min() > np.nanmax(y[good])
    for i in bad:
        for j in bad:
            if (np.maximum(excess[i], 0) < np.maximum(excess[j], 0)).all():
                assert merit[i] < merit[j]
