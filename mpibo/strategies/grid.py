"""Grid search: all combinations of each parameter's levels, in order, until they are used up."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mpibo.space import Choice, Constant, Space
from mpibo.strategies.distinct import Distinct
from mpibo.table import Trials
from mpibo.trial import Proposal

Array = NDArray[np.float64]

LEVELS = 5
CHUNK = 1024  # points looked at together


class Grid:
    """Every combination of levels once, the last parameter's changing fastest.

    A choice has all its values and a parameter of at most ``levels`` steps has all these; another number has ``levels``
    points at equal distances on its scale, both ends included, rounded to its steps.

    Args:
        levels: Points of a number; or a mapping from names to these, where other names have 5.
    """

    def __init__(self, *, levels: int | Mapping[str, int] = LEVELS) -> None:
        if any(count < 1 for count in (levels.values() if isinstance(levels, Mapping) else [levels])):
            raise ValueError(f"expected at least 1 level for each parameter of a grid, got levels={levels}")
        self.levels = levels
        self._distinct = Distinct()
        self._space: Space | None = None
        self._axes: list[Array] = []  # the columns of each parameter's levels, (levels, width)
        self._used = 0  # all points before this one have been started

    def propose(self, trials: Trials, n: int, rng: np.random.Generator) -> list[Proposal]:
        """The next ``n`` points of the grid that are not taken; none when all are."""
        space = trials.space
        if self._space is not space:
            self._space = space
            self._axes = [self._axis(alone) for alone in _alone(space)]
            self._used = 0
        picks = self._distinct.begin(trials)
        size = math.prod(len(levels) for levels in self._axes)
        first = self._used
        while len(picks) < n and first < size:
            last = min(first + CHUNK, size)
            left = picks.take(self._points(space, first, last), n)
            if not len(left) and first == self._used:
                self._used = last
            first = last
        return picks.proposals("design")

    def _axis(self, alone: Space) -> Array:
        """``(levels, width)`` columns of the levels of the only parameter of ``alone``."""
        (name, parameter), *_ = alone.parameters.items()
        levels = self.levels.get(name, LEVELS) if isinstance(self.levels, Mapping) else self.levels
        axis = alone.enumerate(math.inf if isinstance(parameter, (Choice, Constant)) else levels)
        if axis is not None:
            return axis
        positions = np.linspace(0.0, 1.0, levels) if levels > 1 else np.array([0.5])
        return np.unique(alone.snap(positions[:, None]), axis=0)

    def _points(self, space: Space, first: int, last: int) -> Array:
        """The legal points numbered ``first`` to ``last - 1``; what is inactive counts at its first level only."""
        rest = np.arange(first, last)
        places = np.empty((len(self._axes), last - first), np.intp)
        for k in reversed(range(len(self._axes))):
            rest, places[k] = np.divmod(rest, len(self._axes[k]))
        X = np.zeros((last - first, space.dimension))
        for k, levels in enumerate(self._axes):
            own = [i for i, column in enumerate(space.columns) if column.index == k and column.kind != "activity"]
            X[:, own] = levels[places[k]]
        X = space.snap(X)
        keep = space.legal(X)
        for i, column in enumerate(space.columns):
            if column.kind == "activity":
                keep &= (X[:, i] == 1.0) | (places[column.index] == 0)
        return X[keep]


def _alone(space: Space) -> list[Space]:
    """A space for each parameter, without its condition."""
    kept = [{k: v for k, v in parameter.items() if k != "when"} for parameter in space.to_json()["parameters"]]
    return [Space.from_json({"parameters": [parameter], "forbid": []}) for parameter in kept]
