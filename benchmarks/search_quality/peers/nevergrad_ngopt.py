"""Nevergrad's NGOpt, which chooses an optimiser by the space, the budget and the workers; it is asynchronous itself.

It has no conditions of our kind: inactive parameters are sampled and ignored. A config that is forbidden is told as the
highest value so far.
"""

from __future__ import annotations

import warnings
from typing import Any

import nevergrad as ng
import numpy as np

from mpibo import Choice, Constant, Float, Space
from mpibo.parameters import Parameter
from search_quality.peers.points import TRIES, Config, assemble, legal, nearest, top


class Optimiser:
    """``nevergrad.optimizers.NGOpt``."""

    def __init__(self, space: Space, seed: int, workers: int, evaluations: int) -> None:
        warnings.simplefilter("ignore")  # about what the optimisers that it chooses may not be made for
        self.space = space
        self.free = {name: p for name, p in space.parameters.items() if not isinstance(p, Constant)}
        parameters = ng.p.Dict(**{name: parametrised(p) for name, p in self.free.items()})
        parameters.random_state = np.random.RandomState(seed)
        self.optimizer = ng.optimizers.NGOpt(parameters, budget=evaluations, num_workers=workers)
        self.worst = 0.0

    def ask(self) -> tuple[Any, Config] | None:
        """Nevergrad's candidate and its config."""
        for _ in range(TRIES):
            candidate = self.optimizer.ask()
            values = {name: nearest(p, candidate.value[name]) for name, p in self.free.items()}
            config = assemble(self.space, values)
            if legal(self.space, config):
                return candidate, config
            self.optimizer.tell(candidate, self.worst)
        raise RuntimeError(f"{TRIES} configs in a row are forbidden")

    def tell(self, handle: Any, value: float) -> None:
        """Tell the candidate's loss."""
        self.worst = max(self.worst, value)
        self.optimizer.tell(handle, value)


def parametrised(p: Parameter) -> Any:
    """A parameter as Nevergrad has it; it has no steps, so the nearest level is taken."""
    if isinstance(p, Choice):
        kind = ng.p.TransitionChoice if p.ordered else ng.p.Choice
        return kind(list(range(len(p.values))))
    low, high = p.low, top(p)  # type: ignore[attr-defined]
    found = ng.p.Log(lower=low, upper=high) if p.log else ng.p.Scalar(lower=low, upper=high)  # type: ignore[attr-defined]
    whole = not isinstance(p, Float) and not p.log  # type: ignore[attr-defined]
    return found.set_integer_casting() if whole else found
