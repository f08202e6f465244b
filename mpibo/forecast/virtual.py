"""Virtual time in which the engine's own work counts: the manager and the proposer each do one thing after another.

The workers are simulated. The manager and the strategy are the real ones, and the CPU seconds that they take here pass
in virtual time as well, each on a core of its own, as rank 0 has them. What a simulation does besides does not count.
"""

from __future__ import annotations

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
from mpibo.engine.played import Point, Training, begun, training_of
from mpibo.engine.proposer import Inline
from mpibo.engine.transport import Simulated
from mpibo.forecast.told import Told
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
        answer: ``(a, b)``: an answer takes ``a`` seconds if it has a fit, and ``b`` per proposal, and ``b`` where it is
            asked which trials are to end; None: what it takes here. With ``manager`` and ``answer`` given a forecast
            is the same each time.
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
        value: What an evaluation tells, from its ``run`` message: what an objective returns, or ``Told``.
        duration: Its seconds, from the message and a random generator.
        charges: What the engine costs.
        seed: Of the durations.
        aims: The goals and limits.
        full: The budget of an evaluation that takes the whole duration; a smaller one, or the rest of one, takes less.

    Attributes:
        started: Virtual seconds at which each evaluation began, in the order of the starts.
        seconds: How long each takes: where it was stopped, took.
        ends: Virtual seconds at which the manager heard of each end, in their order.
        values: With ``ends``: the values; NaN where there is none, or a schedule stopped it.
        budgets: With ``ends``.
        stopped: Evaluations that a schedule stopped. saved: seconds that they would have taken besides.
        manager: CPU seconds of the manager so far. messages: sent and received by it.
    """

    def __init__(
        self, count: int, value: Callable[[Message], Any], duration: Callable[[Message, Random], float],
        charges: Charges, seed: int = 0, aims: Aims | None = None, full: int = 1,
    ) -> None:  # fmt: skip
        super().__init__(count, None, duration, charges.latency, seed, aims, self._trained)
        self.started, self.seconds = array("d"), array("d")
        self.ends, self.values, self.budgets = array("d"), array("d"), array("q")
        self.stopped, self.saved = 0, 0.0
        self.manager = 0.0
        self.messages = 0
        self._value = value
        self._charges = charges
        self._full = full
        self._places: dict[int, tuple[int, int]] = {}  # of a running trial: its place in ``started``, its budget
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
            seconds = self._duration(message, self._rng) * (message["budget"] - begun(message)) / self._full
            self._places[message["id"]] = len(self.started), message["budget"]
            self.started.append(self._now + self._latency)
            self.seconds.append(seconds)
            self._begin(worker, message, self._trained(message, seconds))
        elif message["kind"] == "cancel":
            self._cancel(worker, message)
        self.skip()

    def receive(self, until: float) -> tuple[int, Message] | None:
        """The next message that has come; virtual time jumps to it, or to ``until``."""
        self.charge()
        arrived = self._arrived(until)
        if arrived is not None:
            self._handled()
            if arrived[1]["kind"] == "finished":
                self._note(arrived[1])
        self.skip()
        return arrived

    def _handled(self) -> None:
        fixed = self._charges.manager or 0.0
        self._now += self._charges.message + fixed
        self.manager += fixed
        self.messages += 1

    def _trained(self, run: Message, seconds: float) -> Training:
        try:
            told = self._value(run)
            told = told if isinstance(told, Told) else Told(told)
            last = next((value for _, value in reversed(told.reports) if value is not None), None)
            outcome = outcome_of(told.value, last, seconds, self._aims)
        except Exception as error:
            return Training(Outcome(State.FAILED, reason="exception", error=repr(error), duration=seconds))
        points: list[Point] = [{"step": step, "value": value, "metrics": {}} for step, value in told.reports]
        return training_of(run, outcome, points)

    def _note(self, message: Message) -> None:
        """Keep what came of an evaluation."""
        outcome = messages.outcome(message)
        place, budget = self._places.pop(message["id"])
        whole, self.seconds[place] = self.seconds[place], outcome.duration
        if outcome.state is State.STOPPED:
            self.stopped += 1
            self.saved += whole - outcome.duration
        elif outcome.state not in (State.DONE, State.FAILED):
            return  # the run gave it up
        done = outcome.state is State.DONE and outcome.value is not None
        self.ends.append(self._now)
        self.values.append(outcome.value if done and outcome.value is not None else math.nan)
        self.budgets.append(budget)


class Answering(Inline):
    """The proposer beside the manager: what it says is heard when its CPU seconds have passed, one after another.

    Attributes:
        seconds: CPU seconds of all that it said so far, reading the journal included.
        answers: Answers. proposals: asked for in them. judged: times that it was asked which trials are to end.
    """

    def __init__(self, search: Any, transport: Charged, charges: Charges) -> None:
        self.seconds = 0.0
        self.answers = self.proposals = self.judged = 0
        self._transport = transport
        self._fixed = charges.answer
        self._began = 0.0
        self._free = 0.0  # when it has nothing more to do
        super().__init__(search, transport.now, self._cost_of, self._cost_of_judging)

    def ask(self, event: Event, journal: Path, until: int) -> None:
        """Answer, to be heard when its cost has passed."""
        self._transport.charge()
        self._began = time.thread_time()
        super().ask(event, journal, until)
        self._transport.skip()

    def judge(self, journal: Path, until: int) -> None:
        """Say which trials are to end, to be heard when that cost has passed."""
        self._transport.charge()
        self._began = time.thread_time()
        super().judge(journal, until)
        self._transport.skip()

    def _cost_of(self, event: Event) -> float:
        self.answers += 1
        self.proposals += event["count"]
        return self._spent(
            0.0 if self._fixed is None else self._fixed[0] * event["fit"] + self._fixed[1] * event["count"]
        )

    def _cost_of_judging(self) -> float:
        self.judged += 1
        return self._spent(0.0 if self._fixed is None else self._fixed[1])

    def _spent(self, fixed: float) -> float:
        """Seconds from now until it is heard."""
        spent = time.thread_time() - self._began if self._fixed is None else fixed
        self.seconds += spent
        now = self._transport.now()
        self._free = max(self._free, now) + spent
        return self._free - now
