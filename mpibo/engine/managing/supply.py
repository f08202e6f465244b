"""The freshness law: how many proposals to ask for, when, and which waiting ones to keep.

A worker waits for a newer model only while that costs under 1 % of a typical evaluation; else it gets a proposal of the
last finished model, and enough of these are kept ready to last until the next answer.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from mpibo.engine.managing.costs import Costs
from mpibo.trial import Proposal

SHARE = 0.01  # of a typical evaluation that a worker may wait for a newer model
MARGIN = 3.0  # standard deviations on the number of starts expected during an answer, at least;
MEMORY = 0.9  # more while evaluations end in bursts: of the largest excess of late, an answer ago
SHORTEST = 0.02  # seconds; to keep workers busy with shorter evaluations is not worth an older model
BRIEF = 1e-4  # seconds; the same for a design, which is as good whenever it is made
STOCK = 0.1  # seconds for which these are made, at least: a request costs as much as some of them
DESIGN = 100  # results after which a method that still gives a design has no model
ROUNDS = 2  # of all workers: so many durations is the typical one the median of,
QUICK = 3000  # results of earlier starts that a first model takes in within seconds,
LONG = 60.0  # seconds of an evaluation that is worth the wait for it
FEWEST, MOST = 51, 2001  # but at least and at most so many
CHEAPER = 4.0  # a fit this many times dearer than a look at the last model is bridged by one
BRIDGES = 8  # answers of one model at most while workers wait: the next results count, too
LARGEST = 512  # proposals of one answer: those of a model cost more each the more there are, and the next ones see more


@dataclass(frozen=True)
class Request:
    """What to ask for: ``count`` proposals, from a new fit or not, while ``keep`` stay waiting."""

    count: int
    fit: bool
    keep: tuple[Proposal, ...]


class Supply:
    """The waiting proposals, and the plan for more.

    Args:
        workers: Number of workers.

    Attributes:
        waiting: Proposals that were answered and not started, oldest first.
        typical: Median duration of the latest DONE trials in seconds; None before the first.
        asked: When the request that is out was made; None when none is.
        prepared: Whether the proposer has loaded what its models need; until then nothing is fitted, unless there were
            results before this start.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.waiting: deque[Proposal] = deque()
        self.asked: float | None = None
        self.prepared = False
        self._durations: deque[float] = deque()
        self._ordered: list[float] = []
        self._window = min(max(FEWEST, ROUNDS * workers), MOST)
        self._costs = Costs()
        self._model: str | None = None  # that made the last answer, where the strategy says so
        self._listed: list[str] = []  # models that the last request may use
        self._cost: dict[tuple[str | None, bool], float] = {}  # seconds of an answer of a model, with and without a fit
        self._request: Request | None = None
        self._results = 0
        self._asked_once = False  # this proposer has had a request: it loads what its models need after the first
        self._early = False  # fit before the libraries are loaded: the results of an earlier start are worth the wait
        self._learning = False  # whether the time of the answer that is out is the model's alone
        self._news = False  # results that no fit has seen
        self._looks = 0  # requests without a fit since the last one with it
        self._blind = False  # the last answer with a fit was a design
        self._margin = MARGIN
        self._supplied = 0  # proposals that were there for the starts since the last request: kept and answered
        self._judged = True  # whether the demand during the last answer has been compared with what was expected
        self._spent = 0.0  # seconds of the last answer
        self._dry = False  # the last answer was empty and nothing has happened since

    @property
    def typical(self) -> float | None:
        """Median duration of this run's latest DONE trials in seconds."""
        return self._ordered[len(self._ordered) // 2] if self._ordered else None

    @property
    def exhausted(self) -> bool:
        """Whether the strategy has nothing to propose as things stand."""
        return self._dry and not self.waiting and self.asked is None

    def ended(self, duration: float | None) -> None:
        """A trial has ended; ``duration`` if it is DONE."""
        if duration is not None:
            self._note(duration)
        self._results += 1
        self._news = True
        self._dry = False

    def resumed(self, results: int, durations: Iterable[float]) -> None:
        """There are results from before this start, and so long did those of them take that were evaluated here."""
        for duration in durations:
            self._note(duration)
        self._results = results
        self._news = results > 0
        self._early = 0 < results <= QUICK or (self.typical or 0.0) >= LONG

    def _note(self, duration: float) -> None:
        self._durations.append(duration)
        insort(self._ordered, duration)
        if len(self._durations) > self._window:
            del self._ordered[bisect_left(self._ordered, self._durations.popleft())]

    def afford(self) -> list[str]:
        """The models that the request to be made now may use; remembered, so that they do not change back at once."""
        self._listed = self._costs.affordable(self.workers, self.typical, self._results, self._listed)
        return self._listed

    def wanted(self, idle: int, left: int) -> Request | None:
        """The request to make now, if any.

        Args:
            idle: Workers that have nothing to do.
            left: Configs that may still be started, the waiting ones included.
        """
        if self.asked is not None:
            return None
        self._judge(idle)
        if self._dry or left <= 0:
            return None
        ready = self._may_fit
        if not ready and self._asked_once and self.typical is not None and self.typical < SHORTEST:
            return None  # it takes a moment, in which such evaluations would use the whole run up on design points
        fit = ready and self._news
        have = len(self.waiting)
        if self.on_demand(fit):
            alone = min(idle, left) - have  # workers for whom nothing waits
            return Request(min(alone, LARGEST), fit, tuple(self.waiting)) if alone > 0 else None
        need = self._starts_during(True) + idle
        short = min(need - have, left - have)
        dear = short > LARGEST or self._seconds(True) > CHEAPER * self._seconds(False, math.inf)
        bridged = dear and short > 0 and self._looks < max(BRIDGES, need // LARGEST)
        if fit and self._lasts:  # all are kept, so that none is made in vain
            count = min(max(need, math.ceil(self._expected(STOCK))), left - have, LARGEST) if short > 0 else 0
            return Request(count, True, tuple(self.waiting)) if count > 0 else None
        if fit and not bridged:
            keep = tuple(self.waiting)[:need]
            count = min(need, left - len(keep), LARGEST)
            return Request(count, True, keep) if count > 0 else None
        return Request(min(short, LARGEST), False, tuple(self.waiting)) if short > 0 else None

    def on_demand(self, fit: bool) -> bool:
        """Whether a worker may wait for the answer: it costs under 1 % of a typical evaluation.

        One request is out at a time: where another worker may have asked, that answer is waited for, too.
        """
        if self.typical is None:
            return False
        seconds, typical = self._seconds(fit, math.inf), self._lasting
        return seconds * (1 + min(1.0, self.workers * seconds / typical)) < SHARE * typical

    def out(self, request: Request, now: float) -> None:
        """The request is made: what it does not keep is forgotten."""
        self.asked = now
        self._asked_once = True
        self._request = request
        self.waiting = deque(request.keep)
        self._supplied = len(request.keep)
        self._looks = 0 if request.fit else self._looks + 1
        self._learning = self.prepared or not request.fit
        if request.fit:
            self._news = False

    def answered(
        self, proposals: Iterable[Proposal], now: float, again: bool = False, model: str | None = None
    ) -> None:  # fmt: skip
        """The answer has come.

        Args:
            proposals: What is in it.
            now: Seconds.
            again: If there is nothing in it, it may be asked again before anything has happened.
            model: The model that made it, where the strategy says so.
        """
        assert self.asked is not None and self._request is not None
        spent = now - self.asked
        fit = self._request.fit
        before = len(self.waiting)
        self.waiting.extend(proposals)
        if fit and len(self.waiting) > before:
            self._blind = model is None and all(
                self.waiting[i].origin == "design" and self.waiting[i].rung is None  # a schedule looks at results
                for i in range(before, len(self.waiting))
            )
        self._supplied += len(self.waiting) - before
        self._spent, self._judged = spent, False
        if self._learning:
            self._model = model
            known = self._cost.get((model, fit), spent)  # rather too high than too low:
            self._cost[model, fit] = known + (0.5 if spent > known else 0.1) * (spent - known)
            if fit:
                self._costs.learn(model, self._listed, len(self.waiting) - before, spent, self._results)
        self._dry = len(self.waiting) == before and not (self._news and self._may_fit) and not again
        self.asked = None

    def dropped(self) -> None:
        """The proposer is gone with its request and what it remembered of its answers."""
        self.asked = None
        self._judged = True
        self.prepared = self._asked_once = False
        self._costs.restart()
        self.waiting.clear()
        self._news = True
        self._dry = False

    @property
    def _may_fit(self) -> bool:
        return self.prepared or self._early

    def _seconds(self, fit: bool, unknown: float = 0.0) -> float:
        """What an answer of the model in use takes, with or without a fit, as far as that is known."""
        return self._cost.get((self._model, fit), unknown)

    def _starts_during(self, fit: bool) -> int:
        """Starts to expect while an answer is made, with a margin."""
        if self.typical is None or (self._model, fit) not in self._cost:
            return self.workers
        expected = self._expected(self._seconds(fit))
        wanted = math.ceil(expected + self._margin * math.sqrt(expected))
        return max(1, wanted if self._margin <= MARGIN else min(wanted, max(self.workers, math.ceil(expected))))

    def _expected(self, seconds: float) -> float:
        """Starts in so many seconds."""
        return self.workers * seconds / self._lasting

    @property
    def _lasting(self) -> float:
        """What an evaluation counts as: a shorter one is not worth an older model, but of a design none is older."""
        return max(self.typical or 0.0, BRIEF if self._lasts else SHORTEST)

    @property
    def _lasts(self) -> bool:
        """Whether the method only gives designs: a waiting one is as good as a new one."""
        return self._blind and self._results >= DESIGN

    def _judge(self, idle: int) -> None:
        """Compare the starts during the last answer, those that waited for it included, with what was expected."""
        if self._judged:
            return
        self._judged = True
        expected = self._expected(self._spent) if self.typical is not None else 0.0
        if expected >= 1:
            excess = self._supplied - len(self.waiting) + idle - expected
            self._margin = max(MARGIN, excess / math.sqrt(expected), MEMORY * self._margin)
