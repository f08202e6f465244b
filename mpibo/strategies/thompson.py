"""Thompson sampling: each proposal is the best point of one function drawn from the model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpibo.acquisition.refine import refine
from mpibo.models.paths import Paths
from mpibo.strategies.distinct import Distinct, Picks
from mpibo.strategies.gaussian import Board, Gaussian
from mpibo.strategies.judge import Limits
from mpibo.strategies.surrogate import MODELS, ForestBoard, Opening, Surrogate, best_new, expect
from mpibo.table import Trials
from mpibo.trial import Proposal, State

Array = NDArray[np.float64]

CLIMBS = 16  # draws of one answer whose optimum is refined
CHUNK = 128  # picks that are decoded together
DRAWS = 64  # functions drawn together, with features and candidates in common


class Thompson:
    """A design, then for each proposal the lowest point of its own draw from the posterior.

    Of a Gaussian process the draws are sample paths (pathwise conditioning); of a forest the mean of 8 random trees.
    Asynchronous as it is: the draws differ, so that pending points need no attention (Kandasamy et al. 2018).

    Args:
        model: "et" (extra trees), "rf" (random forest) or "gp" (Gaussian process).
        n_initial: Results that the first model waits for; None: max(10, 2 p) for p parameters, at most 40.
        initial: The design until then: random, lhs or sobol.
        candidates: Points among which the best is sought; more for large batches.
        kernel: Of the Gaussian process: matern52 or rbf.
        additive: Whether its kernel has an additive part.
        transform: What its values go through: none, clip, yeo-johnson or ranks.

    References:
        Kandasamy et al. 2018, Parallelised Bayesian optimisation via Thompson sampling, PMLR 84:133.
    """

    hallucinated = False
    sync = False

    def __init__(
        self,
        *,
        model: str = "et",
        n_initial: int | None = None,
        initial: str = "sobol",
        candidates: int = 1000,
        kernel: str = "matern52",
        additive: bool = True,
        transform: str = "yeo-johnson",
    ) -> None:
        expect("model", model, MODELS)
        self._opening = Opening(n_initial, initial)
        self._distinct = Distinct()
        self._limits = Limits()
        self.model: Surrogate | Gaussian
        if model == "gp":
            self.model = Gaussian(kernel, additive, transform, self.hallucinated, candidates)
        else:
            self.model = Surrogate(model, candidates)

    @property
    def kept(self) -> bool:
        """Whether there is a model from an earlier ask."""
        return self.model.kept

    def prepare(self) -> None:
        """Load the model's libraries; the engine calls it beside the first answers."""
        self.model.prepare()

    def propose(self, trials: Trials, n: int, rng: np.random.Generator) -> list[Proposal]:
        """At most ``n`` new configs; none when the space is exhausted, or (sync) while something is pending."""
        if self.sync:
            if trials.mask(State.RUNNING).any() or len(trials.waiting):
                return []
            n = min(n, trials.workers or n)
        if not self._opening.over(trials, self.model.kept):
            return self._opening.propose(trials, n, rng)
        picks = self._distinct.begin(trials)
        if picks.exhausted:
            return self.model.repeats(trials, n, rng) if trials.noise else []
        feasibility = self._limits.fitted(trials, rng)
        if isinstance(self.model, Gaussian):
            self.model.update(trials, rng)
            draws: Draws = PathDraws(self.model, trials, picks, n, rng)
        else:
            self.model.fitted(trials, rng)
            draws = TreeDraws(self.model, trials, picks, n, self.hallucinated, rng)
            if feasibility is None:
                pick_lowest(picks, draws, n, rng)
                return picks.proposals("model")
        gone = np.zeros(len(draws.X), bool)
        for place in range(n):
            scores = -draws.next(rng)
            if feasibility is not None:
                scores = allowed(scores, feasibility.sample(draws.X, rng))
            scores[gone] = -np.inf
            start = int(np.argmax(scores))
            refined = draws.refined(start, trials, rng) if place < CLIMBS and feasibility is None else None
            if refined is not None and picks.add(refined):
                continue
            row = best_new(picks, draws.X, scores)
            if row is None:
                break
            gone = scores == -np.inf
            gone[row] = True
        picks.fill(n, rng)
        return picks.proposals("model")


