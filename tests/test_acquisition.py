"""Scores, lies, candidates and refinement: each against its formula or brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibo.acquisition.maximise import candidates
from mpibo.acquisition.pending import Liar, lie
from mpibo.acquisition.refine import climb, continuous, refine
from mpibo.acquisition.scores import FAR, SCORES, ei, kappa_of, lcb, log_ei, log_h, log_score, pi, score, slopes
from mpibo.models.forest import KINDS, Forest
from mpibo.space import Float, Space
from mpibo.testing import mixed_space


def test_lcb():
    """The bound's sign is changed: larger is better."""
    mean, std = np.array([0.0, 1.0, 1.0]), np.array([0.0, 1.0, 2.0])
    assert lcb(mean, std, 2.0) == pytest.approx([0.0, 1.0, 3.0])
    assert lcb(mean, std)[2] == pytest.approx(2 * 1.96 - 1)
    assert (lcb(mean, std, 0.0) == -mean).all()


def test_improvement_is_that_of_many_draws():
    """EI and PI against 400,000 normal draws, the same for all points, within 5 standard errors."""
    draws = np.random.default_rng(0).standard_normal(400_000)
    for mean, std, best in ((0.0, 1.0, 0.0), (1.0, 0.5, 0.3), (-2.0, 0.1, -1.9), (3.0, 2.0, -1.0)):
        gain = np.maximum(best - (mean + std * draws), 0.0)
        told = ei(np.array([mean]), np.array([std]), best)[0]
        assert told == pytest.approx(gain.mean(), abs=5 * gain.std() / 400_000**0.5)
        share = pi(np.array([mean]), np.array([std]), best)[0]
        assert share == pytest.approx((gain > 0).mean(), abs=5 * 0.5 / 400_000**0.5)


def test_improvement_without_spread():
    """Where nothing is unknown the improvement is what it is, or none."""
    mean, std = np.array([1.0, 3.0]), np.zeros(2)
    assert ei(mean, std, 2.0) == pytest.approx([1.0, 0.0], abs=1e-8)
    assert log_ei(mean, std, 2.0)[0] == pytest.approx(0.0, abs=1e-8) and np.isfinite(log_ei(mean, std, 2.0)[1])


@settings(max_examples=50, deadline=None)
@given(mean=st.floats(-5, 5), std=st.floats(1e-3, 10), best=st.floats(-5, 5))
def test_log_ei_is_the_log_of_ei(mean, std, best):
    """Where EI does not lose its digits; further out against numerical integration."""
    from scipy.integrate import quad

    told = log_ei(np.array([mean]), np.array([std]), best)[0]
    z = (best - mean) / std
    if z > -5:
        assert told == pytest.approx(math.log(ei(np.array([mean]), np.array([std]), best)[0]), abs=1e-6)
    if z < 0:  # h(z) = phi(z) times the integral of u exp(z u - u^2 / 2) over u > 0
        s = max(1.0, -z)
        area = quad(lambda t: t * math.exp(z * t / s - (t / s) ** 2 / 2), 0.0, 60.0)[0] / s**2
        wanted = math.log(std) - z * z / 2 - math.log(2 * math.pi) / 2 + math.log(area)
        assert told == pytest.approx(wanted, rel=1e-9, abs=1e-6)


@pytest.mark.filterwarnings("error")
def test_log_ei_far_out():
    """Finite and falling down to -1e12 standard deviations, continuous where one form takes over from another."""
    z = -np.logspace(-3, 12, 2000)
    h = log_h(z)
    assert np.isfinite(h).all() and (np.diff(h) < 0).all()
    for switch in (-1.0, FAR):
        below, above = log_h(np.array([switch * (1 + 1e-9), switch * (1 - 1e-9)]))
        assert below == pytest.approx(above, rel=1e-6)
    up = log_h(np.linspace(-2, 30, 500))
    assert (np.diff(up) > 0).all() and up[-1] == pytest.approx(math.log(30))


