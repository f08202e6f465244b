"""Pareto fronts: which points no other beats in every goal, and how much space they cover (all goals minimised)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from mpibo.goals import Aims
from mpibo.trial import State, Trial

Array = NDArray[np.float64]


def nondominated(F: Array) -> NDArray[np.bool_]:
    """Which rows no other row dominates: nowhere worse and somewhere better. Equal rows leave each other in.

    Args:
        F: ``(n, m)`` to minimise; a row with NaN is never in, and dominates none.

    Returns:
        ``(n,)`` booleans. Takes O(n log n) for two goals, n times the size of the front for more.
    """
    front = np.zeros(len(F), bool)
    known = np.flatnonzero(~np.isnan(F).any(axis=1))
    rows = known[np.lexsort(F[known].T[::-1])]  # by the first goal, equals by the second, ...: later ones dominate none
    if F.shape[1] <= 2:
        last = F[rows, -1]
        least = np.minimum.accumulate(last)
        fresh = np.r_[True, last[1:] < least[:-1]] if len(rows) else np.zeros(0, bool)
        same = np.r_[False, (F[rows[1:]] == F[rows[:-1]]).all(axis=1)] if len(rows) else fresh
        first_of_equals = np.maximum.accumulate(np.where(same, 0, np.arange(len(rows))))
        front[rows[fresh[first_of_equals]]] = True
        return front
    while len(rows):
        point = F[rows[0]]
        front[rows[0]] = True
        rest = rows[1:]
        rows = rest[(F[rest] < point).any(axis=1) | (F[rest] == point).all(axis=1)]
    return front


def hypervolume(F: Array, reference: Array) -> float:
    """Volume between the points and ``reference (m,)`` that the points dominate; exact.

    Args:
        F: ``(n, m)`` to minimise, m of 1, 2 or 3. What does not beat the reference in every goal counts nothing.
        reference: ``(m,)``.

    Raises:
        ValueError: More than three goals.

    References:
        Zitzler & Thiele 1998, PPSN V:292.
    """
    goals = len(reference)
    if goals > 3:
        raise ValueError(f"expected at most 3 goals for a hypervolume, got {goals}")
    points = F[(reference > F).all(axis=1)]
    points = points[nondominated(points)]
    if not len(points):
        return 0.0
    if goals == 1:
        return float(reference[0] - points.min())
    points = points[np.argsort(points[:, -1], kind="stable")]
    tops = np.append(points[1:, -1], reference[-1])
    slabs = [
        (top - point[-1]) * hypervolume(points[: i + 1, :-1], reference[:-1])
        for i, (point, top) in enumerate(zip(points, tops, strict=True))
        if top > point[-1]
    ]
    return float(sum(slabs))


def front_of(trials: Iterable[Trial], aims: Aims) -> list[Trial]:
    """The best trials: the Pareto front of those DONE within the limits at the highest budget, by the first goal.

    With one goal, or none, it is the best trial alone (the first one that ended, of equals).
    """
    told = [(trial, aims.costs(trial.value, trial.metrics)) for trial in trials if trial.state is State.DONE]
    able = [(trial, costs) for trial, costs in told if costs is not None and aims.keep(trial.metrics)]
    if not able:
        return []
    highest = max(trial.budget for trial, _ in able)
    able = [(trial, costs) for trial, costs in able if trial.budget == highest]
    kept = nondominated(np.array([costs for _, costs in able], dtype=float))
    best = [pair for pair, keep in zip(able, kept, strict=True) if keep]
    best.sort(key=lambda pair: (pair[1], pair[0].order))
    return [trial for trial, _ in best] if aims.several else [best[0][0]]
