"""Designs: configs chosen without a look at results (random, Latin hypercube, Sobol)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mpibo.space import Constant, Space
from mpibo.strategies.distinct import ROUNDS, Distinct, Picks
from mpibo.strategies.joe_kuo import BITS, DIMENSIONS, sobol
from mpibo.table import Trials
from mpibo.trial import Proposal

Array = NDArray[np.float64]


class Random:
    """Independent uniform draws from the space."""

    def __init__(self) -> None:
        self._distinct = Distinct()

    def propose(self, trials: Trials, n: int, rng: np.random.Generator) -> list[Proposal]:
        """At most ``n`` new configs; none when the space is exhausted."""
        picks = self._distinct.begin(trials)
        picks.fill(n, rng)
        return picks.proposals("design")


class LatinHypercube:
    """Latin hypercubes, one after the other: of ``size`` points each has one in each of ``size`` bins of each axis.

    References:
        McKay, Beckman & Conover 1979, Technometrics 21:239.
    """

    def __init__(self, *, size: int = 64) -> None:
        if size < 1:
            raise ValueError(f"expected a Latin hypercube of at least 1 point, got size={size}")
        self.size = size
        self._distinct = Distinct()
        self._left: Array | None = None

    def propose(self, trials: Trials, n: int, rng: np.random.Generator) -> list[Proposal]:
        """At most ``n`` new configs; none when the space is exhausted."""
        picks = self._distinct.begin(trials)
        self._left = _continue(picks, self._left, n, lambda _: latin_hypercube(self.size, axes(trials.space), rng))
        picks.fill(n, rng)
        return picks.proposals("design")


class Sobol:
    """The Sobol sequence with a random digital shift. Axes beyond the 200th are uniform draws.

    References:
        Joe & Kuo 2008, SIAM J. Sci. Comput. 30:2635; Owen 2003, ACM TOMACS 13:363 (the shift).
    """

    def __init__(self) -> None:
        self._distinct = Distinct()
        self._left: Array | None = None
        self._shift: NDArray[np.uint32] | None = None
        self._next = 0

    def propose(self, trials: Trials, n: int, rng: np.random.Generator) -> list[Proposal]:
        """At most ``n`` new configs; none when the space is exhausted."""
        picks = self._distinct.begin(trials)
        self._left = _continue(picks, self._left, n, lambda m: self._points(m, axes(trials.space), rng))
        picks.fill(n, rng)
        return picks.proposals("design")

    def _points(self, n: int, p: int, rng: np.random.Generator) -> Array:
        if self._shift is None:
            self._shift = rng.integers(1 << BITS, size=min(p, DIMENSIONS), dtype=np.uint32)
        points = sobol(self._next, n, len(self._shift)) ^ self._shift
        self._next += n
        return np.hstack([points / (1 << BITS), rng.random((n, p - len(self._shift)))])


def latin_hypercube(n: int, p: int, rng: np.random.Generator) -> Array:
    """``(n, p)`` points in [0, 1): in each column one point in each of ``n`` equal bins, in random order."""
    bins = rng.permuted(np.tile(np.arange(n), (p, 1)), axis=1).T
    points: Array = (bins + rng.random((n, p))) / n
    return np.minimum(points, np.nextafter(1.0, 0.0))


def axes(space: Space) -> int:
    """Number of parameters that are no constants: the columns that ``space.spread`` takes."""
    return sum(not isinstance(parameter, Constant) for parameter in space.parameters.values())


def _continue(picks: Picks, left: Array | None, n: int, draw: Callable[[int], Array]) -> Array:
    """Pick ``n`` points of a design: first those that earlier answers left, then new ones.

    Args:
        picks: The answer in the making.
        left: What this function returned at the ask before.
        n: Number of picks wanted.
        draw: Gives the design's next points, about as many as it is asked for, ``(m, p)`` in [0, 1).

    Returns:
        The rows that later answers may still use: proposals that are forgotten before they start come again.
    """
    space = picks.space
    left = picks.take(np.empty((0, space.dimension)) if left is None else left, n)
    for _ in range(ROUNDS):
        if len(picks) >= n or picks.exhausted:
            break
        X = space.spread(draw(n - len(picks)))
        left = np.concatenate([left, picks.take(X[space.legal(X)], n)])
    return left
