"""TPE: points that are likely among the best results and unlikely among the rest, by two densities of kernels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mpibo.models.parzen import BANDWIDTH, Axis, Parzen, axes_of, features, log_sum
from mpibo.space import Space
from mpibo.strategies.distinct import Distinct, Picks
from mpibo.strategies.surrogate import Opening, best_new
from mpibo.table import Trials
from mpibo.trial import Proposal, State

Array = NDArray[np.float64]

MOST = 25  # points of the good set at most
RECENT = 25  # results that count fully; older ones less and less
ROUNDS = 5  # draws for legal candidates


class TPE:
    """A design, then for each proposal the candidate with the largest density of good over density of bad points.

    Candidates are drawn from the good density, for each proposal its own. Failed trials, those that run and proposals
    that wait, also the earlier ones of a batch, count as bad. The densities are multivariate (``models.parzen``).

    Args:
        n_initial: Results that the densities wait for.
        initial: The design until then: random, lhs or sobol.
        good: Share of the results that are good, rounded up; at most 25 of them.
        candidates: Points among which each proposal is chosen.
        prior_weight: Weight of the prior in both densities; one result has 1.
        bandwidth: Of the kernels, in parts of the range, before it shrinks with the number of points.

    References:
        Bergstra et al. 2011, Algorithms for hyper-parameter optimization, NeurIPS 24, section 4; the settings are
        those of Optuna (Akiba et al. 2019, KDD) with ``multivariate`` and ``constant_liar``, but for ``bandwidth``
        (there 0.2, and at least the range over the number of kernels).
    """

    def __init__(
        self,
        *,
        n_initial: int = 10,
        initial: str = "sobol",
        good: float = 0.1,
        candidates: int = 24,
        prior_weight: float = 1.0,
        bandwidth: float = BANDWIDTH,
    ) -> None:
        if candidates < 1:
            raise ValueError(f"expected candidates >= 1, got {candidates}")
        if not 0 < good < 1:
            raise ValueError(f"expected 0 < good < 1, got {good}")
        if not (prior_weight > 0 and bandwidth > 0):
            raise ValueError(f"expected prior_weight > 0 and bandwidth > 0, got {prior_weight} and {bandwidth}")
        self.good = good
        self.candidates = candidates
        self.prior_weight = prior_weight
        self.bandwidth = bandwidth
        self._opening = Opening(n_initial, initial)
        self._distinct = Distinct()
        self._axes: tuple[Space, list[Axis]] | None = None

    def prepare(self) -> None:
        """Load the libraries of the densities; the engine calls it beside the first answers."""
        import scipy.special  # noqa: F401

    def propose(self, trials: Trials, n: int, rng: np.random.Generator) -> list[Proposal]:
        """At most ``n`` new configs; none when the space is exhausted."""
        if not self._opening.over(trials, kept=True):
            return self._opening.propose(trials, n, rng)
        picks = self._distinct.begin(trials)
        if picks.exhausted:
            return []
        good, bad = self.densities(trials)
        pool = _legal(trials.space, good, self.candidates * n, rng)
        _pick(picks, good, bad, pool, np.array_split(np.arange(len(pool)), n))
        left = picks.left()
        if left is not None and len(picks) < n:  # candidates were taken already: the best of what is left
            _pick(picks, good, bad, left, [np.arange(len(left))] * (n - len(picks)))
        picks.fill(n, rng)
        return picks.proposals("model")

    def densities(self, trials: Trials) -> tuple[Parzen, Parzen]:
        """That of the good results, and that of the bad ones and of everything pending."""
        if self._axes is None or self._axes[0] is not trials.space:
            self._axes = trials.space, axes_of(trials.space)
        rows = np.flatnonzero(trials.done | trials.mask(State.FAILED))
        good = among_best(trials.merit[rows], self.good)
        X, pending = trials.X[rows], trials.pending
        bad = np.concatenate([X[~good], pending])
        return self._density(X[good]), self._density(bad)

    def _density(self, X: Array) -> Parzen:
        assert self._axes is not None
        return Parzen(self._axes[1], X, fading(len(X)), self.prior_weight, self.bandwidth)


def among_best(y: Array, share: float) -> NDArray[np.bool_]:
    """``(n,)`` True for the lowest ``share`` of ``y (n,)``, rounded up, at most 25 and none that is NaN."""
    found = np.zeros(len(y), bool)
    found[np.argsort(y, kind="stable")[: min(math.ceil(share * len(y)), MOST)]] = True
    return found & ~np.isnan(y)


def fading(n: int) -> Array:
    """``(n,)`` weights of points in their order: the last 25 have 1, those before rise to it from 1/n."""
    return np.concatenate([np.linspace(1 / max(n, 1), 1.0, max(n - RECENT, 0)), np.ones(min(n, RECENT))])


def _legal(space: Space, density: Parzen, n: int, rng: np.random.Generator) -> Array:
    """``(n, d)`` draws that are legal configs; fewer where these are rare."""
    found = np.empty((0, space.dimension))
    for _ in range(ROUNDS):
        X = space.snap(density.draw(n, rng))
        found = np.concatenate([found, X[space.legal(X)]])
        if len(found) >= n:
            break
    return found[:n]


def _pick(picks: Picks, good: Parzen, bad: Parzen, X: Array, groups: list[NDArray[np.intp]]) -> None:
    """Pick the best-scored new one of each group of rows of ``X (m, d)``; from then on it counts as bad."""
    F = features(good.axes, X)
    better, worse = good.log_density(F), bad.log_density(F)
    alone = len(groups) == 1 and not picks.rows
    kernels = bad.coefficients(np.concatenate([X[: 0 if alone else None], *(x[None] for x in picks.rows)]))
    picked = list(range(len(X), kernels.shape[1]))
    for group in groups:
        crowded = worse[group]
        if picked:
            crowded = np.logaddexp(crowded, log_sum(F[group] @ kernels[:, picked]))
        row = best_new(picks, X[group], better[group] - crowded)
        if row is not None:
            picked.append(int(group[row]))
