"""What an answer of each model costs, and which models keep ahead of the workers: the engine's part of ``auto``.

==========  ==========================================================================================
``k``       proposals in an answer
``a``       seconds of an answer that do not depend on ``k``: the fit
``b``       seconds of each proposal
``rate``    proposals needed per second: workers / typical duration of an evaluation
``load``    ``b rate``: the part of its time that the proposer spends on proposals, whatever the fit costs
==========  ==========================================================================================

While an answer is made, ``rate`` times its seconds new proposals are needed, so that in the long run an answer takes
``T = a + b rate T = a / (1 - load)``.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

LOAD = 0.5  # that a model may have
ON_DEMAND = 0.01  # of a typical evaluation: a worker may wait so long for an answer
BUSY = 0.9  # load up to which a model can be asked on demand
HYSTERESIS = 1.5  # a model in use may be so much dearer than one that is not
MEMORY = 0.95  # weight of an answer against that of the next one
SHAPE = 0.25  # relative spread of k from which on the measured slope counts more than the expected one
OUTLIER = 10.0  # an answer that took so many times longer than expected says something of the machine
UNKNOWN = 1.0  # seconds that an evaluation is taken to last before the first has ended
SHORTEST = 1e-6


@dataclass(frozen=True)
class Guess:
    """What is expected of a model that has not been measured.

    Attributes:
        a: Seconds of a fit to at most ``at`` results. b: seconds a proposal then.
        at: Results up to which it costs the same; beyond them both grow with their number.
        most: Results from which on it costs the same again: the model takes a subset.
    """

    a: float
    b: float
    at: int
    most: float

    def growth(self, results: int) -> float:
        """How many times dearer it is with so many results than with ``at`` of them."""
        return max(1.0, min(results, self.most) / self.at)


# Dearest first. Measured on a mixed space of nine parameters: a = 0.02 s and b = 0.01 s at 100 results, 0.25 and 0.08 s
# at 1,000, and 0.3 to 1.5 s more where hyperparameters are fitted anew; the posterior is one of at most 1,000 rows.
MODELS = {"gp": Guess(0.05, 0.02, 100, 1000), "et": Guess(0.02, 0.0005, 1000, math.inf)}
CHEAPEST = "et"  # always affordable


class Times:
    """Seconds of a model's answers against their number of proposals: an exponentially weighted regression line.

    As long as the numbers hardly differ the line has the shape of the guess, through the mean of what was measured.

    Args:
        guess: The model's.
    """

    def __init__(self, guess: Guess) -> None:
        self._guess = guess
        self._weight = self._k = self._t = self._kk = self._kt = 0.0
        self._answers = 0

    def add(self, count: int, seconds: float, results: int) -> None:
        """An answer of ``count`` proposals took so long, with a fit to so many results."""
        if self._answers >= 3:
            a, b = self.line(results)
            seconds = min(seconds, OUTLIER * (a + b * count))
        t = seconds / self._guess.growth(results)
        self._answers += 1
        self._weight = MEMORY * self._weight + 1
        self._k = MEMORY * self._k + count
        self._t = MEMORY * self._t + t
        self._kk = MEMORY * self._kk + count * count
        self._kt = MEMORY * self._kt + count * t

    def line(self, results: int) -> tuple[float, float]:
        """``a`` and ``b`` of an answer with a fit to so many results, both >= 0."""
        a, b = self._guess.a, self._guess.b
        if self._answers:
            k, t = self._k / self._weight, self._t / self._weight
            variance = max(0.0, self._kk / self._weight - k * k)
            covariance = self._kt / self._weight - k * t
            expected = b * t / (a + b * k)
            prior = (SHAPE * k) ** 2
            b = min(max((covariance + prior * expected) / (variance + prior), 0.0), t / k)
            a = max(t - b * k, 0.0)
        growth = self._guess.growth(results)
        return a * growth, b * growth


class Costs:
    """The times of all models, as far as they are known. What a model costs without a fit says nothing here."""

    def __init__(self) -> None:
        self._times = {name: Times(guess) for name, guess in MODELS.items()}
        self._warm: set[str] = set()  # models that have been fitted since the proposer started

    def restart(self) -> None:
        """Another proposer has started: each model's first fit loads libraries and says nothing."""
        self._warm.clear()

    def learn(self, model: str | None, listed: Collection[str], count: int, seconds: float, results: int) -> None:
        """An answer with a fit has come.

        Args:
            model: The model that made it; one that is unknown here is left out.
            listed: The models that were said to be affordable. One of these that was not chosen may have been fitted
                to be compared; an answer that took longer than one of its own would have tells that.
            count: Proposals in it.
            seconds: That it took.
            results: Results that it was fitted to.
        """
        if model not in self._times or count < 1:
            return
        if model not in self._warm:
            self._warm.add(model)
            return
        self._times[model].add(count, seconds, results)
        for other in listed:
            if other != model and other in self._warm:
                a, b = self._times[other].line(results)
                if seconds > a + b * count:
                    self._times[other].add(count, seconds, results)

    def affordable(
        self, workers: int, typical: float | None, results: int, used: Collection[str] = ()
    ) -> list[str]:  # fmt: skip
        """The models that keep ahead of the workers, dearest first.

        Either a model's load is at most a half and its answers take at most a typical evaluation, so that no proposal
        is of a model older than that; or an answer to a waiting worker costs under 1 % of one.

        Args:
            workers: Evaluations at once.
            typical: Typical duration of one in seconds; None before the first has ended.
            results: Results that a model would be fitted to.
            used: The models of the last answer to this question: these may be a little dearer.
        """
        typical = UNKNOWN if typical is None else max(typical, SHORTEST)
        names = []
        for name, times in self._times.items():
            a, b = times.line(results)
            slack = HYSTERESIS if name in used else 1.0
            load = b * workers / typical
            ahead = load <= LOAD * slack and a / (1 - load) <= typical * slack
            demanded = load <= BUSY and (a + b) / (1 - load) <= ON_DEMAND * typical * slack
            if name == CHEAPEST or ahead or demanded:
                names.append(name)
        return names
