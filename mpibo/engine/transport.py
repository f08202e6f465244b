"""How the manager reaches its workers, without MPI: local children, virtual time, and one that loses messages."""

from __future__ import annotations

import heapq
import math
import random
import select
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self

from mpibo.engine import messages
from mpibo.engine.cancelling import Cancel
from mpibo.engine.messages import Message
from mpibo.engine.played import Playing, Training
from mpibo.engine.working.worker import Worker
from mpibo.goals import Aims
from mpibo.outcome import outcome_of
from mpibo.trial import Outcome, State


class Transport(Protocol):
    """What the manager needs of its workers.

    Attributes:
        workers: The workers' numbers.
        wakeups: Descriptors that end a ``receive`` early when they become readable.
    """

    workers: Sequence[int]
    wakeups: list[int]

    def send(self, worker: int, message: Message) -> None:
        """Send; never blocks. A message to a dead worker is dropped."""

    def receive(self, until: float) -> tuple[int, Message] | None:
        """The next message and who sent it; None when ``until`` (by ``now``) has come, or a wakeup."""

    def now(self) -> float:
        """Seconds, monotonic; virtual where time is."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Local:
    """Workers as children of this process: a laptop without MPI. With one worker the run is serial.

    Args:
        count: Evaluations at once.
        setup: What each worker needs (see ``Worker``), by number where they differ.
        echo: Where to show what the objective prints, besides its log.
    """

    def __init__(self, count: int, setup: Mapping[Any, Any], echo: BinaryIO | None = None) -> None:
        self.workers: Sequence[int] = range(1, count + 1)
        self.wakeups: list[int] = []
        self._inbox: deque[tuple[int, Message]] = deque()
        of = setup if 1 in setup else dict.fromkeys(self.workers, setup)
        self._hosted = {number: Worker(number, of[number], self._from(number), echo=echo) for number in self.workers}

    def __enter__(self) -> Self:
        for worker in self._hosted.values():
            worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._hosted.values():
            worker.close()

    def now(self) -> float:
        """Seconds, monotonic."""
        return time.monotonic()

    def send(self, worker: int, message: Message) -> None:
        """Hand the message to the worker at once."""
        self._hosted[worker].handle(messages.unpack(messages.pack(message)))

    def receive(self, until: float) -> tuple[int, Message] | None:
        """The next message; waits on the children's pipes, not on a clock."""
        while not self._inbox:
            poller = select.poll()
            for descriptor in self.wakeups:
                poller.register(descriptor, select.POLLIN)
            for worker in self._hosted.values():
                for descriptor in worker.descriptors:
                    poller.register(descriptor, select.POLLIN)
            wake = min([until, *(worker.wake() for worker in self._hosted.values() if not worker.done)])
            ready = poller.poll(max(0.0, 1000 * (wake - self.now())))
            for worker in self._hosted.values():
                worker.step()
            if not self._inbox and (self.now() >= until or any(fd in self.wakeups for fd, _ in ready)):
                return None
        return self._inbox.popleft()

    def _from(self, number: int) -> Callable[[Message], None]:
        def send(message: Message) -> None:
            self._inbox.append((number, messages.unpack(messages.pack(message))))

        return send


