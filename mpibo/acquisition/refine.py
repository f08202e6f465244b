"""Refinement: from a good candidate uphill, by L-BFGS in the continuous parameters and by neighbours in the others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mpibo.space import Float, Space

Array = NDArray[np.float64]

STEPS = 20  # of one climb
ROUNDS = 3  # of neighbour search


def continuous(space: Space) -> NDArray[np.intp]:
    """The columns of parameters without levels."""
    parameters = list(space.parameters.values())
    return np.array(
        [
            i
            for i, column in enumerate(space.columns)
            if column.kind == "numeric"
            and isinstance(parameters[column.index], Float)
            and parameters[column.index].count is None
        ],
        dtype=np.intp,
    )


def climb(x: Array, columns: NDArray[np.intp], slope: Callable[[Array], tuple[float, Array]]) -> tuple[Array, float]:
    """Raise a score by L-BFGS-B from ``x (d,)`` in some columns, within [0, 1].

    Args:
        x: Where to begin.
        columns: The columns that may move.
        slope: Score at a point and its gradient ``(d,)``.

    Returns:
        The best point seen, and its score.
    """
    from scipy.optimize import minimize

    def loss(part: Array) -> tuple[float, Array]:
        moved = x.copy()
        moved[columns] = part
        value, gradient = slope(moved)
        return -value, -gradient[columns]

    found = minimize(
        loss, x[columns], jac=True, method="L-BFGS-B", bounds=[(0.0, 1.0)] * len(columns), options={"maxiter": STEPS}
    )
    better = x.copy()
    better[columns] = np.clip(found.x, 0.0, 1.0)
    return better, -float(found.fun)


def refine(
    space: Space,
    x: Array,
    slope: Callable[[Array], tuple[float, Array]] | None,
    scores: Callable[[Array], Array],
    rng: np.random.Generator,
) -> tuple[Array, float]:
    """The point reached from ``x (d,)`` by climbs and, where some parameter has levels, by the best neighbour in turn.

    Args:
        space: The search space.
        x: A legal point.
        slope: Score and gradient at a point; None: no climbs.
        scores: ``(m,)`` scores of points ``(m, d)``.
        rng: Source of the neighbours' draws.

    Returns:
        A legal point that a config can have, and its score: never worse than ``x``.
    """
    free = continuous(space)
    value = float(scores(x[None])[0])
    mixed = len(free) < len(space.columns) or slope is None
    for _ in range(ROUNDS if mixed else 1):
        before = value
        own = free[active(space, x, free)] if len(free) else free
        if slope is not None and len(own):
            reached, height = climb(x, own, slope)
            if height > value and space.legal(reached[None])[0]:
                x, value = reached, height
        if mixed:
            around = space.neighbours(x, rng)
            if len(around):
                heights = scores(around)
                row = int(np.argmax(heights))
                if heights[row] > value:
                    x, value = around[row], float(heights[row])
        if value <= before + 1e-9 * abs(before):
            break
    return x, value


def active(space: Space, x: Array, columns: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Whether the parameter of each of ``columns`` is active in ``x (d,)``."""
    activity = {column.index: x[i] for i, column in enumerate(space.columns) if column.kind == "activity"}
    return np.array([activity.get(space.columns[i].index, 1.0) > 0.5 for i in columns], dtype=bool)
