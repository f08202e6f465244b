"""A worker that rank 0 hosts besides the ranks', where a GPU of its node would idle without one."""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from mpibo.engine import messages
from mpibo.engine.messages import Message
from mpibo.engine.transport import Transport
from mpibo.engine.worker import Worker

LOOK = 5e-3  # seconds after which the worker is looked at, even while messages of others come without a pause


class Hosted:
    """Another transport with one local worker more; its children are children of this process.

    Args:
        inner: The transport of the other workers.
        number: The hosted worker's number.
        setup: What it needs (see ``Worker``), with its share of this node.
        make: Makes the worker.
    """

    def __init__(
        self, inner: Transport, number: int, setup: Mapping[str, Any],
        make: Callable[[int, Mapping[str, Any], Callable[[Message], None]], Worker] = Worker,
    ) -> None:  # fmt: skip
        self.workers: Sequence[int] = [*inner.workers, number]
        self.wakeups: list[int] = []
        self._inner = inner
        self._number = number
        self._inbox: deque[Message] = deque()
        self._worker = make(number, setup, lambda message: self._inbox.append(_copy(message)))
        self._looked = inner.now()

    def __enter__(self) -> Self:
        self._inner.__enter__()
        self._worker.start()
        return self

    def __exit__(self, *what: Any) -> None:
        try:
            self._worker.close()
        finally:
            self._inner.__exit__(*what)

    def now(self) -> float:
        """The inner transport's time."""
        return self._inner.now()

    def send(self, worker: int, message: Message) -> None:
        """To the hosted worker at once, to others as they are reached."""
        if worker == self._number:
            self._worker.handle(_copy(message))
        else:
            self._inner.send(worker, message)

    def receive(self, until: float) -> tuple[int, Message] | None:
        """The next message of any worker; None at ``until``, or when a wakeup is readable."""
        while True:
            if self.now() >= self._looked + LOOK:
                self._look()
            if self._inbox:
                return self._number, self._inbox.popleft()
            self._inner.wakeups[:] = [*self.wakeups, *self._worker.descriptors]
            soon = until if self._worker.done else min(until, self._worker.wake())
            if (arrived := self._inner.receive(soon)) is not None:
                return arrived
            self._look()
            woken = bool(self.wakeups) and bool(select.select(self.wakeups, [], [], 0)[0])
            if not self._inbox and (woken or self.now() >= until):
                return None

    def _look(self) -> None:
        self._looked = self.now()
        self._worker.step()


def _copy(message: Message) -> Message:
    """As it would be after a journey."""
    return messages.unpack(messages.pack(message))
