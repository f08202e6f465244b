"""A problem: a space, what an evaluation tells, what is true, and the scale on which a regret is measured.

Normalised regret is ``(best - optimum) / (scale - optimum)``: 0 is the optimum, 1 the median, over runs, of the best of
as many random draws. The best of n draws lies above v with probability P(draw > v) ** n, so that median is the quantile
``1 - 2 ** (-1/n)`` of one draw.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpibo import Space

Config = dict[str, Any]
Array = NDArray[np.float64]
DRAWS = 50_000  # random configs from which the scale is read where there is no table of all
LEAST = 100  # as many draws at least lie below the quantile that is read


@dataclass(frozen=True, eq=False)
class Problem:
    """One problem to minimise.

    Attributes:
        name: Its name, unique.
        block: smooth, noisy, conditional, the same with ``kept-`` in front, or scale.
        space: The search space.
        true: Noise-free value of a config, or its mean over the training seeds of a table.
        optimum: The lowest ``true``.
        tell: Value told for a config in a run of this seed; None where it is ``true``. It is the same each time it is
            asked: one training seed of a table, chosen by the run's seed.
        told_optimum: The lowest value that a run of this seed can be told.
        every: All true values, where there is a table of them.
        every_told: All values that a run of this seed can be told.
        chances: Probability of each of ``every`` in a random draw; None: all the same.
        seconds: The table's own training time of a config in a run of this seed.
    """

    name: str
    block: str
    space: Space
    true: Callable[[Config], float]
    optimum: float
    tell: Callable[[Config, int], float] | None = None
    told_optimum: Callable[[int], float] | None = None
    every: Array | None = None
    every_told: Callable[[int], Array] | None = None
    chances: Array | None = None
    seconds: Callable[[Config, int], float] | None = None
    _scales: dict[Any, float] = field(default_factory=dict, repr=False)

    def told(self, config: Config, seed: int) -> float:
        """The value that an evaluation of ``config`` gives in a run of this seed."""
        return self.true(config) if self.tell is None else self.tell(config, seed)

    def lowest_told(self, seed: int) -> float:
        """The lowest value that a run of this seed can be told."""
        return self.optimum if self.told_optimum is None else self.told_optimum(seed)

    def scale(self, evaluations: int) -> float:
        """Median of the best true value of ``evaluations`` random draws."""
        key = (evaluations, None)
        if key not in self._scales:
            pool = self.every if self.every is not None else self._pool(evaluations, None)
            self._scales[key] = best_of(pool, evaluations, self.chances)
        return self._scales[key]

    def told_scale(self, evaluations: int, seed: int) -> float:
        """Median of the best told value of ``evaluations`` random draws in runs of this seed."""
        if self.tell is None:
            return self.scale(evaluations)
        key = (evaluations, self.lowest_told(seed))
        if key not in self._scales:
            pool = self.every_told(seed) if self.every_told is not None else self._pool(evaluations, seed)
            self._scales[key] = best_of(pool, evaluations, self.chances)
        return self._scales[key]

    def _pool(self, evaluations: int, seed: int | None) -> Array:
        rng = np.random.default_rng((zlib.crc32(self.name.encode()), 7))
        draws = max(DRAWS, LEAST * evaluations)
        configs = self.space.decode(self.space.sample(draws, rng))
        return np.array([self.true(each) if seed is None else self.told(each, seed) for each in configs])


def best_of(values: Array, n: int, chances: Array | None = None) -> float:
    """The median of the lowest of ``n`` independent draws from ``values``, ``(m,)``, taken with these probabilities."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(np.full(len(values), 1 / len(values)) if chances is None else chances[order])
    place = np.searchsorted(below, -np.expm1(-np.log(2) / n))
    return float(values[order[min(int(place), len(values) - 1)]])