@pytest.mark.parametrize("name", SCORES)
@settings(max_examples=40, deadline=None)
@given(mean=st.floats(-3, 3), std=st.floats(0.05, 3), best=st.floats(-3, 3), kappa=st.floats(0, 3))
def test_slopes(name, mean, std, best, kappa):
    """Derivatives of a score (for EI and PI: of its log) by mean and deviation, against differences."""

    def value(mean, std):
        return slopes(name, mean, std, best, kappa)[0]

    found, by_mean, by_std = slopes(name, mean, std, best, kappa)
    told = np.array([mean]), np.array([std]), best
    wanted = lcb(*told[:2], kappa) if name == "lcb" else log_score(name, *told)
    assert found == pytest.approx(wanted[0], rel=1e-9, abs=1e-9)
    h = 1e-5
    scale = 1 + abs(found) + abs(by_mean) + abs(by_std)
    assert by_mean == pytest.approx((value(mean + h, std) - value(mean - h, std)) / (2 * h), abs=1e-5 * scale)
    assert by_std == pytest.approx((value(mean, std + h) - value(mean, std - h)) / (2 * h), abs=1e-4 * scale)


def test_slopes_are_finite_anywhere():
    for name in SCORES:
        for mean in (-1e6, -1.0, 0.0, 1.0, 1e6):
            for std in (0.0, 1e-12, 1.0, 1e6):
                assert np.isfinite(slopes(name, mean, std, 0.0, 1.5)).all(), (name, mean, std)


@pytest.mark.parametrize("name", SCORES)
def test_log_scores_keep_the_order(name):
    """The log of a score puts points in the same order as the score; a bound as softplus of its gain."""
    rng = np.random.default_rng(0)
    mean, std = rng.standard_normal(200), rng.uniform(0.2, 1, 200)
    plain, logs = score(name, mean, std, -0.5, 1.5), log_score(name, mean, std, -0.5, 1.5, unit=2.0)
    assert (np.argsort(plain) == np.argsort(logs)).all()
    if name == "lcb":
        np.testing.assert_allclose(np.exp(logs), np.log1p(np.exp((plain - 0.5) / 2)))
        far = log_score(name, np.array([59.9, 60.1, 1e6]), np.zeros(3), 0.0)  # where the form changes
        assert far == pytest.approx([-59.9, -60.1, -1e6], abs=1e-9)
        near = log_score(name, np.array([30 - 1e-9, 30 + 1e-9]), np.zeros(2), 0.0)
        assert near[0] == pytest.approx(near[1], abs=1e-6)


def test_kappa():
    """A number stays; decay falls from 1.96 to 0.1 with the share of evaluations done; random has mean 1."""
    rng = np.random.default_rng(0)
    assert kappa_of(1.5, 0.3, rng) == 1.5
    falling = [kappa_of("decay", share, rng) for share in (-1, 0, 0.5, 1, 7)]
    assert falling == pytest.approx([1.96, 1.96, 0.1 + 1.86 / 4, 0.1, 0.1])
    drawn = np.array([kappa_of("random", 0.5, rng) for _ in range(20_000)])
    assert drawn.mean() == pytest.approx(1.0, abs=4 / 20_000**0.5) and drawn.min() >= 0
    assert (drawn > 2).mean() == pytest.approx(math.exp(-2), abs=4 * 0.35 / 20_000**0.5)


def test_lies():
    y = np.array([3.0, 1.0, 8.0])
    assert [lie(kind, y) for kind in ("lie-best", "lie-mean", "lie-worst")] == [1.0, 4.0, 8.0]
    assert math.isnan(lie("believer", y))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(2, 40), leaf=st.integers(1, 5), value=st.floats(-3, 3))
