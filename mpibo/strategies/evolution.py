"""Regularised (ageing) evolution: children of the winners of small tournaments among the latest results."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpibo.acquisition.maximise import around
from mpibo.strategies.distinct import Distinct
from mpibo.strategies.surrogate import Opening
from mpibo.table import Trials
from mpibo.trial import Proposal, State

Array = NDArray[np.float64]

TRIES = 20  # rounds of tournaments until all children are new configs


class Evolution:
    """A design of the size of the population, then for each proposal a mutation of a tournament's winner.

    The population is the last ``population`` trials that ended, so that the oldest dies with each result, however good
    it was; a failed trial is the worst of it. Asynchronous as it is: no generations. A mutation moves one or more
    parameters, numbers by steps of all sizes (``acquisition.maximise.around``); what becomes active is drawn anew.

    Args:
        population: Trials that live at a time.
        sample: Those of them, drawn at random without replacement, of which the best has the child.
        initial: The design until so many have ended: random, lhs or sobol.

    References:
        Real et al. 2019, Regularized evolution for image classifier architecture search, AAAI 33:4780, algorithm 1.
    """

    def __init__(self, *, population: int = 20, sample: int = 10, initial: str = "sobol") -> None:
        if not 1 <= sample <= population:
            raise ValueError(f"expected 1 <= sample <= population, got sample={sample} and population={population}")
        self.population = population
        self.sample = sample
        self._opening = Opening(population, initial)
        self._distinct = Distinct()

    def propose(self, trials: Trials, n: int, rng: np.random.Generator) -> list[Proposal]:
        """At most ``n`` new configs; none when the space is exhausted."""
        if not self._opening.over(trials, kept=True):
            return self._opening.propose(trials, n, rng)
        picks = self._distinct.begin(trials)
        if picks.exhausted:
            return []
        alive = self.alive(trials)
        y = trials.merit[alive]
        for _ in range(TRIES):
            wanted = n - len(picks)
            if not wanted:
                break
            parents = alive[[self.winner(y, rng) for _ in range(wanted)]]
            children = trials.space.snap(around(trials.space, trials.X[parents], wanted, rng))
            picks.take(children[trials.space.legal(children)], n)
        picks.fill(n, rng)
        return picks.proposals("model")

    def alive(self, trials: Trials) -> NDArray[np.intp]:
        """Rows of the last ``population`` trials that have a value or failed, in the order of their ends."""
        ended = np.flatnonzero(trials.done | trials.mask(State.FAILED))
        return ended[np.argsort(trials.order[ended], kind="stable")][-self.population :]

    def winner(self, y: Array, rng: np.random.Generator) -> int:
        """The best of a tournament among values ``y (n,)`` in the order of age; NaN is worst; the younger of equals."""
        rivals = np.sort(rng.choice(len(y), size=self.sample, replace=False))[::-1]
        return int(rivals[np.argsort(y[rivals], kind="stable")[0]])
