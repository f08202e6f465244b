"""HyperOpt's TPE, asked one by one; a running trial counts as one of the bad, as HyperOpt has it.

A parameter whose condition names the values of one choice stands in the branches of an ``hp.choice``, one below the
other where such conditions are joined by ``and``; any other condition is left out: the parameter is sampled always,
and ignored while inactive. A config that is forbidden is told as a failed trial.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hyperopt import JOB_STATE_DONE, STATUS_FAIL, STATUS_OK, Trials, hp, tpe
from hyperopt.base import Domain

from mpibo import Choice, Constant, Float, Space
from mpibo.expression import All, Compare, Name, Tree
from mpibo.parameters import Parameter
from search_quality.peers.points import TRIES, Config, assemble, legal, nearest, top


class Optimiser:
    """``hyperopt.tpe.suggest``, at its defaults."""

    def __init__(self, space: Space, seed: int, workers: int, evaluations: int) -> None:
        self.space = space
        self.domain = Domain(lambda _: 0.0, tree(space))
        self.trials = Trials()
        self.rng = np.random.default_rng(seed)

    def ask(self) -> tuple[Any, Config] | None:
        """HyperOpt's document of a new trial, and its config."""
        for _ in range(TRIES):
            ids = self.trials.new_trial_ids(1)
            seed = int(self.rng.integers(2**31 - 1))
            self.trials.insert_trial_docs(tpe.suggest(ids, self.domain, self.trials, seed))
            self.trials.refresh()
            document = next(each for each in self.trials._dynamic_trials if each["tid"] == ids[0])
            found = {name: values[0] for name, values in document["misc"]["vals"].items() if len(values)}
            values = {name: nearest(self.space.parameters[name], number) for name, number in found.items()}
            config = assemble(self.space, values)
            if legal(self.space, config):
                return document, config
            self._end(document, {"status": STATUS_FAIL})
        raise RuntimeError(f"{TRIES} configs in a row are forbidden")

    def tell(self, handle: Any, value: float) -> None:
        """The trial is done."""
        self._end(handle, {"status": STATUS_OK, "loss": value})

    def _end(self, document: Any, result: dict[str, Any]) -> None:
        document["state"], document["result"] = JOB_STATE_DONE, result
        self.trials.refresh()


def tree(space: Space) -> dict[str, Any]:
    """HyperOpt's space: a dict, in which children stand in the branches of their parents' choices."""
    places = {name: place(space, name) for name in space.names}
    made: dict[str, Any] = {}

    def node(name: str) -> Any:
        if name not in made:
            p = space.parameters[name]
            children = {child: at[1] for child, at in places.items() if at is not None and at[0] == name}
            if isinstance(p, Choice) and not p.ordered:
                every = range(len(p.values))
                made[name] = hp.choice(
                    name, [{c: node(c) for c, levels in children.items() if k in levels} for k in every]
                )
            else:
                made[name] = number(name, p)
        return made[name]

    free = [name for name, p in space.parameters.items() if not isinstance(p, Constant)]
    return {name: node(name) for name in free if places[name] is None}


def place(space: Space, name: str) -> tuple[str, frozenset[int]] | None:
    """The choice below which a parameter stands, and in which of its branches; None: it is always sampled."""
    condition: Tree | None = space.conditions.get(name)
    parts = condition.parts if isinstance(condition, All) else (condition,)
    for part in reversed(parts):  # the nearest parent is named last
        if (
            not isinstance(part, Compare)
            or isinstance(part.right, Name)
            or part.sign not in ("==", "!=", "in", "not in")
        ):
            continue
        p = space.parameters[part.left.name]
        if isinstance(p, Choice) and not p.ordered:
            named = frozenset(p.code(value) for value in (part.right if "in" in part.sign else (part.right,)))
            return part.left.name, named if part.sign in ("==", "in") else frozenset(range(len(p.values))) - named
    return None


def number(name: str, p: Parameter) -> Any:
    """A number's node; what is whole or has steps is rounded by HyperOpt, and an ordered choice is its index."""
    if isinstance(p, Choice):
        return hp.quniform(name, -0.5, len(p.values) - 0.5, 1)
    low, high, step = p.low, top(p), p.step or 1  # type: ignore[attr-defined]
    if isinstance(p, Float) and p.step is None:
        return hp.loguniform(name, np.log(low), np.log(high)) if p.log else hp.uniform(name, low, high)
    if p.log:  # type: ignore[attr-defined]
        return hp.qloguniform(name, np.log(max(low - step / 2, low / 2)), np.log(high + step / 2), step)
    return hp.quniform(name, low - step / 2, high + step / 2, step)
