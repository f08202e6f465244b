"""Trials that run too long: past a multiple of the median, or the last of a run while all other workers are idle."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping

KNOWN = 5  # DONE trials before their median is a limit
SURE = 20  # DONE trials before a straggler is given up,
TIMES = 10.0  # that has run so many times the median
LONGEST = 2.0  # and so many times the longest that ended,
SPANS = 51  # trials that the span is a median of
IDLE = 0.95  # while this part of the workers has nothing left to do
GRACE_PART, LEAST, MOST = 0.1, 1.0, 30.0  # seconds that a trial told to end is given: a part of its limit, in bounds


def grace(limit: float) -> float:
    """Seconds between telling a trial to end at its time limit and killing it."""
    return min(MOST, max(LEAST, GRACE_PART * limit))


class Lasted:
    """How long the DONE trials of one budget took: how many, the median of the latest, the longest; in seconds."""

    def __init__(self) -> None:
        self.count = 0
        self.longest = 0.0
        self._latest: deque[float] = deque(maxlen=SPANS)
        self._typical: float | None = None

    @property
    def typical(self) -> float:
        """The median; there is one."""
        if self._typical is None:
            self._typical = sorted(self._latest)[len(self._latest) // 2]
        return self._typical

    def add(self, duration: float) -> None:
        """One more has ended."""
        self.count += 1
        self.longest = max(self.longest, duration)
        self._latest.append(duration)
        self._typical = None


class Overtime:
    """How long trials take, and which take too long: each is held against those of its own budget.

    Args:
        multiple: A trial may take so many times the median duration; None: as long as it likes.
        abandon: Whether a straggler at the end may be given up.
    """

    def __init__(self, multiple: float | None, abandon: bool) -> None:
        self._multiple = multiple
        self._abandon = abandon
        self._told: set[int] = set()
        self._spans: deque[float] = deque(maxlen=SPANS)
        self._lasted: defaultdict[int, Lasted] = defaultdict(Lasted)

    @property
    def span(self) -> float | None:
        """Median seconds from the start line to the end of the latest DONE trials, loading and messages included."""
        return sorted(self._spans)[len(self._spans) // 2] if self._spans else None

    def ended(self, number: int, duration: float | None, span: float | None = None, budget: int = 1) -> None:
        """A trial has ended; ``duration`` in seconds if it is DONE, ``span`` from its start line to its end."""
        self._told.discard(number)
        if duration is not None and span is not None:
            self._spans.append(span)
        if duration is not None:
            self._lasted[budget].add(duration)

    def overdue(
        self, began: Mapping[int, float], now: float, budget_of: Callable[[int], int] = lambda number: 1
    ) -> Iterator[tuple[int, float, str]]:
        """Trials to be told to end, each once: id, seconds of grace, why.

        Args:
            began: When each running trial began, by id.
            now: Seconds of the same clock.
            budget_of: Gives the budget of a trial.
        """
        if self._multiple is None:
            return
        for number, since in began.items():
            lasted = self._lasted.get(budget_of(number))
            if lasted is None or lasted.count < KNOWN or number in self._told:
                continue
            typical = lasted.typical
            limit = self._multiple * typical
            if now - since > limit:
                self._told.add(number)
                why = f"the trial took longer than {self._multiple:g} times the median of {typical:.3g} s"
                yield number, grace(limit), why

    def useless(
        self, began: Mapping[int, float], now: float, idle: int, workers: int,
        budget_of: Callable[[int], int] = lambda number: 1,
    ) -> Iterator[tuple[int, str]]:  # fmt: skip
        """Stragglers to be given up, once there is nothing left to start: id and why.

        Args:
            began, now, budget_of: As for ``overdue``.
            idle: Workers without anything to do. workers: All of them.
        """
        if not self._abandon or idle < IDLE * workers:
            return
        for number, since in began.items():
            lasted = self._lasted.get(budget_of(number))
            if lasted is None or lasted.count < SURE:
                continue
            took, typical = now - since, lasted.typical
            if took > TIMES * typical and took > LONGEST * lasted.longest:
                told = f"it had run for {took:.3g} s, {took / typical:.0f} times the median"
                yield number, f"{told}, while {idle} of {workers} workers had nothing left to do"
