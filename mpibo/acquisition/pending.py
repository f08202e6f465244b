"""Pending points: the rules by their names, the lies, and the teller of lies to the leaves of a forest.

A forest is grown on results alone. A lie is then added to the leaf in which its point lies, in each tree, as one more
row: the mean of that leaf moves towards the lie, and its variance shrinks as it does with any row more. The difference
between lie and leaf does not widen the variance: a point that is being evaluated is no reason to go there again. This
costs O(T m) for each lie, where a forest grown anew costs O(T n log n). See docs/decisions/0001.

======  ====================================================
T, m    number of trees, points asked about
======  ====================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mpibo.acquisition.penalise import PENALTIES

if TYPE_CHECKING:
    from mpibo.models.forest import Forest

Array = NDArray[np.float64]

LIES = ("lie-best", "lie-mean", "lie-worst")
PENDING = ("none", *LIES, "believer", *PENALTIES)
ALIASES = {"cl_min": "lie-best", "cl_mean": "lie-mean", "cl_max": "lie-worst"}


def lie(kind: str, y: Array) -> float:
    """The value that a pending point is given.

    Args:
        kind: lie-best (batches cluster), lie-mean, or lie-worst (batches spread); believer: NaN, "as expected there".
        y: ``(n,)`` values observed so far, to minimise; n >= 1.

    References:
        Ginsbourger, Le Riche & Carraro 2010, Kriging is well-suited to parallelize optimization.
    """
    if kind == "believer":
        return float("nan")
    if kind == "lie-mean":
        return float(y.mean())
    return float(y.min() if kind == "lie-best" else y.max())


class Liar:
    """A forest's answer at fixed points, into which lies about some of these points are told.

    Args:
        forest: A fitted forest; it is not changed.
        X: ``(m, d)`` the points.
    """

    def __init__(self, forest: Forest, X: Array) -> None:
        self.leaves = forest.leaves(X)
        self.mean, self.variance, self.count = forest.read(self.leaves)  # each (T, m)

    def tell(self, point: int, value: float) -> None:
        """Point number ``point`` is being evaluated; count it as ``value``, NaN: as the forest expects."""
        if np.isnan(value):
            value = float(self.mean[:, point].mean())
        same = self.leaves == self.leaves[:, point, None]
        count = self.count[:, point]
        mean = (count * self.mean[:, point] + value) / (count + 1)
        variance = self.variance[:, point] * count / (count + 1)
        np.copyto(self.mean, mean[:, None], where=same)
        np.copyto(self.variance, variance[:, None], where=same)
        np.copyto(self.count, (count + 1)[:, None], where=same)

    def predict(self) -> tuple[Array, Array]:
        """Mean and standard deviation at the points, each ``(m,)``."""
        from mpibo.models.forest import mean_and_std

        return mean_and_std(self.mean, self.variance)
