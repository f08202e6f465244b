"""The covariance function: ARD Matern-5/2 or squared exponential, with an additive part, and its gradients.

    k(x, x') = s2 [(1 - rho) m(r) + rho/G sum_g m(r_g / lam_g)],    r^2 = sum_g r_g^2 / ell_g^2

r_g is the Euclidean distance in the columns of parameter g: the one-hot columns of a choice share one length scale, and
so do a number and its activity column.

==========  ========  ==============================================================================
G, d, n     numbers   parameters, encoded columns, rows
``theta``   (t,)      log s2, log noise variance, log ell (G); with an additive part logit rho, log lam (G)
pairs       n(n-1)/2  the pairs i < j of rows, in the order of ``np.triu_indices(n, 1)``
==========  ========  ==============================================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpibo.models import Array

KINDS = ("matern52", "rbf")
ROOT5 = math.sqrt(5.0)
NOISE = 1e-6  # smallest noise variance, of values with variance 1
LAM = 0.01  # smallest length scale: exp(sqrt 5 / LAM) must not overflow


@dataclass(frozen=True)
class Kernel:
    """A family of covariance functions over encoded points; ``theta`` picks one.

    Args:
        groups: ``(d,)`` number of the parameter, 0 to G - 1, that each column belongs to.
        kind: "matern52" or "rbf".
        additive: Whether the sum over single parameters is part of it.
        flat: Whether the priors say nothing.

    References:
        Rasmussen & Williams 2006, ch. 4 (Matern); Duvenaud, Nickisch & Rasmussen 2011, Additive Gaussian processes.
    """

    groups: NDArray[np.intp]
    kind: str = "matern52"
    additive: bool = True
    flat: bool = False

    @property
    def G(self) -> int:
        """Number of parameters."""
        return int(self.groups.max(initial=-1)) + 1

    @property
    def size(self) -> int:
        """Length of ``theta``."""
        return 2 + self.G + (1 + self.G if self.additive else 0)

    @property
    def prior(self) -> tuple[Array, Array]:
        """Mode and standard deviation, each ``(t,)``, of the priors as densities of ``theta``.

        All but rho's are log-normal, LogN(m, s): variance LogN(0, 0.5), noise LogN(-4, 1), joint length scales
        LogN(sqrt 2 + log(d) / 2, sqrt 3), single ones LogN(sqrt 2, sqrt 3); logit rho is N(0, 1.5). The density of a
        log-normal variable itself is highest at exp(m - s^2), and that is the peak which greatest posterior density
        means: without it length scales come out far too long.

        References:
            Hvarfner, Hellsten & Nardi 2024, Vanilla Bayesian optimization performs great in high dimensions (ell).
        """
        G, long, wide = self.G, math.sqrt(2.0), math.sqrt(3.0)
        mean = [0.0, -4.0, *[long + math.log(max(len(self.groups), 1)) / 2] * G]
        std = [0.5, 1.0, *[wide] * G]
        logs = [True] * len(mean)
        if self.additive:
            mean += [0.0, *[long] * G]
            std += [1.5, *[wide] * G]
            logs += [False, *[True] * G]
        spread = np.array(std)
        mode = np.array(mean) - np.where(logs, spread**2, 0.0)
        return mode, spread * (1e6 if self.flat else 1.0)

    def theta_of(self, s2: float, ell: float, noise: float) -> Array:
        """``theta (t,)`` with this variance, one length scale and noise variance; what else there is at its mode."""
        theta = self.prior[0].copy()
        theta[:2] = math.log(s2), math.log(noise)
        theta[2 : 2 + self.G] = math.log(ell)
        return theta

    @property
    def short(self) -> Array:
        """A ``theta (t,)`` of short length scales and little noise, from which a search may start."""
        theta = self.theta_of(1.0, 0.3 * math.sqrt(max(len(self.groups), 1)), math.exp(-6.0))
        if self.additive:
            theta[3 + self.G :] = math.log(0.5)
        return theta

    @property
    def bounds(self) -> list[tuple[float, float]]:
        """Smallest and largest value of each entry of ``theta``."""
        length = (math.log(LAM), math.log(1e3))
        some = [(-5.0, 5.0), (math.log(NOISE), 1.0), *[length] * self.G]
        return some + ([(-6.0, 6.0), *[length] * self.G] if self.additive else [])

    def split(self, theta: Array) -> tuple[float, float, Array, float, Array]:
        """s2, noise variance, ell (G,), rho and lam (G,); without an additive part rho is 0."""
        G = self.G
        s2, noise, ell = math.exp(theta[0]), math.exp(theta[1]), np.exp(theta[2 : 2 + G])
        if not self.additive:
            return s2, noise, ell, 0.0, np.ones(G)
        return s2, noise, ell, 1.0 / (1.0 + math.exp(-theta[2 + G])), np.exp(theta[3 + G :])

    def variance(self, theta: Array) -> float:
        """k(x, x)."""
        return math.exp(theta[0])

    def reach(self, theta: Array) -> Array:
        """``(d,)`` length scale of each column in the joint part."""
        return self.split(theta)[2][self.groups]

    def cross(self, theta: Array, A: NDArray[Any], B: NDArray[Any]) -> NDArray[Any]:
        """``(n, m)`` covariances of the rows of ``A (n, d)`` and ``B (m, d)``, in their precision (float32 is fast)."""
        s2, _, ell, rho, lam = self.split(theta)
        kind = A.dtype.type
        total = np.zeros((len(A), len(B)), A.dtype)
        added = np.zeros_like(total) if rho else total
        for g in range(self.G):
            squared = np.zeros_like(total)
            own = np.flatnonzero(self.groups == g)
            for column in own:
                difference = A[:, column, None] - B[None, :, column]
                squared += difference * difference
            total += squared * kind(1.0 / ell[g] ** 2)
            if rho:
                distance = np.abs(difference) if len(own) == 1 else np.sqrt(squared)
                added += self._m(distance * kind(1.0 / lam[g]))
        covariance = kind(s2 * (1 - rho)) * self._m(np.sqrt(total))
        if rho:
            covariance += kind(s2 * rho / self.G) * added
        return covariance

    def at(self, theta: Array, X: Array, x: Array) -> tuple[Array, Array]:
        """Covariances ``(n,)`` of ``X (n, d)`` with the point ``x (d,)``, and their gradient ``(n, d)`` by ``x``."""
        s2, _, ell, rho, lam = self.split(theta)
        difference = x - X
        squared = difference**2
        r = np.sqrt(squared @ (1.0 / ell**2)[self.groups])
        value, slope = self._m_and_slope(r)  # slope = m'(r) / r, finite at 0
        value *= s2 * (1 - rho)
        gradient = (s2 * (1 - rho) * slope)[:, None] * (difference / ell[self.groups] ** 2)
        if rho:
            by_group = squared @ (self.groups[:, None] == np.arange(self.G))
            each, slopes = self._m_and_slope(np.sqrt(by_group) / lam)
            value += s2 * rho / self.G * each.sum(axis=1)
            gradient += s2 * rho / self.G * (slopes / lam**2)[:, self.groups] * difference
        return value, gradient

    def _m(self, t: NDArray[Any]) -> NDArray[Any]:
        kind = t.dtype.type
        if self.kind == "rbf":
            return np.asarray(np.exp(t * t * kind(-0.5)))
        t = t * kind(ROOT5)
        shrunk = np.exp(-t)
        return np.asarray((kind(1) + t + t * t * kind(1 / 3)) * shrunk)

    def _m_and_slope(self, t: Array) -> tuple[Array, Array]:
        """m(t) and m'(t) / t."""
        if self.kind == "rbf":
            value = np.exp(-0.5 * t * t)
            return value, -value
        t = t * ROOT5
        shrunk = np.exp(-t)
        return (1 + t + t * t / 3) * shrunk, -5 / 3 * (1 + t) * shrunk


