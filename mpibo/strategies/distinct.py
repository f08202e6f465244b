"""No config twice: an answer's picks equal no row, no waiting proposal and no other pick."""

from __future__ import annotations

from collections.abc import Set

import numpy as np
from numpy.typing import NDArray

from mpibo.space import Space
from mpibo.table import Trials, key
from mpibo.trial import Config, Proposal

Array = NDArray[np.float64]

LIMIT = 20_000  # a space of at most so many combinations is enumerated, so that none is missed
ROUNDS = 20  # draws from a larger space before it is taken for exhausted


class Distinct:
    """Begins the answers of one strategy; keeps nothing between them but a small space's list of all configs."""

    def __init__(self) -> None:
        self._space: Space | None = None
        self._all: Array | None = None
        self._index: dict[bytes, int] = {}

    def begin(self, trials: Trials) -> Picks:
        """An empty answer to the current ask."""
        if self._space is not trials.space:
            self._space = trials.space
            self._all = trials.space.enumerate(LIMIT)
            if self._all is not None:
                self._all = trials.space.encode(trials.space.decode(self._all))
                self._index = {key(x): i for i, x in enumerate(self._all)}
        return Picks(trials, self._all, self._index)


class Picks:
    """One answer in the making.

    Attributes:
        configs: The configs picked so far.
        rows: Their encoded rows.
    """

    def __init__(self, trials: Trials, everything: Array | None, index: dict[bytes, int]) -> None:
        self.space = trials.space
        self.configs: list[Config] = []
        self.rows: list[Array] = []
        self._taken: Set[bytes] = trials.taken
        self._waiting = {key(x) for x in trials.waiting}
        self._picked: set[bytes] = set()
        self._everything = everything
        self._index = index

    def __len__(self) -> int:
        return len(self.configs)

    def add(self, x: Array) -> bool:
        """Pick the config at ``x (d,)``; False, and nothing done, when it is taken or picked already."""
        return bool(self._add(x[None])[0])

    def take(self, X: Array, n: int) -> Array:
        """Pick from ``X`` in its order until there are ``n`` picks.

        Returns:
            The rows that may be of use later: those picked now or only waiting, should they be forgotten, and the rest.
        """
        useful: list[Array] = []
        first = 0
        while len(self) < n and first < len(X):
            chunk = X[first : first + n - len(self)]
            first += len(chunk)
            useful.append(chunk[self._add(chunk, waiting_counts=True)])
        return np.concatenate([*useful, X[first:]])

    def fill(self, n: int, rng: np.random.Generator) -> None:
        """Pick at random until there are ``n`` picks or, as far as can be told, nothing is left."""
        for _ in range(ROUNDS):
            if len(self) >= n or self.exhausted:
                return
            self.take(self.space.sample(n - len(self), rng), n)
        left = self.left()
        if left is not None and len(self) < n:
            self.take(left[rng.permutation(len(left))], n)

    @property
    def exhausted(self) -> bool:
        """Whether every config of a small space is taken or picked; of a large space never."""
        return self._everything is not None and self._index.keys() <= (self._taken | self._picked)

    def left(self) -> Array | None:
        """``(m, d)`` all configs that are neither taken nor picked, of a small space; None for a large one."""
        if self._everything is None:
            return None
        free = np.ones(len(self._everything), bool)
        free[[self._index[k] for k in (self._taken | self._picked) & self._index.keys()]] = False
        return self._everything[free]

    def proposals(self, origin: str) -> list[Proposal]:
        """The answer."""
        return [Proposal(config, origin=origin) for config in self.configs]

    def _add(self, X: Array, waiting_counts: bool = False) -> NDArray[np.bool_]:
        configs = self.space.decode(X)
        useful = np.zeros(len(X), bool)
        for i, x in enumerate(self.space.encode(configs)):  # the row that the table will hold, to the last bit
            name = key(x)
            if name in self._picked or name in self._taken:
                useful[i] = waiting_counts and name in self._waiting
                continue
            useful[i] = True
            self._picked.add(name)
            self.configs.append(configs[i])
            self.rows.append(x)
        return useful