class Simulated:
    """Workers in virtual time: an evaluation takes as long as it is said to, and no time at all here.

    Args:
        count: Number of workers.
        objective: Gives the value of a config, or a dict (or raises: the trial FAILED).
        duration: Gives the seconds that a trial takes, from its ``run`` message and a random generator.
        latency: Seconds that a message takes.
        seed: Of the durations.
        aims: The goals and limits.
        training: What a trial says in place of ``objective``, reports included, from its ``run`` message and seconds.
    """

    def __init__(
        self, count: int, objective: Callable[[dict[str, Any]], Any] | None,
        duration: Callable[[Message, random.Random], float] = lambda run, rng: 1.0, latency: float = 0.0, seed: int = 0,
        aims: Aims | None = None, training: Callable[[Message, float], Training] | None = None,
    ) -> None:  # fmt: skip
        self.workers: Sequence[int] = range(1, count + 1)
        self.wakeups: list[int] = []
        self._objective = objective
        self._training = training or self._evaluated
        self._duration = duration
        self._aims = aims
        self._latency = latency
        self._rng = random.Random(seed)
        self._now = 0.0
        self._events: list[tuple[float, int, int]] = []  # when, number, worker
        self._said: dict[int, tuple[Message, ...]] = {}  # by the event's number
        self._behind: dict[int, Playing | None] = {}  # the trial behind what was said, by the event's number
        self._playing: dict[int, Playing] = {}  # by worker
        self._next: dict[int, int] = {}  # the event of a worker's trial
        self._reported: dict[int, float] = {}  # when a worker last sent reports, or ended a trial
        self._inbox: deque[tuple[int, Message]] = deque()
        self._sent = 0
        for worker in self.workers:
            self._at(latency, worker, {"kind": "ready", "host": "simulated", "pid": worker})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def now(self) -> float:
        """Virtual seconds."""
        return self._now

    def send(self, worker: int, message: Message) -> None:
        """Deliver in virtual time; a ``run`` is answered after its duration."""
        message = messages.unpack(messages.pack(message))
        if message["kind"] == "cancel":
            self._cancel(worker, message)
        if message["kind"] == "run":
            self._begin(worker, message, self._training(message, self._duration(message, self._rng)))

    def receive(self, until: float) -> tuple[int, Message] | None:
        """The next message; virtual time jumps to it, or to ``until``."""
        arrived = self._arrived(until)
        return None if arrived is None else (arrived[0], messages.unpack(messages.pack(arrived[1])))

    def _arrived(self, until: float) -> tuple[int, Message] | None:
        while not self._inbox:
            if not self._events or self._events[0][0] > max(until, self._now):
                self._now = max(self._now, until)
                return None
            at, number, worker = heapq.heappop(self._events)
            said = self._said.pop(number, None)
            if said is None:
                continue  # a cancel has changed it
            self._now = max(self._now, at)
            self._inbox.extend((worker, message) for message in said)
            if self._next.get(worker) == number:
                del self._next[worker]
                self._play(worker, self._behind.pop(number))
        return self._inbox.popleft()

    def _evaluated(self, run: Message, seconds: float) -> Training:
        assert self._objective is not None
        try:
            return Training(outcome_of(self._objective(run["config"]), duration=seconds, aims=self._aims))
        except Exception as error:
            return Training(Outcome(State.FAILED, reason="exception", error=repr(error), duration=seconds))

    def _begin(self, worker: int, run: Message, training: Training) -> None:
        """A trial begins when its message has arrived."""
        several = self._aims is not None and self._aims.several
        sent = self._reported.get(worker, -math.inf)
        self._play(worker, Playing(run["id"], training, self._now + self._latency, sent, several))

    def _cancel(self, worker: int, message: Message) -> None:
        """A trial hears of it at its next report; it is killed after the grace, where it has not ended by then."""
        playing = self._playing.get(worker)
        if playing is not None and playing.number == message["id"]:
            arrives = self._now + self._latency
            playing.cancel(Cancel.of(message, arrives), arrives)
            number = self._next.pop(worker)
            del self._said[number], self._behind[number]
            self._play(worker, playing)

    def _play(self, worker: int, playing: Playing | None) -> None:
        """What a worker's trial says next is on its way; None: it has ended."""
        if playing is None:
            del self._playing[worker]
            return
        self._playing[worker] = playing
        at, said, behind = playing.next()
        self._reported[worker] = at
        self._next[worker] = number = self._at(at + self._latency - self._now, worker, *said)
        self._behind[number] = behind

    def _at(self, delay: float, worker: int, *said: Message) -> int:
        self._sent += 1
        self._said[self._sent] = said
        heapq.heappush(self._events, (self._now + delay, self._sent, worker))
        return self._sent


class Flaky:
    """Another transport whose messages are lost or come late, and whose workers die.

    Args:
        inner: The transport that works.
        seed: Of what goes wrong.
        drop: Probability that a message of a worker is lost.
        delay: Probability that a message of a worker comes ``late`` seconds later.
        late: Seconds.
        kill: Probability that a worker dies when it is given a trial: it is never heard of again.
        spare: Workers that never die.
    """

    def __init__(
        self, inner: Transport, seed: int = 0, *, drop: float = 0.0, delay: float = 0.0, late: float = 5.0,
        kill: float = 0.0, spare: Sequence[int] = (1,),
    ) -> None:  # fmt: skip
        self.workers = inner.workers
        self._inner = inner
        self._rng = random.Random(seed)
        self._drop, self._delay, self._late, self._kill = drop, delay, late, kill
        self._spare = set(spare)
        self._held: list[tuple[float, int, int, Message]] = []
        self._count = 0
        self.dead: set[int] = set()

    @property
    def wakeups(self) -> list[int]:
        """Those of the inner transport."""
        return self._inner.wakeups

    @wakeups.setter
    def wakeups(self, descriptors: list[int]) -> None:
        self._inner.wakeups = descriptors

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(self, *_: Any) -> None:
        self._inner.__exit__(None, None, None)

    def now(self) -> float:
        """The inner transport's time."""
        return self._inner.now()

    def send(self, worker: int, message: Message) -> None:
        """Pass on, unless the worker is dead or dies of it."""
        if message["kind"] == "run" and worker not in self._spare and self._rng.random() < self._kill:
            self.dead.add(worker)
        if worker not in self.dead:
            self._inner.send(worker, message)

    def receive(self, until: float) -> tuple[int, Message] | None:
        """The next message that is neither lost nor late."""
        while True:
            soon = min(until, self._held[0][0]) if self._held else until
            arrived = self._inner.receive(soon)
            if arrived is None:
                if self._held and self._held[0][0] <= self.now():
                    _, _, worker, message = heapq.heappop(self._held)
                    return worker, message
                return None
            worker, message = arrived
            if worker in self.dead or (message["kind"] != "ready" and self._rng.random() < self._drop):
                continue
            if self._rng.random() < self._delay:
                self._count += 1
                heapq.heappush(self._held, (self.now() + self._late, self._count, worker, message))
                continue
            return arrived
