"""What points are worth in one answer: acquisition, feasibility and penalties; and the climb to better ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpibo.acquisition.feasible import Feasibility
from mpibo.acquisition.penalise import Penalties
from mpibo.acquisition.refine import refine
from mpibo.acquisition.scores import log_score, score, slopes
from mpibo.space import Space
from mpibo.strategies.gaussian import Board
from mpibo.strategies.surrogate import ForestBoard
from mpibo.table import Trials

Array = NDArray[np.float64]


class Limits:
    """Keeps the models of the limits from ask to ask."""

    def __init__(self) -> None:
        self._feasibility: Feasibility | None = None

    def fitted(self, trials: Trials, rng: np.random.Generator) -> Feasibility | None:
        """The models, fitted to the newest results if this ask wants that; None where there are no limits."""
        count = len(trials.aims.limits)
        if not count:
            return None
        if self._feasibility is None or trials.fit:
            self._feasibility = self._feasibility or Feasibility(count)
            self._feasibility.fit(trials, rng)
        return self._feasibility


class Judge:
    """Scores of points, larger is better.

    Args:
        acquisition: Its name.
        kappa: Weight of the spread in a bound.
        board: The model's opinion.
        feasibility: Of limits, or None.
        penalties: Around pending points, or None.
    """

    def __init__(
        self,
        acquisition: str,
        kappa: float,
        board: Board | ForestBoard,
        feasibility: Feasibility | None = None,
        penalties: Penalties | None = None,
    ) -> None:
        self.acquisition = acquisition
        self.kappa = kappa
        self.board = board
        self.feasibility = feasibility
        self.penalties = penalties
        self.factors = feasibility is not None or penalties is not None

    def worth(self, mean: Array, std: Array) -> Array:
        """``(m,)`` acquisition where the model predicts ``mean`` and ``std``; its log when there are other factors."""
        if self.factors:
            return log_score(self.acquisition, mean, std, self.board.best, self.kappa, self.board.unit)
        return score(self.acquisition, mean, std, self.board.best, self.kappa)

    def added(self, X: Array) -> Array:
        """``(m,)`` logs of the other factors at ``X (m, d)``."""
        total = np.zeros(len(X))
        if self.feasibility is not None:
            total += self.feasibility.log_probability(X)
        if self.penalties is not None:
            total += self.penalties.log(X)
        return total

    def refined(self, space: Space, starts: Array, rng: np.random.Generator) -> Array | None:
        """The best point ``(d,)`` that refinement reaches from ``starts (k, d)``; None with a forest."""
        if isinstance(self.board, ForestBoard):
            return None
        found = [refine(space, x, None if self.factors else self._slope, self._at, rng) for x in starts]
        return max(found, key=lambda pair: pair[1])[0]

    def _at(self, X: Array) -> Array:
        assert isinstance(self.board, Board)
        mean, std = self.board.at(X)
        if self.acquisition == "lcb" and not self.factors:
            return score("lcb", mean, std, self.board.best, self.kappa)
        worth = log_score(self.acquisition, mean, std, self.board.best, self.kappa, self.board.unit)
        return worth + self.added(X)

    def _slope(self, x: Array) -> tuple[float, Array]:
        assert isinstance(self.board, Board)
        mean, std, by_mean, by_std = self.board.point(x)
        value, of_mean, of_std = slopes(self.acquisition, mean, std, self.board.best, self.kappa)
        return value, of_mean * by_mean + of_std * by_std
