"""Acquisition functions: from a predicted mean and standard deviation to a score to maximise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

KAPPA = 1.96


def lcb(mean: Array, std: Array, kappa: float = KAPPA) -> Array:
    """Lower confidence bound of a value to minimise, with its sign changed.

    Args:
        mean: ``(m,)`` predicted values.
        std: ``(m,)`` their standard deviations, >= 0.
        kappa: Weight of the spread, >= 0; 0 only exploits.

    Returns:
        ``(m,)`` scores; larger is better.

    References:
        Cox & John 1992, A statistical method for global optimization, IEEE Conf. SMC 2:1241.
    """
    return kappa * std - mean
