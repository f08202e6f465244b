"""A Gaussian process kept in step with the table: from ask to ask rows are appended, nothing is built anew.

Rows that are observed and rows that are pending have the same covariance, so a pending point that gets its value only
changes the mean. All is built anew only after a refit of the hyperparameters, or when a proposal was forgotten.
"""

from __future__ import annotations

from collections import defaultdict, deque

import numpy as np
from numpy.typing import NDArray

from mpibo.acquisition.maximise import BEST, around
from mpibo.acquisition.pending import LIES, lie
from mpibo.models.gp import GP, KEPT, subset
from mpibo.models.kernel import KINDS
from mpibo.models.posterior import Posterior
from mpibo.models.transforms import TRANSFORMS
from mpibo.strategies.distinct import Picks
from mpibo.strategies.surrogate import expect, leaders, reference, repeats
from mpibo.table import Trials, key
from mpibo.trial import Proposal, State

Array = NDArray[np.float64]


class Gaussian:
    """A model and the candidates it judges.

    Args:
        kind, additive, transform, begin: Of the ``GP``.
        pending: Whether pending points are rows of the posterior.
        candidates: Number of points judged: half from the whole space, kept from ask to ask, half around the best.

    Attributes:
        gp: The model; None before the first fit.
        posterior: Its rows.
        z: ``(n,)`` transformed values of the rows less the prior mean; NaN where pending.
        keys: The rows' keys (see ``table.key``).
    """

    def __init__(
        self, kind: str, additive: bool, transform: str, pending: bool, candidates: int,
        begin: tuple[float, float, float] | None = None,
    ) -> None:  # fmt: skip
        expect("kernel", kind, KINDS)
        expect("transform", transform, TRANSFORMS)
        if candidates < 2:
            raise ValueError(f"expected candidates >= 2, got {candidates}")
        self.kind, self.additive, self.transform, self.begin = kind, additive, transform, begin
        self.pending = pending
        self.candidates = candidates
        self.gp: GP | None = None
        self.posterior: Posterior | None = None
        self.z: Array = np.empty(0)
        self.keys: list[bytes] = []
        self.far: Cached | None = None
        self._chosen: NDArray[np.intp] = np.empty(0, np.intp)  # table rows that the last refit kept, of more than KEPT
        self._seen = 0  # ended rows at the last refit
        self._asked: tuple[int, tuple[float, ...] | None] = (-1, None)

    @property
    def kept(self) -> bool:
        """Whether there is a model from an earlier ask."""
        return self.gp is not None and self.gp.theta is not None

    def prepare(self) -> None:
        """Load what a fit needs, so that the first one does not wait for it."""
        import scipy.linalg
        import scipy.optimize
        import scipy.special  # noqa: F401

    def update(self, trials: Trials, rng: np.random.Generator) -> None:
        """Take the table's results and pending points in; refit the hyperparameters if that is due and wanted."""
        weights = None if trials.weights is None else tuple(trials.weights.tolist())  # of goals: each part has its own
        if (trials.asked, weights) == self._asked and self.posterior is not None:
            return
        self._asked = trials.asked, weights
        if self.gp is None:
            self.gp = GP(
                trials.space, kind=self.kind, additive=self.additive, transform=self.transform, begin=self.begin
            )
        rows = np.flatnonzero(trials.done | trials.mask(State.FAILED))
        X, y = trials.observed()
        if self.gp.theta is None or (trials.fit and self.gp.due(len(y))):
            self.gp.refit(X, y, rng)
            self.posterior = None
            self._chosen, self._seen = rows[subset(y, KEPT, rng)], int(trials.order.max())
        elif weights is not None:
            self.gp.rescale(y)
        kept = np.isin(rows, self._chosen) | (trials.order[rows] > self._seen)
        self._sync(X[kept], self.gp.values(y[kept]), trials.pending if self.pending else trials.X[:0], trials, rng)

    def _sync(self, X: Array, z: Array, pending: Array, trials: Trials, rng: np.random.Generator) -> None:
        assert self.gp is not None
        known: defaultdict[bytes, deque[float]] = defaultdict(deque)
        for x, value in zip(X, z, strict=True):
            known[key(x)].append(float(value))
        wanted = np.concatenate([X, pending])
        missing: defaultdict[bytes, int] = defaultdict(int)
        names = [key(x) for x in wanted]
        for name in names:
            missing[name] += 1
        for name in self.keys:
            missing[name] -= 1
        if self.posterior is None or min(missing.values(), default=0) < 0:
            self.posterior = self.gp.at(wanted)
            self.keys = names
            self.far = Cached(self.posterior, self._draw(trials, rng))
        else:
            for x, name in zip(wanted, names, strict=True):
                if missing[name] > 0:
                    missing[name] -= 1
                    self.append(x)
        self.z = np.array([known[name].popleft() if known[name] else np.nan for name in self.keys])

    def append(self, x: Array) -> tuple[Array, Array, float]:
        """One more pending row, also for the kept candidates. Gives what ``Posterior.append`` does."""
        assert self.posterior is not None and self.far is not None
        grown = self.posterior.append(x)
        self.keys.append(key(x))
        self.z = np.append(self.z, np.nan)
        self.far.append(self.posterior, x, grown)
        return grown

    def _draw(self, trials: Trials, rng: np.random.Generator) -> Array:
        return trials.space.sample(self.candidates // 2, rng)

    def repeats(self, trials: Trials, n: int, rng: np.random.Generator) -> list[Proposal]:
        """The answer when a space is exhausted and values are noisy."""
        self.update(trials, rng)
        return repeats(trials, n, self.predict)

    def predict(self, X: Array) -> tuple[Array, Array]:
        """Mean and standard deviation, each ``(m,)``, of transformed values at ``X (m, d)``; pending ones believed."""
        assert self.gp is not None and self.posterior is not None
        K = self.posterior.kernel.cross(self.posterior.theta, self.posterior.X, X)
        return self.gp.mean + self.posterior.weights(self.z) @ K, np.sqrt(self.posterior.spread(K))

    def board(self, trials: Trials, picks: Picks, n: int, pending: str, rng: np.random.Generator) -> Board:
        """The points to choose ``n`` proposals from: all that is left of a small space, else kept and local ones."""
        assert self.posterior is not None and self.far is not None
        left = picks.left()
        if left is not None and len(left) <= 2 * self.candidates:
            return Board(self, trials, [Cached(self.posterior, left[rng.permutation(len(left))])], pending)
        best = leaders(trials, BEST)
        local = trials.space.snap(around(trials.space, best, max(self.candidates // 2, 2 * n), rng))
        near = Cached(self.posterior, local[trials.space.legal(local)])
        return Board(self, trials, [self.far, near], pending)


class Cached:
    """Candidates with their covariances and variances, kept up as rows are appended.

    Attributes:
        X: ``(m, d)`` candidates. K: ``(n, m)`` covariances with the rows. variance: ``(m,)`` without noise.
    """

    def __init__(self, posterior: Posterior, X: Array) -> None:
        self.X = X
        self._single = X.astype(np.float32)  # exponentials of float32 cost a tenth
        self._K = np.empty((posterior.n + 64, len(X)))
        self.n = posterior.n
        rows = posterior.X.astype(np.float32)
        self._K[: self.n] = posterior.kernel.cross(posterior.theta, rows, self._single)
        self.variance = posterior.spread(self.K)

    @property
    def K(self) -> Array:
        """``(n, m)`` covariances with the rows."""
        return self._K[: self.n]

    def append(self, posterior: Posterior, x: Array, grown: tuple[Array, Array, float]) -> None:
        """The posterior has got one more row."""
        _, u, own = grown
        k = posterior.kernel.cross(posterior.theta, x[None].astype(np.float32), self._single)[0].astype(float)
        self.variance = np.maximum(self.variance - (k - u @ self.K) ** 2 / own, 0.0)
        if self.n == len(self._K):
            longer = np.empty((2 * self.n, self._K.shape[1]))
            longer[: self.n] = self._K
            self._K = longer
        self._K[self.n] = k
        self.n += 1


class Board:
    """Candidates of one answer, and the posterior's opinion of them as proposals are picked.

    Args:
        gaussian: The model, in step with the table.
        trials: The table.
        parts: The candidates.
        pending: The rule for pending points.

    Attributes:
        X: ``(m, d)`` the candidates.
        best: The lowest posterior mean at an observed row, with no lie told. With limits: the lowest value within them,
            or the highest of all where none is.
    """

    unit = 1.0  # values are standardised

    def __init__(self, gaussian: Gaussian, trials: Trials, parts: list[Cached], pending: str) -> None:
        assert gaussian.gp is not None and gaussian.posterior is not None
        self.gaussian = gaussian
        self.parts = parts
        self.X = np.concatenate([part.X for part in parts])
        self.posterior = gaussian.posterior
        self.offset = gaussian.gp.mean
        self._pending = pending
        self.z = gaussian.z
        self.alpha = self.posterior.weights(self.z)
        observed = ~np.isnan(self.z)  # there the mean is z - noise alpha
        self.best = self.offset + float(np.min((self.z - self.posterior.noise * self.alpha)[observed]))
        if trials.aims.limits:
            self.best = self.offset + float(gaussian.gp.values(reference(trials))[0])
        self._value = lie(pending, self.z[observed])
        if pending in LIES and not observed.all():
            self._believe(np.where(observed, self.z, self._value))

    def _believe(self, z: Array) -> None:
        self.z = z
        self.alpha = self.posterior.weights(z)

    def predict(self) -> tuple[Array, Array]:
        """Mean and standard deviation, each ``(m,)``, of transformed values at the candidates."""
        mean = np.concatenate([self.alpha @ part.K for part in self.parts])
        return self.offset + mean, np.sqrt(np.concatenate([part.variance for part in self.parts]))

    def at(self, X: Array) -> tuple[Array, Array]:
        """The same at any points ``(m, d)``."""
        K = self.posterior.kernel.cross(self.posterior.theta, self.posterior.X, X)
        return self.offset + self.alpha @ K, np.sqrt(self.posterior.spread(K))

    def point(self, x: Array) -> tuple[float, float, Array, Array]:
        """Mean and standard deviation at the point ``x (d,)``, and their gradients ``(d,)``."""
        mean, variance, by_mean, by_variance = self.posterior.point(self.alpha, x)
        std = variance**0.5
        return self.offset + mean, std, by_mean, by_variance / (2 * std)

    def tell(self, x: Array, row: int | None = None) -> None:
        """The point ``x (d,)`` is being evaluated from now on."""
        if not self.gaussian.pending:
            return
        grown = self.gaussian.append(x)
        for part in self.parts:
            if part is not self.gaussian.far:
                part.append(self.posterior, x, grown)
        if self._pending in LIES:
            self._believe(np.append(self.z, self._value))
        else:  # as expected there: the mean stays as it is
            self.z = np.append(self.z, np.nan)
            self.alpha = np.append(self.alpha, 0.0)
