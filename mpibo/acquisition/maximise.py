"""Candidates: the points over which an acquisition is maximised."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpibo.space import Space

Array = NDArray[np.float64]

BEST = 5  # observed points around which half of the candidates lie
ANEW = 0.5  # share of the moves of a number with steps that draw it anew


def candidates(space: Space, best: Array, n: int, rng: np.random.Generator) -> Array:
    """Half drawn from the whole space, half around the best observed points.

    A local candidate is one of the best points with a share 10^U(-1, 0) of its parameters moved, at least one.
    Numbers move by normal steps whose standard deviation is 10^U(-2.3, -0.5) of the range; half of the moves of a
    number with steps, and all of a choice, draw it anew, and so does whatever was inactive in that point.

    Args:
        space: The search space.
        best: ``(m, d)`` the best observed points.
        n: Number of points to make.
        rng: Source of the draws.

    Returns:
        ``(n, d)`` or, where forbidden combinations were dropped, fewer: legal points that configs can have.
    """
    local = n // 2 if len(best) else 0
    everywhere = space.sample(n - local, rng)
    if not local:
        return everywhere
    nearby = space.snap(around(space, best, local, rng))
    return np.concatenate([nearby[space.legal(nearby)], everywhere])


def around(space: Space, best: Array, n: int, rng: np.random.Generator) -> Array:
    """``(n, d)`` moves away from random rows of ``best (m, d)``, not yet snapped to what a config can have."""
    centre = best[rng.integers(len(best), size=n)]
    std = 10 ** rng.uniform(-2.3, -0.5, size=(n, 1))
    stepped = np.clip(centre + std * rng.standard_normal(centre.shape), 0.0, 1.0)
    fresh = rng.random(centre.shape)  # of a one-hot group the largest wins: each level alike
    parameters = list(space.parameters.values())
    columns: list[list[int]] = [[] for _ in parameters]
    for i, column in enumerate(space.columns):
        columns[column.index].append(i)
    free = np.array([k for k, own in enumerate(columns) if own])
    moves = rng.random((n, len(parameters))) < 10 ** rng.uniform(-1.0, 0.0, size=(n, 1))
    moves[np.arange(n), free[rng.integers(len(free), size=n)]] = True
    dice = rng.random(moves.shape)
    moved = centre.copy()
    for k in free:
        own = columns[k]
        if space.columns[own[0]].kind == "onehot":
            anew = moves[:, k]
        else:
            anew = moves[:, k] & (dice[:, k] < ANEW) & (parameters[k].count is not None)
        if space.columns[own[-1]].kind == "activity":
            anew = anew | (centre[:, own[-1]] == 0.0)
        step = moves[:, k] & ~anew
        moved[np.ix_(step, own)] = stepped[np.ix_(step, own)]
        moved[np.ix_(anew, own)] = fresh[np.ix_(anew, own)]
    return moved
