"""A density over configs: a mixture of product kernels, one around each of some points, and a prior.

A kernel is a product over the parameters that are active in the point judged: of a number a truncated normal, of a
number of few levels the same integrated over each level's bin, of a choice a weight for its own level and small ones
for the rest. A parameter that is inactive in a kernel's point has the prior there, so that only points in which it is
active shape its density, and what two branches of a space share is still learned together with the branch.

The logarithm of every kernel at every point is one matrix product, ``features(X) @ coefficients``:

================  ===========  ===================================================================
``features``      (m, f)       of a point: a x^2, a x, a of a number, a times one-hot levels of others
``coefficients``  (f, n + 1)   of the kernels, the prior last
``sigma``         (p,)         bandwidths, one a number
================  ===========  ===================================================================

where a is 1 if the parameter is active, else 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpibo.space import Space

Array = NDArray[np.float64]

FEW = 32  # levels of a number up to which they count one by one, not as a continuum
BANDWIDTH = 0.1  # of one point alone, in parts of the range
FINEST = 0.01  # bandwidth at least, in parts of the range
CHUNK = 200_000  # kernel values held at once: what a cache holds is faster


@dataclass(frozen=True, slots=True)
class Axis:
    """One parameter as the kernels see it: its columns ``start:stop`` and where a number begins and ends."""

    start: int
    stop: int
    activity: int | None
    low: float
    high: float
    levels: Array | None  # (k,) positions of few levels
    edges: Array | None  # (k + 1,) bounds of their bins
    onehot: bool

    @property
    def width(self) -> float:
        """Length of a number's range, half a bin beyond its first and last level included."""
        return self.high - self.low


def axes_of(space: Space) -> list[Axis]:
    """The parameters of a space that are no constants, in the order of their columns."""
    own: dict[int, list[int]] = {}
    for i, column in enumerate(space.columns):
        own.setdefault(column.index, []).append(i)
    parameters = list(space.parameters.values())
    found = []
    for index, columns in own.items():
        activity = columns.pop() if space.columns[columns[-1]].kind == "activity" else None
        parameter, start, stop = parameters[index], columns[0], columns[-1] + 1
        low, high, levels, edges = 0.0, 1.0, None, None
        onehot = space.columns[start].kind == "onehot"
        if not onehot and parameter.count is not None:
            if parameter.count <= FEW:
                levels = parameter.columns(parameter.level_codes(np.arange(parameter.count)))[:, 0]
                first, last = (levels[1] - levels[0], levels[-1] - levels[-2]) if len(levels) > 1 else (1.0, 1.0)
                low, high = levels[0] - first / 2, levels[-1] + last / 2
                edges = np.concatenate([[low], (levels[1:] + levels[:-1]) / 2, [high]])
            else:
                low, high = -0.5 / parameter.count, 1 + 0.5 / parameter.count
        found.append(Axis(start, stop, activity, float(low), float(high), levels, edges, onehot))
    return found


def features(axes: list[Axis], X: Array) -> Array:
    """``(m, f)`` what kernels need to know of points ``(m, d)`` that configs can have."""
    parts = []
    for axis in axes:
        x = X[:, axis.start : axis.stop]
        if axis.levels is not None:
            part = np.eye(len(axis.levels))[_places(axis, x[:, 0])]
        else:
            part = x if axis.onehot else np.hstack([x * x, x, np.ones_like(x)])
        parts.append(part if axis.activity is None else part * X[:, axis.activity, None])
    return np.concatenate([np.empty((len(X), 0)), *parts], axis=1)


