"""The rows of the trial table: NumPy columns that grow together, one row per trial."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpibo.trial import Config, State

if TYPE_CHECKING:
    from mpibo.space import Space

Array = NDArray[np.float64]

STATES = tuple(State)
CODE = {state: code for code, state in enumerate(STATES)}
ORIGINS = ("start", "design", "model", "retry", "promotion", "repeat", "added")
LINKS = ("parent", "retry_of", "bracket", "rung")


class Rows:
    """Columns of which the first ``n`` places are rows. A column is a view: what is written to it is kept.

    Args:
        space: What encodes the configs.

    Attributes:
        n: Number of rows.
    """

    def __init__(self, space: Space) -> None:
        self.n = 0
        self._space = space
        self._X = np.empty((64, space.dimension))
        self._y = np.full(64, np.nan)
        self._state = np.zeros(64, np.int8)
        self._budget = np.zeros(64, np.int64)
        self._order = np.full(64, -1, np.int64)
        self._origin = np.zeros(64, np.int8)
        self._links = {name: np.full(64, -1, np.int64) for name in LINKS}
        self._root = np.zeros(64, np.int64)
        self._promoted = np.zeros(64, bool)
        self._metrics: dict[str, Array] = {}
        self._unencoded: list[Config] = []  # configs of the last rows, encoded together when X is read
        self._ended = 0
        self._keys: set[bytes] = set()

    @property
    def X(self) -> Array:
        """``(n, d)`` encoded configs."""
        self._encode()
        return self._X[: self.n]

    @property
    def y(self) -> Array:
        """``(n,)`` values to minimise; NaN where a row has none."""
        return self._y[: self.n]

    @property
    def state(self) -> NDArray[np.int8]:
        """``(n,)`` indices into ``STATES``."""
        return self._state[: self.n]

    @property
    def budget(self) -> NDArray[np.int64]:
        """``(n,)`` budgets."""
        return self._budget[: self.n]

    @property
    def order(self) -> NDArray[np.int64]:
        """``(n,)`` ranks of the rows' ends, -1 while running."""
        return self._order[: self.n]

    @property
    def origin(self) -> NDArray[np.int8]:
        """``(n,)`` indices into ``ORIGINS``."""
        return self._origin[: self.n]

    @property
    def root(self) -> NDArray[np.int64]:
        """``(n,)`` the first row of the promotions and retries that each belongs to."""
        return self._root[: self.n]

    @property
    def promoted(self) -> NDArray[np.bool_]:
        """``(n,)`` True where another row goes on from this one."""
        return self._promoted[: self.n]

    @property
    def keys(self) -> set[bytes]:
        """The ``key`` of every row; grows with the rows."""
        self._encode()
        return self._keys

    def link(self, name: str) -> NDArray[np.int64]:
        """``(n,)`` one of ``LINKS``, -1 where a row has none."""
        return self._links[name][: self.n]

    def metric(self, name: str) -> Array:
        """``(n,)`` a metric with the person's sign, NaN where a row has none."""
        return self._metrics[name][: self.n] if name in self._metrics else np.full(self.n, np.nan)

    def add(self, event: Mapping[str, Any]) -> None:
        """A RUNNING row as a ``start`` or ``add`` event has it."""
        if self.n == len(self._y):
            self._grow()
        row = self.n
        self.n += 1
        self._unencoded.append(event["config"])
        self._y[row] = np.nan
        self._state[row] = CODE[State.RUNNING]
        self._budget[row] = event.get("budget", 1)
        self._order[row] = -1
        self._origin[row] = ORIGINS.index(event.get("origin", "model"))
        self._promoted[row] = False
        for name, column in self._links.items():
            column[row] = event.get(name, -1)
        before = event.get("retry_of", event.get("parent"))
        self._root[row] = row if before is None else self._root[before]
        if event.get("parent") is not None:
            self._promoted[event["parent"]] = True

    def settle(self, row: int, state: State, value: float | None, metrics: Mapping[str, Any]) -> None:
        """The end of a row, with its value to minimise. The first end of a row stands."""
        if self._state[row] != CODE[State.RUNNING]:
            return
        self._state[row] = CODE[state]
        self._order[row] = self._ended
        self._ended += 1
        if value is not None:
            self._y[row] = value
        for name, metric in metrics.items():
            if isinstance(metric, (int, float)):
                column = self._metrics.setdefault(name, np.full(len(self._y), np.nan))
                column[row] = metric

    def lose(self, rows: Sequence[int]) -> None:
        """Make rows LOST, whatever they were, and take their values away."""
        places = np.array(rows, dtype=int)
        self._state[places] = CODE[State.LOST]
        self._y[places] = np.nan

    def view(self, rows: NDArray[np.int64], y: Array, state: NDArray[np.int8], last: NDArray[np.int64]) -> Rows:
        """Other rows, without links (see ``Trials.view``); ``keys`` stay those of all."""
        self._encode()
        shown = copy.copy(self)
        shown.n, shown._unencoded = len(rows), []
        shown._X, shown._y, shown._state, shown._order = self._X[rows], y, state, self._order[rows]
        shown._origin, shown._budget = self._origin[rows], np.ones(len(rows), np.int64)
        shown._links = {name: np.full(len(rows), -1, np.int64) for name in LINKS}
        shown._root, shown._promoted = np.arange(len(rows)), np.zeros(len(rows), bool)
        shown._metrics = {name: column[last] for name, column in self._metrics.items()}
        return shown

    def _encode(self) -> None:
        if not self._unencoded:
            return
        first = self.n - len(self._unencoded)
        rows = self._space.encode(self._unencoded)
        self._X[first : self.n] = rows
        self._keys.update(key(x) for x in rows)
        self._unencoded.clear()

    def _grow(self) -> None:
        self._encode()
        size = 2 * len(self._y)

        def longer(column: NDArray[Any]) -> NDArray[Any]:
            grown = np.empty((size, *column.shape[1:]), column.dtype)
            grown[: len(column)] = column
            return grown

        self._X, self._y, self._state = longer(self._X), longer(self._y), longer(self._state)
        self._budget, self._order, self._origin = longer(self._budget), longer(self._order), longer(self._origin)
        self._root, self._promoted = longer(self._root), longer(self._promoted)
        self._links = {name: longer(column) for name, column in self._links.items()}
        for name, metric in self._metrics.items():
            self._metrics[name] = longer(metric)
            self._metrics[name][len(metric) :] = np.nan


def key(x: Array) -> bytes:
    """What tells one encoded config from another: equal configs have equal rows, to the last bit."""
    return x.tobytes()
