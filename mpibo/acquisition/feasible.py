"""Probability of feasibility: how likely a point keeps every limit, by a forest for each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpibo.models.forest import Forest
from mpibo.table import Trials

Array = NDArray[np.float64]

FLOOR = 1e-6  # smallest probability of a limit: a point is never out of the question
SPREAD = 1e-9  # smallest standard deviation, as a share of the excesses seen
HUGE = 1e100  # excesses beyond it count as this


class Feasibility:
    """Extra trees over how far each limit is passed, and what they say of new points.

    Args:
        count: Number of limits.

    References:
        Gardner et al. 2014, Bayesian optimization with inequality constraints, ICML; Gelbart, Snoek & Adams 2014,
        Bayesian optimization with unknown constraints, UAI.
    """

    def __init__(self, count: int) -> None:
        self.forests = [Forest("et") for _ in range(count)]
        self._scale = np.ones(count)

    def prepare(self) -> None:
        """Import what a fit needs, with no other effect."""
        for forest in self.forests[:1]:
            forest.prepare()

    def fit(self, trials: Trials, rng: np.random.Generator) -> None:
        """Learn from the rows that have the limits' metrics (a FAILED row has none, it is left out)."""
        excess = np.clip(trials.excess, -HUGE, HUGE)
        for limit, forest in enumerate(self.forests):
            known = ~np.isnan(excess[:, limit])
            if known.any():
                told = excess[known, limit]
                self._scale[limit] = np.abs(told).max() or 1.0
                forest.fit(trials.X[known], told, rng)

    def log_probability(self, X: Array) -> Array:
        """``(m,)`` logarithm of the probability that all limits are kept at ``X (m, d)``, taken as independent.

        The excess at a point is normal with the forest's mean and spread; each probability is at least 1e-6.
        Zero before anything is known.
        """
        from scipy.special import log_ndtr

        total = np.zeros(len(X))
        for forest, scale in zip(self.forests, self._scale, strict=True):
            if forest.ring:
                mean, std = forest.predict(X)
                total += np.maximum(log_ndtr(-mean / np.maximum(std, SPREAD * scale)), np.log(FLOOR))
        return total

    def sample(self, X: Array, rng: np.random.Generator) -> Array:
        """``(m,)`` by how much the limits are broken at ``X (m, d)`` in one draw of each forest; 0 where all are kept.

        References:
            Eriksson & Poloczek 2021, Scalable constrained Bayesian optimization, AISTATS (Thompson under constraints).
        """
        total = np.zeros(len(X))
        for forest, scale in zip(self.forests, self._scale, strict=True):
            if forest.ring:
                total += np.maximum(forest.sample(X, 1, rng)[0], 0.0) / scale
        return total
