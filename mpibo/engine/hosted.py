"""What rank 0 evaluates besides managing, where a GPU of its node would idle: as a worker, or as one of its ranks."""

from __future__ import annotations

import math
import select
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self

from mpibo.engine import messages
from mpibo.engine.messages import Message
from mpibo.engine.mpi import World
from mpibo.engine.resources import seated
from mpibo.engine.serving import Rank
from mpibo.engine.signals import Signals
from mpibo.engine.transport import Transport
from mpibo.engine.working.worker import Worker

LOOK = 5e-3  # seconds after which what is hosted is looked at, even while messages of others come without a pause


def beside(ranks: Transport, world: World, setup: Mapping[str, Any], signals: Signals) -> Transport:
    """The ranks' transport, with what rank 0 hosts, if it hosts anything.

    Args:
        ranks: The transport of the other ranks.
        world: The world.
        setup: The run's (see ``Worker``).
        signals: Of this process.
    """
    if not world.hosts(setup):
        return ranks
    if setup.get("ranks_per_worker", 1) > 1:
        return Hosted(ranks, None, lambda _: HostedRank(world, setup, signals))
    number = world.size
    mine = seated(setup, world.seat, world.share(setup, number))
    return Hosted(ranks, number, lambda send: Worker(number, mine, send, ended=lambda: signals.ended() is not None))


class Part(Protocol):
    """What evaluates in this process, one step at a time (see ``Worker``)."""

    @property
    def done(self) -> bool: ...
    @property
    def descriptors(self) -> list[int]: ...
    def start(self) -> None: ...
    def handle(self, message: Message) -> None: ...
    def step(self) -> None: ...
    def wake(self) -> float: ...
    def close(self) -> None: ...


class Hosted:
    """Another transport beside which this process evaluates; the children are children of this process.

    Args:
        inner: The transport of the other workers.
        number: The worker's number; None: it is a part of one of theirs, and hears and tells nothing through here.
        make: Makes what evaluates, from a way to send to the manager.
    """

    def __init__(self, inner: Transport, number: int | None, make: Callable[[Callable[[Message], None]], Part]) -> None:
        self.workers: Sequence[int] = [*inner.workers, *([] if number is None else [number])]
        self.wakeups: list[int] = []
        self._inner = inner
        self._number = number
        self._inbox: deque[Message] = deque()
        self._part = make(lambda message: self._inbox.append(_copy(message)))
        self._looked = inner.now()

    def __enter__(self) -> Self:
        self._inner.__enter__()
        self._part.start()
        return self

    def __exit__(self, *what: Any) -> None:
        try:
            self._part.close()
        finally:
            self._inner.__exit__(*what)

    def now(self) -> float:
        """The inner transport's time."""
        return self._inner.now()

    def send(self, worker: int, message: Message) -> None:
        """To the hosted worker at once, to others as they are reached."""
        if worker == self._number:
            self._part.handle(_copy(message))
        else:
            self._inner.send(worker, message)

    def receive(self, until: float) -> tuple[int, Message] | None:
        """The next message of any worker; None at ``until``, or when a wakeup is readable."""
        while True:
            if self.now() >= self._looked + LOOK:
                self._look()
            if self._inbox:
                assert self._number is not None
                return self._number, self._inbox.popleft()
            self._inner.wakeups[:] = [*self.wakeups, *self._part.descriptors]
            soon = until if self._part.done else min(until, self._part.wake())
            if (arrived := self._inner.receive(soon)) is not None:
                return arrived
            self._look()
            woken = bool(self.wakeups) and bool(select.select(self.wakeups, [], [], 0)[0])
            if not self._inbox and (woken or self.now() >= until):
                return None

    def _look(self) -> None:
        self._looked = self.now()
        self._part.step()


class HostedRank:
    """Rank 0's place in a group of ranks: a member that the group's first rank tells what to do.

    Args:
        world: The world.
        setup: The run's.
        signals: Of this process.
    """

    def __init__(self, world: World, setup: Mapping[str, Any], signals: Signals) -> None:
        self._world = world
        self._setup = setup
        self._signals = signals
        self._rank: Rank | None = None

    @property
    def done(self) -> bool:
        """Whether it serves no more, or is left over."""
        return self._rank is None or self._rank.part.done

    @property
    def descriptors(self) -> list[int]:
        """What to wait on."""
        return self._rank.part.descriptors if self._rank else []

    def start(self) -> None:
        """Join the group, now that the ranks know who is in which."""
        if any(self._world.size in ranks for ranks in self._world.groups):
            self._rank = Rank(self._world, self._setup, self._signals, None, self._world.size)
            self._rank.begin()

    def handle(self, message: Message) -> None:
        """Nothing: what the group is told, its first rank hears."""

    def step(self) -> None:
        """Hear the group's first rank, and do whatever is due."""
        if self._rank is None or self.done:
            return
        while self._rank.take_in():
            pass
        self._rank.part.step()
        if self._rank.forsaken():
            self._rank.part.abandon()

    def wake(self) -> float:
        """The time at which ``step`` must be called at the latest; messages wake nobody."""
        return math.inf if self._rank is None else min(self._rank.part.wake(), time.monotonic() + LOOK)

    def close(self) -> None:
        """End the child."""
        if self._rank:
            self._rank.part.close()
            self._rank.flush()


def _copy(message: Message) -> Message:
    """As it would be after a journey."""
    return messages.unpack(messages.pack(message))
