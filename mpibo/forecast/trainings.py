"""Learning curves of configs that were never trained, from those of a run."""

from __future__ import annotations

import numpy as np

from mpibo.engine.messages import Message
from mpibo.engine.played import begun
from mpibo.forecast.curves import completed
from mpibo.forecast.known import Known, Predictor, Values
from mpibo.forecast.told import Told


def missing(run: Known, largest: int | None) -> str:
    """Why the learning curves of a run can't be forecast up to a budget; empty where they can.

    Args:
        run: The run.
        largest: The budget; None: the run's.
    """
    if not run.curves:
        return "no trial of the run has reported (trial.report), so nothing says how a training goes"
    if all(each.final is None for each in run.curves):
        return f"no trial of the run that reported was trained with its largest budget, {run.full}"
    if largest is not None and largest > run.full:
        return f"those of the run end at its largest budget, {run.full}, before {largest}"
    return ""


class Trainings:
    """Trainings as a run's: the value that a model expects in the end, reached as the nearest config came to its own.

    The model is the forest of ``Values``, here of the final values of all curves: where a training ended early, of what
    it would have come to (see ``completed``). A config's curve is that of the nearest config of the run, shifted by the
    difference of their final values: its steps and its noise are those of one real training. It is assumed that near
    configs train alike; that those which were ended early would have gone on as the others did; and nothing fails. A
    shifted curve may leave the range of what is possible. At a smaller budget the value is what is reported there.

    Args:
        run: A run of which nothing is ``missing``.
    """

    def __init__(self, run: Known) -> None:
        self._space, self._full = run.space, run.full
        self._X = run.space.encode([each.config for each in run.curves])
        self._steps, values, self._reports, final = completed(run.curves)
        self._ways = values - final[:, None]  # how far from its end each was
        self._final = Predictor(run.space, self._X, final)
        self._name = run.aims.goals[0].name if run.aims.goals else "value"
        self._others = Values(run) if run.aims.names else None  # the metrics besides

    def __call__(self, message: Message) -> Told:
        """What the training of the message's config tells."""
        x = self._space.encode([message["config"]])
        nearest = int(np.argmin(((self._X - x) ** 2).sum(axis=1)))
        final = float(self._final.at(x)[0])
        curve = final + self._ways[nearest]
        mine = self._reports[nearest] & (self._steps > begun(message)) & (self._steps <= message["budget"])
        reports = [(int(step), float(value)) for step, value in zip(self._steps[mine], curve[mine], strict=True)]
        value = final if message["budget"] >= self._full or not reports else reports[-1][1]
        if self._others is None:
            return Told(value, reports)
        return Told(self._others(message) | {self._name: value}, reports)
