"""Stopping rules: every config begins with the whole budget, and a rule names those that are to end early."""

from __future__ import annotations

from array import array
from collections.abc import Set
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mpibo.schedules import New
from mpibo.schedules.seen import lifted
from mpibo.table import Trials
from mpibo.trial import Proposal, State

Array = NDArray[np.float64]


class FullBudget:
    """New configs with the whole budget; a rule of a subclass stops some.

    Args:
        high: The budget.
    """

    stops = True
    steps: Set[int] = frozenset()

    def __init__(self, high: int) -> None:
        self.high = high

    def propose(self, trials: Trials, n: int, rng: np.random.Generator, new: New) -> list[Proposal]:
        """New configs, as many as may still be proposed."""
        wanted = n if trials.left is None else min(n, trials.left)
        begin = new(lifted(trials), wanted) if wanted > 0 else []
        return [replace(each, budget=self.high) for each in begin]

    def stop(self, trials: Trials) -> list[int]:
        """Nobody."""
        return []

    def live(self, trials: Trials) -> NDArray[np.bool_]:
        """No trial goes on in another."""
        return np.zeros(trials.n, bool)


class Median(FullBudget):
    """A trial ends when its best value so far is worse than the median of what the others had reported on average.

    Args:
        low: No trial ends before this step.
        high: The budget.
        results: Trials that have come as far before one is judged.

    References:
        Golovin et al. 2017, Google Vizier, KDD, section 3.2.1: the running averages of the trials' values up to the
        step.
    """

    def __init__(self, low: int, high: int, *, results: int = 5) -> None:
        super().__init__(high)
        if not 1 <= low <= high:
            raise ValueError(f"expected a budget from 1 on, the smaller first, got {low}:{high}")
        if results < 1:
            raise ValueError(f"expected results >= 1, got {results}")
        self.low = low
        self.results = results
        self._ended: list[tuple[Array, Array]] = []  # steps of each trial that has ended, and its averages up to them
        self._orders = 0  # ends that were looked at
        self._known: dict[float, tuple[int, array[float], float]] = {}  # by step: trials looked at, averages, median

    def stop(self, trials: Trials) -> list[int]:
        """Running trials that are worse than the median of the others."""
        self._take(trials)
        found = []
        for row in np.flatnonzero(trials.mask(State.RUNNING)):
            steps, values = trials.curves(int(row))
            if not len(steps) or steps[-1] < self.low or steps[-1] >= self.high:
                continue
            count, median = self._median(float(steps[-1]))
            if count >= self.results and values.min() > median:
                found.append(int(row))
        return found

    def _take(self, trials: Trials) -> None:
        """Averages of the trials that ended since: what a trial has reported stays when it has ended."""
        for row in np.flatnonzero(trials.done & (trials.order >= self._orders)):
            steps, values = trials.curves(int(row))
            if len(steps):
                self._ended.append((steps, np.cumsum(values) / np.arange(1, len(values) + 1)))
        self._orders = int(trials.order.max(initial=-1)) + 1

    def _median(self, step: float) -> tuple[int, float]:
        """How many trials came as far, and the median of what each had reported up to the step on average."""
        looked, averages, median = self._known.get(step, (0, array("d"), np.nan))
        if looked < len(self._ended):
            for steps, means in self._ended[looked:]:
                if steps[-1] >= step:
                    at = int(np.searchsorted(steps, step, side="right")) - 1
                    averages.append(float(means[max(0, at)]))
            median = float(np.median(averages)) if averages else np.nan
            self._known[step] = len(self._ended), averages, median
        return len(averages), median
