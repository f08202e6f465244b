"""A method that chooses among given configs alone: whatever it proposes, the nearest one not yet taken is evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpibo.space import Space
from mpibo.strategies import make
from mpibo.table import Trials, key
from mpibo.trial import Proposal


class Pool:
    """A strategy around another. Its model sees the configs that were evaluated, not those that it had proposed.

    Args:
        method: The other's name with options.
        space: The space.
        configs: All that can be evaluated.
    """

    def __init__(self, method: str, space: Space, configs: Sequence[dict[str, Any]]) -> None:
        self.inner = make(method)
        self.configs = list(configs)
        self.points: NDArray[np.float64] = space.encode(self.configs)
        self.keys = [key(x) for x in self.points]

    def propose(self, trials: Trials, n: int, rng: np.random.Generator) -> list[Proposal]:
        """At most ``n`` configs of the pool; none when all are taken."""
        taken = trials.taken
        free = [i for i, name in enumerate(self.keys) if name not in taken]
        found: list[Proposal] = []
        for each in self.inner.propose(trials, n, rng) if free else []:
            if not free:
                break
            x = trials.space.encode([each.config])[0]
            nearest = free.pop(int(np.argmin(((self.points[free] - x) ** 2).sum(axis=1))))
            found.append(replace(each, config=dict(self.configs[nearest])))
        return found
