"""A ring of regression trees: random forest (best splits) or bootstrapped extra trees (random splits).

======  ==========================================
n, d    rows fitted, columns of an encoded point
T       number of trees
m       points asked about
======  ==========================================
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpibo.models import Array

KINDS = ("et", "rf")
REFRESH = 0.5  # share of the work that a fit takes once the ring is too large to be grown anew
MOST = 4096  # rows of a tree's sample: more take longer than they tell
STALE = 0.75  # a tree that saw a smaller share of the rows is always replaced


@dataclass(frozen=True, slots=True)
class Tree:
    """A fitted tree and, for each of its nodes, what the rows of its bootstrap sample say there."""

    nodes: Any  # scikit-learn's Tree
    mean: Array
    variance: Array
    count: Array  # rows, repeats counted
    rows: int  # n at its fit


class Forest:
    """Trees grown to single rows, each on its own bootstrap sample.

    A fit replaces the oldest trees of the ring: all of them while n is small, about ``work / 2n`` of them when it is
    large, so that a fit takes bounded time. The ring depends on the sequence of fits and on nothing else.

    Args:
        kind: "et": one random threshold for each column, all columns tried; "rf": best thresholds, half of the
            columns tried at each split.
        trees: Number of trees.
        subforest: Number of trees that make one sample.
        leaf: Smallest number of distinct rows in a leaf.
        work: Rows times trees that a fit may take.
        most: Rows that a bootstrap sample draws at most: of more results half of it are the lowest, half are others.

    References:
        Breiman 2001, Machine Learning 45:5; Geurts, Ernst & Wehenkel 2006, Machine Learning 63:3.
    """

    def __init__(
        self, kind: str = "et", *, trees: int = 50, subforest: int = 8, leaf: int = 1, work: int = 15_000,
        most: int = MOST,
    ) -> None:  # fmt: skip
        if kind not in KINDS:
            raise ValueError(f"expected a forest of kind {' or '.join(KINDS)}, got {kind!r}")
        if trees < 1 or not 1 <= subforest <= trees or leaf < 1:
            raise ValueError(f"expected 1 <= subforest <= trees and leaf >= 1, got {subforest}, {trees} and {leaf}")
        self.kind = kind
        self.trees = trees
        self.subforest = subforest
        self.leaf = leaf
        self.work = work
        self.most = most
        self.ring: deque[Tree] = deque(maxlen=trees)  # oldest first

    def prepare(self) -> None:
        """Import what a fit needs (about 1 s), with no other effect."""
        import sklearn.tree  # noqa: F401

    def fit(self, X: Array, y: Array, rng: np.random.Generator) -> None:
        """Replace the oldest trees by trees on all of ``X (n, d)`` and ``y (n,)``, |y| < 1e150.

        The first fit grows every tree.
        """
        import sklearn
        from sklearn.tree import DecisionTreeRegressor, ExtraTreeRegressor

        n = len(y)
        X32 = X.astype(np.float32)
        centre = float(y.mean())
        scale = float(np.max(np.abs(y - centre))) or 1.0
        target = (y - centre) / scale
        order = np.argpartition(y, self.most // 2) if n > self.most else np.arange(n)
        with sklearn.config_context(skip_parameter_validation=True, assume_finite=True):
            for _ in range(self._due(n)):
                inputs, outputs = X32, target
                if n <= self.most:
                    weight = np.bincount(rng.integers(n, size=n), minlength=n).astype(float)
                else:
                    used, weight = _thinned(order, self.most // 2, rng)
                    inputs, outputs = X32[used], target[used]
                seed = int(rng.integers(2**31))
                if self.kind == "et":
                    grown = ExtraTreeRegressor(max_features=1.0, min_samples_leaf=self.leaf, random_state=seed)
                else:
                    grown = DecisionTreeRegressor(max_features=0.5, min_samples_leaf=self.leaf, random_state=seed)
                nodes = grown.fit(inputs, outputs, sample_weight=weight, check_input=False).tree_
                self.ring.append(
                    Tree(
                        nodes,
                        mean=centre + scale * nodes.value[:, 0, 0],
                        variance=scale**2 * np.maximum(nodes.impurity, 0.0),
                        count=nodes.weighted_n_node_samples.copy(),
                        rows=n,
                    )
                )

    def _due(self, n: int) -> int:
        if len(self.ring) < self.trees or n * self.trees <= self.work:
            return self.trees
        stale = sum(tree.rows < STALE * n for tree in self.ring)
        return max(1, math.ceil(self.work * REFRESH / min(n, self.most)), stale)

    def leaves(self, X: Array) -> NDArray[np.intp]:
        """``(T, m)`` node in which each tree puts each point."""
        X32 = X.astype(np.float32)
        return np.stack([tree.nodes.apply(X32) for tree in self.ring])

    def read(self, leaves: NDArray[np.intp]) -> tuple[Array, Array, Array]:
        """Mean, variance and number of rows in each of ``leaves (T, m)``."""
        pairs = list(zip(self.ring, leaves, strict=True))
        mean = np.stack([tree.mean[leaf] for tree, leaf in pairs])
        variance = np.stack([tree.variance[leaf] for tree, leaf in pairs])
        count = np.stack([tree.count[leaf] for tree, leaf in pairs])
        return mean, variance, count

    def means(self, X: Array) -> Array:
        """``(T, m)`` prediction of each tree."""
        return np.stack([tree.mean[leaf] for tree, leaf in zip(self.ring, self.leaves(X), strict=True)])

    def predict(self, X: Array) -> tuple[Array, Array]:
        """Mean and standard deviation at ``X (m, d)``."""
        mean, variance, _ = self.read(self.leaves(X))
        return mean_and_std(mean, variance)

    def sample(self, X: Array, k: int, rng: np.random.Generator) -> Array:
        """``(k, m)`` predictions of ``k`` random sub-forests, each of ``subforest`` different trees."""
        chosen = self._chosen(k, rng)
        used, place = np.unique(chosen, return_inverse=True)
        X32 = X.astype(np.float32)
        means = np.stack([self.ring[tree].mean[self.ring[tree].nodes.apply(X32)] for tree in used])
        return self._averaged(means, place.reshape(chosen.shape))

    def sample_of(self, means: Array, k: int, rng: np.random.Generator) -> Array:
        """The same from the trees' own predictions ``means (T, m)``, which a batch of answers shares."""
        return self._averaged(means, self._chosen(k, rng))

    def _chosen(self, k: int, rng: np.random.Generator) -> NDArray[np.intp]:
        return rng.permuted(np.tile(np.arange(self.trees), (k, 1)), axis=1)[:, : self.subforest]

    def _averaged(self, means: Array, chosen: NDArray[np.intp]) -> Array:
        total: Array = means[chosen].sum(axis=1)  # no matrix product: its last bits depend on k and on BLAS threads
        return total / self.subforest


