"""Output transforms: bring values to minimise near a normal distribution before a Gaussian process sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpibo.models import Array

TRANSFORMS = ("none", "clip", "yeo-johnson", "ranks")
TAIL = 5.0  # lower half-widths above the median at which the bad tail is cut
LAMBDAS = (-4.0, 6.0)  # Yeo-Johnson's exponent is sought between these
FAR = 1e6  # standardised values beyond it, which come after the fit, count as this: powers must not overflow


@dataclass(frozen=True)
class Transform:
    """A fitted monotone map of values.

    Attributes:
        ceiling: Values above it count as it.
        centre: Subtracted, then divided by ``scale``.
        scale: See there.
        power: Yeo-Johnson's exponent, None for none.
        after: Centre and scale of the result of the power.
        levels: Sorted values whose ranks become normal scores; None for none.
    """

    ceiling: float
    centre: float
    scale: float
    power: float | None = None
    after: tuple[float, float] = (0.0, 1.0)
    levels: Array | None = None

    def __call__(self, y: Array) -> Array:
        """Transformed values, ``(n,)`` to ``(n,)``."""
        if self.levels is not None:
            from scipy.special import ndtri

            low = np.searchsorted(self.levels, y, side="left")
            high = np.searchsorted(self.levels, y, side="right")
            return np.asarray(ndtri((np.clip((low + high) / 2, 0.5, len(self.levels) - 0.5)) / len(self.levels)))
        z = np.clip((np.minimum(y, self.ceiling) - self.centre) / self.scale, -FAR, FAR)
        if self.power is None:
            return z
        return (yeo_johnson(z, self.power) - self.after[0]) / self.after[1]


def fit_transform(kind: str, y: Array) -> Transform:
    """The transform of this kind for values ``y (n,)``, n >= 1.

    Args:
        kind: "none" (standardised only), "clip" (bad tail cut at median + 5 (median - lower quartile)), "yeo-johnson"
            (clip, then the power of greatest likelihood), or "ranks" (normal scores).
        y: Values to minimise, finite.

    References:
        Yeo & Johnson 2000, Biometrika 87:954.
    """
    if kind == "ranks":
        return Transform(np.inf, 0.0, 1.0, levels=np.sort(y))
    ceiling = np.inf
    if kind != "none":
        low, middle = np.quantile(y, [0.25, 0.5])
        ceiling = float(middle + TAIL * (middle - low)) if middle > low else np.inf
    cut = np.minimum(y, ceiling)
    centre, scale = _moments(cut)
    if kind != "yeo-johnson" or len(y) < 3 or cut.min() == cut.max():
        return Transform(ceiling, centre, scale)
    from scipy.optimize import minimize_scalar

    z = (cut - centre) / scale
    logs = float(np.sum(np.sign(z) * np.log1p(np.abs(z))))

    def loss(power: float) -> float:
        variance = float(np.var(yeo_johnson(z, power)))
        return 0.5 * len(z) * np.log(variance + 1e-300) - (power - 1) * logs

    power = float(minimize_scalar(loss, bounds=LAMBDAS, method="bounded", options={"xatol": 1e-3}).x)
    return Transform(ceiling, centre, scale, power, _moments(yeo_johnson(z, power)))


def yeo_johnson(z: Array, power: float) -> Array:
    """The power transform of values of either sign (Yeo & Johnson 2000, eq. 2.1)."""
    positive = z >= 0
    up = np.log1p(np.where(positive, z, 0.0))
    down = np.log1p(np.where(positive, 0.0, -z))
    return np.where(positive, _power(up, power), -_power(down, 2 - power))


def _power(logarithm: Array, power: float) -> Array:
    if abs(power) < 1e-8:
        return logarithm
    return np.asarray(np.expm1(power * logarithm) / power)


def _moments(y: Array) -> tuple[float, float]:
    scale = float(y.std())
    return float(y.mean()), scale if scale > max(1e-12 * float(np.abs(y).max()), 1e-300) else 1.0
