"""The records of a search: states, proposals, trials, outcomes, and the events that a journal keeps.

An *event* is one parsed line of the journal, a plain ``dict``. Values in it have the person's sign. Its kinds:

=========  =============================================================================================
open       ``utc host pid job settings space objective versions``: a start of the run; ``t`` counts from it; after a
           warm start also ``warm``: ``run results start``, of the other run (its ``results`` follow as ``add`` lines)
proposer   ``pid versions cpu threads``: a proposer child is there, with cold caches
ask        ``ask count fit typical affordable keep``: a numbered request; ``keep``: ``[ask, place]`` that stay waiting
start      ``id config budget origin seed worker host`` and where set ``ask place parent retry_of bracket rung``
report     ``id step value metrics``, and where one was saved ``checkpoint``: ``step sha256 bytes``
note       ``id text``: what a person should know of a trial, as a checkpoint that could not be used
drop       ``ids``: the checkpoints of these trials are of no more use (says a schedule)
end        ``id state value reason error metrics duration``
lost       ``id why death``: its worker is gone; ``death`` counts against ``attempts``, a planned end does not
stop       ``request seen ids``: a stopping rule spoke
abandon    ``id why``: given up by the run itself
retire     ``worker host ids why``: those failures count as LOST
add        ``id config value budget metrics``: a result told by hand, or of another run (a warm start)
choice     ``ask model why``: another model than before made the answer to this request
close      ``why exit_code``
=========  =============================================================================================

Every line also has ``n`` (its number), ``t`` (seconds since its ``open`` line), ``synced`` and ``crc``.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import Any

from mpibo.goals import Aims, Goal, Limit, dominates

Config = dict[str, Any]
Event = dict[str, Any]


class State(str, Enum):
    """Where a trial stands. Every state but RUNNING is final."""

    RUNNING = "RUNNING"
    DONE = "DONE"
    STOPPED = "STOPPED"
    FAILED = "FAILED"
    LOST = "LOST"
    ABANDONED = "ABANDONED"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Proposal:
    """A config that a strategy wants evaluated. ``Proposal(config)`` suffices.

    ``origin`` is start, design, model, retry, promotion, repeat or added; ``ask``, ``place`` and ``root`` are filled in
    by the search: the number of the request, the proposal's index in its answer, and of a promotion the id of the row
    with which its training began.
    """

    config: Config
    budget: int = 1
    parent: int | None = None
    origin: str = "model"
    bracket: int | None = None
    rung: int | None = None
    ask: int | None = None
    place: int | None = None
    root: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One evaluation of one config at one budget: one row of the table.

    ``value`` has the person's sign; ``started`` and ``finished`` are seconds since the run's first start; ``duration``
    is what the worker measured; ``order`` counts the ends (0 for the first trial that ended).
    """

    id: int
    config: Config
    budget: int = 1
    state: State = State.RUNNING
    value: float | None = None
    reason: str | None = None
    error: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    parent: int | None = None
    retry_of: int | None = None
    bracket: int | None = None
    rung: int | None = None
    origin: str = "model"
    ask: int | None = None
    place: int | None = None
    order: int | None = None
    worker: int | None = None
    host: str | None = None
    started: float | None = None
    finished: float | None = None
    duration: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an evaluation ended, as its worker tells it. ``duration`` in seconds."""

    state: State
    value: float | None = None
    reason: str | None = None
    error: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    duration: float = 0.0
    host: str | None = None


def trial_seed(seed: int, ancestor: int) -> int:
    """The seed of a trial, from the run's seed and the id of its first ancestor: a retry sees the same numbers."""
    digest = hashlib.sha256(f"{seed}:{ancestor}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def trial_of(proposal: Proposal, number: int, seed: int, worker: int | None = None, host: str | None = None) -> Trial:
    """The trial that a proposal becomes when it is started as row ``number`` of a run with this ``seed``."""
    ancestor = next((each for each in (proposal.root, proposal.parent) if each is not None), number)
    return Trial(
        id=number, config=proposal.config, budget=proposal.budget, parent=proposal.parent, origin=proposal.origin,
        bracket=proposal.bracket, rung=proposal.rung, ask=proposal.ask, place=proposal.place,
        seed=trial_seed(seed, ancestor), worker=worker, host=host,
    )  # fmt: skip


def config_of(parsed: Mapping[str, Any]) -> Config:
    """A config as it was before it went through JSON, which turns tuples into lists."""
    return {name: _tuples(value) for name, value in parsed.items()}


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def retrial_of(trial: Trial, number: int, worker: int, host: str) -> Trial:
    """A trial that was lost, or that failed on a suspected worker, asked again with its own seed."""
    return replace(
        trial, id=number, state=State.RUNNING, retry_of=trial.id, origin="retry", ask=None, place=None, value=None,
        reason=None, error=None, metrics={}, order=None, finished=None, duration=None, worker=worker, host=host,
    )  # fmt: skip


def start_event(trial: Trial) -> Event:
    """The ``start`` line of a trial; what is not set is left out."""
    names = ("id", "config", "budget", "origin", "ask", "place", "parent", "retry_of", "bracket", "rung", "seed",
             "worker", "host")  # fmt: skip
    event: Event = {"kind": "start"}
    for name in names:
        if (value := getattr(trial, name)) is not None:
            event[name] = value
    return event


def end_event(trial_id: int, outcome: Outcome) -> Event:
    """The ``end`` line of a trial."""
    event: Event = {"kind": "end", "id": trial_id, "state": outcome.state.value}
    if outcome.value is not None:
        event["value"] = outcome.value
    if outcome.reason is not None:
        event["reason"] = outcome.reason
    if outcome.error is not None:
        event["error"] = outcome.error
    if outcome.metrics:
        event["metrics"] = dict(outcome.metrics)
    event["duration"] = round(outcome.duration, 6)
    return event


class Ledger:
    """What the manager keeps of a run: the rows that run, the best one, the counts. Flat in the number of trials.

    Args:
        maximize: Whether a larger value is better (with one goal: what that goal says).
        goals: The goals; with several there is a front in place of a best.
        limits: The limits; a trial that breaks one is never best.

    Attributes:
        running: RUNNING trials by id.
        lost: LOST trials that no retry has taken up yet, by id, oldest first.
        best: The incumbent: the best DONE trial within the limits at the highest budget that has one; None with
            several goals.
        best_anywhere: The best at whatever budget, STOPPED trials included; None with several goals.
        front: With several goals the trials that no other beats in all of them, by the first goal; else the best alone.
        counts: Number of rows in each state.
        configs: Rows that count towards ``max_trials`` (no parent, no retry, not added by hand).
        added: Rows that were not evaluated here.
        next_id: Id of the next row.
        ended: Number of rows that have ended.
        valued: Whether a row was evaluated here and has a value (DONE, or STOPPED after a report).
        deaths: Workers' deaths under a config, by the id of its first attempt.
        failed: The latest FAILED trials, by id: those that a ``retire`` line may turn into LOST ones.
    """

    RECENT = 4096  # FAILED trials kept

    def __init__(self, maximize: bool = False, goals: tuple[Goal, ...] = (), limits: tuple[Limit, ...] = ()) -> None:
        self.aims = Aims(maximize, goals, limits)
        self.running: dict[int, Trial] = {}
        self.lost: dict[int, Trial] = {}
        self.best: Trial | None = None
        self.best_anywhere: Trial | None = None
        self.front: list[Trial] = []
        self._costs: list[tuple[float, ...]] = []  # of the front
        self.counts: Counter[State] = Counter()
        self.configs = 0
        self.added = 0
        self.next_id = 0
        self.ended = 0
        self.valued = False
        self.deaths: Counter[int] = Counter()
        self.failed: dict[int, Trial] = {}
        self._elsewhere: set[int] = set()  # FAILED trials that were tried once more
        self.elapsed = 0.0  # seconds that the run was up, over all starts
        self._roots: dict[int, int] = {}  # first attempt of each running or lost retry
        self._origin = 0.0  # seconds from the first start to the latest
        self._first_utc: float | None = None
        self._up_before = 0.0
        self._t = 0.0

    def better(self, value: float, than: float) -> bool:
        """Whether ``value`` is strictly better than ``than``, both with the person's sign."""
        return value > than if self.aims.maximize else value < than

    def root(self, trial: Trial) -> int:
        """The id of the first attempt at this trial's evaluation."""
        return self._roots.get(trial.id, trial.id if trial.retry_of is None else trial.retry_of)

    def apply(self, event: Event) -> Sequence[Trial]:
        """Take one event in; gives the trials that it made or changed, in their new state."""
        kind = event["kind"]
        if kind == "open":
            self._open(event)
        self._t = event.get("t", self._t)
        self.elapsed = self._up_before + self._t
        if kind in ("start", "add"):
            return (self._start(event),)
        if kind in ("end", "lost", "abandon"):
            return self._end(event)
        return self._retire(event) if kind == "retire" else ()

    def _open(self, event: Event) -> None:
        utc = datetime.fromisoformat(event["utc"]).timestamp()
        self._first_utc = utc if self._first_utc is None else self._first_utc
        self._up_before = self.elapsed
        self._origin = max(utc - self._first_utc, self.elapsed)

    def _start(self, event: Event) -> Trial:
        get = event.get
        trial = Trial(
            id=event["id"], config=event["config"], budget=get("budget", 1), seed=get("seed", 0), parent=get("parent"),
            retry_of=get("retry_of"), bracket=get("bracket"), rung=get("rung"), origin=get("origin", "model"),
            ask=get("ask"), place=get("place"), worker=get("worker"), host=get("host"), started=self._now(),
        )  # fmt: skip
        self.next_id = max(self.next_id, trial.id + 1)
        self.counts[State.RUNNING] += 1
        if trial.retry_of is not None:
            self._roots[trial.id] = self._roots.get(trial.retry_of, trial.retry_of)
            if self.lost.pop(trial.retry_of, None):
                self._roots.pop(trial.retry_of, None)
            elif trial.retry_of in self.failed:
                self._elsewhere.add(trial.retry_of)
        if trial.parent is None and trial.retry_of is None and event["kind"] == "start":
            self.configs += 1
        self.running[trial.id] = trial
        if event["kind"] == "add":
            self.added += 1
            return self._settle(replace(trial, origin="added"), State.DONE, event)
        return trial

    def _end(self, event: Event) -> Sequence[Trial]:
        trial = self.running.get(event["id"])
        if trial is None:
            return ()  # the first end or lost line of a trial stands
        if event["kind"] == "lost":
            if event.get("death"):
                self.deaths[self.root(trial)] += 1
            return (self._settle(trial, State.LOST, event | {"reason": "lost", "error": event.get("why")}),)
        if event["kind"] == "abandon":
            return (self._settle(trial, State.ABANDONED, event | {"error": event.get("why")}),)
        return (self._settle(trial, State(event["state"]), event),)

    def _retire(self, event: Event) -> Sequence[Trial]:
        """Failures of a worker that was retired count as LOST; one that was tried elsewhere is not asked again."""
        changed = []
        for number in event["ids"]:
            if (trial := self.failed.pop(number, None)) is None:
                continue
            self.counts[State.FAILED] -= 1
            self.counts[State.LOST] += 1
            lost = replace(trial, state=State.LOST, reason="lost", error=event.get("why"))
            if number in self._elsewhere:
                self._elsewhere.discard(number)
            else:
                self.lost[number] = lost
            changed.append(lost)
        return changed

    def _settle(self, trial: Trial, state: State, event: Event) -> Trial:
        del self.running[trial.id]
        ended = Trial(  # replace() takes three times as long
            id=trial.id, config=trial.config, budget=trial.budget, seed=trial.seed, parent=trial.parent,
            retry_of=trial.retry_of, bracket=trial.bracket, rung=trial.rung, origin=trial.origin, ask=trial.ask,
            place=trial.place, worker=trial.worker, host=trial.host, started=trial.started,
            state=state, value=event.get("value"), reason=event.get("reason"), error=event.get("error"),
            metrics=event.get("metrics", {}), duration=event.get("duration"), order=self.ended, finished=self._now(),
        )  # fmt: skip
        self.counts[State.RUNNING] -= 1
        self.counts[state] += 1
        self.ended += 1
        if state is State.LOST:
            self.lost[ended.id] = ended
        elif state is State.FAILED:
            self.failed[ended.id] = ended
            if len(self.failed) > self.RECENT:
                oldest = next(iter(self.failed))
                del self.failed[oldest]
                self._elsewhere.discard(oldest)
                self._roots.pop(oldest, None)
        else:
            self._roots.pop(ended.id, None)
        if state is State.DONE or (state is State.STOPPED and ended.value is not None):
            self.valued = True
            self._look(ended)
        if state is State.DONE:
            self._place(ended)
        return ended

    def _look(self, trial: Trial) -> None:
        """Is it the best at any budget?"""
        if trial.value is None or self.aims.several or not self.aims.keep(trial.metrics):
            return
        seen = self.best_anywhere
        if seen is None or seen.value is None or self.better(trial.value, seen.value):
            self.best_anywhere = trial

    def _place(self, trial: Trial) -> None:
        """Among the best, where it belongs there. The front is kept in the order of its costs."""
        costs = self.aims.costs(trial.value, trial.metrics)
        highest = self.front[0].budget if self.front else trial.budget
        if costs is None or trial.budget < highest:
            return
        if not self.aims.several and trial.budget == highest and self._costs and costs >= self._costs[0]:
            return  # the first of equals stays
        if not self.aims.keep(trial.metrics):
            return
        if trial.budget > highest:
            self.front, self._costs = [], []
        at = bisect_left(self._costs, costs)
        near = len(costs) <= 2  # then the costs go down as the first goes up: neighbours tell all
        if any(dominates(other, costs) for other in self._costs[max(at - 1, 0) if near else 0 : at]):
            return
        end = len(self._costs)
        if near:
            end = next((i for i in range(at, end) if not dominates(costs, self._costs[i])), end)
        for i in reversed(range(at, end)):
            if dominates(costs, self._costs[i]):
                del self.front[i], self._costs[i]
        self.front.insert(at, trial)
        self._costs.insert(at, costs)
        if not self.aims.several:
            self.best = trial

    def _now(self) -> float:
        return self._origin + self._t


def trials_of(events: Iterable[Event], maximize: bool = False) -> list[Trial]:
    """All trials of a run in the order of their ids, from its events."""
    ledger = Ledger(maximize)
    rows: dict[int, Trial] = {}
    for event in events:
        for trial in ledger.apply(event):
            rows[trial.id] = trial
    return [rows[number] for number in sorted(rows)]
