"""One number out of several: goals under weights, and broken limits behind kept ones. All is minimised."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RHO = 0.05  # weight of the sum in the augmented Chebyshev function, as Knowles has it
HUGE = 1e100  # numbers beyond it count as this: sums must not overflow


def chebyshev(F: Array, weights: Array) -> Array:
    """The augmented Chebyshev function of several goals, each scaled to [0, 1] over the rows that have all of them.

    Args:
        F: ``(n, m)`` goals to minimise; NaN where unknown.
        weights: ``(m,)``, not negative, their sum 1.

    Returns:
        ``(n,)``, from 0 to 1.05; NaN for rows with NaN.

    References:
        Knowles 2006, ParEGO, IEEE Trans. Evol. Comput. 10:50, eq. 2.
    """
    F = np.clip(F, -HUGE, HUGE)
    known = ~np.isnan(F).any(axis=1)
    value = np.full(len(F), np.nan)
    if known.any():
        low, high = F[known].min(axis=0), F[known].max(axis=0)
        weighed = weights * (F[known] - low) / np.where(high > low, high - low, 1.0)
        value[known] = weighed.max(axis=1) + RHO * weighed.sum(axis=1)
    return value


def behind(y: Array, excess: Array) -> Array:
    """Values whose rows that break a limit are worse than all that break none.

    Such a row is worth the worst feasible value plus a share of the spread of feasible values (of all, where none is
    feasible): the mean over the limits of its excess, each relative to the largest seen.

    Args:
        y: ``(n,)`` values to minimise; NaN where unknown.
        excess: ``(n, l)`` by how much each limit is broken; 0 or less is fine, NaN unknown.

    Returns:
        ``(n,)``; NaN where the value or an excess is unknown.
    """
    y, passed = np.clip(y, -HUGE, HUGE), np.clip(excess, 0.0, HUGE)
    y[np.isnan(passed).any(axis=1)] = np.nan
    known = ~np.isnan(y)
    if not known.any():
        return y
    good = known & (passed == 0).all(axis=1)
    told = y[good if good.any() else known]
    worst = float(told.max())
    spread = max(worst - float(told.min()), 1e-6 * abs(worst), 1e-6)
    largest = passed[known].max(axis=0)
    share = (passed / np.where(largest > 0, largest, 1.0)).mean(axis=1)
    return np.where(known & ~good, worst + spread * share, y)
