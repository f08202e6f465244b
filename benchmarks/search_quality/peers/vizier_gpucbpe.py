"""OSS Vizier's GP-UCB-PE, told of the running trials: about 8 s CPU for a proposal.

It has no conditions: inactive parameters are sampled and ignored. A config that is forbidden is told as the highest
value so far.
"""

from __future__ import annotations

import jax
from vizier import algorithms as vza
from vizier import pyvizier as vz
from vizier._src.algorithms.designers.gp_ucb_pe import VizierGPUCBPEBandit

from mpibo import Choice, Constant, Float, Space
from mpibo.parameters import Parameter
from search_quality.peers.points import TRIES, Config, assemble, legal, nearest, top


class Optimiser:
    """``VizierGPUCBPEBandit``, at its defaults."""

    def __init__(self, space: Space, seed: int, workers: int, evaluations: int) -> None:
        self.space = space
        self.free = {name: p for name, p in space.parameters.items() if not isinstance(p, Constant)}
        problem = vz.ProblemStatement()
        for name, p in self.free.items():
            add(problem.search_space.root, name, p)
        problem.metric_information.append(vz.MetricInformation("value", goal=vz.ObjectiveMetricGoal.MINIMIZE))
        self.designer = VizierGPUCBPEBandit(problem, rng=jax.random.PRNGKey(seed))
        self.active: dict[int, vz.Trial] = {}
        self.ended: list[vz.Trial] = []  # since the last proposal
        self.asked, self.worst = 0, 0.0

    def ask(self) -> tuple[int, Config] | None:
        """The trial's number and its config."""
        for _ in range(TRIES):
            self.designer.update(vza.CompletedTrials(self.ended), vza.ActiveTrials(list(self.active.values())))
            self.ended = []
            self.asked += 1
            trial = self.designer.suggest(1)[0].to_trial(self.asked)
            found = {name: trial.parameters.get_value(name) for name in self.free}
            config = assemble(self.space, {name: nearest(self.free[name], float(x)) for name, x in found.items()})
            self.active[self.asked] = trial
            if legal(self.space, config):
                return self.asked, config
            self.tell(self.asked, self.worst)
        raise RuntimeError(f"{TRIES} configs in a row are forbidden")

    def tell(self, handle: int, value: float) -> None:
        """Keep the value until the next proposal."""
        self.worst = max(self.worst, value)
        self.ended.append(self.active.pop(handle).complete(vz.Measurement({"value": value})))


def add(root: vz.SearchSpaceSelector, name: str, p: Parameter) -> None:
    """Add a parameter: a choice as indices, a number with steps to be taken to its nearest level."""
    if isinstance(p, Choice):
        last = len(p.values) - 1
        if p.ordered and last:
            root.add_int_param(name, 0, last)
        else:
            root.add_categorical_param(name, [str(k) for k in range(last + 1)])
        return
    scale = vz.ScaleType.LOG if p.log else vz.ScaleType.LINEAR
    (root.add_float_param if isinstance(p, Float) else root.add_int_param)(name, p.low, top(p), scale_type=scale)
