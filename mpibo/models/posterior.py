"""A Gaussian process at fixed hyperparameters: its rows, the inverse of their covariance, grown a row at a time.

Rows whose value is not known yet (pending points) take part in the covariance. What their values do to the mean is up
to ``weights``: with NaN they count as observed at what is expected there (a believer), which leaves the mean as it is.

=========  =======  =====================================================
``X``      (n, d)   rows, observed and pending, in the order of their coming
``Q``      (n, n)   inverse of the covariance of their noisy values
``alpha``  (n,)     mean(x) = k(x, X) alpha
=========  =======  =====================================================
"""

from __future__ import annotations

import numpy as np

from mpibo.models import Array
from mpibo.models.kernel import Kernel


class Posterior:
    """The covariance side of a posterior; values come in with ``weights``.

    Args:
        kernel: The family of covariance functions.
        theta: Its hyperparameters.
        X: ``(n, d)`` rows.
    """

    def __init__(self, kernel: Kernel, theta: Array, X: Array) -> None:
        self.kernel = kernel
        self.theta = theta
        self.noise = kernel.split(theta)[1]
        self.s2 = kernel.variance(theta)
        self.n = len(X)
        self._X = np.empty((self.n + 64, X.shape[1]))
        self._X[: self.n] = X
        self._K, self._Q = np.zeros((2, self.n + 64, self.n + 64))
        K = kernel.cross(theta, X, X)
        K = (K + K.T) / 2 + self.noise * np.eye(self.n)
        self._K[: self.n, : self.n] = K
        self._Q[: self.n, : self.n] = inverse(K)[0]

    @property
    def X(self) -> Array:
        """``(n, d)`` rows."""
        return self._X[: self.n]

    @property
    def Q(self) -> Array:
        """``(n, n)`` inverse of their covariance, noise included."""
        return self._Q[: self.n, : self.n]

    def append(self, x: Array) -> tuple[Array, Array, float]:
        """Take one more row in, in O(n^2), and give what it changes elsewhere.

        Args:
            x: ``(d,)`` the point.

        Returns:
            Its covariances ``k (n,)`` with the rows before it, ``u = Q k``, and its variance given them, with noise.
        """
        n = self.n
        k = self.kernel.cross(self.theta, self.X, x[None])[:, 0]
        u = self.Q @ k
        u += self.Q @ (k - self._K[:n, :n] @ u)  # without it errors grow with every row, beyond bounds
        own = max(self.s2 + self.noise - float(k @ u), self.noise)
        if n == len(self._X):
            self._grow()
        self._K[n, :n] = self._K[:n, n] = k
        self._K[n, n] = self.s2 + self.noise
        Q = self._Q
        Q[:n, :n] += np.outer(u, u / own)
        Q[n, :n] = Q[:n, n] = -u / own
        Q[n, n] = 1.0 / own
        self._X[n] = x
        self.n += 1
        return k, u, own

    def weights(self, z: Array) -> Array:
        """``alpha (n,)`` from the rows' values ``z (n,)`` less the prior mean; NaN: pending, believed, of no effect."""
        pending = np.flatnonzero(np.isnan(z))
        if not len(pending):
            return np.asarray(self.Q @ z)
        alpha = self.Q @ np.where(np.isnan(z), 0.0, z)
        Qp = self.Q[:, pending]
        alpha -= Qp @ np.linalg.solve(Qp[pending], alpha[pending])
        alpha[pending] = 0.0
        return np.asarray(alpha)

    def kernel_mean(self, z: Array) -> Array:
        """``(n,)`` posterior mean at the rows themselves, from ``z`` as in ``weights``."""
        return np.asarray(self.kernel.cross(self.theta, self.X, self.X) @ self.weights(z))

    def spread(self, K: Array) -> Array:
        """``(m,)`` variances, without noise, of points with covariances ``K (n, m)`` with the rows."""
        return np.maximum(self.s2 - np.einsum("nm,nm->m", K, self.Q @ K), 0.0)

    def point(self, alpha: Array, x: Array) -> tuple[float, float, Array, Array]:
        """Mean and variance at the point ``x (d,)``, and their gradients ``(d,)``."""
        k, slope = self.kernel.at(self.theta, self.X, x)
        u = self.Q @ k
        return float(k @ alpha), max(self.s2 - float(k @ u), 1e-12), alpha @ slope, -2.0 * (u @ slope)

    def _grow(self) -> None:
        size = 2 * self.n
        X, K, Q = np.empty((size, self._X.shape[1])), np.zeros((size, size)), np.zeros((size, size))
        X[: self.n], K[: self.n, : self.n], Q[: self.n, : self.n] = self._X, self._K, self._Q
        self._X, self._K, self._Q = X, K, Q


def inverse(K: Array) -> tuple[Array, float]:
    """Inverse and log determinant of a symmetric ``K (n, n)``; a hopeless one gets jitter on its diagonal first."""
    from scipy.linalg import lapack

    n = len(K)
    size = max(float(np.abs(np.diagonal(K)).max(initial=0.0)), 1e-12)
    for jitter in (0.0, *(10.0**power for power in range(-10, 3))):
        factor, failed = lapack.dpotrf(K + jitter * size * np.eye(n) if jitter else K, lower=1)
        if not failed and np.isfinite(factor).all():
            found, failed = lapack.dpotri(factor, lower=1)
            if not failed and np.isfinite(found).all():
                lower = np.tril(found, -1)
                return lower + lower.T + np.diag(np.diagonal(found)), 2.0 * float(np.log(np.diagonal(factor)).sum())
    raise FloatingPointError(f"the covariance of {n} points holds a number that is not finite")
