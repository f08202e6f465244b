"""Candidates: the points over which an acquisition is maximised."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpibo.space import Space

Array = NDArray[np.float64]

BEST = 5  # observed points around which half of the candidates lie
RESAMPLE = 0.2  # chance that a local candidate draws a parameter with levels anew


def candidates(space: Space, X: Array, y: Array, n: int, rng: np.random.Generator) -> Array:
    """Half drawn from the whole space, half around the best observed points.

    A local candidate moves all numbers of one of the five best points by normal steps, whose standard deviation (the
    same for all) is 10^U(-2.3, -0.5) of the range. Choices, and numbers with steps, are also drawn anew with
    probability 0.2 each, and what was inactive in that point always.

    Args:
        space: The search space.
        X: ``(m, d)`` observed points.
        y: ``(m,)`` their values to minimise.
        n: Number of points to make.
        rng: Source of the draws.

    Returns:
        ``(n, d)`` or, where forbidden combinations were dropped, fewer: legal points that configs can have.
    """
    local = n // 2 if len(y) else 0
    everywhere = space.sample(n - local, rng)
    if not local:
        return everywhere
    nearby = space.snap(around(space, X[np.argsort(y, kind="stable")[:BEST]], local, rng))
    return np.concatenate([nearby[space.legal(nearby)], everywhere])


def around(space: Space, best: Array, n: int, rng: np.random.Generator) -> Array:
    """``(n, d)`` moves away from random rows of ``best (m, d)``, not yet snapped to what a config can have."""
    centre = best[rng.integers(len(best), size=n)]
    std = 10 ** rng.uniform(-2.3, -0.5, size=(n, 1))
    moved = np.clip(centre + std * rng.standard_normal(centre.shape), 0.0, 1.0)
    fresh = rng.random(centre.shape)  # of a one-hot group the largest wins: each level alike
    for k, parameter in enumerate(space.parameters.values()):
        columns = [i for i, column in enumerate(space.columns) if column.index == k]
        if not columns:
            continue
        onehot = space.columns[columns[0]].kind == "onehot"
        anew = rng.random(n) < (RESAMPLE if parameter.count is not None else 0.0)
        if space.columns[columns[-1]].kind == "activity":
            anew |= centre[:, columns.pop()] == 0.0
        kept = centre if onehot else moved
        moved[:, columns] = np.where(anew[:, None], fresh[:, columns], kept[:, columns])
    return moved
