"""Regression over the trial table: fit, predict, sample."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Model(Protocol):
    """What a strategy needs of a model. It sees encoded points and values to minimise, nothing else."""

    def fit(self, X: Array, y: Array, rng: np.random.Generator) -> None:
        """Learn from ``X (n, d)`` and ``y (n,)``, n >= 1, all finite. May go on from the fits before."""
        ...

    def predict(self, X: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the value, each ``(m,)``, at ``X (m, d)``."""
        ...

    def sample(self, X: Array, k: int, rng: np.random.Generator) -> Array:
        """``(k, m)``: ``k`` plausible functions, drawn at random, at ``X (m, d)``."""
        ...
