"""A Gaussian process with a constant mean: hyperparameters of greatest posterior density, refitted as the data grow.

References:
    Rasmussen & Williams 2006, Gaussian processes for machine learning (ch. 2, 5).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mpibo.models import Array
from mpibo.models.kernel import KINDS, Kernel, Pairs
from mpibo.models.posterior import Posterior, inverse
from mpibo.models.transforms import TRANSFORMS, Transform, fit_transform
from mpibo.space import Space

FITTED = 256  # rows that hyperparameters are fitted to
KEPT = 1000  # rows of a posterior
COLD, WARM = 40, 20  # steps of a climb to a peak of the density, from afar and from the last peak
EACH = 100  # with ``begin``: rows up to which each new one is followed by a refit
OFTEN, SELDOM = 6, 8  # the first refits, and then every so many, look for other peaks too
MEAN = 1.0  # prior standard deviation of the constant mean, of standardised values
HUGE = 1e100  # values beyond it count as this: squares must not overflow


class GP:
    """Gaussian process regression over encoded points.

    ``fit`` refits the hyperparameters only when the data have grown by max(3, 5 %), by 10 % above 200 rows and by 20 %
    above 500, from where they stand; between, it only takes rows in. With ``begin`` it refits at each row up to 100.

    Args:
        space: The search space; columns of one parameter share a length scale.
        kind: Kernel: "matern52" or "rbf".
        additive: Whether a sum over single parameters is part of the kernel.
        transform: What is done to values first: none, clip, yeo-johnson or ranks.
        begin: Variance, length scale and noise variance where the search for the first hyperparameters begins; priors
            are flat then. None: the priors of ``Kernel``.

    Attributes:
        theta: Hyperparameters (see ``kernel``), None before the first fit.
        mean: The constant mean, of transformed values.
    """

    def __init__(
        self, space: Space, *, kind: str = "matern52", additive: bool = True, transform: str = "yeo-johnson",
        begin: tuple[float, float, float] | None = None,
    ) -> None:  # fmt: skip
        if kind not in KINDS or transform not in TRANSFORMS:
            raise ValueError(f"expected a kernel of {KINDS} and a transform of {TRANSFORMS}, got {kind}, {transform}")
        index = {column.index: None for column in space.columns}
        number = {parameter: g for g, parameter in enumerate(index)}
        groups = np.array([number[column.index] for column in space.columns], dtype=np.intp)
        self.kernel = Kernel(groups, kind, additive and len(index) > 1, begin is not None)
        self.kind = transform
        self.begin = begin
        self.theta: Array | None = None
        self.mean = 0.0
        self.transform = Transform(math.inf, 0.0, 1.0)
        self.posterior: Posterior | None = None
        self.z: Array = np.empty(0)
        self.alpha: Array = np.empty(0)
        self.fits = 0
        self._fitted = 0  # rows at the last refit

    def prepare(self) -> None:
        """Import what a fit needs, with no other effect."""
        import scipy.linalg
        import scipy.optimize  # noqa: F401

    def due(self, n: int) -> bool:
        """Whether hyperparameters are to be refitted now that there are ``n`` rows."""
        if self.begin is not None and n <= EACH:
            return n != self._fitted
        share = 0.05 if n <= 200 else 0.1 if n <= 500 else 0.2
        return self.theta is None or n - self._fitted >= max(3, share * self._fitted) or n < self._fitted

    def fit(self, X: Array, y: Array, rng: np.random.Generator) -> None:
        """Learn from ``X (n, d)`` and ``y (n,)``, n >= 1, finite."""
        if self.due(len(y)):
            self.refit(X, y, rng)
        rows = subset(y, KEPT, rng)
        self.posterior = self.at(X[rows])
        self.z = self.values(y[rows])
        self.alpha = self.posterior.weights(self.z)

    def refit(self, X: Array, y: Array, rng: np.random.Generator) -> None:
        """Fit the transform to all of ``y``, the hyperparameters to at most 256 rows."""
        y = np.clip(y, -HUGE, HUGE)
        self.transform = fit_transform(self.kind, y)
        rows = subset(y, FITTED, rng)
        starts = [] if self.theta is None else [(self.theta, WARM)]
        if self.begin is not None:
            starts = starts or [(self.kernel.theta_of(*self.begin), COLD)]
        elif self.fits < OFTEN or self.fits % SELDOM == 0:
            starts += [(self.kernel.prior[0], COLD), (self.kernel.short, COLD)]
        self.theta, self.mean = maximise(self.kernel, X[rows], self.transform(y[rows]), starts)
        self._fitted = len(y)
        self.fits += 1

    def rescale(self, y: Array) -> None:
        """Fit the transform anew, to ``y (n,)`` on another scale than before, and leave the hyperparameters."""
        self.transform = fit_transform(self.kind, np.clip(y, -HUGE, HUGE))

    def values(self, y: Array) -> Array:
        """Transformed values less the prior mean; NaN stays NaN."""
        return np.asarray(self.transform(np.clip(y, -HUGE, HUGE)) - self.mean)

    def at(self, X: Array) -> Posterior:
        """A posterior over ``X (n, d)`` with the hyperparameters as they stand."""
        assert self.theta is not None, "fit comes first"
        return Posterior(self.kernel, self.theta, X)

    def predict(self, X: Array) -> tuple[Array, Array]:
        """Mean and standard deviation (without noise) of transformed values, each ``(m,)``, at ``X (m, d)``."""
        assert self.posterior is not None, "fit comes first"
        K = self.kernel.cross(self.posterior.theta, self.posterior.X, X)
        return self.mean + K.T @ self.alpha, np.sqrt(self.posterior.spread(K))

    def sample(self, X: Array, k: int, rng: np.random.Generator) -> Array:
        """``(k, m)`` transformed values of ``k`` functions of the posterior at ``X (m, d)``."""
        from mpibo.models.paths import Paths

        assert self.posterior is not None, "fit comes first"
        return self.mean + Paths(self.posterior, self.z, k, rng)(X)


def maximise(kernel: Kernel, X: Array, z: Array, starts: list[tuple[Array, int]]) -> tuple[Array, float]:
    """Hyperparameters of greatest posterior density (L-BFGS-B), and the constant mean that goes with them.

    Args:
        kernel: The family.
        X: ``(n, d)`` points.
        z: ``(n,)`` transformed values.
        starts: Where to begin, each ``(t,)``, and how many steps to take: the density has a peak where all is
            noise and one where little is.
    """
    from scipy.optimize import minimize

    pairs = Pairs(kernel, X)
    bounds = np.array(kernel.bounds)
    best, lowest = np.clip(starts[0][0], bounds[:, 0], bounds[:, 1]), math.inf
    for start, steps in starts:
        found = minimize(
            lambda theta: loss(kernel, pairs, z, theta)[:2], np.clip(start, bounds[:, 0], bounds[:, 1]), jac=True,
            method="L-BFGS-B", bounds=bounds, options={"maxiter": steps, "ftol": 1e-7, "gtol": 1e-3},
        )  # fmt: skip
        if found.fun < lowest:
            best, lowest = np.asarray(found.x), float(found.fun)
    return best, loss(kernel, pairs, z, best)[2]


def loss(kernel: Kernel, pairs: Pairs, z: Array, theta: Array) -> tuple[float, Array, float]:
    """Negative log posterior density of ``theta`` (up to a constant), its gradient ``(t,)``, and the constant mean.

    The mean is that of greatest density, its prior N(0, 1); by the envelope theorem it has no part in the gradient.
    """
    K, kept = pairs.covariance(theta)
    np.fill_diagonal(K, np.diagonal(K) + math.exp(theta[1]))
    Q, logdet = inverse(K)
    total = Q.sum(axis=1)
    mean = float(total @ z) / (float(total.sum()) + 1.0 / MEAN**2)
    alpha = Q @ (z - mean)
    centre, width = kernel.prior
    off = (theta - centre) / width
    value = 0.5 * (float((z - mean) @ alpha) + logdet + (mean / MEAN) ** 2 + float(off @ off))
    gradient = pairs.gradient(theta, kept, Q - np.outer(alpha, alpha)) + off / width
    return value, gradient, mean


def subset(y: Array, size: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """At most ``size`` rows of ``y (n,)``, in their order: a third the newest, a third the best, the rest at random."""
    n = len(y)
    if n <= size:
        return np.arange(n)
    third = size // 3
    kept = np.zeros(n, bool)
    kept[n - third :] = True
    kept[np.argsort(np.where(kept, np.inf, y), kind="stable")[:third]] = True
    kept[rng.choice(np.flatnonzero(~kept), size - int(kept.sum()), replace=False)] = True
    return np.flatnonzero(kept)
