"""Asynchronous model-based search: a surrogate, an acquisition, and a rule for the points that are pending."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpibo.acquisition.penalise import PENALTIES, PROBES, Penalties, steepest
from mpibo.acquisition.pending import ALIASES, LIES, PENDING
from mpibo.acquisition.scores import KAPPA, KAPPAS, MIXED, SCORES, kappa_of
from mpibo.strategies.distinct import Distinct, Picks
from mpibo.strategies.gaussian import Board, Gaussian
from mpibo.strategies.judge import Judge, Limits
from mpibo.strategies.surrogate import MODELS, ForestBoard, Opening, Surrogate, best_new, expect
from mpibo.table import Trials, key
from mpibo.trial import Proposal

Array = NDArray[np.float64]

REFINED = 2  # candidates from which a refinement starts
WIDE = 3.0  # kappa with a Gaussian process
CLIMBS = 16  # picks of one answer that are refined


class Bayesian:
    """A design, then for each proposal the point with the best acquisition, given all points that are pending.

    All pending points are taken in anew at each ask; each pick of a batch becomes one of them. With ``model=rf``,
    ``acquisition=lcb`` and a lie this is AMBS.

    Args:
        model: "rf" (random forest), "et" (extra trees) or "gp" (Gaussian process).
        acquisition: "lcb", "ei", "logei" or "pi"; "mixed": for each proposal lcb or logei, drawn with equal chances.
        kappa: Weight of the spread in the bound: a number, "decay" or "random" (exponential, a new one for each
            proposal). None: 1.96, for a Gaussian process 3.
        pending: none; lie-best, lie-mean or lie-worst (also cl_min, cl_mean, cl_max, as the literature on minimising
            has them); believer; with a Gaussian process also penalise-soft and penalise-hard.
        n_initial: Results that the first model waits for; None: max(10, 2 p) for p parameters, at most 40.
        initial: The design until then: random, lhs or sobol.
        candidates: Points over which the acquisition is maximised; more for large batches.
        kernel: Of the Gaussian process: matern52 or rbf.
        additive: Whether its kernel has an additive part.
        transform: What its values go through: none, clip, yeo-johnson or ranks.
        lipschitz: Where the penalties look for the steepest slope: local or global.
        begin: Variance, length scale and noise variance from which the kernel's are sought, then with flat priors.

    References:
        Balaprakash et al. 2018, DeepHyper: asynchronous hyperparameter search for deep neural networks, HiPC;
        Desautels, Krause & Burdick 2014, GP-BUCB, JMLR 15:4053 (believer with a bound).
    """

    def __init__(
        self,
        *,
        model: str = "rf",
        acquisition: str = "lcb",
        kappa: float | str | None = None,
        pending: str = "lie-mean",
        n_initial: int | None = None,
        initial: str = "sobol",
        candidates: int = 1000,
        kernel: str = "matern52",
        additive: bool = True,
        transform: str = "yeo-johnson",
        lipschitz: str = "local",
        begin: tuple[float, float, float] | None = None,
    ) -> None:
        expect("model", model, MODELS)
        expect("acquisition", acquisition, (*SCORES, "mixed"))
        pending = ALIASES.get(pending, pending)
        expect("pending", pending, PENDING)
        expect("lipschitz", lipschitz, tuple(PROBES))
        if pending in PENALTIES and model != "gp":
            raise ValueError(f"pending={pending}: needs model=gp: a forest's mean is made of steps and has no slope")
        if kappa is None:
            kappa = WIDE if model == "gp" else KAPPA
        if isinstance(kappa, str) and kappa not in KAPPAS:
            raise ValueError(f"kappa={kappa}: expected a number or one of {', '.join(KAPPAS)}")
        if not isinstance(kappa, str) and not kappa >= 0:
            raise ValueError(f"expected kappa >= 0, got {kappa}")
        if begin is not None and not (isinstance(begin, tuple) and len(begin) == 3):
            raise ValueError(f"begin={begin}: expected three numbers, from Python only")
        self.acquisition = acquisition
        self.kappa = kappa
        self.pending = pending
        self.lipschitz = lipschitz
        self._opening = Opening(n_initial, initial)
        self._distinct = Distinct()
        self.model: Surrogate | Gaussian
        if model == "gp":
            rows = pending in LIES or pending == "believer"
            self.model = Gaussian(kernel, additive, transform, rows, candidates, begin)
        else:
            self.model = Surrogate(model, candidates)
        self._limits = Limits()
        self._bounds: dict[bytes, float] = {}  # steepest slopes around pending points, of one refit
        self._fits = 0

    @property
    def kept(self) -> bool:
        """Whether there is a model from an earlier ask."""
        return self.model.kept

    def prepare(self) -> None:
        """Load the model's libraries; the engine calls it beside the first answers."""
        self.model.prepare()

    def propose(self, trials: Trials, n: int, rng: np.random.Generator) -> list[Proposal]:
        """At most ``n`` new configs; none when the space is exhausted."""
        if not self._opening.over(trials, self.model.kept):
            return self._opening.propose(trials, n, rng)
        picks = self._distinct.begin(trials)
        if picks.exhausted:
            return self.model.repeats(trials, n, rng) if trials.noise else []
        board = self._board(trials, picks, n, rng)
        feasibility = self._limits.fitted(trials, rng)
        penalties = self._penalties(trials, board, rng) if self.pending in PENALTIES else None
        judge = Judge(self.acquisition, 0.0, board, feasibility, penalties)
        added = judge.added(board.X)
        gone = np.zeros(len(board.X), bool)
        share = trials.n / trials.total if trials.total else 0.5
        while len(picks) < n:
            judge.kappa = kappa_of(self.kappa, share, rng)
            if self.acquisition == "mixed":
                judge.acquisition = MIXED[int(rng.integers(len(MIXED)))]
            scores = judge.worth(*board.predict()) + added
            scores[gone] = -np.inf
            row, refined = None, None
            if len(picks) < CLIMBS:
                starts = np.argsort(-scores, kind="stable")[: 1 if len(picks) else REFINED]
                refined = judge.refined(trials.space, board.X[starts], rng)
            if refined is None or not picks.add(refined):
                row = best_new(picks, board.X, scores)
                if row is None:
                    break
                gone = scores == -np.inf
                gone[row] = True
            board.tell(picks.rows[-1], row)
            if penalties is not None:
                self._penalise(penalties, board, picks.rows[-1][None], rng)
                added = added + penalties.log(board.X, last=1)
        picks.fill(n, rng)
        return picks.proposals("model")

    def _board(self, trials: Trials, picks: Picks, n: int, rng: np.random.Generator) -> Board | ForestBoard:
        if isinstance(self.model, Gaussian):
            self.model.update(trials, rng)
            return self.model.board(trials, picks, n, self.pending, rng)
        self.model.fitted(trials, rng)
        return ForestBoard(self.model, trials, self.model.options(trials, picks, n, rng), self.pending)

    def _penalties(self, trials: Trials, board: Board | ForestBoard, rng: np.random.Generator) -> Penalties:
        assert isinstance(board, Board) and isinstance(self.model, Gaussian) and self.model.gp is not None
        if self._fits != self.model.gp.fits:
            self._fits = self.model.gp.fits
            self._bounds.clear()
        penalties = Penalties(self.pending, board.best)
        self._penalise(penalties, board, trials.pending, rng)
        return penalties

    def _penalise(self, penalties: Penalties, board: Board | ForestBoard, X: Array, rng: np.random.Generator) -> None:
        """Put balls around the pending points ``X (k, d)``; a slope is sought once for each refit."""
        assert isinstance(board, Board)
        if not len(X):
            return
        for x, mean, std in zip(X, *board.at(X), strict=True):
            name = key(x) if self.lipschitz == "local" else b""
            if name not in self._bounds:
                low, high = np.zeros(len(x)), np.ones(len(x))
                if self.lipschitz == "local":
                    reach = board.posterior.kernel.reach(board.posterior.theta)
                    low, high = np.clip(x - reach, 0.0, 1.0), np.clip(x + reach, 0.0, 1.0)
                probes = rng.random((PROBES[self.lipschitz], len(x)))
                self._bounds[name] = steepest(lambda at: board.point(at)[2], low, high, probes)
            penalties.add(x, float(mean), float(std), self._bounds[name])
