"""One search in virtual time: workers that train epoch by epoch, each epoch as long as the objective says.

The clock jumps from event to event. A promotion goes on from its parent's epoch and costs the new epochs alone; where
the schedule stops trials each epoch is reported, and a stopped trial frees its worker at once.
"""

from __future__ import annotations

import heapq
import time
from dataclasses import dataclass, field
from typing import Any

from mpibo import Search
from mpibo.trial import State, Trial
from search_curves.curves import Curves
from search_curves.pool import Pool
from search_curves.rules import schedule_of, view


@dataclass
class Run:
    """What came of one search. Times are virtual seconds.

    Attributes:
        full: ``(time, value)`` whenever the lowest value of a full training so far fell: the incumbent's.
        seen: The same of all epochs of all trainings, whatever their budget.
        configs: Configs begun.
        trainings: Full trainings that ended.
        epochs: Epochs trained.
        rungs: Trials that ended at each budget.
        stopped: Trials that a rule ended early.
        busy: Share of the workers' time in trainings.
        cpu: CPU seconds of the search itself.
    """

    full: list[tuple[float, float]] = field(default_factory=list)
    seen: list[tuple[float, float]] = field(default_factory=list)
    configs: int = 0
    trainings: int = 0
    epochs: int = 0
    rungs: dict[int, int] = field(default_factory=dict)
    stopped: int = 0
    busy: float = 0.0
    cpu: float = 0.0


def drive(
    curves: Curves, method: str, schedule: str, seed: int, workers: int, until: float, low: int = 1,
    shown: str = "lifted",
) -> Run:  # fmt: skip
    """Search until a virtual time.

    Args:
        curves: The objective.
        method: A method's name with options.
        schedule: A schedule's name with options, or ``full``.
        seed: Of the search.
        workers: Trainings at once.
        until: Seconds; what has not ended by then does not count.
        low: Smallest budget.
        shown: What the method sees of a run with a schedule: a name of ``rules.VIEWS``.
    """
    rule = schedule_of(schedule, low, curves.high)
    chosen: Any = Pool(method, curves.space, curves.pool) if curves.pool else method
    with view(shown):
        search = Search(
            curves.space, chosen, seed=seed, workers=workers, schedule=rule,
            budget=(low, curves.high) if rule is not None else curves.high,
        )  # fmt: skip
        search.prepare()
        return _Clock(curves, search, workers, until).run()


class _Clock:
    def __init__(self, curves: Curves, search: Search, workers: int, until: float) -> None:
        self.curves, self.search, self.workers, self.until = curves, search, workers, until
        self.result = Run()
        self.events: list[tuple[float, int, Trial, int]] = []  # time, count, trial, epoch that ends then
        self.count = 0
        self.now = 0.0
        self.values: dict[int, Any] = {}  # curves of trials that run

    def run(self) -> Run:
        idle, run = self.workers, self.result
        while True:
            while idle:
                before = time.process_time()
                asked = self.search.ask(1)
                run.cpu += time.process_time() - before
                if not asked:
                    break
                self._start(asked[0])
                idle -= 1
            if not self.events or self.events[0][0] > self.until:
                break
            self.now, _, trial, epoch = heapq.heappop(self.events)
            idle += self._ended(trial, epoch)
        run.busy = min(1.0, run.busy / (self.workers * self.until))
        run.rungs = dict(sorted(run.rungs.items()))
        return run

    def _start(self, trial: Trial) -> None:
        self.values[trial.id] = self.curves.curve(trial.config, trial.seed)
        self.result.configs += trial.parent is None
        first = 0 if trial.parent is None else self.search.trials[trial.parent].budget
        seconds = self.curves.seconds(trial.config)
        self._next(trial, first, seconds)

    def _next(self, trial: Trial, done: int, seconds: float) -> None:
        self.result.busy += min(seconds, max(0.0, self.until - self.now))
        self.count += 1
        heapq.heappush(self.events, (self.now + seconds, self.count, trial, done + 1))

    def _ended(self, trial: Trial, epoch: int) -> bool:
        """Whether a worker is free now."""
        run, value = self.result, float(self.values[trial.id][epoch - 1])
        run.epochs += 1
        _lower(run.seen, self.now, value)
        before = time.process_time()
        goes_on = self.search.report(trial, value, epoch) if self.search.stops else True
        if goes_on and epoch < trial.budget:
            run.cpu += time.process_time() - before
            self._next(trial, epoch, self.curves.seconds(trial.config))
            return False
        ended = self.search.tell(trial, None if not goes_on and epoch < trial.budget else value)
        run.cpu += time.process_time() - before
        del self.values[trial.id]
        if ended.state is State.STOPPED:
            run.stopped += 1
            return True
        run.rungs[trial.budget] = run.rungs.get(trial.budget, 0) + 1
        if trial.budget == self.curves.high:
            run.trainings += 1
            _lower(run.full, self.now, value)
        return True


def _lower(steps: list[tuple[float, float]], now: float, value: float) -> None:
    if not steps or value < steps[-1][1]:
        steps.append((now, value))
