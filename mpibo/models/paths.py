"""Sample paths of a Gaussian process: prior paths from random features, corrected by the data (pathwise conditioning).

    f(x) = w phi(x) + k(x, X) Q (z - w phi(X) - e),    e ~ N(0, noise)

The kernel's parts get features of their own: the joint part cosines over all parameters, each additive part cosines of
its own parameter.

References:
    Wilson et al. 2020, Efficiently sampling functions from Gaussian process posteriors, arXiv 2002.09309;
    Rahimi & Recht 2007, Random features for large-scale kernel machines.
"""

from __future__ import annotations

import math

import numpy as np

from mpibo.models import Array
from mpibo.models.kernel import Kernel
from mpibo.models.posterior import Posterior

JOINT, SINGLE = 1024, 64  # features of the joint part, of each single parameter's part


class Paths:
    """``count`` functions drawn from a posterior; each is deterministic and free of observation noise.

    Args:
        posterior: Rows and covariance.
        z: ``(n,)`` the rows' values less the prior mean; NaN at pending rows: these are believed, at what
            the posterior expects there.
        count: Number of functions; they share their features.
        rng: Source of the draws.
        features: Features to use; None: new ones.
    """

    def __init__(
        self, posterior: Posterior, z: Array, count: int, rng: np.random.Generator, features: Features | None = None
    ) -> None:
        self.posterior = posterior
        self.count = count
        self.features = features or Features(posterior.kernel, posterior.theta, rng)
        self._z = z
        self._believed = z
        pending = np.isnan(z)
        if pending.any():
            self._believed = np.where(pending, posterior.kernel_mean(z), z)
        self.weights = rng.standard_normal((self.features.size, count))
        noise = math.sqrt(posterior.noise) * rng.standard_normal((posterior.n, count))
        self.alpha = posterior.Q @ (self._believed[:, None] - self.features(posterior.X) @ self.weights - noise)

    def again(self, rng: np.random.Generator) -> Paths:
        """As many more functions with the same features."""
        return Paths(self.posterior, self._z, self.count, rng, self.features)

    def __call__(self, X: Array) -> Array:
        """``(count, m)`` values less the prior mean at ``X (m, d)``."""
        K = self.posterior.kernel.cross(self.posterior.theta, self.posterior.X, X)
        return np.asarray((self.features(X) @ self.weights + K.T @ self.alpha).T)

    def at(self, path: int, features: Array, K: list[Array]) -> Array:
        """``(m,)`` values of one path from ``features (m, f)`` and covariances ``K``, in parts ``(n, m_i)``."""
        data = np.concatenate([self.alpha[:, path] @ part for part in K])
        return np.asarray(features @ self.weights[:, path].astype(features.dtype) + data)

    def point(self, path: int, x: Array) -> tuple[float, Array]:
        """Value of one path at the point ``x (d,)``, and its gradient ``(d,)``."""
        prior, slope = self.features.point(x, self.weights[:, path])
        k, by_x = self.posterior.kernel.at(self.posterior.theta, self.posterior.X, x)
        return prior + float(k @ self.alpha[:, path]), slope + self.alpha[:, path] @ by_x


class Features:
    """Random cosines whose inner products are, on average, the kernel.

    Args:
        kernel: The family of covariance functions.
        theta: Its hyperparameters.
        rng: Source of the frequencies.
    """

    def __init__(self, kernel: Kernel, theta: Array, rng: np.random.Generator) -> None:
        s2, _, ell, rho, lam = kernel.split(theta)
        blocks = [frequencies(kernel.kind, JOINT, len(kernel.groups), rng) / ell[kernel.groups]]
        amplitudes = [np.full(JOINT, math.sqrt(2 * s2 * (1 - rho) / JOINT))]
        if rho:
            for g in range(kernel.G):
                own = (kernel.groups == g).astype(float)
                blocks.append(frequencies(kernel.kind, SINGLE, len(own), rng) * own / lam[g])
                amplitudes.append(np.full(SINGLE, math.sqrt(2 * s2 * rho / kernel.G / SINGLE)))
        self.omega = np.concatenate(blocks)
        self.size = len(self.omega)
        self.phase = rng.uniform(0.0, 2 * math.pi, self.size)
        self.amplitude = np.concatenate(amplitudes)

    def __call__(self, X: Array) -> Array:
        """``(m, f)`` features of ``X (m, d)``."""
        kind = X.dtype
        angle = X @ self.omega.T.astype(kind) + self.phase.astype(kind)
        return np.asarray(np.cos(angle) * self.amplitude.astype(kind))

    def point(self, x: Array, weights: Array) -> tuple[float, Array]:
        """Value and gradient ``(d,)`` at ``x (d,)`` of the function with these ``weights (f,)``."""
        angle = self.omega @ x + self.phase
        scaled = self.amplitude * weights
        return float(np.cos(angle) @ scaled), -(np.sin(angle) * scaled) @ self.omega


def frequencies(kind: str, count: int, d: int, rng: np.random.Generator) -> Array:
    """``(count, d)`` draws from the kernel's spectral density at length scale 1.

    Matern-5/2: a normal vector divided by the root of one Gamma draw of mean 1 for the whole vector (a multivariate t
    with 5 degrees of freedom).
    """
    normal = rng.standard_normal((count, d))
    if kind == "rbf":
        return normal
    g = rng.gamma(2.5, 1 / 2.5, size=(count, 1))
    return np.asarray(normal / np.sqrt(g))
