"""The manager: it receives, writes the journal, and hands out proposals. It computes no model, no score and no rule."""

from __future__ import annotations

import json
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from mpibo.engine import messages
from mpibo.engine.failing import Failing
from mpibo.engine.messages import Message
from mpibo.engine.supply import Supply
from mpibo.engine.transport import Transport
from mpibo.goals import Aims
from mpibo.store.journal import Journal
from mpibo.trial import Event, Ledger, Outcome, Proposal, State, Trial, end_event, start_event, trial_of

log = logging.getLogger("mpibo")

LEASE = 60.0  # seconds of silence after which a worker is taken for dead
TICK = 0.1  # seconds between looks at signals and limits
PROPOSER_STARTS = 3  # in a row without an answer between
TAKEN = "taken"  # why a run ended whose folder another manager has taken: it is no longer ours to write in
FRUITLESS = 10  # answers in a row of nothing but started configs, after which the strategy has nothing left
RECENT = 4096  # started configs remembered against a second start


class Asker(Protocol):
    """What the manager needs of the proposer.

    ``poll`` has something when one of ``descriptors`` is readable, or, in virtual time, when ``due`` has come.
    """

    @property
    def descriptors(self) -> Sequence[int]: ...

    @property
    def due(self) -> float | None: ...

    def ask(self, event: Event, journal: Path, until: int) -> None: ...

    def poll(self) -> list[dict[str, Any]]: ...

    def restart(self) -> None: ...


@dataclass(frozen=True)
class Limits:
    """When a run ends, and what it does on the way.

    Attributes:
        max_trials: Configs over all starts. walltime: seconds over all starts. target: a value good enough.
        aims: What is good.
        attempts: Deaths of its worker that a config may cost. lease: seconds.
    """

    max_trials: int | None = None
    walltime: float | None = None
    target: float | None = None
    aims: Aims = Aims()
    seed: int = 0
    attempts: int = 3
    lease: float = LEASE


@dataclass(frozen=True)
class Ended:
    """Why the run ended, its exit code, and what to tell at 3 a.m. where it went wrong."""

    why: str
    exit_code: int
    line: str = ""
    details: str = ""


