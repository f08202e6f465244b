"""Local penalisation: an acquisition is lowered around points that are being evaluated.

A pending point x_j excludes a ball: a function whose slope is at most L can't reach its minimum M nearer to x_j than
r = |mu(x_j) - M| / L, give or take s = sigma(x_j) / L.

References:
    González, Dai, Hennig & Lawrence 2016, Batch Bayesian optimization via local penalization, AISTATS (soft);
    Alvi, Ru, Calliess, Roberts & Osborne 2019, Asynchronous batch Bayesian optimisation with improved local
    penalisation (PLAyBOOK), ICML (hard, and L in the neighbourhood).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PENALTIES = ("penalise-soft", "penalise-hard")
POWER = -5.0
FLAT = 1e-7  # a slope below it says nothing: then L is FALLBACK
FALLBACK = 10.0
PROBES = {"global": 200, "local": 20}  # points at which the slope is looked at


def steepest(gradient: Callable[[Array], Array], low: Array, high: Array, probes: Array) -> float:
    """L: the largest norm of the mean's gradient in the box between ``low (d,)`` and ``high (d,)``.

    Args:
        gradient: Of the mean, ``(d,)`` at a point.
        low: Lower corner.
        high: Upper corner.
        probes: ``(k, d)`` points in the unit cube, which are moved into the box.
    """
    bound = max(float(np.linalg.norm(gradient(low + u * (high - low)))) for u in probes)
    return bound if bound > FLAT else FALLBACK


def log_penalty(kind: str, distance: Array, radius: float, spread: float) -> Array:
    """Log of the factor by which the score at each candidate is lowered.

    Args:
        kind: "penalise-soft" or "penalise-hard".
        distance: ``(m,)`` Euclidean distances of the candidates from the pending point.
        radius: r >= 0.
        spread: s >= 0.

    Returns:
        ``(m,)`` numbers of at most 0.
    """
    if kind == "penalise-soft":
        from scipy.special import log_ndtr

        return np.asarray(log_ndtr((distance - radius) / max(spread, 1e-12)))
    z = np.maximum(distance / max(radius + spread, 1e-12), 1e-300)
    return np.asarray(np.logaddexp(POWER * np.log(z), 0.0) / POWER)


class Penalties:
    """The balls around pending points.

    Args:
        kind: "penalise-soft" or "penalise-hard".
        lowest: M, the lowest value observed, on the model's scale.
    """

    def __init__(self, kind: str, lowest: float) -> None:
        self.kind = kind
        self.lowest = lowest
        self._balls: list[tuple[Array, float, float]] = []

    def add(self, x: Array, mean: float, std: float, bound: float) -> None:
        """The point ``x (d,)`` with this predicted mean and deviation is pending; ``bound`` is L."""
        self._balls.append((x, abs(mean - self.lowest) / bound, std / bound))

    def log(self, X: Array, last: int = 0) -> Array:
        """Sum of the log penalties at ``X (m, d)``, over all balls or over the ``last`` ones."""
        total = np.zeros(len(X))
        for x, radius, spread in self._balls[-last:]:
            distance = np.sqrt(((X - x) ** 2).sum(axis=1))
            total += log_penalty(self.kind, distance, radius, spread)
        return total
