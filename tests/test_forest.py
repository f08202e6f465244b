"""The forest: its answers are those of its trees, its ring goes on in bounded steps, its trees learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibo.models.forest import KINDS, STALE, Forest


def data(n, d=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.random((n, d))
    return X, np.sin(5 * X[:, 0]) + X[:, 1] ** 2 + 0.1 * rng.standard_normal(n), rng


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 60), leaf=st.integers(1, 4))
def test_mean_and_spread_are_those_of_the_trees(kind, seed, n, leaf):
    """Law of total variance over the trees, from each tree's own predict and each leaf's own rows."""
    X, y, rng = data(n, seed=seed)
    forest = Forest(kind, trees=6, subforest=3, leaf=leaf)
    forest.fit(X, y, np.random.default_rng(seed))
    new = rng.random((20, 4)).astype(np.float32)
    replay = np.random.default_rng(seed)  # draws the same bootstrap samples
    means, variances, counts = [], [], []
    for tree in forest.ring:
        rows = replay.integers(n, size=n)
        replay.integers(2**31)
        own = tree.nodes.apply(X[rows].astype(np.float32))
        values = [y[rows][own == node] for node in tree.nodes.apply(new)]
        means.append([each.mean() for each in values])
        variances.append([each.var() for each in values])
        counts.append([len(each) for each in values])
        np.testing.assert_allclose(y.mean() + tree.nodes.predict(new)[:, 0] * np.abs(y - y.mean()).max(), means[-1])
    mean, std = forest.predict(new)
    np.testing.assert_allclose(forest.means(new), means)
    np.testing.assert_allclose(mean, np.mean(means, axis=0))
    np.testing.assert_allclose(std**2, np.mean(variances, axis=0) + np.var(means, axis=0), atol=1e-12)
    np.testing.assert_array_equal(forest.read(forest.leaves(new))[2], counts)


def test_samples_are_means_of_different_trees():
    """A sample is the mean of 8 different trees; over many samples every tree comes equally often."""
    X, y, rng = data(50)
    forest = Forest("et")
    forest.fit(X, y, rng)
    means = np.eye(50)  # each tree is told by its own column
    shares = forest.sample_of(means, 4000, rng) * 8
    assert set(np.unique(shares)) == {0.0, 1.0} and (shares.sum(axis=1) == 8).all()
    np.testing.assert_allclose(shares.mean(axis=0), 8 / 50, atol=0.03)
    samples = forest.sample(X, 3000, rng)
    mean, _ = forest.predict(X)
    np.testing.assert_allclose(samples.mean(axis=0), mean, atol=0.03)


def test_a_sample_of_a_batch_does_not_depend_on_the_points_beside_it():
    X, y, rng = data(50)
    forest = Forest("et")
    forest.fit(X, y, rng)
    many = forest.sample(X, 3, np.random.default_rng(1))
    assert (forest.sample(X[:7], 3, np.random.default_rng(1)) == many[:, :7]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_forest_learns(kind):
    """Where the data are, the forest explains most of a smooth function; far from them its spread is larger."""
    X, y, rng = data(400)
    forest = Forest(kind)
    forest.fit(X, y, rng)
    new = rng.random((300, 4))
    truth = np.sin(5 * new[:, 0]) + new[:, 1] ** 2
    assert np.mean((forest.predict(new)[0] - truth) ** 2) < 0.1 * truth.var()
    half = X[X[:, 0] < 0.5]
    forest = Forest(kind)
    forest.fit(half, np.sin(40 * half[:, 0]), rng)
    assert forest.predict(half)[1].mean() < 0.8 * forest.predict(new[new[:, 0] > 0.3])[1].mean() + 0.2


def test_same_fits_same_forest():
    """The ring is a function of the sequence of fits: the same one gives the same trees, bit for bit."""

    def answer(steps):
        forest = Forest("rf", work=2000)
        for k, n in enumerate(steps):
            X, y, _ = data(200)
            forest.fit(X[:n], y[:n], np.random.default_rng(k))
        return forest.means(X[:30])

    assert (answer([60, 120, 200]) == answer([60, 120, 200])).all()
    assert (answer([60, 120, 200]) != answer([60, 200])).any()


def test_ring_replaces_the_oldest_trees_in_bounded_steps():
    """Few rows: every tree anew. Many: about work / (2 n) of them, and all that saw far fewer rows."""
    X, y, rng = data(3000)
    forest = Forest("et")
    forest.fit(X[:300], y[:300], rng)
    first = list(forest.ring)
    forest.fit(X[:300], y[:300], rng)
    assert not set(map(id, first)) & set(map(id, forest.ring))
    kept = list(forest.ring)
    forest.fit(X[:310], y[:310], rng)
    assert [id(tree) for tree in forest.ring][:-25] == [id(tree) for tree in kept][25:]
    forest.fit(X, y, rng)
    assert {tree.rows for tree in forest.ring} == {3000}
    kept = list(forest.ring)
    forest.fit(X, y, rng)
    assert sum(a is b for a, b in zip(forest.ring, kept[3:], strict=False)) == 47
    assert len(forest.ring) == 50 and STALE < 1


def test_samples_are_the_same_from_all_trees_as_from_their_own():
    """To ask only the trees of a sub-forest gives what all trees' predictions give, to the last bit."""
    X, y, rng = data(200)
    forest = Forest("et")
    forest.fit(X, y, rng)
    few = forest.sample(X[:30], 3, np.random.default_rng(5))
    assert (few == forest.sample_of(forest.means(X[:30]), 3, np.random.default_rng(5))).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("y", [[1.0], [2.0, 2.0, 2.0], [1e12, 1e12 + 1.0], [1e100, -1e100, 0.0], [1e-200, 2e-200]])