class Manager:
    """One run's message loop.

    Args:
        limits: When to end.
        transport: The workers.
        proposer: The strategy's child.
        journal: The run's journal; the events of earlier starts are taken in.
        opening: The ``open`` line's fields.
        prior: ``add`` events without ids that follow the ``open`` line: results of another run.
        interrupted: Gives the name of the signal that ends the run, once one has come.
        keep: Called every ``tick`` seconds (refreshes the lock); returns a reason to end, or None.
        tick: Seconds between looks at signals and limits.
    """

    def __init__(
        self, limits: Limits, transport: Transport, proposer: Asker, journal: Journal, opening: Event,
        interrupted: Callable[[], str | None] = lambda: None, keep: Callable[[], str | None] = lambda: None,
        tick: float = TICK, prior: Sequence[Event] = (),
    ) -> None:  # fmt: skip
        self.limits = limits
        self.ledger = Ledger(*limits.aims)
        self._transport = transport
        self._proposer = proposer
        self._journal = journal
        self._interrupted = interrupted
        self._keep = keep
        self._tick = tick
        self._supply = Supply(len(transport.workers))
        self._idle: deque[int] = deque()
        self._busy: dict[int, int] = {}  # trial by worker
        self._heard: dict[int, float] = {}
        self._hosts: dict[int, str] = {}
        self._gone: set[int] = set()
        self._broken: dict[int, tuple[str, str]] = {}  # workers that can't load the objective: line, details
        self._recent: dict[str, None] = {}
        self._failing = Failing(max(10, 2 * len(transport.workers)))
        self._untold: list[str] = []
        self._asks = 0
        self._model: str | None = None  # the last one that the journal says was chosen
        self._fruitless = 0
        self._starts_without_answer = 0
        self._ready = False  # the proposer
        self._end: Ended | None = None
        self._looked = transport.now()
        self._ticked = -math.inf
        self._resume(opening, prior)

    @property
    def damaged(self) -> bool:
        """Whether a worker is gone: its rank, perhaps, is dead."""
        return bool(self._gone)

    # --- the journal ------------------------------------------------------------------------------------------------

    def _commit(self, *events: Event) -> list[Trial]:
        """Write events; then, and only then, they have an effect."""
        stamped = [self._journal.append(event) for event in events]
        self._journal.write()
        return [trial for event in stamped if (trial := self.ledger.apply(event)) is not None]

    def _resume(self, opening: Event, prior: Sequence[Event]) -> None:
        durations: list[float] = []
        for event in self._journal.events:
            trial = self.ledger.apply(event)
            if event["kind"] == "ask":
                self._asks = event["ask"] + 1
            if event["kind"] == "choice":
                self._model = event["model"]
            if trial is not None:
                self._remember(trial)
                if trial.state is State.DONE and trial.duration is not None:
                    durations.append(trial.duration)
        self._journal.events = []
        if self.ledger.ended > self.ledger.added:
            self._failing.relieve()
        self._journal.restart()
        rows = [event | {"id": number} for number, event in enumerate(prior, start=self.ledger.next_id)]
        for trial in self._commit({"kind": "open", **opening}, *rows):
            self._remember(trial)
        self._supply.resumed(self.ledger.ended, durations)
        lost = [
            {"kind": "lost", "id": number, "why": "the run ended", "death": False} for number in self.ledger.running
        ]
        if lost:
            self._commit(*lost)

    # --- the loop ---------------------------------------------------------------------------------------------------

    def run(self) -> Ended:
        """Serve until the run has ended; then tell the workers to quit and close the journal's account."""
        transport = self._transport
        while (ended := self._over()) is None:
            self._dispatch()
            self._ask()  # after the dispatch: a request forgets what it does not keep
            transport.wakeups[:] = self._proposer.descriptors
            until = transport.now() + self._tick
            arrived = transport.receive(until if self._proposer.due is None else min(until, self._proposer.due))
            while arrived is not None:
                self._take(*arrived)
                arrived = transport.receive(transport.now())
            self._listen()
            self._judge_leases()
        self._close(ended)
        return ended

    def _over(self) -> Ended | None:
        """Whether, and why, the run has come to its end."""
        limits, ledger = self.limits, self.ledger
        now = self._transport.now()
        if (signal := self._interrupted()) is not None:
            return Ended(signal, {"SIGINT": 130}.get(signal, 75))
        if now >= self._ticked + self._tick:
            self._ticked = now
            if (reason := self._keep()) is not None:
                return Ended(TAKEN, 1, reason)
        if self._end:
            return self._end
        code = 0 if ledger.counts[State.DONE] else 1
        best = ledger.best.value if ledger.best else None
        if limits.target is not None and best is not None and not ledger.better(limits.target, best):
            return Ended("target", 0)
        if limits.walltime is not None and self._elapsed() >= limits.walltime:
            return Ended("walltime", code)
        if not self._busy and not ledger.running and not ledger.lost:
            if limits.max_trials is not None and ledger.configs >= limits.max_trials:
                return Ended("max_trials", code)
            if self._ready and self._supply.exhausted:
                return Ended("exhausted", code)
        if len(self._broken) == len(self._transport.workers):
            return Ended("error", 2, *next(iter(self._broken.values())))
        if len(self._gone) + len(self._broken) == len(self._transport.workers):
            return Ended("no workers", 1, "every worker is gone; start again with the same --out to go on")
        return None

    def _elapsed(self) -> float:
        return self.ledger.elapsed + self._journal.since_last()

    def _ask(self) -> None:
        if not self._ready:
            return
        left = math.inf if self.limits.max_trials is None else self.limits.max_trials - self.ledger.configs
        request = self._supply.wanted(max(0, len(self._idle) - len(self.ledger.lost)), int(min(left, 1 << 30)))
        if request is None:
            return
        typical = self._supply.typical
        event = {
            "kind": "ask", "ask": self._asks, "count": request.count, "fit": request.fit,
            "typical": None if typical is None else round(typical, 6), "affordable": self._supply.afford(),
            "keep": [[proposal.ask, proposal.place] for proposal in request.keep],
        }  # fmt: skip
        self._asks += 1
        self._commit(event)
        self._supply.out(request, self._transport.now())
        self._proposer.ask(event, self._journal.path, self._journal.size)

    def _dispatch(self) -> None:
        """Give idle workers something to do: first what was lost, then what waits."""
        starts: list[Trial] = []
        number = self.ledger.next_id
        lost = deque(self.ledger.lost.values())
        while self._idle:
            trial = self._again(lost.popleft(), number) if lost else self._next(number)
            if trial is None:
                break
            worker = self._idle.popleft()
            starts.append(replace(trial, worker=worker, host=self._hosts.get(worker)))
            number += 1
        if not starts:
            return
        for trial in self._commit(*map(start_event, starts)):
            assert trial.worker is not None
            self._busy[trial.worker] = trial.id
            self._remember(trial)
            self._transport.send(trial.worker, messages.run(trial))

    def _again(self, lost: Trial, number: int) -> Trial:
        """A lost trial, asked again with its own seed."""
        return replace(
            lost, id=number, state=State.RUNNING, retry_of=lost.id, origin="retry", ask=None, place=None, reason=None,
            error=None, order=None, finished=None,
        )  # fmt: skip

    def _next(self, number: int) -> Trial | None:
        if (
            self.limits.max_trials is not None
            and self.ledger.configs + number - self.ledger.next_id >= self.limits.max_trials
        ):
            return None
        while self._supply.waiting:
            proposal: Proposal = self._supply.waiting.popleft()
            if self._is_new(proposal):
                return trial_of(proposal, number, self.limits.seed)
        return None

    def _is_new(self, proposal: Proposal) -> bool:
        return proposal.origin == "repeat" or _text(proposal.config) not in self._recent

    def _remember(self, trial: Trial) -> None:
        """A config started is skipped when it is proposed again (by an answer that could not know)."""
        self._recent[_text(trial.config)] = None
        if len(self._recent) > RECENT:
            del self._recent[next(iter(self._recent))]

    # --- what the workers say ---------------------------------------------------------------------------------------

    def _take(self, worker: int, message: Message) -> None:
        self._heard[worker] = self._transport.now()
        match message["kind"]:
            case "ready":
                self._hosts[worker] = message["host"]
                self._free(worker)
            case "report":
                if self._busy.get(worker) == message["id"]:
                    points = [{"kind": "report", "id": message["id"], **point} for point in message["points"]]
                    self._commit(*points)
            case "finished":
                self._finished(worker, message)
            case "broken":
                self._retire(worker, message)
            case "beat":
                self._transport.send(worker, {"kind": "beat"})

    def _finished(self, worker: int, message: Message) -> None:
        number = message["id"]
        if self._busy.get(worker) == number and number in self.ledger.running:
            outcome = messages.outcome(message)
            if outcome.state is State.LOST:
                planned = self._interrupted() is not None  # a scheduler's signal reaches the children, too
                self._lose(number, outcome.error or "its process was ended", death=not planned)
            else:
                self._settle(number, outcome)
        self._free(worker)  # a late answer only frees its worker

    def _retire(self, worker: int, message: Message) -> None:
        """A worker can't load the objective: it gets nothing more, its trial is asked again elsewhere."""
        self._broken[worker] = message["line"], message["error"]
        if worker in self._idle:
            self._idle.remove(worker)
        number = self._busy.pop(worker, None)
        if number in self.ledger.running:
            self._lose(number, message["line"], death=False)
        self._untold.append(f"worker {worker} on {self._hosts.get(worker, '?')}: {message['line']}")

    def _settle(self, number: int, outcome: Outcome) -> None:
        for line in self._untold:  # now that a trial has ended it is a worker's trouble, not the run's
            log.warning("%s", line)
        self._untold.clear()
        for trial in self._commit(end_event(number, outcome)):
            self._supply.ended(trial.duration if trial.state is State.DONE else None)
            if (told := self._failing.told_by(trial)) is not None:
                self._end = Ended("failing", 1, told, trial.error or "")

    def _free(self, worker: int) -> None:
        self._gone.discard(worker)
        self._busy.pop(worker, None)
        if worker not in self._idle and worker not in self._broken:
            self._idle.append(worker)

    def _lose(self, number: int, why: str, death: bool) -> None:
        trial = self.ledger.running[number]
        deaths = self.ledger.deaths[self.ledger.root(trial)] + death
        if death and deaths >= self.limits.attempts:
            error = f"its worker died {deaths} times (--attempts {self.limits.attempts}); last: {why}"
            self._settle(number, Outcome(State.FAILED, reason="lost", error=error))
        else:
            self._commit({"kind": "lost", "id": number, "why": why, "death": death})

    def _judge_leases(self) -> None:
        """Take workers that were silent for a lease for dead; the inbox is empty, time not looked does not count."""
        now = self._transport.now()
        away = now - self._looked
        self._looked = now
        if away > max(5.0, 2 * self._tick):
            for worker in self._heard:
                self._heard[worker] += away
            return
        for worker, number in list(self._busy.items()):
            if now - self._heard.get(worker, now) > self.limits.lease:
                del self._busy[worker]
                self._gone.add(worker)
                if number in self.ledger.running:
                    why = f"worker {worker} on {self._hosts.get(worker, '?')} was silent for {self.limits.lease:g} s"
                    log.warning("trial %d: %s", number, why)
                    self._lose(number, why, death=True)

    # --- what the proposer says -------------------------------------------------------------------------------------

    def _listen(self) -> None:
        for message in self._proposer.poll():
            match message["kind"]:
                case "ready":
                    fields = {name: message[name] for name in ("pid", "versions", "cpu", "threads")}
                    self._commit({"kind": "proposer", **fields})
                    self._ready = True
                case "prepared":
                    self._supply.prepared = True
                case "answer":
                    self._starts_without_answer = 0
                    choice = message.get("choice")
                    self._note(message["ask"], choice)
                    fresh = [proposal for proposal in message["proposals"] if self._is_new(proposal)]
                    self._fruitless = self._fruitless + 1 if message["proposals"] and not fresh else 0
                    again = 0 < self._fruitless < FRUITLESS
                    self._supply.answered(fresh, self._transport.now(), again, choice and choice["model"])
                case "refused":
                    self._end = Ended("error", 2, message["line"], message["error"])
                case "error":
                    self._end = Ended("error", 1, f"the strategy failed: {message['line']}", message["error"])
                case "gone":
                    self._replace_proposer(message["code"])

    def _note(self, ask: int, choice: dict[str, str] | None) -> None:
        """The line of a model that was chosen, when it is another one than before."""
        if choice and choice["model"] != self._model:
            self._model = choice["model"]
            self._commit({"kind": "choice", "ask": ask, "model": choice["model"], "why": choice["why"]})

    def _replace_proposer(self, code: int) -> None:
        self._starts_without_answer += 1
        self._ready = False
        self._supply.dropped()
        if self._starts_without_answer >= PROPOSER_STARTS:
            line = f"the proposer died {self._starts_without_answer} times in a row, last with exit code {code}"
            self._end = Ended("error", 1, line)
            return
        log.warning("the proposer died with exit code %s; another one starts", code)
        self._proposer.restart()

    # --- the end ----------------------------------------------------------------------------------------------------

    def _close(self, ended: Ended) -> None:
        """Settle what still runs, close the journal's account, and let the workers go."""
        lines: list[Event]
        if ended.why == TAKEN:
            self._dismiss()
            return
        if ended.why == "target":
            lines = [
                {"kind": "abandon", "id": number, "why": "the target was reached"} for number in self.ledger.running
            ]
        else:
            lines = [{"kind": "lost", "id": number, "why": f"the run ended: {ended.why}", "death": False}
                     for number in self.ledger.running]  # fmt: skip
        self._commit(*lines, {"kind": "close", "why": ended.why, "exit_code": ended.exit_code})
        self._dismiss()

    def _dismiss(self) -> None:
        for worker in self._transport.workers:
            self._transport.send(worker, {"kind": "quit"})


def _text(config: dict[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)
