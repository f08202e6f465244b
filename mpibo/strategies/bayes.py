"""Asynchronous model-based search: a forest, an acquisition, and lies about the points that are pending."""

from __future__ import annotations

import numpy as np

from mpibo.acquisition.pending import ALIASES, PENDING, Liar, lie
from mpibo.acquisition.scores import KAPPA, lcb
from mpibo.strategies.distinct import Distinct
from mpibo.strategies.surrogate import Surrogate, best_new, expect
from mpibo.table import Trials
from mpibo.trial import Proposal


class Bayesian:
    """AMBS: a design, then for each proposal the best lower confidence bound, with a constant liar.

    All pending points are lied about anew at each ask; each pick of a batch becomes one of them.

    Args:
        model: "rf" (random forest) or "et" (extra trees).
        acquisition: "lcb".
        kappa: Weight of the spread in the bound.
        pending: none, lie-best, lie-mean or lie-worst (also cl_min, cl_mean, cl_max).
        n_initial: Results that the first model waits for; None: max(10, 2 p) for p parameters.
        initial: The design until then: random, lhs or sobol.
        candidates: Points over which the acquisition is maximised; more for large batches.

    References:
        Balaprakash et al. 2018, DeepHyper: asynchronous hyperparameter search for deep neural networks, HiPC.
    """

    def __init__(
        self,
        *,
        model: str = "rf",
        acquisition: str = "lcb",
        kappa: float = KAPPA,
        pending: str = "lie-mean",
        n_initial: int | None = None,
        initial: str = "sobol",
        candidates: int = 1000,
    ) -> None:
        expect("acquisition", acquisition, ("lcb",))
        pending = ALIASES.get(pending, pending)
        expect("pending", pending, PENDING)
        if not kappa >= 0:
            raise ValueError(f"expected kappa >= 0, got {kappa}")
        self.kappa = kappa
        self.pending = pending
        self._surrogate = Surrogate(model, n_initial, initial, candidates)
        self._distinct = Distinct()

    def prepare(self) -> None:
        """Load the model's libraries; the engine calls it beside the first answers."""
        self._surrogate.prepare()

    def propose(self, trials: Trials, n: int, rng: np.random.Generator) -> list[Proposal]:
        """At most ``n`` new configs; none when the space is exhausted."""
        design = self._surrogate.design(trials, n, rng)
        if design is not None:
            return design
        picks = self._distinct.begin(trials)
        if picks.exhausted:
            return []
        forest = self._surrogate.fitted(trials, rng)
        X = self._surrogate.options(trials, picks, n, rng)
        told = trials.pending if self.pending != "none" else trials.X[:0]
        liar = Liar(forest, np.concatenate([X, told]))
        value = lie(self.pending, self._surrogate.results(trials)[1]) if self.pending != "none" else 0.0
        for point in range(len(X), len(X) + len(told)):
            liar.tell(point, value)
        gone = np.zeros(len(X), bool)
        while len(picks) < n:
            scores = lcb(*liar.predict(), self.kappa)[: len(X)]
            scores[gone] = -np.inf
            row = best_new(picks, X, scores)
            if row is None:
                break
            gone = scores == -np.inf
            gone[row] = True
            if self.pending != "none":
                liar.tell(row, value)
        picks.fill(n, rng)
        return picks.proposals("model")
