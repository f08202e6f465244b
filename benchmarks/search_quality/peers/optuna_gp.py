"""Optuna's Gaussian process: logEI, with running trials as it treats them.

It models what all trials have in common, so every parameter is always suggested, and inactive ones are ignored in what
is evaluated; else children would be drawn at random. A config that is forbidden is told as a failed trial.
"""

from __future__ import annotations

import optuna
import torch

from mpibo import Constant, Space
from search_quality.peers.optuna_tpe import quiet, suggest
from search_quality.peers.points import TRIES, Config, assemble, legal


class Optimiser:
    """``optuna.samplers.GPSampler``, at its defaults."""

    def __init__(self, space: Space, seed: int, workers: int, evaluations: int) -> None:
        quiet()
        torch.set_num_threads(1)
        self.space = space
        self.study = optuna.create_study(sampler=optuna.samplers.GPSampler(seed=seed))

    def ask(self) -> tuple[optuna.Trial, Config] | None:
        """A running trial and its config."""
        for _ in range(TRIES):
            trial = self.study.ask()
            free = {name: p for name, p in self.space.parameters.items() if not isinstance(p, Constant)}
            config = assemble(self.space, {name: suggest(trial, name, p) for name, p in free.items()})
            if legal(self.space, config):
                return trial, config
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        raise RuntimeError(f"{TRIES} configs in a row are forbidden")

    def tell(self, handle: optuna.Trial, value: float) -> None:
        """The trial is complete."""
        self.study.tell(handle, value)
