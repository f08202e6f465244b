"""Scores, lies and candidates: each against its formula or brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibo.acquisition.maximise import candidates
from mpibo.acquisition.pending import Liar, lie
from mpibo.acquisition.scores import lcb
from mpibo.models.forest import KINDS, Forest
from mpibo.space import Float, Space
from mpibo.testing import mixed_space


def test_lcb():
    """The bound's sign is changed: larger is better."""
    mean, std = np.array([0.0, 1.0, 1.0]), np.array([0.0, 1.0, 2.0])
    assert lcb(mean, std, 2.0) == pytest.approx([0.0, 1.0, 3.0])
    assert lcb(mean, std)[2] == pytest.approx(2 * 1.96 - 1)
    assert (lcb(mean, std, 0.0) == -mean).all()


def test_lies():
    y = np.array([3.0, 1.0, 8.0])
    assert [lie(kind, y) for kind in ("lie-best", "lie-mean", "lie-worst")] == [1.0, 4.0, 8.0]


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
    found = candidates(space, X, rng.random(m), 200, rng)
    assert 100 <= len(found) <= 200
    assert space.legal(found).all() and (found >= 0).all() and (found <= 1).all()
    np.testing.assert_allclose(found, space.encode(space.decode(found)), atol=1e-12)


def test_half_of_the_candidates_lie_around_the_best():
    """A share of the numbers of one of the five moves, at least one, by steps of many sizes; the rest is uniform."""
    space = Space({f"x{i}": (0.0, 1.0) for i in range(6)})
    rng = np.random.default_rng(0)
    X = rng.uniform(0.4, 0.6, (200, 6))
    y = rng.random(200)
    found = candidates(space, X, y, 4000, rng)
    local, uniform = found[:2000], found[2000:]
    best = X[np.argsort(y)[:5]]
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
    found = space.decode(candidates(space, best, np.zeros(1), 4000, np.random.default_rng(0))[:2000])
    sgd = [config for config in found if config["opt"] == "sgd"]
    assert len(sgd) / 2000 == pytest.approx((0.39 + 0.61 / 4) / 3, abs=0.03)  # E[share] = 0.39
    assert np.std([config["m"] for config in sgd]) == pytest.approx(12**-0.5, abs=0.05)
    assert {config["k"] for config in found} == {1, 2, 3, 4}
