"""Optuna's TPE: multivariate, running trials as constant liars, groups of parameters where the space is conditional.

Asked as its users write it, define-by-run: only active parameters are suggested. An ordered choice is the index of its
level. A config that is forbidden is told as a failed trial, which TPE leaves out of its densities.
"""

from __future__ import annotations

import warnings
from typing import Any

import optuna

from mpibo import Choice, Float, Space
from mpibo.parameters import Parameter
from search_quality.peers.points import TRIES, Config, legal, nearest, settle, top


class Optimiser:
    """``optuna.samplers.TPESampler``; everything else at its default."""

    def __init__(self, space: Space, seed: int, workers: int, evaluations: int) -> None:
        quiet()
        sampler = optuna.samplers.TPESampler(
            seed=seed, multivariate=True, constant_liar=True, group=bool(space.conditions)
        )
        self.space = space
        self.study = optuna.create_study(sampler=sampler)

    def ask(self) -> tuple[optuna.Trial, Config] | None:
        """A running trial and its config."""
        for _ in range(TRIES):
            trial = self.study.ask()
            config = settle(self.space, lambda name, p, trial=trial: suggest(trial, name, p))
            if legal(self.space, config):
                return trial, config
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        raise RuntimeError(f"{TRIES} configs in a row are forbidden")

    def tell(self, handle: optuna.Trial, value: float) -> None:
        """The trial is complete."""
        self.study.tell(handle, value)


def suggest(trial: optuna.Trial, name: str, p: Parameter) -> Any:
    """The trial's value of a parameter; Optuna has no steps on a log scale, so there the nearest level is taken."""
    if isinstance(p, Choice):
        last = len(p.values) - 1
        return p.values[
            trial.suggest_int(name, 0, last) if p.ordered else trial.suggest_categorical(name, range(last + 1))
        ]
    ask = trial.suggest_float if isinstance(p, Float) else trial.suggest_int
    if p.log:
        return nearest(p, ask(name, p.low, top(p), log=True))
    return nearest(p, ask(name, p.low, top(p), **({} if p.step is None else {"step": p.step})))


def quiet() -> None:
    """No line for each trial, no warning of an experimental option or of a parameter that a model has not seen."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