class Parzen:
    """The density of some points.

    Bandwidths are ``bandwidth`` n^(-1/(p + 4)) of the range, n the points in which the parameter is active and p the
    number of parameters, and at least 1/100 of it. The prior is a normal as wide as the range around its middle, and
    all levels of a choice alike.

    Args:
        axes: What ``axes_of`` gives.
        X: ``(n, d)`` points that configs can have.
        weights: ``(n,)`` of the kernels.
        prior_weight: Of the prior, > 0; also, over the number of kernels, of each level in the kernels of a choice.
        bandwidth: In parts of the range.

    References:
        Bergstra et al. 2011, NeurIPS 24; Falkner, Klein & Hutter 2018, BOHB, PMLR 80:1437 (multivariate); Akiba et al.
        2019, Optuna, KDD (weights as there, and the rule of bandwidths, but not their size).
    """

    def __init__(
        self, axes: list[Axis], X: Array, weights: Array, prior_weight: float = 1.0, bandwidth: float = BANDWIDTH
    ) -> None:
        self.axes = axes
        self.X = X
        self.weights = np.append(weights, prior_weight)
        self._blur = prior_weight / (len(X) + 1)
        counts = np.array([_active(axis, X).sum() for axis in axes])
        scott = bandwidth * np.maximum(counts, 1) ** (-1 / (len(axes) + 4))
        self.sigma: Array = np.maximum(scott, FINEST) * np.array([axis.width for axis in axes])
        self._priors = [_prior(axis) for axis in axes]
        self._masses = [
            None if axis.levels is None else _masses(axis, axis.levels, sigma)
            for axis, sigma in zip(axes, self.sigma, strict=True)
        ]
        prior = np.concatenate([np.empty(0), *self._priors])
        self._matrix = np.concatenate([self.coefficients(X), prior[:, None]], axis=1)

    def log_density(self, F: Array) -> Array:
        """``(m,)`` log of the sum of weight times kernel over all kernels, at points given by ``features``."""
        rows = max(1, CHUNK // len(self.weights))
        logs = np.log(self.weights)
        return np.concatenate([log_sum(F[i : i + rows] @ self._matrix + logs) for i in range(0, max(len(F), 1), rows)])

    def coefficients(self, X: Array) -> Array:
        """``(f, n)`` those of kernels around points ``(n, d)`` with this density's bandwidths."""
        parts = []
        for axis, sigma, masses, prior in zip(self.axes, self.sigma, self._masses, self._priors, strict=True):
            x = X[:, axis.start : axis.stop]
            if axis.onehot:
                part = np.log(x + self._blur) - np.log1p(x.shape[1] * self._blur)
            elif masses is not None:
                part = masses[_places(axis, x[:, 0])]
            else:
                part = _parabola(axis, x[:, 0], sigma)
            on = _active(axis, X)
            parts.append(np.where(on[:, None], part, prior) if not on.all() else part)
        return np.concatenate([np.empty((len(X), 0)), *parts], axis=1).T

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        """``(n, d)`` points drawn from the density, not yet snapped to what a config can have."""
        from scipy.special import ndtr, ndtri

        kernels = rng.choice(len(self.weights), size=n, p=self.weights / self.weights.sum())
        prior = kernels == len(self.X)
        centre = np.concatenate([self.X, np.zeros((1, self.X.shape[1]))])[kernels]
        drawn = centre.copy()
        for axis, sigma in zip(self.axes, self.sigma, strict=True):
            own, u = slice(axis.start, axis.stop), rng.random((n, axis.stop - axis.start))
            alone = prior | ~_active(axis, centre)
            if axis.onehot:
                k = u.shape[1]
                anew = alone | (rng.random(n) * (1 + k * self._blur) < k * self._blur)
                drawn[anew, own] = u[anew]  # the largest wins: each level alike
                continue
            mu = np.where(alone, (axis.low + axis.high) / 2, centre[:, axis.start])
            std = np.where(alone, axis.width, sigma)
            below, above = ndtr((axis.low - mu) / std), ndtr((axis.high - mu) / std)
            drawn[:, axis.start] = np.clip(mu + std * ndtri(below + u[:, 0] * (above - below)), 0.0, 1.0)
        return drawn


def _prior(axis: Axis) -> Array:
    """The prior's coefficients for one parameter."""
    middle = np.array([(axis.low + axis.high) / 2])
    if axis.onehot:
        k = axis.stop - axis.start
        return np.full(k, -np.log(k))
    if axis.levels is not None:
        return np.asarray(_masses(axis, middle, axis.width)[0])
    return np.asarray(_parabola(axis, middle, axis.width)[0])


def _active(axis: Axis, X: Array) -> NDArray[np.bool_]:
    return np.ones(len(X), bool) if axis.activity is None else X[:, axis.activity] == 1.0


def _places(axis: Axis, x: Array) -> NDArray[np.intp]:
    assert axis.edges is not None
    return np.searchsorted(axis.edges[1:-1], x)


def _parabola(axis: Axis, mu: Array, sigma: float) -> Array:
    """``(n, 3)`` coefficients of x^2, x and 1 in the log of normals truncated to the range."""
    from scipy.special import ndtr

    mass = ndtr((axis.high - mu) / sigma) - ndtr((axis.low - mu) / sigma)
    constant = -(mu**2) / (2 * sigma**2) - np.log(sigma * np.sqrt(2 * np.pi) * mass)
    return np.stack([np.full(len(mu), -1 / (2 * sigma**2)), mu / sigma**2, constant], axis=1)


def _masses(axis: Axis, mu: Array, sigma: float) -> Array:
    """``(n, k)`` log probability of each level under normals truncated to the range."""
    from scipy.special import ndtr

    assert axis.edges is not None
    mass = np.diff(ndtr((axis.edges - mu[:, None]) / sigma), axis=1)
    return np.asarray(np.log(np.maximum(mass, 1e-300) / mass.sum(axis=1, keepdims=True)))


def log_sum(logs: Array) -> Array:
    """``(m,)`` log of the sum of exp over each row of ``(m, n)``."""
    top = logs.max(axis=1)
    shifted = logs - top[:, None]
    return np.asarray(top + np.log(np.exp(shifted, out=shifted).sum(axis=1)))