def test_a_lie_is_one_more_row_in_its_leaves(kind, seed, n, leaf, value):
    """Mean and count of each leaf as if the lies were rows of it; the squares around the rows' own mean stay."""
    rng = np.random.default_rng(seed)
    X, y, new = rng.random((n, 2)), rng.standard_normal(n), rng.random((15, 2))
    forest = Forest(kind, trees=5, subforest=2, leaf=leaf)
    forest.fit(X, y, np.random.default_rng(seed))
    told = rng.integers(15, size=6)
    liar = Liar(forest, new)
    for point in told:
        liar.tell(point, value)
    replay = np.random.default_rng(seed)  # draws the same bootstrap samples
    for k, tree in enumerate(forest.ring):
        rows = replay.integers(n, size=n)
        replay.integers(2**31)
        nodes = tree.nodes.apply(X[rows].astype(np.float32))
        at = tree.nodes.apply(new.astype(np.float32))
        for j, node in enumerate(at):
            real = y[rows][nodes == node]
            lies = np.full((at[told] == node).sum(), value)
            assert liar.count[k, j] == len(real) + len(lies)
            assert liar.mean[k, j] == pytest.approx(np.concatenate([real, lies]).mean())
            assert liar.variance[k, j] == pytest.approx(((real - real.mean()) ** 2).sum() / liar.count[k, j], abs=1e-9)
    mean, std = liar.predict()
    assert mean == pytest.approx(liar.mean.mean(axis=0))
    assert std**2 == pytest.approx(liar.variance.mean(axis=0) + liar.mean.var(axis=0))


def test_lies_do_not_change_the_forest():
    """Lies are told anew at each ask: nothing of them stays."""
    rng = np.random.default_rng(0)
    X, y = rng.random((30, 2)), rng.random(30)
    forest = Forest("et")
    forest.fit(X, y, rng)
    before = forest.predict(X)
    liar = Liar(forest, X)
    for point in range(30):
        liar.tell(point, 5.0)
    assert (forest.predict(X)[0] == before[0]).all() and (forest.predict(X)[1] == before[1]).all()
    assert (liar.predict()[0] > before[0]).all()


def test_worst_lie_repels_and_best_lie_attracts():
    """After a lie the point itself looks worse by lie-worst, better by lie-best; far points hardly change."""
    rng = np.random.default_rng(0)
    X = rng.random((60, 2))
    y = ((X - 0.3) ** 2).sum(axis=1)
    forest = Forest("rf")
    forest.fit(X, y, rng)
    points = np.array([[0.5, 0.5], [0.95, 0.05]])
    mean, _ = forest.predict(points)
    change = {}
    for kind in ("lie-best", "lie-worst"):
        liar = Liar(forest, points)
        liar.tell(0, lie(kind, y))
        change[kind] = liar.predict()[0] - mean
    assert change["lie-best"][0] < 0 < change["lie-worst"][0]
    assert np.abs([change["lie-best"][1], change["lie-worst"][1]]).max() < 0.1 * change["lie-worst"][0]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), m=st.integers(0, 30))
def test_candidates_are_what_configs_can_be(seed, m):
    """Legal, snapped, in the cube; as many as asked but for the forbidden local ones."""
    space = mixed_space()
    rng = np.random.default_rng(seed)
    X = space.sample(m, rng)
    found = candidates(space, X, 200, rng)
    assert 100 <= len(found) <= 200
    assert space.legal(found).all() and (found >= 0).all() and (found <= 1).all()
    np.testing.assert_allclose(found, space.encode(space.decode(found)), atol=1e-12)