def test_unusual_values(kind, y):
    """One row, equal values, huge offsets, huge and tiny ranges: finite answers within the range seen."""
    forest = Forest(kind)
    X = np.random.default_rng(0).random((len(y), 2))
    forest.fit(X, np.array(y), np.random.default_rng(1))
    mean, std = forest.predict(X)
    assert np.isfinite(mean).all() and np.isfinite(std).all()
    assert (mean >= min(y) - 1e-6 * abs(min(y))).all() and (mean <= max(y) + 1e-6 * abs(max(y))).all()


def test_equal_points_share_a_leaf():
    """Rows at one point (noise) end in one leaf: its mean, its variance."""
    X = np.repeat([[0.2], [0.8]], 10, axis=0)
    y = np.concatenate([np.zeros(10), [1.0, 3.0] * 5])
    forest = Forest("rf")
    forest.fit(X, y, np.random.default_rng(0))
    mean, std = forest.predict(np.array([[0.2], [0.8]]))
    assert mean[0] == pytest.approx(0.0, abs=0.1) and mean[1] == pytest.approx(2.0, abs=0.3)
    assert std[1] == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize("options", [{"kind": "gbm"}, {"trees": 0}, {"subforest": 60}, {"leaf": 0}])
def test_bad_options(options):
    with pytest.raises(ValueError, match="expected"):
        Forest(**options)


def test_of_many_results_a_tree_sees_the_lowest_and_some_others():
    """The sample is bounded, its weights stand for all rows, and where values are low it is as fine as with all."""
    rng = np.random.default_rng(0)
    X = rng.random((4000, 2))
    y = X[:, 0]
    forest = Forest("et", trees=4, subforest=2, most=512)
    forest.fit(X, y, rng)
    for tree in forest.ring:
        leaves = tree.nodes.children_left == -1
        assert leaves.sum() <= 512 and tree.rows == 4000
        assert tree.mean[0] == pytest.approx(0.5, abs=0.1) and tree.count[0] == pytest.approx(4000, rel=0.05)
        assert (tree.mean[leaves] < 0.06).sum() > 100  # 256 of the rows lie there; 32 of 512 would at random
