"""Learning curves extrapolated: a trial ends when it will hardly be better than the best one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpibo.schedules.stopping import FullBudget
from mpibo.table import Trials
from mpibo.trial import State

Array = NDArray[np.float64]

RATES = np.geomspace(0.1, 3.0, 12)  # exponents c of a + b t^-c
POINTS = 4  # of a curve, at least
FLOOR = 0.02  # smallest error of a prediction, as a part of the curve's own range


class Curve(FullBudget):
    """A power law ``a + b t^-c`` is fitted to each running trial's reports; where it ends up is a mixture of normals.

    Args:
        low: No trial ends before this step.
        high: The budget.
        chance: A trial ends when its chance to be better than the best full training is smaller.
        results: Full trainings before one is judged.

    References:
        Domhan, Springenberg & Hutter 2015, Speeding up automatic hyperparameter optimization of deep neural networks
        by extrapolation of learning curves, IJCAI, section 3: the rule and its probability; of their curves the
        power law alone.
    """

    def __init__(self, low: int, high: int, *, chance: float = 0.05, results: int = 3) -> None:
        super().__init__(high)
        if not 1 <= low <= high:
            raise ValueError(f"expected a budget from 1 on, the smaller first, got {low}:{high}")
        if not 0 < chance < 1 or results < 1:
            raise ValueError(f"expected 0 < chance < 1 and results >= 1, got {chance} and {results}")
        self.low = low
        self.chance = chance
        self.results = results
        self._judged: dict[int, tuple[tuple[float, float], bool]] = {}  # its last step and the best then; over?

    def stop(self, trials: Trials) -> list[int]:
        """Running trials that have hardly a chance."""
        full = trials.merit[trials.mask(State.DONE) & trials.done & trials.at_budget(self.high)]
        if len(full) < self.results:
            return []
        best, found = float(full.min()), []
        for row in np.flatnonzero(trials.mask(State.RUNNING)):
            steps, values = trials.curves(int(row))
            if len(steps) < POINTS or not self.low <= steps[-1] < self.high:
                continue
            what = float(steps[-1]), best
            known, over = self._judged.get(int(row), (None, False))
            if known != what:
                over = chance_below(best, steps, values, self.high) < self.chance
                self._judged[int(row)] = what, over
            if over:
                found.append(int(row))
        return found


def chance_below(best: float, steps: Array, values: Array, at: float) -> float:
    """The probability that a curve is below ``best`` at the step ``at``.

    For each exponent the fit of ``a`` and ``b >= 0`` is linear least squares; its prediction is normal, with the
    variance of the fit and of the residuals; exponents count by their likelihood. What a curve has reached counts, too:
    a value below ``best`` among its reports is a certainty.

    Args:
        best: The value to beat.
        steps: ``(n,)`` steps, rising, n >= 3.
        values: ``(n,)`` what was reported there.
        at: A later step.
    """
    if values.min() < best:
        return 1.0
    n = len(steps)
    floor = (FLOOR * float(np.ptp(values))) ** 2 + 1e-300
    logs, chances = [], []
    for rate in RATES:
        basis = np.stack([np.ones(n), steps**-rate], axis=1)
        coefficients = np.linalg.lstsq(basis, values, rcond=None)[0]
        residual = values - basis @ coefficients
        variance = max(float(residual @ residual) / max(n - 2, 1), floor)
        there = np.array([1.0, at**-rate])
        spread = variance * (1.0 + there @ np.linalg.pinv(basis.T @ basis) @ there)
        logs.append(-0.5 * n * np.log(variance) - 0.5 * float(residual @ residual) / variance)
        chances.append(_normal((best - float(there @ coefficients)) / np.sqrt(spread)))
    weights = np.exp(np.array(logs) - max(logs))
    return float(weights @ np.array(chances) / weights.sum())


def _normal(z: float) -> float:
    from math import erfc, sqrt

    return 0.5 * erfc(-z / sqrt(2.0))
