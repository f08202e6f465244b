"""What a method sees of a run with budgets: one row for each config, with one value."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpibo.table import CODE, Trials
from mpibo.trial import State

Array = NDArray[np.float64]


def lifted(trials: Trials) -> Trials:
    """Each config with its value at the largest budget that it was trained to, lifted to the largest of all.

    Between one budget and the next a value changes as it did for those that have both, in the median. A config that
    failed at a larger budget has failed. One that was stopped at a rung has its value there; one that any other rule
    stopped keeps the value that it had, as if it came to no more (docs/early_stopping.md has why).
    """
    roots, _, values, last = levels(trials)
    return _view(trials, roots, at_the_top(values), last)


def at_the_top(values: Array) -> Array:
    """Each config's value at its largest budget, lifted to the largest of all.

    Args:
        values: ``(m, k)`` by budget, NaN where there is none.
    """
    shifts = np.zeros(values.shape[1])  # from each budget to the next one, from the last to itself
    for k in range(len(shifts) - 1):
        change = values[:, k + 1] - values[:, k]
        if not np.isnan(change).all():
            shifts[k] = np.nanmedian(change)
    to_top = np.cumsum(shifts[::-1])[::-1]
    known = ~np.isnan(values)
    y = np.full(len(values), np.nan)
    for k in range(len(shifts)):
        y[known[:, k]] = values[known[:, k], k] + to_top[k]
    return y


def at_one_budget(trials: Trials, needed: int) -> Trials:
    """Each config with its value at one budget, the largest at which at least ``needed`` have one, else the smallest.

    References:
        Falkner et al. 2018, BOHB, ICML, section 4.
    """
    roots, budgets, values, last = levels(trials)
    enough = np.flatnonzero((~np.isnan(values)).sum(axis=0) >= needed)
    y = values[:, enough[-1] if len(enough) else 0] if len(budgets) else np.full(len(roots), np.nan)
    return _view(trials, roots, y.copy(), last)


def levels(trials: Trials) -> tuple[NDArray[np.int64], NDArray[np.int64], Array, NDArray[np.int64]]:
    """The values of each config at each budget.

    Where trials are stopped at rungs (``trials.steps``), these are budgets, too: a stopped trial has its value at the
    last rung that it came to, and of those that went on further what they reported there is their value at it.

    Returns:
        ``(m,)`` the first rows of the configs; ``(k,)`` the budgets at which a value is known, rising; ``(m, k)`` the
        values, NaN where there is none; ``(m,)`` the row of each config's latest value, or its latest row.
    """
    root = trials.root
    roots = np.flatnonzero(root == np.arange(trials.n))
    config = np.searchsorted(roots, root)  # which config each row is of
    rows = np.flatnonzero(trials.done)
    reached = trials.budget[rows]
    stopped = trials.mask(State.STOPPED)[rows]
    marks = {step: trials.reported_at(step) for step in sorted(trials.steps)} if stopped.any() else {}
    for step, (reporters, _) in marks.items():
        reached[stopped & np.isin(rows, reporters)] = step
    budgets = np.unique(reached)
    values = np.full((len(roots), len(budgets)), np.nan)
    for step, (reporters, told) in marks.items():
        if step in budgets:
            went_on = np.isin(reporters, rows)
            values[config[reporters[went_on]], np.searchsorted(budgets, step)] = told[went_on]
    values[config[rows], np.searchsorted(budgets, reached)] = trials.y[rows]
    last = np.zeros(len(roots), np.int64)
    last[config] = np.arange(trials.n)  # of several the last one stays
    last[config[rows]] = rows
    return roots, budgets, values, last


def _view(trials: Trials, roots: NDArray[np.int64], y: Array, last: NDArray[np.int64]) -> Trials:
    state = trials.state[last].copy()
    state[~np.isnan(y)] = CODE[State.DONE]
    state[np.isnan(y) & (trials.done[last])] = CODE[State.LOST]  # it has no value at the budget that counts
    failed = trials.state[_latest(trials, roots)] == CODE[State.FAILED]  # in the end, whatever it told before
    y[failed], state[failed] = np.nan, CODE[State.FAILED]
    return trials.view(roots, y, state, last)


def _latest(trials: Trials, roots: NDArray[np.int64]) -> NDArray[np.int64]:
    """``(m,)`` the last row of each config that is not LOST."""
    rows = np.flatnonzero(~trials.mask(State.LOST))
    latest = roots.copy()
    latest[np.searchsorted(roots, trials.root[rows])] = rows
    return latest
