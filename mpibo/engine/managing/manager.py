"""The manager: it receives, writes the journal, and hands out proposals. It computes no model, no score and no rule."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from mpibo.engine import messages
from mpibo.engine.ends import CODES, REQUEUE, TAKEN, Deadline, Ended, Limits, grace_after
from mpibo.engine.managing.account import Account, Blocked, Earlier, take_in
from mpibo.engine.managing.asking import Asker, Asking
from mpibo.engine.managing.care import Care
from mpibo.engine.managing.failing import Failing
from mpibo.engine.managing.overtime import Overtime
from mpibo.engine.managing.roster import Roster
from mpibo.engine.messages import Message
from mpibo.engine.transport import Transport
from mpibo.store.journal import Journal
from mpibo.trial import Event, Outcome, State, Trial, end_event, retrial_of, start_event, trial_of

log = logging.getLogger("mpibo")

TICK = 0.1  # seconds between looks at signals, limits and leases
BATCH = 32  # messages taken in, and trials handed out, before the other is looked at: nobody waits for a burst to end
TOGETHER = ("finished", "loading", "began")  # messages between which results may wait to be written together
ANSWER = 2.0  # seconds after a grace in which the workers' answers may come


class Manager:
    """One run's message loop.

    Args:
        limits: When to end.
        transport: The workers.
        proposer: The strategy's child.
        journal: The run's journal; the events of earlier starts are taken in.
        opening: The ``open`` line's fields.
        prior: ``add`` events without ids that follow the ``open`` line: results of another run.
        orphans: ``finished`` messages that workers of an earlier start kept when their manager was gone, by trial.
        interrupted: Gives the name of the signal that ends the run, once one has come.
        keep: Called every ``tick`` seconds (refreshes the lock); returns a reason to end, or None.
        tick: Seconds between looks at signals and limits.
        wait: Sleeps, while the disk is full.
        earlier: What the earlier starts left, where that is known already.
        noticed: Gives the seconds until this machine is gone, where that is known.

    Attributes:
        ledger: The rows that run, the best one, the counts.
        closing: The end that running trials have been told of; None as long as there is none.
    """

    def __init__(
        self, limits: Limits, transport: Transport, proposer: Asker, journal: Journal, opening: Event,
        interrupted: Callable[[], str | None] = lambda: None, keep: Callable[[], str | None] = lambda: None,
        tick: float = TICK, prior: Sequence[Event] = (), orphans: Mapping[int, Message] | None = None,
        wait: Callable[[float], None] = time.sleep, earlier: Earlier | None = None,
        noticed: Callable[[], float | None] = lambda: None,
    ) -> None:  # fmt: skip
        workers = len(transport.workers)
        self.limits = limits
        earlier = earlier or take_in(journal.events, limits.aims, limits.rungs)
        self._account = Account(journal, earlier, interrupted, keep, wait)
        self._commit = self._account.commit
        self.ledger = self._account.ledger
        self.closing: Ended | None = None
        self._transport = transport
        self._interrupted = interrupted
        self._noticed = noticed
        self._keep = keep
        self._tick = tick
        self._roster = Roster(transport.workers, transport.now())
        self._failing = Failing(max(10, 2 * workers))
        self._care = Care(self._roster, self._commit)
        self._overtime = Overtime(limits.multiple, limits.abandon)
        self._untold: list[str] = []
        self._told: set[str] = set()
        self._end: Ended | None = None
        self._ended = 0  # trials of this start
        self._done: dict[int, tuple[int, Outcome]] = {}  # what came of DONE trials, by worker: not written yet
        self._until = math.inf  # when the end comes that running trials have been told of
        self._heeded: str | None = None  # the signal that was heeded last
        self._more = False  # the last batch of starts was full
        self._drained = True  # the inbox was empty when it was last looked at
        self._ticked = -math.inf
        self._deadline = None if limits.deadline is None else Deadline.after(limits.deadline, transport.now())
        self._open = partial(self._account.open, opening, prior, orphans or {})
        self._asking = Asking(proposer, self._account, workers, earlier.asks, earlier.model)
        self._supply = self._asking.supply
        self._durations = earlier.durations

    @property
    def gone(self) -> set[int]:
        """Workers that are taken for dead."""
        return set(self._roster.gone)

    # --- the loop ---------------------------------------------------------------------------------------------------

    def run(self) -> Ended:
        """Serve until the run has ended; then close the journal's account and tell the workers to quit."""
        try:
            self._begin()
            ended = self._loop()
            self._close(ended)
        except Blocked as error:
            signal = self._interrupted() or "SIGTERM"
            taken = Ended(TAKEN, 1, str(error))
            ended = taken if error.taken else Ended(signal, CODES.get(signal, REQUEUE), str(error))
        for worker in self._transport.workers:
            if worker not in self._roster.gone:  # one to a dead rank was seen to crash MPI
                self._transport.send(worker, {"kind": "quit"})
        return ended

    def _begin(self) -> None:
        """The ``open`` line, and what is known from before."""
        self._open()
        self._supply.resumed(self.ledger.ended, self._durations)
        self._durations = []
        if self.ledger.ended > self.ledger.added:
            self._failing.relieve()

    def _loop(self) -> Ended:
        transport, proposer = self._transport, self._asking.proposer
        while (ended := self._over()) is None:
            if self.closing is None:
                self._dispatch()
                self._ask()  # after the dispatch: a request forgets what it does not keep
            transport.wakeups[:] = proposer.descriptors
            until = transport.now() if self._more else min(transport.now() + self._tick, self._until)
            self._asking.judge(transport.now())
            arrived = transport.receive(until if proposer.due is None else min(until, proposer.due))
            left = BATCH
            while arrived is not None:
                self._take(*arrived)
                left -= 1
                arrived = transport.receive(transport.now()) if left else None
            self._write_done()
            self._drained = left > 0
            self._asking.listen(transport.now())
            while self._asking.stopped:
                self._stop(self._asking.stopped.popleft())
        return ended

    def _over(self) -> Ended | None:
        """Whether, and why, the run has come to its end."""
        now = self._transport.now()
        if (signal := self._interrupted()) is not None and signal != self._heeded:
            self._heeded = signal
            grace = grace_after(signal, self._noticed(), self._deadline, now)
            self._wind_down(Ended(signal, CODES.get(signal, REQUEUE)), grace)
        if now >= self._ticked + self._tick:
            self._ticked = now
            if (reason := self._keep()) is not None:
                return Ended(TAKEN, 1, reason)
            if self._drained:
                self._judge_leases(now)
            self._roster.wake(now)
            self._judge_times(now)
            self._shorten(now)
            self._account.sweep()
        if (ended := self._end or self._asking.ended) is not None:
            return ended
        if self.closing:
            return self.closing if not self.ledger.running or now >= self._until else None
        return self._limit_reached(now)

    def _limit_reached(self, now: float) -> Ended | None:
        limits, ledger = self.limits, self.ledger
        code = 0 if ledger.valued else 1
        best = ledger.best.value if ledger.best else None
        if limits.target is not None and best is not None and not ledger.better(limits.target, best):
            return Ended("target", 0)
        if limits.walltime is not None and self._account.elapsed >= limits.walltime:
            return Ended("walltime", code)
        if not ledger.running and self._nothing_left():
            return Ended("max_trials" if self._enough(0) else "exhausted", code)
        if self._deadline and self._deadline.is_near(now):
            self._wind_down(Ended("deadline", REQUEUE), max(0.0, self._deadline.last_end - now))
        elif not ledger.running and not self._may_start(now):
            return self._too_short()
        broken = self._roster.broken
        if len(broken) == self._roster.workers:
            return Ended("error", 2, *next(iter(broken.values())))
        if self._roster.is_lost(now, limits.lease):
            told = f" ({next(iter(broken.values()))[0]})" if broken else ""
            return Ended("no workers", 1, f"every worker is gone{told}; start again with the same --out to go on")
        return None

    def _too_short(self) -> Ended:
        """Nothing that could end before the deadline is left; where nothing ever could, a new start would not help."""
        typical, left = self._lasting or 0.0, self.limits.deadline or 0.0
        if self._ended or typical < left:
            return Ended("deadline", REQUEUE)
        told = f"no trial can end in this allocation: the median takes {typical:.3g} s, {left:.3g} s were left"
        return Ended("deadline", 1, told)

    @property
    def _lasting(self) -> float | None:
        """Seconds that a typical trial takes from its start line to its end, loading included."""
        return self._overtime.span if self._overtime.span is not None else self._supply.typical

    def _nothing_left(self) -> bool:
        """Whether no more trial will be started, as things stand."""
        if self.ledger.lost or self._care.waits:
            return False
        return self._asking.exhausted or (self._enough(0) and not self.limits.rungs)

    def _enough(self, more: int) -> bool:
        """Whether ``max_trials`` is reached when so many more configs are started."""
        return self.limits.max_trials is not None and self.ledger.configs + more >= self.limits.max_trials

    def _wind_down(self, ended: Ended, grace: float) -> None:
        """Nothing more is started; what runs is told to end, and has so many seconds for it."""
        self.closing = ended
        self._until = self._transport.now() + (grace + ANSWER if grace else 0.0)
        for worker, number in self._roster.busy.items():
            if number in self.ledger.running:
                self._transport.send(worker, messages.cancel(number, "end", grace))

    def _shorten(self, now: float) -> None:
        """Word came that there is less time than there was when what runs was told to end."""
        if self.closing and self.closing.why == "SIGUSR1":
            grace = grace_after("SIGUSR1", self._noticed(), self._deadline, now)
            if now + grace + ANSWER + 1.0 < self._until:
                self._wind_down(self.closing, grace)

    def _close(self, ended: Ended) -> None:
        """Settle what still runs, and close the journal's account."""
        if ended.why == TAKEN:
            return  # it is no longer ours to write in
        kind = {"kind": "lost", "why": f"the run ended: {ended.why}", "death": False}
        if ended.why == "target":
            kind = {"kind": "abandon", "why": "the target was reached"}
        lines = [kind | {"id": number} for number in self.ledger.running]
        self._commit(*lines, {"kind": "close", "why": ended.why, "exit_code": ended.exit_code})

    def _stop(self, number: int) -> None:
        """A stopping rule wants a trial to end: at its next report, nothing is killed."""
        trial = self.ledger.running.get(number)
        if trial is not None and trial.worker is not None and self._roster.busy.get(trial.worker) == number:
            self._transport.send(trial.worker, messages.cancel(number, "stop", None, "its schedule stopped it"))

    # --- handing out ------------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        now = self._transport.now()
        if not self._may_start(now):
            return
        left = math.inf  # promotions are no new configs: of these the schedule knows how many are left
        if self.limits.max_trials is not None and not self.limits.rungs:
            left = self.limits.max_trials - self.ledger.configs
        idle = max(0, self._roster.ready(self._care.rests) - len(self.ledger.lost))
        self._asking.ask(idle, int(min(left, 1 << 30)), now)

    def _may_start(self, now: float) -> bool:
        """Whether a typical trial that starts now can end before the deadline."""
        return self._deadline is None or self._deadline.allows(now, self._lasting)

    def _dispatch(self) -> None:
        """Give idle workers something to do: what decides about a suspect, what was lost, then what waits."""
        self._more = False
        if not self._roster.idle:
            return
        now = self._transport.now()
        if not self._may_start(now):
            return
        number = self.ledger.next_id
        starts = self._care.starts(number)
        lost = deque(self.ledger.lost.values())
        rests = self._care.rests
        while len(starts) < BATCH and (worker := self._roster.take(rests)) is not None:
            here, place = number + len(starts), (worker, self._roster.host(worker))
            trial = retrial_of(lost.popleft(), here, *place) if lost else self._next(here, *place)
            if trial is None:
                self._roster.give_back(worker)
                break
            starts.append(trial)
        if not starts:
            return
        self._more = len(starts) >= BATCH
        notes = self._account.shelf.notes(starts) if self.limits.rungs else []
        for note in notes:
            log.warning("trial %d: %s", note["id"], note["text"])
        for trial in self._commit(*map(start_event, starts), *notes):
            assert trial.worker is not None
            self._roster.busy_with(trial.worker, trial.id, now)
            known = self._account.shelf.candidates(trial.id)
            self._transport.send(trial.worker, messages.run(trial, known, self.limits.rungs))

    def _next(self, number: int, worker: int, host: str) -> Trial | None:
        if self._enough(number - self.ledger.next_id) and not self.limits.rungs:
            return None
        proposal = self._asking.next()
        return None if proposal is None else trial_of(proposal, number, self.limits.seed, worker, host)

    # --- what the workers say ---------------------------------------------------------------------------------------

    def _take(self, worker: int, message: Message) -> None:
        kind = message["kind"]
        self._roster.heard(worker, self._transport.now(), kind == "beat")
        if kind not in TOGETHER or worker in self._done:
            self._write_done()
        match kind:
            case "finished":
                self._finished(worker, message)
            case "report":
                if self._roster.busy.get(worker) == message["id"]:
                    self._commit(*[{"kind": "report", "id": message["id"], **point} for point in message["points"]])
                    self._asking.reported()
            case "note":
                if self._roster.busy.get(worker) == message["id"]:
                    log.warning("trial %d: %s", message["id"], message["text"])
                    self._commit({"kind": "note", "id": message["id"], "text": message["text"]})
            case "beat":
                self._transport.send(worker, {"kind": "beat"})
                if self._roster.is_back(worker):
                    self._roster.free(worker)  # it was silent, not dead
                elif (number := self._roster.owes(worker)) is not None:
                    self._transport.send(worker, messages.cancel(number, "abandon", 0.0, "its worker was silent"))
            case "loading" | "began":
                if self._roster.busy.get(worker) == message["id"]:
                    now = self._transport.now()
                    self._roster.began[message["id"]] = math.inf if kind == "loading" else now
            case "ready":
                self._greet(worker, message)
            case "broken":
                self._break(worker, message)
            case "gone":
                self._roster.dead.add(worker)
                self._bury(worker, message["why"])

    def _greet(self, worker: int, message: Message) -> None:
        """A worker is there."""
        self._roster.hosts[worker] = message["host"]
        if (told := message.get("resources")) and (line := f"workers on {message['host']}: {told}") not in self._told:
            self._told.add(line)
            log.info("%s", line)
        self._roster.free(worker)

    def _finished(self, worker: int, message: Message) -> None:
        number = message["id"]
        if self._roster.busy.get(worker) == number and number in self.ledger.running:
            outcome = messages.outcome(message)
            signalled = self._interrupted() is not None
            if outcome.state is State.DONE:
                self._done[worker] = number, outcome
                return
            self._write_done()
            signal_too = signalled and outcome.reason in ("exit", "crash")  # it reaches the children, too
            sick = worker in self._roster.retired
            if outcome.state is State.FAILED and (signal_too or sick):
                outcome = replace(outcome, state=State.LOST)
            if outcome.state is State.LOST:
                death = not signalled and self.closing is None and not sick
                self._lose(number, outcome.error or "its process was ended", death)
            else:
                self._settle((number, outcome))
        self._roster.free(worker)  # a late answer only frees its worker

    def _write_done(self) -> None:
        """Write what a batch of messages said of DONE trials, all at once; then each has its effect."""
        if not self._done:
            return
        done, self._done = self._done, {}
        self._settle(*done.values())
        for worker in done:
            self._roster.free(worker)

    def _break(self, worker: int, message: Message) -> None:
        """A worker can't load the objective: its trial is asked again elsewhere, and it gets nothing more.

        But one that has evaluated already may try again a little later: a file system can be away for a while.
        """
        told, line = f"{self._roster.name(worker)}: {message['line']}", message["line"]
        again = self._roster.cannot_load(worker, line, message["error"], self._transport.now())
        self._leave(worker, line, death=again)
        if again:
            log.warning("%s", told)
        else:
            self._untold.append(told)

    def _bury(self, worker: int, why: str) -> None:
        """A worker is dead, or taken for it."""
        told = f"{self._roster.name(worker)}: {why}"
        if worker not in self._roster.gone:
            self._roster.gone.add(worker)
            log.warning("%s", told)
        self._leave(worker, told, death=True)

    def _leave(self, worker: int, why: str, death: bool) -> None:
        """A worker gets nothing more; its trial is lost."""
        number = self._roster.leave(worker)
        if number in self.ledger.running:
            self._lose(number, why, death)

    def _settle(self, *ended: tuple[int, Outcome]) -> None:
        for line in self._untold:  # now that a trial has ended it is a worker's trouble, not the run's
            log.warning("%s", line)
        self._untold.clear()
        for trial in self._commit(*[end_event(*each) for each in ended]):
            duration = trial.duration if trial.state is State.DONE else None
            self._roster.ended(trial)
            self._ended += 1
            self._supply.ended(duration)
            span = None if trial.finished is None or trial.started is None else trial.finished - trial.started
            self._overtime.ended(trial.id, duration, span, trial.budget)
            if (told := self._failing.told_by(trial)) is not None:
                self._end = Ended("failing", 1, told, trial.error or "")
            self._care.ended(trial)

    def _lose(self, number: int, why: str, death: bool) -> None:
        trial = self.ledger.running[number]
        deaths = self.ledger.deaths[self.ledger.root(trial)] + death
        self._roster.began.pop(number, None)
        self._care.lost(trial)
        if death and deaths >= self.limits.attempts:
            error = f"its worker died {deaths} times (--attempts {self.limits.attempts}); last: {why}"
            self._settle((number, Outcome(State.FAILED, reason="lost", error=error)))
        else:
            self._commit({"kind": "lost", "id": number, "why": why, "death": death})

    # --- time -------------------------------------------------------------------------------------------------------

    def _judge_leases(self, now: float) -> None:
        """Take workers that were silent for a lease for dead."""
        for worker, why in self._roster.overdue(now, self.limits.lease, max(5.0, 2 * self._tick)):
            self._bury(worker, why)

    def _budget_of(self, number: int) -> int:
        return self.ledger.running[number].budget if number in self.ledger.running else 0

    def _judge_times(self, now: float) -> None:
        """Tell trials past their time to end; give up the last ones of a run where nobody waits for more."""
        roster = self._roster
        if self.closing or not roster.began or self._supply.typical is None:
            return
        workers = {number: worker for worker, number in roster.busy.items()}
        for number, grace, why in self._overtime.overdue(roster.began, now, self._budget_of):
            self._transport.send(workers[number], messages.cancel(number, "timeout", grace, why))
        if roster.idle and self._nothing_left():
            useless = self._overtime.useless(roster.began, now, len(roster.idle), roster.serving, self._budget_of)
            for number, why in list(useless):
                log.warning("trial %d is given up: %s", number, why)
                self._commit({"kind": "abandon", "id": number, "why": why})
                del roster.began[number]
                self._transport.send(workers[number], messages.cancel(number, "abandon", 0.0, why))
