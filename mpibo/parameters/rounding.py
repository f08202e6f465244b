"""Rounding of decoded numbers, such that any two that differ by a few bits become the same number."""

from __future__ import annotations

import numpy as np

from mpibo.parameters.parameter import Array

POWERS = np.array([float(f"1e{k}") for k in range(300)])


def round_places(values: Array, places: Array) -> Array:
    """Values rounded to decimal places; the same number comes out of any two that differ by a few bits."""
    power = POWERS[np.abs(places)]
    up = places >= 0
    with np.errstate(over="ignore"):
        whole = np.rint(np.where(up, values * power, values / power))
        return np.where(up, whole / power, whole * power)


def round_digits(values: Array, digits: int) -> Array:
    """Values >= 0 rounded to significant digits; tiny ones stay as they are."""
    with np.errstate(divide="ignore"):
        places = digits - 1 - np.floor(np.log10(values))
    fine = np.abs(places) < len(POWERS)
    return np.where(fine, round_places(values, np.where(fine, places, 0).astype(np.intp)), values)
