"""The numbers that every view of a run shows, computed from its events."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from mpibo.goals import aims_in
from mpibo.trial import Event, Ledger, State, Trial

WINDOW = 10.0  # seconds, and
ENDS = 20  # ends that the recent rate looks back on, whichever reaches further
SHOWN = 8  # trials kept for a table


class Progress:
    """How far a run is. Fed with its events in their order; ``now`` is seconds since the last ``open`` line.

    Attributes:
        ledger: Running trials, counts, the best trial.
        opened: The last ``open`` line; empty before it.
        closed: The ``close`` line of this start.
        recent: The trials that ended last, oldest first.
        reports: The last report, ``(step, value)``, of each running trial that reported.
        failure: The trial that failed or was lost last.
        reasons: How many trials failed, by reason.
        choice: The model that the strategy has chosen and why, ``(model, why)``; None where it does not choose.
        ended_before: Trials of this run that had ended when this start began.
        retired: The ``retire`` lines of this start: sick workers and hosts.
    """

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.opened: Event = {}
        self.closed: Event | None = None
        self.recent: deque[Trial] = deque(maxlen=SHOWN)
        self.reports: dict[int, tuple[float, float]] = {}
        self.failure: Trial | None = None
        self.reasons: dict[str, int] = {}
        self.choice: tuple[str, str] | None = None
        self.ended_before = 0
        self._begin(0.0)

    def _begin(self, before: float) -> None:
        """What is counted per start: rates and busy workers."""
        self.closed = None
        self.first_start: float | None = None
        self.last_end = 0.0
        self.t = 0.0
        self._before = before
        self._since: dict[int, float] = {}
        self._measured = 0.0  # seconds of the evaluations that ended
        self._wasted = 0.0  # seconds of those that were lost
        self._ended = 0
        self._ends: deque[float] = deque()
        self._left_out = 0.0  # when the last end happened that `_ends` no longer holds
        self._seen: set[Any] = set()
        self._last_start = 0.0
        self._freed: dict[Any, float] = {}  # when each worker's last trial ended
        self.retired: list[Event] = []

    def feed(self, event: Event) -> Sequence[Trial]:
        """Take one event in; gives the trials that it made or changed."""
        kind = event["kind"]
        if kind == "open":
            self.opened = event
            self.ended_before = self.ended
            self._begin(self.ledger.elapsed)
            self.ledger.aims = aims_in(self.settings)
        self.t = event.get("t", self.t)
        if kind == "retire":
            self._forgive(event)
        changed = self.ledger.apply(event)
        if kind == "close":
            self.closed = event
        elif kind == "report":
            self.reports[event["id"]] = (event["step"], event["value"])
        elif kind == "choice":
            self.choice = event["model"], event["why"]
        elif kind == "start":
            self._start(event)
        elif kind != "retire":
            for trial in changed:
                self._end(trial, event)
        return changed

    def _forgive(self, event: Event) -> None:
        """Failures that count as LOST from now on."""
        self.retired.append(event)
        for number in event["ids"]:
            if (trial := self.ledger.failed.get(number)) is not None:
                reason = trial.reason or "unknown"
                self.reasons[reason] -= 1
                if not self.reasons[reason]:
                    del self.reasons[reason]

    def _start(self, event: Event) -> None:
        self.first_start = self.t if self.first_start is None else self.first_start
        self._since[event["id"]] = self._last_start = self.t
        self._seen.add(event.get("worker"))

    def _end(self, trial: Trial, event: Event) -> None:
        if event["kind"] == "add":
            return
        self.recent.append(trial)
        self.reports.pop(trial.id, None)
        if trial.state is State.FAILED or (trial.state is State.LOST and event.get("death")):
            self.failure = trial
        if trial.state is State.FAILED:
            self.reasons[trial.reason or "unknown"] = self.reasons.get(trial.reason or "unknown", 0) + 1
        since = self._since.pop(trial.id, None)
        if since is None:
            return  # it ran in an earlier start
        self.last_end = self._freed[trial.worker] = self.t
        seconds = event.get("duration", self.t - since)
        if trial.state is State.LOST:
            self._wasted += seconds
        else:
            self._measured += seconds
            self._ended += 1
            self._ends.append(self.t)
            while len(self._ends) > ENDS and self._ends[0] < self.t - WINDOW:
                self._left_out = self._ends.popleft()

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings of the run, as far as its ``open`` line has them."""
        return self.opened.get("settings") or {}

    @property
    def objective(self) -> str:
        """The objective's name."""
        told = self.opened.get("objective") or self.settings.get("objective") or ""
        return str(told.get("name", "")) if isinstance(told, Mapping) else str(told)

    @property
    def workers(self) -> int:
        """Evaluations at once: as the ``open`` line says, else the workers seen so far."""
        told = self.opened.get("workers") or self.settings.get("workers")
        return told if isinstance(told, int) else max(len(self._seen), len(self._since), 1)

    @property
    def parameters(self) -> list[str]:
        """The names of the space's parameters, in their order."""
        space = self.opened.get("space") or {}
        return [parameter["name"] for parameter in space.get("parameters", ())]

    @property
    def best(self) -> Trial | None:
        """The incumbent."""
        return self.ledger.best

    @property
    def warm(self) -> str:
        """The run whose results this one began with, if there is one."""
        return str((self.opened.get("warm") or {}).get("run", ""))

    @property
    def ended(self) -> int:
        """Trials of this run that have ended; results that were told are none."""
        return self.ledger.ended - self.ledger.added

    @property
    def total(self) -> int | None:
        """The configs that the run is to evaluate, if it has such a limit."""
        return self.settings.get("max_trials")

    @property
    def finished(self) -> int:
        """Configs whose evaluation has ended for good (of ``total``)."""
        waiting = (trial for rows in (self.ledger.running, self.ledger.lost) for trial in rows.values())
        return max(0, self.ledger.configs - sum(trial.parent is None and trial.origin != "added" for trial in waiting))

    def count(self, *states: State) -> int:
        """Rows in any of these states."""
        return sum(self.ledger.counts[state] for state in states)

    def seconds(self, trial: Trial, now: float) -> float | None:
        """How long a trial took, as measured where it ran, or has taken so far; None for one of an earlier start."""
        if trial.state is State.RUNNING:
            since = self._since.get(trial.id)
            return None if since is None else max(now, self.t) - since
        if trial.duration is not None or trial.started is None or trial.finished is None:
            return trial.duration
        return trial.finished - trial.started

    def elapsed(self, now: float) -> float:
        """Seconds that the run has been up, over all its starts."""
        return self._before + max(now, self.t)

    def rate(self, now: float) -> float | None:
        """Evaluations that ended per second, of late; None before the first."""
        begin = self._left_out or self.first_start
        if not self._ends or begin is None:
            return None
        return len(self._ends) / max(now - begin, 1e-3)

    def overall_rate(self, now: float) -> float | None:
        """Evaluations that ended per second since the first one of this start began; None before the first end."""
        if not self._ended or self.first_start is None:
            return None
        return self._ended / max(self._until(now) - self.first_start, 1e-3)

    def busy(self, now: float) -> float | None:
        """Share of the workers' time spent on evaluations since the first of this start began; None before it."""
        if self.first_start is None or self._until(now) <= self.first_start:
            return None
        running = len(self._since) * max(now, self.t) - sum(self._since.values())
        spent = self._measured + self._wasted + running
        return min(1.0, spent / (self.workers * (self._until(now) - self.first_start)))

    def straggling(self) -> float | None:
        """Share of the workers' time in which they had nothing left to do while the last trials ran."""
        if self.first_start is None or self.last_end <= self.first_start:
            return None
        idle = sum(self.last_end - max(self._last_start, since) for since in self._freed.values())
        idle += (self.workers - len(self._freed)) * (self.last_end - self._last_start)
        return max(0.0, idle) / (self.workers * (self.last_end - self.first_start))

    def _until(self, now: float) -> float:
        """The end of the time that rates are about: a run that has closed was at work until its last end."""
        return self.last_end if self.closed and not self._since else max(now, self.t)

    def left(self, now: float) -> float | None:
        """Seconds until ``max_trials`` or ``walltime`` is reached, as things go; None when nothing tells."""
        guesses = []
        walltime = self.settings.get("walltime")
        if isinstance(walltime, (int, float)):
            guesses.append(walltime - self.elapsed(now))
        rate = self.rate(now)
        if self.total and rate and self.finished:
            rows = self.ended / self.finished  # more than one a config with retries and promotions
            remaining = (self.total - self.finished) * rows
            if self._ended >= 2 * self.workers:
                guesses.append(remaining / rate)
            else:  # the first round says more about durations than about the rate
                mean = self._measured / self._ended
                spent = sum(min(mean, max(now, self.t) - since) for since in self._since.values())
                guesses.append((remaining * mean - spent) / self.workers)
        return max(0.0, min(guesses)) if guesses else None

    def fraction(self, now: float) -> float | None:
        """The part of the run that is done, by the limit that is nearest; None without a limit."""
        walltime = self.settings.get("walltime")
        parts = [self.finished / self.total] if self.total else []
        parts += [self.elapsed(now) / walltime] if isinstance(walltime, (int, float)) else []
        return min(1.0, max(parts)) if parts else None
