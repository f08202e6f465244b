"""What strategies with a model share: a design first, a forest kept from ask to ask, and the points it judges."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mpibo.acquisition.maximise import BEST, candidates
from mpibo.acquisition.pending import Liar, lie
from mpibo.models.forest import KINDS, Forest
from mpibo.strategies.design import LatinHypercube, Random, Sobol, axes
from mpibo.strategies.distinct import Picks
from mpibo.table import Trials
from mpibo.trial import Proposal

Array = NDArray[np.float64]

MODELS = ("rf", "et", "gp")
INITIAL = ("random", "lhs", "sobol")
HUGE = 1e100  # values beyond it count as this: variances must not overflow
DESIGN = 40  # results at most that the first model waits for by itself
FEW = 4  # configs that are evaluated again when there are no others
PER_PICK = 4  # candidates for each proposal of a large batch


class Opening:
    """The design with which a search begins.

    Args:
        n_initial: Results that the first model waits for; None: max(10, 2 p), p parameters, and at most 40.
        initial: random, lhs or sobol.
    """

    def __init__(self, n_initial: int | None, initial: str) -> None:
        expect("initial", initial, INITIAL)
        if n_initial is not None and n_initial < 1:
            raise ValueError(f"expected n_initial >= 1, got {n_initial}")
        self.n_initial = n_initial
        self.initial = initial
        self._design: Random | LatinHypercube | Sobol | None = None

    def needed(self, trials: Trials) -> int:
        """Results that the first model waits for."""
        return min(max(10, 2 * axes(trials.space)), DESIGN) if self.n_initial is None else self.n_initial

    def over(self, trials: Trials, kept: bool) -> bool:
        """Whether enough results are in (none count before one has a value), and a fit is wanted or a model kept."""
        return len(trials.observed()[1]) >= self.needed(trials) and (trials.fit or kept)

    def propose(self, trials: Trials, n: int, rng: np.random.Generator) -> list[Proposal]:
        """At most ``n`` points of the design."""
        if self._design is None:
            self._design = _design(self.initial, self.needed(trials))
        return self._design.propose(trials, n, rng)


class Surrogate:
    """A forest and its candidates.

    Args:
        model: "rf" or "et".
        candidates: Points over which the acquisition is maximised.
    """

    def __init__(self, model: str, candidates: int) -> None:
        expect("model", model, KINDS)
        if candidates < 2:
            raise ValueError(f"expected candidates >= 2, got {candidates}")
        self.candidates = candidates
        self.forest = Forest(model)

    @property
    def kept(self) -> bool:
        """Whether there is a model from an earlier ask."""
        return bool(self.forest.ring)

    def prepare(self) -> None:
        """Load what a fit needs, so that the first one does not wait for it."""
        self.forest.prepare()

    def results(self, trials: Trials) -> tuple[Array, Array]:
        """What the model is fitted to: ``(m, d)`` points and ``(m,)`` values to minimise."""
        X, y = trials.observed()
        return X, np.clip(y, -HUGE, HUGE)

    def fitted(self, trials: Trials, rng: np.random.Generator) -> Forest:
        """The forest, fitted to the newest results if this ask wants that."""
        if trials.fit:
            if trials.weights is not None:  # of several goals: trees of another weighting speak of other values
                self.forest = Forest(self.forest.kind)
            self.forest.fit(*self.results(trials), rng)
        return self.forest

    def repeats(self, trials: Trials, n: int, rng: np.random.Generator) -> list[Proposal]:
        """The answer when a space is exhausted and values are noisy."""
        return repeats(trials, n, self.fitted(trials, rng).predict)

    def options(self, trials: Trials, picks: Picks, n: int, rng: np.random.Generator) -> Array:
        """``(m, d)`` points to choose ``n`` proposals from: all that is left of a small space, else candidates."""
        number = max(self.candidates, PER_PICK * n)
        left = picks.left()
        if left is not None and len(left) <= 2 * number:
            return left[rng.permutation(len(left))]
        return candidates(trials.space, leaders(trials, BEST), number, rng)


def _design(initial: str, size: int) -> Random | LatinHypercube | Sobol:
    if initial == "lhs":
        return LatinHypercube(size=size)
    return Sobol() if initial == "sobol" else Random()


def leaders(trials: Trials, count: int) -> Array:
    """``(count, d)`` the best rows with a value, those that break a limit last; fewer when there are fewer."""
    merit = trials.merit
    rows = np.flatnonzero(~np.isnan(merit))
    return trials.X[rows[np.argsort(merit[rows], kind="stable")[:count]]]


def reference(trials: Trials) -> Array:
    """``(1,)`` the value to beat where there are limits: the lowest within them, or the highest of all if none is."""
    within = trials.y[trials.feasible & trials.done]
    return np.array([within.min() if len(within) else np.nanmax(trials.y)])


def repeats(trials: Trials, n: int, predict: Callable[[Array], tuple[Array, Array]]) -> list[Proposal]:
    """``n`` proposals to evaluate one of the few best configs by posterior mean again, each time the least known.

    Args:
        trials: The table.
        n: Number of proposals.
        predict: Mean and standard deviation, each ``(m,)``, at ``X (m, d)``.
    """
    X, count = np.unique(trials.X[trials.done & trials.feasible], axis=0, return_counts=True)
    if not len(X):
        return []
    best = np.argsort(predict(X)[0], kind="stable")[:FEW]
    known = count[best] + (X[best][:, None] == trials.pending).all(axis=2).sum(axis=1)
    chosen = []
    for _ in range(n):
        least = int(np.argmin(known))
        known[least] += 1
        chosen.append(best[least])
    return [Proposal(config, origin="repeat") for config in trials.space.decode(X[chosen])]


def best_new(picks: Picks, X: Array, scores: Array) -> int | None:
    """Pick the best-scored of ``X (m, d)`` that is not taken.

    Args:
        picks: The answer in the making.
        X: The candidates.
        scores: ``(m,)``; larger is better. Those of rows that are found to be taken become -inf.

    Returns:
        The number of the row picked, or None when none is left.
    """
    while len(scores):
        row = int(np.argmax(scores))
        if scores[row] == -np.inf:
            return None
        if picks.add(X[row]):
            return row
        scores[row] = -np.inf
    return None


def expect(option: str, value: str, valid: tuple[str, ...]) -> None:
    """Raise ValueError unless ``value`` is one of the ``valid`` ones."""
    if value not in valid:
        raise ValueError(f"{option}={value}: expected one of {', '.join(valid)}")


class ForestBoard:
    """Candidates of one answer, and a forest's opinion of them as lies are told about those picked.

    Args:
        surrogate: The forest, fitted.
        trials: The table.
        X: ``(m, d)`` candidates.
        pending: The rule for pending points.

    Attributes:
        best: The lowest value observed; with limits the lowest within them, or the highest of all where none is.
        unit: Standard deviation of the values observed.
    """

    def __init__(self, surrogate: Surrogate, trials: Trials, X: Array, pending: str) -> None:
        y = surrogate.results(trials)[1]
        self.X = X
        self.best = float(np.clip(reference(trials), -HUGE, HUGE)[0]) if trials.aims.limits else float(y.min())
        self.unit = float(y.std()) or 1.0
        self._pending = pending
        told = trials.pending if pending != "none" else trials.X[:0]
        self._liar = Liar(surrogate.forest, np.concatenate([X, told]))
        self._value = lie(pending, y) if pending != "none" else 0.0
        for point in range(len(X), len(X) + len(told)):
            self._liar.tell(point, self._value)

    def predict(self) -> tuple[Array, Array]:
        """Mean and standard deviation, each ``(m,)``, at the candidates."""
        mean, std = self._liar.predict()
        return mean[: len(self.X)], std[: len(self.X)]

    @property
    def means(self) -> Array:
        """``(T, m)`` what each tree says of the candidates, lies included."""
        return self._liar.mean[:, : len(self.X)]

    def tell(self, x: Array, row: int | None) -> None:
        """Candidate number ``row`` is being evaluated from now on."""
        if self._pending != "none" and row is not None:
            self._liar.tell(row, self._value)
