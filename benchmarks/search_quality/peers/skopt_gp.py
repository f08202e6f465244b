"""scikit-optimize's Gaussian process; each running point is told to a copy as a lie, the lowest value so far.

That is what its own batches do (``cl_min``). It has no conditions: inactive parameters are sampled and ignored. A
config that is forbidden is told as the highest value so far.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

from skopt import Optimizer
from skopt.space import Categorical, Integer, Real

from mpibo import Choice, Constant, Float, Space
from mpibo.parameters import Parameter
from search_quality.peers.points import TRIES, Config, assemble, legal, nearest, top


class Optimiser:
    """``skopt.Optimizer``, everything at its default (gp_hedge, 10 initial points)."""

    def __init__(self, space: Space, seed: int, workers: int, evaluations: int) -> None:
        warnings.simplefilter("ignore")  # about repeated points and fits that have not converged
        self.space = space
        self.free = {name: p for name, p in space.parameters.items() if not isinstance(p, Constant)}
        dimensions = [dimension(name, p) for name, p in self.free.items()]
        self.optimizer = Optimizer(dimensions, random_state=seed)
        self.pending: dict[int, list[Any]] = {}
        self.asked = 0

    def ask(self) -> tuple[int, Config] | None:
        """A number for the point, and its config."""
        for _ in range(TRIES):
            point = self._next()
            values = {name: nearest(p, x) for (name, p), x in zip(self.free.items(), point, strict=True)}
            config = assemble(self.space, values)
            if legal(self.space, config):
                self.asked += 1
                self.pending[self.asked] = point
                return self.asked, config
            self.optimizer.tell(point, max(self.optimizer.yi, default=0.0))
        raise RuntimeError(f"{TRIES} configs in a row are forbidden")

    def tell(self, handle: int, value: float) -> None:
        """Tell the value; the model is fitted when the next point is asked for."""
        self.optimizer.tell(self.pending.pop(handle), value, fit=not self.pending)

    def _next(self) -> list[Any]:
        if self.optimizer._n_initial_points > 0 or not self.pending:
            return list(self.optimizer.ask())
        liar = copy.deepcopy(self.optimizer)
        liar.tell(list(self.pending.values()), [min(self.optimizer.yi)] * len(self.pending))
        point = list(liar.ask())
        for kept in ("gains_", "next_xs_", "rng"):  # of the hedge, which learns from tell to tell
            if hasattr(liar, kept):
                setattr(self.optimizer, kept, getattr(liar, kept))
        return point


def dimension(name: str, p: Parameter) -> Any:
    """A parameter's dimension; it has no steps, so the nearest level is taken, and an ordered choice is an index."""
    if isinstance(p, Choice):
        last = len(p.values) - 1
        return Integer(0, last, name=name) if p.ordered and last else Categorical(list(range(last + 1)), name=name)
    kind = Real if isinstance(p, Float) else Integer
    return kind(p.low, top(p), prior="log-uniform" if p.log else "uniform", name=name)  # type: ignore[attr-defined]
