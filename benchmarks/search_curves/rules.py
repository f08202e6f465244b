"""Schedules that the benchmark adds to the package's: the simple rule, ASHA with a quota; and what a method may see.

``simple:epochs=1,all=27,few=3``  all configs for so many epochs, then the few best fully; again and again
``quota``                         asha, but of n configs of a rung never more than n / eta go on
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from mpibo.schedules import New, Schedule, asha, halving, make, seen, stopping
from mpibo.schedules.rungs import Rung
from mpibo.strategies import parse_options
from mpibo.table import Trials
from mpibo.trial import Proposal, State

View = Callable[[Trials], Trials]


def simple(low: int, high: int, *, epochs: int = 1, all: int = 27, few: int = 3) -> Schedule:
    """Rounds of ``all`` configs trained for ``epochs``, of which the ``few`` best are trained fully.

    References:
        Egele et al. 2024, arXiv:2404.04111: one epoch, then the best three.
    """
    return halving.Halving([[Rung(all, epochs), Rung(few, high)]], max(2, all // few))


class Quota(asha.Promoting):
    """ASHA promotes what is among the best third when it ends: nearly all configs, where they get better and better.

    Here the number of those that went on is held, too: not more than ``n / eta`` of n, the best of them first.
    """

    def __init__(self, low: int, high: int, *, eta: int = 3) -> None:
        super().__init__(low, high, eta)

    def propose(self, trials: Trials, n: int, rng: np.random.Generator, new: New) -> list[Proposal]:
        """As ``Promoting``'s, within the quota."""
        promoted = trials.promoted
        proposals: list[Proposal] = []
        for rung in reversed(range(len(self.budgets) - 1)):
            best, ended = self._ranked(trials, rung)
            free = ended // self.eta - int(promoted[trials.rung == rung].sum())
            goes_on = [row for row in best[: ended // self.eta] if not promoted[row]][: max(0, free)]
            for row in goes_on[: n - len(proposals)]:
                proposals.append(halving.promotion(trials, int(row), rung + 1, self.budgets[rung + 1]))
        wanted = n - len(proposals)
        if trials.left is not None:
            wanted = min(wanted, trials.left)
        if wanted > 0:
            begin = new(asha.lifted(trials), wanted)
            proposals += [replace(each, budget=self.budgets[0], bracket=0, rung=0) for each in begin]
        return proposals


def schedule_of(text: str, low: int, high: int) -> Schedule | None:
    """A schedule by its name with options; ``full`` is none."""
    name, _, options = text.partition(":")
    if name == "full":
        return None
    if name == "simple":
        return simple(low, high, **parse_options(name, options, simple, held=("low", "high")))
    if name == "quota":
        return Quota(low, high, **parse_options(name, options, Quota, held=("low", "high")))
    return make(text, low, high)


# --- what a method sees ---------------------------------------------------------------------------------------------


def one_budget(trials: Trials) -> Trials:
    """Values at the largest budget at which there are as many as columns and one more."""
    return seen.at_one_budget(trials, trials.space.dimension + 1)


def fitted(trials: Trials) -> Trials:
    """As ``lifted``, but between one budget and the next values follow a robust line, not a shift.

    The slope is the ratio of the interquartile ranges of the configs that have both values, from 0 to 1: what looks bad
    early on looks less bad when the values have come nearer to each other.
    """
    roots, budgets, values, last = seen.levels(trials)
    lines = []
    for k in range(len(budgets) - 1):
        both = ~np.isnan(values[:, k]) & ~np.isnan(values[:, k + 1])
        slope, shift = 1.0, 0.0
        if both.any():
            low, high = values[both, k], values[both, k + 1]
            if both.sum() >= 5 and np.ptp(low) > 0:
                widths = [float(np.subtract(*np.percentile(each, (75, 25)))) for each in (low, high)]
                slope = min(1.0, widths[1] / widths[0]) if widths[0] > 0 else 1.0
            shift = float(np.median(high) - slope * np.median(low))
        lines.append((slope, shift))
    y = np.full(len(roots), np.nan)
    for k in range(len(budgets)):
        mine = ~np.isnan(values[:, k])
        lifted = values[mine, k]
        for slope, shift in lines[k:]:
            lifted = slope * lifted + shift
        y[mine] = lifted
    return seen._view(trials, roots, y, last)


def by_step(trials: Trials) -> Trials:
    """As ``lifted``, but whatever stopped a trial, its value is one at the step of its last report: it is lifted.

    That step is a budget then, and what those that went on past it had reported there is their value at it.
    """
    roots, _, _, last = seen.levels(trials)
    config = np.searchsorted(roots, trials.root)
    rows = np.flatnonzero(trials.done)
    curves = [trials.curves(int(row)) for row in rows]
    stopped = trials.mask(State.STOPPED)[rows]
    reached = np.array([
        int(steps[-1]) if early and len(steps) else int(trials.budget[row])
        for row, early, (steps, _) in zip(rows, stopped, curves, strict=True)
    ], np.int64)  # fmt: skip
    budgets, marks = np.unique(reached), np.unique(reached[stopped])
    values = np.full((len(roots), len(budgets)), np.nan)
    for row, most, (steps, told) in zip(rows, reached, curves, strict=True):
        past = marks[marks < most]
        before = np.searchsorted(steps, past, side="right") - 1
        past, before = past[before >= 0], before[before >= 0]
        values[config[row], np.searchsorted(budgets, past)] = told[before]
    values[config[rows], np.searchsorted(budgets, reached)] = trials.y[rows]
    return seen._view(trials, roots, seen.at_the_top(values), last)


def as_told(trials: Trials) -> Trials:
    """As ``lifted``, but whatever stopped a trial, its value is one at its whole budget: it is not lifted."""
    plain = copy.copy(trials)
    plain.steps = frozenset()
    return seen.lifted(plain)


VIEWS: dict[str, View] = {
    "lifted": seen.lifted, "one": one_budget, "fitted": fitted, "by-step": by_step, "as-told": as_told
}  # fmt: skip


@contextmanager
def view(name: str) -> Iterator[None]:
    """Let the schedules show methods another view than theirs."""
    modules = (asha, halving, stopping)
    before = [module.lifted for module in modules]
    try:
        for module in modules:
            module.lifted = VIEWS[name]  # type: ignore[attr-defined]
        yield
    finally:
        for module, theirs in zip(modules, before, strict=True):
            module.lifted = theirs  # type: ignore[attr-defined]
