"""Virtual time in which the engine's own work counts: the manager and the proposer each do one thing after another.

The workers are simulated. The manager and the strategy are the real ones, and the CPU seconds that they take here pass
in virtual time as well, each on a core of its own, as rank 0 has them. What a simulation does besides does not count.
"""

from __future__ import annotations

import heapq
import math
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from mpibo.engine import messages
from mpibo.engine.messages import Message
from mpibo.engine.proposer import Inline
from mpibo.engine.transport import Simulated
from mpibo.goals import Aims
from mpibo.outcome import outcome_of
from mpibo.trial import Event, Outcome, State

MESSAGE = 5e-5  # CPU seconds of rank 0 that MPI and JSON take for a message
LATENCY = 5e-4  # seconds: a worker's pipe to its child, and half of a pause between two looks, each way
FIXED = 7.5e-5  # of the manager per message where it is not measured: 0.15 ms a trial
FIXED_ANSWER = (0.02, 1.5e-4)  # where answers are not measured


@dataclass(frozen=True)
class Charges:
    """What the engine's work costs.

    Attributes:
        message: CPU seconds of rank 0 that the transport takes to send or to receive a message. The default is half
            of what one sent and one received took in ``ranks.Line`` between two processes of a busy 2-core node (MPICH,
            about 150 bytes, polling included).
        latency: Seconds from the manager to the objective, and back.
        manager: CPU seconds of the manager per message besides the transport's; None: what it takes here.
        answer: ``(a, b)``: an answer takes ``a`` seconds if it has a fit, and ``b`` per proposal; None: what it takes
            here. With ``manager`` and ``answer`` given a forecast is the same each time.
    """

    message: float = MESSAGE
    latency: float = LATENCY
    manager: float | None = None
    answer: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for seconds in (self.message, self.latency, self.manager or 0.0, *(self.answer or ())):
            if not (math.isfinite(seconds) and seconds >= 0):
                raise ValueError(f"a cost must be at least 0 seconds, got {seconds}")


class Charged(Simulated):
    """Simulated workers under a manager whose own time passes.

    Args:
        count: Number of workers.
        value: What an evaluation tells, from its ``run`` message.
        duration: Its seconds, from the message and a random generator.
        charges: What the engine costs.
        seed: Of the durations.
        aims: The goals and limits.
        full: The budget of an evaluation that takes the whole duration; a smaller one, or the rest of one, takes less.

    Attributes:
        started: Virtual seconds at which each evaluation began, in the order of the starts.
        seconds: How long each takes.
        ends: Virtual seconds at which the manager heard of each end, in their order.
        values: With ``ends``: the values; NaN where there is none.
        manager: CPU seconds of the manager so far. messages: sent and received by it.
    """

    def __init__(
        self, count: int, value: Callable[[Message], Any], duration: Callable[[Message, Random], float],
        charges: Charges, seed: int = 0, aims: Aims | None = None, full: int = 1,
    ) -> None:  # fmt: skip
        super().__init__(count, lambda config: None, duration, charges.latency, seed, aims)
        self.started, self.seconds = array("d"), array("d")
        self.ends, self.values = array("d"), array("d")
        self.manager = 0.0
        self.messages = 0
        self._value = value
        self._charges = charges
        self._full = full
        self._mark = time.thread_time()

    def charge(self) -> None:
        """Let the time pass that the manager has worked since its last message."""
        if self._charges.manager is None:
            spent = time.thread_time() - self._mark
            self.manager += spent
            self._now += spent

    def skip(self) -> None:
        """What was done since ``charge`` is not the manager's."""
        self._mark = time.thread_time()

    def send(self, worker: int, message: Message) -> None:
        """Deliver in virtual time; a ``run`` is answered after its duration."""
        self.charge()
        self._handled()
        if message["kind"] == "run":
            done = max((each["step"] for each in message.get("checkpoints", ())), default=0)
            seconds = self._duration(message, self._rng) * (message["budget"] - done) / self._full
            self.started.append(self._now + self._latency)
            self.seconds.append(seconds)
            if message.get("rung"):  # the end of its budget is saved, and told
                saved = {"step": message["budget"], "sha256": f"{message['id']:064x}", "bytes": 1}
                point = {"step": message["budget"], "value": None, "metrics": {}, "checkpoint": saved}
                report = {"kind": "report", "id": message["id"], "points": [point]}
                self._at(2 * self._latency + seconds, worker, report)
            self._at(2 * self._latency + seconds, worker, {"kind": "finished", "run": message, "seconds": seconds})
        self.skip()

    def receive(self, until: float) -> tuple[int, Message] | None:
        """The next message that has come; virtual time jumps to it, or to ``until``."""
        self.charge()
        arrived = None
        if self._events and self._events[0][0] <= max(until, self._now):
            at, _, worker, message = heapq.heappop(self._events)
            self._now = max(self._now, at)
            self._handled()
            arrived = worker, self._told(message)
        else:
            self._now = max(until, self._now)
        self.skip()
        return arrived

    def _handled(self) -> None:
        fixed = self._charges.manager or 0.0
        self._now += self._charges.message + fixed
        self.manager += fixed
        self.messages += 1

    def _told(self, message: Message) -> Message:
        if message["kind"] != "finished":
            return message
        seconds = message["seconds"]
        try:
            outcome = outcome_of(self._value(message["run"]), duration=seconds, aims=self._aims)
        except Exception as error:
            outcome = Outcome(State.FAILED, reason="exception", error=repr(error), duration=seconds)
        done = outcome.state is State.DONE and outcome.value is not None
        self.ends.append(self._now)
        self.values.append(outcome.value if done and outcome.value is not None else math.nan)
        return messages.finished(message["run"]["id"], outcome)


class Answering(Inline):
    """The proposer beside the manager: an answer is heard when its CPU seconds have passed.

    Attributes:
        seconds: CPU seconds of all answers so far, reading the journal included. answers, proposals: their numbers.
    """

    def __init__(self, search: Any, transport: Charged, charges: Charges) -> None:
        super().__init__(search, transport.now, self._cost_of)
        self.seconds = 0.0
        self.answers = self.proposals = 0
        self._transport = transport
        self._fixed = charges.answer
        self._began = 0.0

    def ask(self, event: Event, journal: Path, until: int) -> None:
        """Answer, to be heard when its cost has passed."""
        self._transport.charge()
        self._began = time.thread_time()
        super().ask(event, journal, until)
        self._transport.skip()

    def _cost_of(self, event: Event) -> float:
        if self._fixed is None:
            spent = time.thread_time() - self._began
        else:
            spent = self._fixed[0] * event["fit"] + self._fixed[1] * event["count"]
        self.seconds += spent
        self.answers += 1
        self.proposals += event["count"]
        return spent