class Pairs:
    """Distances between the rows of ``X (n, d)``, kept while ``theta`` is sought."""

    def __init__(self, kernel: Kernel, X: Array) -> None:
        self.kernel = kernel
        self.n = len(X)
        i, j = np.triu_indices(self.n, 1)
        self.flat = i * self.n + j
        self.squared = np.zeros((kernel.G, len(i)))
        for column, g in enumerate(kernel.groups):
            x = X[:, column]
            self.squared[g] += (x[i] - x[j]) ** 2
        self.distance = np.sqrt(self.squared) if kernel.additive else self.squared
        self._lines: list[Any] = []  # per parameter with one column: its positions, which row of a pair is high, low
        for g in range(kernel.G):
            own = np.flatnonzero(kernel.groups == g)
            if len(own) != 1:
                self._lines.append(None)
                continue
            x = X[:, own[0]]
            higher = x[i] > x[j]
            self._lines.append((x, np.where(higher, i, j), np.where(higher, j, i)))

    def covariance(self, theta: Array) -> tuple[Array, tuple[Array, ...]]:
        """``K (n, n)`` without noise, and what ``gradient`` needs."""
        s2, _, ell, rho, lam = self.kernel.split(theta)
        value, slope = self.kernel._m_and_slope(np.sqrt((1.0 / ell**2) @ self.squared))
        k = s2 * (1 - rho) * value
        parts: list[Array] = []
        added = np.zeros_like(k)
        if rho:
            for g in range(self.kernel.G):
                each, parted = self._single(g, float(lam[g]))
                added += each
                parts.append(parted)
            k += s2 * rho / self.kernel.G * added
        K = np.zeros((self.n, self.n))
        K.ravel()[self.flat] = k
        K += K.T
        np.fill_diagonal(K, s2)
        return K, (value, slope, k, added, *parts)

    def gradient(self, theta: Array, kept: tuple[Array, ...], weight: Array) -> Array:
        """``(t,)`` derivative by ``theta`` of ``sum_ij weight_ij (K + noise I)_ij / 2``.

        ``weight (n, n)`` is symmetric.
        """
        s2, noise, ell, rho, _ = self.kernel.split(theta)
        value, slope, k, added, *parts = kept
        w = weight.ravel()[self.flat]
        trace = float(np.trace(weight))
        G = self.kernel.G
        by_ell = -s2 * (1 - rho) * (self.squared @ (w * slope)) / ell**2
        found = [w @ k + s2 * trace / 2, noise * trace / 2, *by_ell]
        if self.kernel.additive:
            found.append(s2 * rho * (1 - rho) * float(w @ (added / G - value)))
            found += [s2 * rho / G * float(w @ part) for part in parts]
        return np.array(found)

    def _single(self, g: int, lam: float) -> tuple[Array, Array]:
        """m(r_g / lam) for all pairs, and its derivative by log lam."""
        if self.kernel.kind == "rbf" or self._lines[g] is None:
            t = self.distance[g] / lam
            value, slope = self.kernel._m_and_slope(t)
            return value, -slope * t * t
        x, high, low = self._lines[g]
        rate = ROOT5 / lam
        up = np.exp(rate * (x - 0.5))
        shrunk = up[low] / up[high]  # exp(-rate |x - x'|) without an exponential for each pair
        t = self.distance[g] * rate
        rest = t * (shrunk / 3)
        part = t * (rest + t * rest)  # t^2 (1 + t) / 3 exp(-t)
        return shrunk + t * shrunk + t * rest, part
