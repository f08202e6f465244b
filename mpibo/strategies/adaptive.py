"""Adaptive selection: a coarse random search, then points in a box around its best that narrows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpibo.space import Space
from mpibo.strategies.distinct import Distinct
from mpibo.strategies.surrogate import Opening
from mpibo.table import Trials
from mpibo.trial import Proposal, State

Array = NDArray[np.float64]

TRIES = 20  # draws until a point is a new config


class Adaptive:
    """A coarse phase of ``n_initial`` results, then uniform draws from a box around one of the best results.

    The schedule: with ``m`` results the box reaches ``width (n_initial / m)^narrow`` of the (log) scale to either side
    in every number, cut off at the bounds. So it goes on narrowing with each result, whatever the length of the run,
    and moves when a better point is found. A choice is drawn anew with a probability of twice that share; what becomes
    active is always drawn anew. Pending points need no attention: draws differ.

    Args:
        n_initial: Results of the coarse phase; None: max(10, 2 p) for p parameters, at most 40.
        best: Results around which boxes lie, each as likely.
        width: Reach of the first boxes, in parts of the scale.
        narrow: How fast the boxes narrow; 0 is not at all.
        initial: The points of the coarse phase: random, lhs or sobol.

    References:
        D. Richards, Neural architecture search, lecture, Hartree Centre 2021 ("adaptive selection").
    """

    def __init__(
        self,
        *,
        n_initial: int | None = None,
        best: int = 3,
        width: float = 0.5,
        narrow: float = 1.0,
        initial: str = "random",
    ) -> None:
        if best < 1:
            raise ValueError(f"expected best >= 1, got {best}")
        if not (0 < width <= 1 and narrow >= 0):
            raise ValueError(f"expected 0 < width <= 1 and narrow >= 0, got {width} and {narrow}")
        self.best = best
        self.width = width
        self.narrow = narrow
        self._opening = Opening(n_initial, initial)
        self._distinct = Distinct()

    def propose(self, trials: Trials, n: int, rng: np.random.Generator) -> list[Proposal]:
        """At most ``n`` new configs; none when the space is exhausted."""
        y = trials.merit
        known = np.flatnonzero(~np.isnan(y))
        if not len(known) or not self._opening.over(trials, kept=True):
            return self._opening.propose(trials, n, rng)
        picks = self._distinct.begin(trials)
        if picks.exhausted:
            return []
        ended = trials.done | trials.mask(State.FAILED)
        reach = self.width * (self._opening.needed(trials) / ended.sum()) ** self.narrow
        centres = trials.X[known[np.argsort(y[known], kind="stable")[: self.best]]]
        for _ in range(TRIES):
            wanted = n - len(picks)
            if not wanted:
                break
            near = trials.space.snap(box(trials.space, centres[rng.integers(len(centres), size=wanted)], reach, rng))
            picks.take(near[trials.space.legal(near)], n)
        picks.fill(n, rng)
        return picks.proposals("model")


def box(space: Space, centres: Array, reach: float, rng: np.random.Generator) -> Array:
    """``(n, d)`` uniform draws from boxes around ``centres (n, d)``, not yet snapped to what a config can have.

    Args:
        space: The search space.
        centres: Points that configs can have.
        reach: Distance of a box's sides from its centre, in parts of the scale.
        rng: Source of the draws.
    """
    low, high = np.maximum(centres - reach, 0.0), np.minimum(centres + reach, 1.0)
    anywhere = rng.random(centres.shape)
    X = low + (high - low) * anywhere
    anew = rng.random((len(centres), len(space.parameters))) < 2 * reach
    for i, column in enumerate(space.columns):
        if column.kind == "onehot":
            X[:, i] = np.where(anew[:, column.index], anywhere[:, i], centres[:, i])
        elif column.kind == "activity":
            own = [k for k, other in enumerate(space.columns) if other.index == column.index and k != i]
            off = centres[:, i] == 0.0
            X[np.ix_(off, own)] = anywhere[np.ix_(off, own)]
    return X
