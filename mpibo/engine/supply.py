"""The freshness law: how many proposals to ask for, when, and which waiting ones to keep.

A worker waits for a newer model only while that costs under 1 % of a typical evaluation; else it gets a proposal of the
last finished model, and enough of these are kept ready to last until the next answer.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from mpibo.trial import Proposal

SHARE = 0.01  # of a typical evaluation that a worker may wait for a newer model
MARGIN = 3.0  # standard deviations on the number of starts expected during an answer
SHORTEST = 0.02  # seconds; to keep workers busy with shorter evaluations is not worth an older model
LATEST = 501  # durations that the typical one is the median of
CHEAPER = 4.0  # a fit this many times dearer than a look at the last model is bridged by one


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
        prepared: Whether the proposer has loaded what its models need; until then nothing is fitted.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.waiting: deque[Proposal] = deque()
        self.asked: float | None = None
        self.prepared = False
        self._durations: deque[float] = deque(maxlen=LATEST)
        self._typical: float | None = None
        self._cost: dict[bool, float] = {}  # seconds of an answer with and without a fit
        self._request: Request | None = None
        self._news = False  # results that no fit has seen
        self._dry = False  # the last answer was empty and nothing has happened since

    @property
    def typical(self) -> float | None:
        """Median duration of this run's latest DONE trials in seconds."""
        return self._typical

    @property
    def exhausted(self) -> bool:
        """Whether the strategy has nothing to propose as things stand."""
        return self._dry and not self.waiting and self.asked is None

    def ended(self, duration: float | None) -> None:
        """A trial has ended; ``duration`` if it is DONE."""
        if duration is not None:
            self._durations.append(duration)
            self._typical = sorted(self._durations)[len(self._durations) // 2]
        self._news = True
        self._dry = False

    def wanted(self, idle: int, left: int) -> Request | None:
        """The request to make now, if any.

        Args:
            idle: Workers that have nothing to do.
            left: Configs that may still be started, the waiting ones included.
        """
        if self.asked is not None or self._dry or left <= 0:
            return None
        if not self.prepared and self.typical is not None and self.typical < SHORTEST:
            return None  # it takes a moment, in which such evaluations would use the whole run up on design points
        fit = self.prepared and self._news
        if self.on_demand(fit):
            return Request(min(idle, left), fit, ()) if idle else None
        need = self._starts_during(True) + idle
        have = len(self.waiting)
        short = min(need - have, left - have)
        dear = True in self._cost and False in self._cost and self._cost[True] > CHEAPER * self._cost[False]
        if fit and not (dear and short > 0):
            keep = tuple(self.waiting)[:need]
            count = min(need, left - len(keep))
            return Request(count, True, keep) if count > 0 else None
        return Request(short, False, tuple(self.waiting)) if short > 0 else None

    def on_demand(self, fit: bool) -> bool:
        """Whether a worker may wait for the answer: it costs under 1 % of a typical evaluation."""
        return self.typical is not None and fit in self._cost and self._cost[fit] < SHARE * max(self.typical, SHORTEST)

    def out(self, request: Request, now: float) -> None:
        """The request is made: what it does not keep is forgotten."""
        self.asked = now
        self._request = request
        self.waiting = deque(request.keep)
        if request.fit:
            self._news = False

    def answered(self, proposals: Iterable[Proposal], now: float, again: bool = False) -> None:
        """The answer has come; if there is nothing in it, it may be asked ``again`` before anything has happened."""
        assert self.asked is not None and self._request is not None
        spent = now - self.asked
        fit = self._request.fit
        known = self._cost.get(fit, spent)
        self._cost[fit] = known + (0.5 if spent > known else 0.1) * (spent - known)  # rather too high than too low
        before = len(self.waiting)
        self.waiting.extend(proposals)
        self._dry = len(self.waiting) == before and not (self._news and self.prepared) and not again
        self.asked = None

    def dropped(self) -> None:
        """The proposer is gone with its request and what it remembered of its answers."""
        self.asked = None
        self.prepared = False
        self.waiting.clear()
        self._news = True
        self._dry = False

    def _starts_during(self, fit: bool) -> int:
        """Starts to expect while an answer is made, with a margin."""
        if self.typical is None or fit not in self._cost:
            return self.workers
        expected = self.workers * self._cost[fit] / max(self.typical, SHORTEST)
        return max(1, math.ceil(expected + MARGIN * math.sqrt(expected)))