def test_half_of_the_candidates_lie_around_the_best():
    """A share of the numbers of one of the five moves, at least one, by steps of many sizes; the rest is uniform."""
    space = Space({f"x{i}": (0.0, 1.0) for i in range(6)})
    rng = np.random.default_rng(0)
    X = rng.uniform(0.4, 0.6, (200, 6))
    y = rng.random(200)
    best = X[np.argsort(y)[:5]]
    found = candidates(space, best, 4000, rng)
    local, uniform = found[:2000], found[2000:]
    unmoved = (np.abs(local[:, None] - best) < 1e-9).sum(axis=2).max(axis=1)
    shares = 10 ** rng.uniform(-1, 0, 100_000)
    assert unmoved.max() == 5 and np.mean(6 - unmoved) == pytest.approx(np.mean(shares * 6 + (1 - shares)), rel=0.05)
    steps = np.abs(local[:, None] - best).max(axis=2).min(axis=1)
    assert 10**-3 < np.quantile(steps, 0.1) < 0.02 < 0.1 < np.quantile(steps, 0.9)
    assert uniform.mean() == pytest.approx(0.5, abs=0.01) and uniform.std() == pytest.approx(12**-0.5, abs=0.01)


def test_local_candidates_change_choices_and_wake_parameters():
    """Around a point without sgd some candidates have it, and then a momentum from its whole range."""
    space = Space(
        {"x": (0.0, 1.0), "opt": ["adam", "sgd", "rms"], "m": Float(0.0, 1.0, when="opt == 'sgd'"), "k": (1, 4)}
    )
    best = space.encode([{"x": 0.5, "opt": "adam", "k": 2}])
    found = space.decode(candidates(space, best, 4000, np.random.default_rng(0))[:2000])
    sgd = [config for config in found if config["opt"] == "sgd"]
    assert len(sgd) / 2000 == pytest.approx((0.39 + 0.61 / 4) / 3, abs=0.03)  # E[share] = 0.39
    assert np.std([config["m"] for config in sgd]) == pytest.approx(12**-0.5, abs=0.05)
    assert {config["k"] for config in found} == {1, 2, 3, 4}


# --- refinement ---


def bowl(centre):
    """Scores of points, and score and slope of one: the highest at ``centre (d,)``."""

    def slope(x):
        return -float(((x - centre) ** 2).sum()), -2 * (x - centre)

    return lambda X: -((X - centre) ** 2).sum(axis=1), slope


def test_climb_finds_the_top_within_the_cube():
    """Only the columns given move; beyond the border it stops at the border."""
    centre = np.array([0.3, 1.4, 0.2])
    x, value = climb(np.full(3, 0.5), np.array([0, 1]), bowl(centre)[1])
    assert x == pytest.approx([0.3, 1.0, 0.5], abs=1e-4) and value == pytest.approx(-(0.4**2) - 0.3**2, abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), slopes_known=st.booleans())
def test_refined_points_are_legal_and_never_worse(seed, slopes_known):
    """In a space of every kind, from any point."""
    space = mixed_space()
    rng = np.random.default_rng(seed)
    start = space.sample(1, rng)[0]
    scores, slope = bowl(rng.random(space.dimension))
    x, value = refine(space, start, slope if slopes_known else None, scores, rng)
    assert space.legal(x[None])[0] and value == pytest.approx(scores(x[None])[0], abs=1e-9)
    assert value >= scores(start[None])[0] - 1e-12
    np.testing.assert_allclose(x, space.encode(space.decode(x[None]))[0], atol=1e-9)


def test_refinement_moves_levels_and_numbers():
    """It climbs in numbers, steps through levels and switches choices: to the one top of a mixed space."""
    space = Space({"x": (0.0, 1.0), "k": (1, 5), "c": ["a", "b", "c"], "m": Float(0.0, 1.0, when="c == 'b'")})
    assert [space.columns[i].name for i in continuous(space)] == ["x", "m"]
    top = space.encode([{"x": 0.123, "k": 3, "c": "b", "m": 0.7}])[0]
    scores, slope = bowl(top)
    start = space.encode([{"x": 0.9, "k": 2, "c": "a"}])[0]
    x, value = refine(space, start, slope, scores, np.random.default_rng(0))
    config = space.decode(x[None])[0]
    assert config["c"] == "b" and config["k"] == 3 and config["x"] == pytest.approx(0.123, abs=1e-3)
    assert config["m"] == pytest.approx(0.7, abs=1e-3) and value == pytest.approx(0.0, abs=1e-5)
