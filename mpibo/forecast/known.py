"""What a run's journal says of its evaluations: models of their values and of their durations over the space.

Where its trials have reported, ``trainings`` goes on from here.

The models are forests. What one predicts lies between the results that it has seen, so a forecast of the best value is
rather too pessimistic: where the run has not been, nobody knows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpibo.budgets import budget_range
from mpibo.engine.messages import Message
from mpibo.forecast.curves import Curve, curves_of
from mpibo.forecast.durations import SHORTEST, Duration
from mpibo.goals import Aims, aims_in
from mpibo.models.forest import Forest
from mpibo.space import Space
from mpibo.store import journal
from mpibo.trial import State, Trial, trials_of

Array = NDArray[np.float64]

FEWEST = 10  # results for a model; with fewer a duration is one of those measured
FOLDS = 5
LEAF = 3  # rows in a leaf of the forest of durations: they are noisy


@dataclass(frozen=True)
class Known:
    """A run that has been.

    Attributes:
        space: Its space. aims: Its sign, goals and limits.
        settings: Those of its first start.
        trials: Its DONE trials that were evaluated, with a duration: what its largest budget would take, where they had
            a smaller one or went on from it.
        full: Its largest budget.
        curves: What its configs have reported.
    """

    space: Space
    aims: Aims
    settings: dict[str, Any]
    trials: list[Trial]
    full: int = 1
    curves: list[Curve] = field(default_factory=list)


def known(path: Path) -> Known:
    """Read a run folder or its journal.

    Raises:
        ValueError: It is none, or no trial in it is done.
    """
    file = path / journal.NAME if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"{path} is no run folder: it holds no {journal.NAME}")
    try:
        events = journal.read(file).events
    except OSError as error:
        raise ValueError(f"can't read {file}: {error.strerror}") from error
    opening = next((event for event in events if event["kind"] == "open"), None)
    if opening is None:
        raise ValueError(f"{file} is no journal of a run: it has no open line")
    trials = trials_of(events)
    done = [each for each in trials if each.state is State.DONE and each.duration is not None]
    full = budget_range(opening["settings"].get("budget", 1))[1]
    done = [replace(each, duration=(each.duration or 0.0) * full / _work(each, trials)) for each in done]
    if not done:
        raise ValueError(f"{path} has no evaluation that is done: nothing to forecast from")
    return Known(
        Space.from_json(opening["space"]), aims_in(opening["settings"]), opening["settings"], done, full,
        curves_of(events, trials, full),
    )  # fmt: skip


def _work(trial: Trial, trials: Sequence[Trial]) -> int:
    """The part of its budget that a trial did itself; the rest was its parent's."""
    return max(1, trial.budget - (0 if trial.parent is None else trials[trial.parent].budget))


class Predictor:
    """Predictions of one number over a space.

    Args:
        space: The space.
        X: ``(n, d)`` encoded configs, n >= 1.
        y: ``(n,)`` what was measured there.
        leaf: Smallest number of rows in a leaf.
    """

    def __init__(self, space: Space, X: Array, y: Array, leaf: int = 1) -> None:
        self._space = space
        self._forest = Forest("rf", leaf=min(leaf, len(y)))
        self._forest.fit(X, y, np.random.default_rng(0))

    def __call__(self, config: dict[str, Any]) -> float:
        """The prediction for one config."""
        return float(self._forest.means(self._space.encode([config])).mean())

    def at(self, X: Array) -> Array:
        """``(m,)`` predictions at ``X (m, d)``."""
        means: Array = self._forest.means(X)
        return np.asarray(means.mean(axis=0))


def durations_of(run: Known) -> Duration:
    """Durations as the run's: what a model says of a config's, times a factor by which one of the run's differed.

    The factors are residuals of a cross-validation. With fewer than ten results each duration is one of those measured.
    """
    measured = [max(SHORTEST, trial.duration or 0.0) for trial in run.trials]
    if len(measured) < FEWEST:
        return lambda message, rng: rng.choice(measured)
    X = run.space.encode([trial.config for trial in run.trials])
    y = np.log(measured)
    fold = np.random.default_rng(0).permutation(len(y)) % FOLDS
    residuals = np.empty(len(y))
    for out in range(FOLDS):
        rest = fold != out
        residuals[~rest] = y[~rest] - Predictor(run.space, X[rest], y[rest], LEAF).at(X[~rest])
    predicted = Predictor(run.space, X, y, LEAF)
    factors: list[float] = residuals.tolist()

    def seconds(message: Message, rng: Random) -> float:
        return max(SHORTEST, math.exp(predicted(message["config"]) + rng.choice(factors)))

    return seconds


class Values:
    """Values as a model of the run's results predicts them: a number, or a dict where the run has goals or limits.

    Raises:
        ValueError: No trial has them all.
    """

    def __init__(self, run: Known) -> None:
        names = run.aims.names
        wanted: Sequence[str] = names if run.aims.goals else ("value", *names)
        promoted = {trial.parent for trial in run.trials}  # what went on from them knows better
        rows = [(each, told) for each in run.trials if (told := _told(each, wanted)) and each.id not in promoted]
        if not rows:
            raise ValueError(f"no trial of the run has {', '.join(wanted)}: no value can be forecast")
        X = run.space.encode([trial.config for trial, _ in rows])
        self._plain = not names
        self._models = {name: Predictor(run.space, X, np.array([told[i] for _, told in rows]))
                        for i, name in enumerate(wanted)}  # fmt: skip

    def __call__(self, message: Message) -> Any:
        """What an evaluation of the message's config tells."""
        told = {name: model(message["config"]) for name, model in self._models.items()}
        return told["value"] if self._plain else told


def _told(trial: Trial, wanted: Sequence[str]) -> list[float] | None:
    told = [trial.value if name == "value" else trial.metrics.get(name) for name in wanted]
    numbers = [float(each) for each in told if isinstance(each, (int, float)) and math.isfinite(each)]
    return numbers if len(numbers) == len(wanted) else None
