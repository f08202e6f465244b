"""Acquisition functions: from a predicted mean and standard deviation to a score to maximise.

``best`` is the reference that a candidate is to beat: the lowest value observed or, with noise, the lowest posterior
mean at evaluated points; never a lie.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SCORES = ("lcb", "ei", "logei", "pi")
MIXED = ("lcb", "logei")  # "mixed" draws one of these for each proposal
KAPPA = 1.96
KAPPAS = ("decay", "random")
FAR = -1.0 / math.sqrt(np.finfo(float).eps)  # below it log h has its asymptotic form
TINY = 1e-9  # smallest standard deviation
STEEP = -1e5  # below it d log Phi / dz and d log h / dz are -z to ten digits


def score(name: str, mean: Array, std: Array, best: float, kappa: float = KAPPA) -> Array:
    """The acquisition called ``name`` of ``SCORES`` at ``(m,)`` candidates; larger is better."""
    if name == "lcb":
        return lcb(mean, std, kappa)
    return {"ei": ei, "logei": log_ei, "pi": pi}[name](mean, std, best)


def log_score(name: str, mean: Array, std: Array, best: float, kappa: float = KAPPA, unit: float = 1.0) -> Array:
    """The log of the acquisition as a positive number, to which logs of other factors can be added.

    A bound counts as softplus((best - bound) / unit).
    """
    if name == "lcb":
        gain = (best + lcb(mean, std, kappa)) / unit
        return np.asarray(np.where(gain < -30.0, gain, np.log(np.logaddexp(0.0, np.maximum(gain, -30.0)))))
    if name == "pi":
        from scipy.special import log_ndtr

        return np.asarray(log_ndtr((best - mean) / np.maximum(std, TINY)))
    return log_ei(mean, std, best)


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


def ei(mean: Array, std: Array, best: float) -> Array:
    """Expected amount by which each candidate beats ``best``: ``(m,)`` scores, >= 0.

    References:
        Jones, Schonlau & Welch 1998, J. Global Optim. 13:455, eq. 15.
    """
    from scipy.special import ndtr

    std = np.maximum(std, TINY)
    z = (best - mean) / std
    return np.asarray(std * np.maximum(z * ndtr(z) + density(z), 0.0))


def log_ei(mean: Array, std: Array, best: float) -> Array:
    """Log of the expected improvement, exact where that underflows: ``(m,)`` scores.

    References:
        Ament et al. 2023, Unexpected improvements to expected improvement, eq. 8 to 10.
    """
    std = np.maximum(std, TINY)
    return np.asarray(np.log(std) + log_h((best - mean) / std))


def pi(mean: Array, std: Array, best: float) -> Array:
    """Probability that each candidate beats ``best``: ``(m,)`` scores in [0, 1].

    References:
        Kushner 1964, J. Basic Engineering 86:97.
    """
    from scipy.special import ndtr

    return np.asarray(ndtr((best - mean) / np.maximum(std, TINY)))


def density(z: Array) -> Array:
    """Standard normal density."""
    return np.asarray(np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi))


def log_h(z: Array) -> Array:
    """log(phi(z) + z Phi(z)) for any z (Ament et al. 2023, eq. 9)."""
    from scipy.special import erfcx, ndtr

    z = np.asarray(z, float)
    near = np.maximum(z, -1.0)
    direct = np.log(near * ndtr(near) + density(near))
    mid = np.clip(z, FAR, -1.0)
    a = np.log(np.abs(mid) * erfcx(-mid / math.sqrt(2))) + math.log(math.pi / 2) / 2
    a = np.minimum(a, -1e-300)
    half = -math.log(2)
    log1mexp = np.where(a > half, np.log(-np.expm1(np.maximum(a, half))), np.log1p(-np.exp(np.minimum(a, half))))
    middle = -mid * mid / 2 - math.log(2 * math.pi) / 2 + log1mexp
    low = np.minimum(z, FAR)
    far = -low * low / 2 - math.log(2 * math.pi) / 2 - 2 * np.log(-low)
    return np.where(z > -1.0, direct, np.where(z > FAR, middle, far))


def slopes(name: str, mean: float, std: float, best: float, kappa: float) -> tuple[float, float, float]:
    """Value of the acquisition at one point, and its derivatives by the mean and by the standard deviation.

    EI and logEI climb the same hill: both give logEI's.
    """
    if name == "lcb":
        return kappa * std - mean, -1.0, kappa
    std = max(std, TINY)
    z = (best - mean) / std
    if name == "pi":
        from scipy.special import log_ndtr

        value = float(log_ndtr(z))
        rate = math.exp(-0.5 * z * z - 0.5 * math.log(2 * math.pi) - value) if z > STEEP else -z  # phi / Phi
        return value, -rate / std, -rate * z / std
    value = float(log_h(np.array([z]))[0])
    from scipy.special import log_ndtr

    rate = math.exp(float(log_ndtr(z)) - value) if z > STEEP else -z  # Phi / h = d log h / dz
    return math.log(std) + value, -rate / std, (1.0 - rate * z) / std


def kappa_of(kappa: float | str, share: float, rng: np.random.Generator) -> float:
    """The weight of the spread for this ask.

    Args:
        kappa: A number; "decay" (from 1.96 down to 0.1 by the square of the share of evaluations left); "random"
            (exponential with mean 1).
        share: Share of all evaluations that are done, 0 to 1.
        rng: Source of the draw.
    """
    if kappa == "random":
        return float(rng.exponential())
    if kappa == "decay":
        return 0.1 + (KAPPA - 0.1) * (1.0 - min(max(share, 0.0), 1.0)) ** 2
    return float(kappa)