class Synchronous(Thompson):
    """Thompson sampling in rounds: it waits until nothing is pending, then answers with a draw for each worker."""

    sync = True


class Hallucinated(Thompson):
    """Thompson sampling whose draws count pending points as observed, at the value that the model expects there."""

    hallucinated = True


def pick_lowest(picks: Picks, draws: Draws, n: int, rng: np.random.Generator) -> None:
    """Pick the lowest candidate of each draw, no candidate twice, many at a time; what is missing at random."""
    gone = np.zeros(len(draws.X), bool)
    while len(picks) < n and not gone.all():
        rows = []
        for _ in range(min(CHUNK, n - len(picks), int((~gone).sum()))):
            values = draws.next(rng)
            values[gone] = np.inf
            row = int(np.argmin(values))
            gone[row] = True
            rows.append(row)
        picks.take(draws.X[rows], n)
    picks.fill(n, rng)


def allowed(scores: Array, excess: Array) -> Array:
    """Scores ``(m,)`` where a draw breaks no limit; behind all of these, the others in the order of their excess."""
    return np.where(excess > 0, float(scores.min()) - 1.0 - excess, scores)


class Draws:
    """Functions drawn from a model at the candidates ``X (m, d)``."""

    X: Array

    def next(self, rng: np.random.Generator) -> Array:
        """``(m,)`` values of one more function."""
        raise NotImplementedError

    def refined(self, row: int, trials: Trials, rng: np.random.Generator) -> Array | None:
        """A lower point of the function drawn last, near candidate number ``row``; None where there is no slope."""
        return None


class TreeDraws(Draws):
    """Random sub-forests."""

    def __init__(
        self, model: Surrogate, trials: Trials, picks: Picks, n: int, hallucinated: bool, rng: np.random.Generator
    ) -> None:
        self.X = model.options(trials, picks, n, rng)
        self._forest = model.forest
        self._means: Array | None = None  # of few draws not all trees are asked
        if hallucinated:
            self._means = ForestBoard(model, trials, self.X, "believer").means
        elif n * model.forest.subforest >= model.forest.trees:
            self._means = model.forest.means(self.X)

    def next(self, rng: np.random.Generator) -> Array:
        """``(m,)`` mean of 8 trees."""
        if self._means is None:
            return self._forest.sample(self.X, 1, rng)[0]
        return self._forest.sample_of(self._means, 1, rng)[0]


class PathDraws(Draws):
    """Sample paths of a Gaussian process, with features in common."""

    def __init__(self, model: Gaussian, trials: Trials, picks: Picks, n: int, rng: np.random.Generator) -> None:
        board = model.board(trials, picks, n, "believer", rng)
        self.X = board.X
        self._board: Board = board
        self._paths = Paths(board.posterior, model.z, min(n, DRAWS), rng)
        self._features = self._paths.features(board.X.astype(np.float32))
        self._drawn = -1

    def next(self, rng: np.random.Generator) -> Array:
        """``(m,)`` values of the next path."""
        self._drawn += 1
        if self._drawn == self._paths.count:
            self._paths = self._paths.again(rng)
            self._drawn = 0
        K = [part.K for part in self._board.parts]
        return self._paths.at(self._drawn, self._features, K)

    def refined(self, row: int, trials: Trials, rng: np.random.Generator) -> Array | None:
        """The bottom of the path near candidate number ``row``."""
        path, drawn = self._paths, self._drawn

        def slope(x: Array) -> tuple[float, Array]:
            value, gradient = path.point(drawn, x)
            return -value, -gradient

        def scores(X: Array) -> Array:
            return -path(X)[drawn]

        return refine(trials.space, self.X[row], slope, scores, rng)[0]
