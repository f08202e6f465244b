"""Asynchronous successive halving: nobody waits for a rung to be complete."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mpibo.schedules import New
from mpibo.schedules.halving import promotion
from mpibo.schedules.rungs import budgets
from mpibo.schedules.seen import lifted
from mpibo.schedules.stopping import FullBudget
from mpibo.table import CODE, Trials
from mpibo.trial import Proposal, State

CELLS = 1 << 20  # comparisons at once
ENDED = [CODE[state] for state in (State.DONE, State.STOPPED, State.FAILED)]


def asha(low: int, high: int, *, eta: int = 3, stop: bool = False) -> Promoting | Stopping:
    """The variant that promotes, or with ``stop`` the one that stops.

    Args:
        low, high: Smallest and largest budget.
        eta: One config in ``eta`` goes on.
        stop: Whether trials begin with the whole budget and are stopped at the rungs.
    """
    return (Stopping if stop else Promoting)(low, high, eta)


class Promoting:
    """From the top rung down, a trial among the best ``floor(n / eta)`` of its rung goes on; else a new config begins.

    Args:
        low, high: Smallest and largest budget.
        eta: One config in ``eta`` goes on.

    References:
        Li et al. 2020, A system for massively parallel hyperparameter tuning, MLSys 2:230, algorithm 2.
    """

    stops = False
    steps: Set[int] = frozenset()

    def __init__(self, low: int, high: int, eta: int) -> None:
        self.budgets = budgets(low, high, eta)
        self.eta = eta

    def propose(self, trials: Trials, n: int, rng: np.random.Generator, new: New) -> list[Proposal]:
        """Promotions first, those to the highest rungs before others; then new configs."""
        promoted = trials.promoted
        proposals: list[Proposal] = []
        for rung in reversed(range(len(self.budgets) - 1)):
            best, ended = self._ranked(trials, rung)
            goes_on = [row for row in best[: ended // self.eta] if not promoted[row]]
            for row in goes_on[: n - len(proposals)]:
                proposals.append(promotion(trials, int(row), rung + 1, self.budgets[rung + 1]))
        wanted = n - len(proposals)
        if trials.left is not None:
            wanted = min(wanted, trials.left)
        if wanted > 0:
            begin = new(lifted(trials), wanted)
            proposals += [replace(each, budget=self.budgets[0], bracket=0, rung=0) for each in begin]
        return proposals

    def stop(self, trials: Trials) -> list[int]:
        """None: what does not go on has reached its budget."""
        return []

    def live(self, trials: Trials) -> NDArray[np.bool_]:
        """Rows that may come among the best of their rung when it has all the rows that it can get.

        A rung can get more than its share of the one below: those that went on and were overtaken stay in it. Without
        a ``total`` nobody knows how many rows come: as many as there are, say.
        """
        alive = np.zeros(trials.n, bool)
        promoted = trials.promoted
        most = trials.total  # rows that the rung can get
        for rung in range(len(self.budgets) - 1):
            best, ended = self._ranked(trials, rung)
            limit = 2 * ended if most is None else max(most, ended)
            hopeful = best[: max(1, limit // self.eta)]
            hopeful = hopeful[~promoted[hopeful]]
            alive[hopeful] = True
            above = int((trials.rung == rung + 1).sum())
            most = None if most is None else above + len(hopeful) + limit - ended
        return alive

    def _ranked(self, trials: Trials, rung: int) -> tuple[NDArray[np.int64], int]:
        """Rows of a rung that have a value, the best first; and how many rows of it have ended, FAILED ones too."""
        rows = np.flatnonzero((trials.rung == rung) & np.isin(trials.state, ENDED))
        merit = trials.merit[rows]
        order = np.argsort(merit, kind="stable")
        return rows[order[: int((~np.isnan(merit)).sum())]], len(rows)


class Stopping(FullBudget):
    """Trials begin with the whole budget; at a rung's step one that is not among the best 1/eta so far is stopped.

    Each is held against those that were at the rung before it; the first ``eta - 1`` go on.

    References:
        Li et al. 2020, as ``Promoting``; the stopping variant of its implementations (Klein et al. 2020,
        arXiv:2003.10865, section 3).
    """

    def __init__(self, low: int, high: int, eta: int) -> None:
        super().__init__(high)
        self.eta = eta
        self.steps = frozenset(budgets(low, high, eta)[:-1])

    def stop(self, trials: Trials) -> list[int]:
        """Running trials that were not good enough at a rung."""
        running, lost = trials.mask(State.RUNNING), trials.mask(State.LOST)
        found: list[int] = []
        for step in sorted(self.steps):
            rows, values = trials.reported_at(step)
            mine = ~lost[rows]  # what a lost worker reported comes again
            rows, values = rows[mine], values[mine]
            at = np.flatnonzero(running[rows])
            at = at[at + 1 >= self.eta]
            for some in np.array_split(at, 1 + len(at) * len(rows) // CELLS):
                before = np.arange(len(rows)) < some[:, None]
                better = (before & (values < values[some, None])).sum(axis=1)
                found += rows[some[better >= (some + 1) // self.eta]].tolist()
        return sorted(set(found))
