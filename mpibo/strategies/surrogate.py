"""What strategies with a forest share: a design first, then a model kept from ask to ask, and the points it judges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpibo.acquisition.maximise import candidates
from mpibo.models.forest import KINDS, Forest
from mpibo.strategies.design import LatinHypercube, Random, Sobol, axes
from mpibo.strategies.distinct import Picks
from mpibo.table import Trials
from mpibo.trial import Proposal

Array = NDArray[np.float64]

INITIAL = ("random", "lhs", "sobol")
HUGE = 1e100  # values beyond it count as this: variances must not overflow
PER_PICK = 4  # candidates for each proposal of a large batch


class Surrogate:
    """An initial design, then a forest.

    Args:
        model: "rf" or "et".
        n_initial: Results that the first model waits for; None: max(10, 2 p), p parameters.
        initial: The design used until then: random, lhs or sobol.
        candidates: Points over which the acquisition is maximised.
    """

    def __init__(self, model: str, n_initial: int | None, initial: str, candidates: int) -> None:
        expect("model", model, KINDS)
        expect("initial", initial, INITIAL)
        if (n_initial is not None and n_initial < 1) or candidates < 2:
            raise ValueError(f"expected n_initial >= 1 and candidates >= 2, got {n_initial} and {candidates}")
        self.n_initial = n_initial
        self.initial = initial
        self.candidates = candidates
        self.forest = Forest(model)
        self._design: Random | LatinHypercube | Sobol | None = None

    def design(self, trials: Trials, n: int, rng: np.random.Generator) -> list[Proposal] | None:
        """The answer until enough results are in (none count before one has a value); then None.

        Also the answer when this ask wants no fit and no model is kept.
        """
        needed = max(10, 2 * axes(trials.space)) if self.n_initial is None else self.n_initial
        if len(self.results(trials)[1]) >= needed and (trials.fit or self.forest.ring):
            return None
        if self._design is None:
            self._design = _design(self.initial, needed)
        return self._design.propose(trials, n, rng)

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
            self.forest.fit(*self.results(trials), rng)
        return self.forest

    def options(self, trials: Trials, picks: Picks, n: int, rng: np.random.Generator) -> Array:
        """``(m, d)`` points to choose ``n`` proposals from: all that is left of a small space, else candidates."""
        number = max(self.candidates, PER_PICK * n)
        left = picks.left()
        if left is not None and len(left) <= 2 * number:
            return left[rng.permutation(len(left))]
        return candidates(trials.space, *self.results(trials), number, rng)


def _design(initial: str, size: int) -> Random | LatinHypercube | Sobol:
    if initial == "lhs":
        return LatinHypercube(size=size)
    return Sobol() if initial == "sobol" else Random()


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
