"""A worker: it passes trials to its child, watches it, and tells what came of them.

A state machine without a loop of its own: a rank drives it (engine/serving.py), or the local transport drives several.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, BinaryIO

from mpibo.engine import messages
from mpibo.engine.cancelling import Cancel
from mpibo.engine.children import Child, kill_tree, resident
from mpibo.engine.environment import child_environment, thread_variables
from mpibo.engine.messages import Message
from mpibo.engine.signals import ENDING
from mpibo.engine.working import orphans
from mpibo.engine.working.log import Log
from mpibo.engine.working.reports import Reports
from mpibo.goals import aims_of
from mpibo.outcome import ERROR_BYTES
from mpibo.trial import Outcome, State

BEAT = 10.0  # seconds without another message after which a worker says that it is here
LOAD_TIME = 120.0  # seconds on top of the time limit that loading the objective may take
MEMORY_EVERY = 0.2  # seconds between looks at the child's resident memory
DYING = 0.05  # seconds between looks at a child that was killed
SIGNALS = {number.value: number.name for number in signal.Signals}


class Worker:
    """One evaluation at a time, in a child that lives on from trial to trial.

    Args:
        number: The worker's number, from 1 (0 is the manager).
        setup: ``objective fix folder argv isolation trial_timeout memory threads goals limits`` of the run, and
            ``beat`` and ``checkpoint_every`` in seconds, ``variables`` for the environment in which the objective runs.
        send: Sends a message to the manager; must not block.
        now: Seconds, monotonic.
        echo: Where to show what the objective prints, besides its log.
        spare: A child from ``new_child`` that waits for its setup already.
        ended: Whether this rank was told to end by a signal: what kills a child then is no fault of its trial.
        poll: Takes in waiting messages, while a report of an objective in this very process (isolation none) is heard.
        comm: The communicator of the ranks that share a trial of such an objective.
    """

    def __init__(
        self, number: int, setup: Mapping[str, Any], send: Callable[[Message], None],
        now: Callable[[], float] = time.monotonic, echo: BinaryIO | None = None, spare: Child | None = None, *,
        ended: Callable[[], bool] = lambda: False, poll: Callable[[], None] = lambda: None, comm: Any = None,
    ) -> None:  # fmt: skip
        self.number = number
        self.done = False  # told to quit
        self._setup = setup
        self._send_up = send
        self._now = now
        self._child: Child | None = None
        self._loaded = False
        self._hears = False  # the objective takes its trial: told to end, it may end by itself
        self._run: Message | None = None
        self._cancel: Cancel | None = None  # the trial was told to end
        self._killed: Cancel | None = None  # why we killed the child ourselves
        self._last: float | None = None  # the last finite value that the trial reported
        self._kept_config: dict[str, Any] = {}
        self._kept: Message | None = None  # the last outcome, until the manager is known to have it
        self._several = aims_of(False, setup.get("goals", ()), setup.get("limits", ())).several
        self._since = now()  # start of the trial, or of the child
        self._last_sent = now()
        self._beat: float = setup.get("beat", BEAT)
        self._looked = 0.0
        self._reports = Reports()
        self._log = Log(setup.get("folder"), number, echo)
        self._inline: Any = None
        self._spare = spare
        self._ended = ended
        self._poll = poll
        self._comm = comm

    def start(self) -> None:
        """Start the child, so that it loads the objective, and say that we are ready."""
        if self._setup["isolation"] != "none":
            with contextlib.suppress(OSError):  # no process left: if there is none for the first trial either, it fails
                self._spawn()
        elif self._spare:
            self._spare.kill()
            self._spare = None
        told = {"resources": self._setup["resources"]} if self._setup.get("resources") else {}
        self._send({"kind": "ready", "host": socket.gethostname(), "pid": os.getpid(), **told})

    def handle(self, message: Message) -> None:
        """Take a message of the manager in."""
        try:
            self._take(message)
        except OSError as error:  # no process, no descriptor left: it costs the trial, not the worker
            self._stumble(error)

    def step(self) -> None:
        """Do whatever is due: read the child, hold the limits, beat."""
        try:
            self._step()
        except OSError as error:
            self._stumble(error)

    def _stumble(self, error: OSError) -> None:
        told = f"worker {self.number} on {socket.gethostname()}: {error}"
        if self._child:
            self._child.kill()
            self._child = None
        if self._run is None:
            return
        self._reports.waiting.clear()
        self._answer(Outcome(State.FAILED, reason="crash", error=told))

    def _take(self, message: Message) -> None:
        match message["kind"]:
            case "run":
                self._begin(message)
            case "cancel":
                if self._run and self._run["id"] == message["id"]:
                    self._tell(Cancel.of(message, self._now()))
            case "quit":
                self._kept = None
                self.close()

    @property
    def descriptors(self) -> list[int]:
        """What to wait on: readable when ``step`` has something to do."""
        return self._child.descriptors if self._child and not self._child.ended else []

    @property
    def busy(self) -> bool:
        """Whether a trial is being evaluated here."""
        return self._run is not None

    def wake(self) -> float:
        """The time at which ``step`` must be called at the latest."""
        times = [self._last_sent + self._beat]
        if self._run and self._killed:
            times.append(self._now() + DYING)
        elif self._run:
            if self._cancel:
                times.append(self._cancel.deadline)
            elif self._setup.get("trial_timeout"):
                times.append(self._limit())
            if self._setup.get("memory"):
                times.append(self._looked + MEMORY_EVERY)
            times.append(self._reports.due)
        return min(times)

    def _step(self) -> None:
        if self.done:
            return
        now = self._now()
        if self._child:
            self._listen(self._child)
        if self._run and self._child:
            self._hold_limits(now)
        if now >= self._reports.due:
            self._flush()
        if now >= self._last_sent + self._beat:
            self._send({"kind": "beat"})

    def close(self) -> None:
        """End the child and its process group; serve no more."""
        self.done = True
        for child in (self._child, self._spare):
            if child:
                child.kill()
        self._child = self._spare = None
        self._log.close()

    def abandon(self) -> None:
        """The manager is gone: leave the outcome that it may not have in the run folder, and end the child."""
        self.done = True
        self._send_up = lambda message: None
        if self._child and self._run:
            with contextlib.suppress(OSError):
                self._listen(self._child)  # the trial may have ended just now
        folder = self._setup.get("folder")
        if self._kept and folder:
            try:
                orphans.keep(folder, self._kept | {"config": self._kept_config})
            except (OSError, ValueError) as error:
                print(f"mpibo: worker {self.number} can't keep an outcome: {error}", file=sys.stderr, flush=True)
        self.close()

    # --- the child --------------------------------------------------------------------------------------------------

    def _spawn(self) -> None:
        self._child, self._spare = self._spare or new_child(), None
        self._loaded = False
        self._since = self._now()
        self._child.send({**self._setup, "variables": self._variables()})

    def _variables(self) -> dict[str, str]:
        decided: dict[str, str] = self._setup.get("variables", {})
        return thread_variables(self._setup.get("threads")) | {"MPIBO_WORKER": str(self.number)} | decided

    def _begin(self, message: Message) -> None:
        self._run = message
        self._kept = self._cancel = self._killed = self._last = None
        self._reports.waiting.clear()
        self._log.header(message)
        if self._setup["isolation"] == "none":
            self._evaluate_here(message)
            return
        if self._child is None:
            self._spawn()
        assert self._child
        self._since = self._now() if self._loaded else self._since
        self._looked = 0.0
        if not self._loaded:
            self._send({"kind": "loading", "id": message["id"]})
        self._child.send(message)

    def _listen(self, child: Child) -> None:
        gone = child.gone
        arrived = child.receive()
        while printed := child.output():
            self._log.write(printed)
        for message in arrived:
            kind = message.get("kind")
            if kind == "loaded":
                self._loaded = True
                self._hears = message.get("hears", False)
                self._since = self._now()
                if self._run:
                    self._send({"kind": "began", "id": self._run["id"]})
            elif kind == "broken":
                self._give_up(message["line"], message["error"])
            elif self._run and message.get("id") == self._run["id"]:
                if kind == "finished":
                    self._end(messages.outcome(message))
                else:
                    self._hear(message)
        if (child.ended or gone) and child is self._child:
            self._bury(child)

    def _bury(self, child: Child) -> None:
        """The child is gone: find out why, and make a new one when there is a next trial."""
        code = child.wait(timeout=1.0)  # it closed its pipe: let it finish, so that its exit code is its own
        while printed := child.output():
            self._log.write(printed)
        last = child.kill()
        self._child = None
        if self._run and self._killed:
            self._end(self._judged(self._killed))
        elif self._run:
            self._end(self._post_mortem(last if code is None else code))

    def _post_mortem(self, code: int) -> Outcome:
        duration = self._now() - self._since
        tail = self._log.tail.decode(errors="replace").strip()[-(ERROR_BYTES - 300) :]
        where = self._where()
        if self._cancel and self._cancel.why == "end":
            return self._cancel.outcome(self._last, duration, several=self._several)
        if -code in ENDING or self._ended():
            told = f"ended by {SIGNALS.get(-code, -code)}" if code < 0 else f"ended with exit code {code}"
            return Outcome(State.LOST, reason="lost", error=f"{told} {where}", duration=duration)
        if code < 0:
            hint = " (out of memory, perhaps)" if code == -signal.SIGKILL else ""
            error = f"the objective's process was killed by {SIGNALS.get(-code, -code)}{hint} {where}"
            return Outcome(State.FAILED, reason="crash", error=f"{error}\n{tail}".strip(), duration=duration)
        error = f"the objective ended its process with exit code {code} {where}"
        return Outcome(State.FAILED, reason="exit", error=f"{error}\n{tail}".strip(), duration=duration)

    def _limit(self) -> float:
        limit: float = self._setup["trial_timeout"]
        return self._since + limit + (0.0 if self._loaded else LOAD_TIME)

    def _hold_limits(self, now: float) -> None:
        assert self._child and self._run
        if self._killed:
            return
        self._hold_time(now)
        if self._cancel and now >= self._cancel.deadline:
            self._kill(self._cancel)
            return
        memory = self._setup.get("memory")
        if memory and now >= self._looked + MEMORY_EVERY:
            self._looked = now
            used = resident(self._child.pid)
            if used > memory:
                told = f"the trial took {used / 2**20:.0f} MB, its limit is {memory / 2**20:.0f} MB"
                self._kill(Cancel("memory", told))

    def _hold_time(self, now: float) -> None:
        """At its time limit a trial that can hear is told to end; one that can't has its deadline."""
        limit = self._setup.get("trial_timeout")
        if limit and not self._cancel and now >= self._limit():
            grace = min(30.0, max(1.0, limit / 10)) if self._loaded and self._hears else 0.0
            self._tell(Cancel("timeout", f"the trial took longer than {limit:g} s", grace, now + grace))

    def _tell(self, cancel: Cancel) -> None:
        """The trial is to end; of several reasons the first stands, of several deadlines the earliest."""
        assert self._run
        if self._cancel is None:
            self._cancel = cancel
            if self._child:
                self._child.send(cancel.message(self._run["id"]))
        elif cancel.deadline < self._cancel.deadline:
            self._cancel = replace(self._cancel, grace=cancel.grace, deadline=cancel.deadline)

    def _kill(self, cancel: Cancel) -> None:
        """Kill all that the child started; what it said before is still heard."""
        assert self._child
        self._killed = cancel
        kill_tree(self._child.pid)

    def _judged(self, cancel: Cancel) -> Outcome:
        """The outcome of a trial whose child we have killed."""
        outcome = cancel.outcome(self._last, self._now() - self._since, killed=True, several=self._several)
        return replace(outcome, error=f"{outcome.error} {self._where()}") if outcome.state is State.FAILED else outcome

    def _where(self) -> str:
        return f"(worker {self.number} on {socket.gethostname()})"

    def _evaluate_here(self, message: Message) -> None:
        """``isolation none``: the objective runs in this very process."""
        from mpibo.engine.sandbox import Evaluator

        try:
            if self._inline is None:
                os.environ.update(self._setup.get("variables", {}))
                self._inline = Evaluator(self._setup, self._hear, lambda _: self._asked(), self._comm)
        except Exception as error:
            from mpibo.engine.sandbox import one_line, told

            self._give_up(one_line(error), told(error))
            return
        self._loaded = self._hears = True
        self._since = self._now()
        self._end(self._inline.evaluate(message))

    def _asked(self) -> Cancel | None:
        """Why the trial in this process is to end, now that it reports; takes in what the manager says."""
        self._poll()
        if self.done:
            return Cancel("end")
        self._hold_time(self._now())
        return self._cancel

    # --- upwards ----------------------------------------------------------------------------------------------------

    def _give_up(self, line: str, error: str) -> None:
        """The objective can't be loaded here; a trial that waits for it is asked again elsewhere."""
        self._run = None
        self._send({"kind": "broken", "line": line[:1000], "error": error[-ERROR_BYTES:]})

    def _hear(self, message: Message) -> None:
        """What the running trial says before its end."""
        if message["kind"] == "report":
            self._report(message["points"])
        elif message["kind"] == "note":
            self._send(message)

    def _report(self, points: list[dict[str, Any]]) -> None:
        told = [point["value"] for point in points if point["value"] is not None]
        self._last = told[-1] if told else self._last
        if self._reports.add(points, self._now()):
            self._flush()

    def _flush(self) -> None:
        if self._run is None:
            self._reports.waiting.clear()
            return
        for message in self._reports.take(self._run["id"], self._now()):
            self._send(message)

    def _end(self, outcome: Outcome) -> None:
        self._flush()
        if outcome.state is State.FAILED and outcome.reason == "exit" and self._ended():
            outcome = replace(outcome, state=State.LOST, reason="lost")  # it heard the signal, too, and left in order
        ending = self._ended() or (self._cancel is not None and self._cancel.why == "end")
        if (self._setup["isolation"] == "fresh" or self._killed) and self._child:  # killed, but it had answered before
            self._child.kill()
            self._child = None
        self._answer(outcome)
        if self._child is None and self._setup["isolation"] != "none" and not self.done and not ending:
            self._spawn()  # the next one loads the objective while the manager answers

    def _answer(self, outcome: Outcome) -> None:
        assert self._run
        self._kept = _finished(self._run["id"], outcome)
        self._kept_config = self._run["config"]
        self._run = None
        self._send(self._kept)

    def _send(self, message: Message) -> None:
        self._last_sent = self._now()
        self._send_up(message)


def new_child() -> Child:
    """A child that evaluates, once it is sent its setup."""
    return Child("mpibo.engine.sandbox", environment=child_environment(), capture=True)


def _finished(number: int, outcome: Outcome) -> Message:
    """The ``finished`` message; an outcome that is too large for one is a failure."""
    try:
        messages.pack(message := messages.finished(number, outcome))
        return message
    except ValueError as error:
        told = f"the outcome can't be sent: {str(error)[:200]}"
        return messages.finished(number, Outcome(State.FAILED, reason="value", error=told, duration=outcome.duration))