def _thinned(order: NDArray[np.intp], half: int, rng: np.random.Generator) -> tuple[NDArray[np.intp], Array]:
    """A bootstrap sample of ``2 half`` rows, as many of the ``half`` lowest as of all others together.

    Where it matters trees are as fine as with all rows, and with the weights their means are those of all rows.

    Args:
        order: ``(n,)`` the rows, the ``half`` lowest first.

    Returns:
        The rows drawn, each once, and their weights.
    """
    drawn = np.bincount(rng.integers(half, size=half), minlength=len(order)).astype(float)
    others = len(order) - half
    drawn += np.bincount(half + rng.integers(others, size=half), minlength=len(order)) * (others / half)
    used = np.sort(order[drawn > 0])
    weight = np.empty(len(order))
    weight[order] = drawn
    return used, weight[used]


def mean_and_std(mean: Array, variance: Array) -> tuple[Array, Array]:
    """A forest's answer from its leaves, by the law of total variance: E[leaf variance] + Var[leaf means].

    Args:
        mean: ``(T, m)`` means of the leaves.
        variance: ``(T, m)`` variances in them.

    Returns:
        Mean and standard deviation, each ``(m,)``.
    """
    return mean.mean(axis=0), np.sqrt(variance.mean(axis=0) + mean.var(axis=0))
