"""Forest Thompson sampling: each proposal is the best point of its own random sub-forest."""

from __future__ import annotations

import numpy as np

from mpibo.strategies.distinct import Distinct
from mpibo.strategies.surrogate import Surrogate, best_new
from mpibo.table import Trials
from mpibo.trial import Proposal


class Thompson:
    """A design, then for each proposal the candidate with the lowest mean over 8 random trees of the forest.

    Asynchronous as it is: the draws differ, so that pending points need no attention (Kandasamy et al. 2018).

    Args:
        model: "et" (extra trees) or "rf" (random forest).
        n_initial: Results that the first model waits for; None: max(10, 2 p) for p parameters.
        initial: The design until then: random, lhs or sobol.
        candidates: Points among which the best is sought; more for large batches.

    References:
        Kandasamy et al. 2018, Parallelised Bayesian optimisation via Thompson sampling, PMLR 84:133.
    """

    def __init__(
        self, *, model: str = "et", n_initial: int | None = None, initial: str = "sobol", candidates: int = 1000
    ) -> None:
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
        means = forest.means(X)
        gone = np.zeros(len(X), bool)
        for _ in range(n):
            scores = -forest.sample_of(means, 1, rng)[0]
            scores[gone] = -np.inf
            row = best_new(picks, X, scores)
            if row is None:
                break
            gone = scores == -np.inf
            gone[row] = True
        picks.fill(n, rng)
        return picks.proposals("model")
