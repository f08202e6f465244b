"""The further ranks of a group: workers whose manager is the group's first rank."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mpibo.engine.messages import Message

if TYPE_CHECKING:
    from mpibo.engine.working.worker import Worker

Make = Callable[[Mapping[str, Any], Callable[[Message], None]], "Worker"]


class Member:
    """The side of a group's further ranks: a worker whose manager is the group's first rank.

    Args:
        setup: Of the run, with this rank's share of its node.
        send: Sends to the first rank.
        make: Makes this rank's worker from a setup and a way to send.
        alone: Whether this rank has a GPU of its own.
    """

    def __init__(self, setup: Mapping[str, Any], send: Callable[[Message], None], make: Make, alone: bool) -> None:
        self.done = False
        self._setup = setup
        self._send = send
        self._make = make
        self._alone = alone
        self._worker: Worker | None = None
        self._waiting: deque[Message] = deque()

    def start(self) -> None:
        """Say that we are here; the first rank then forms the group."""
        self._send({"kind": "here", "alone": self._alone})

    def handle(self, message: Message) -> None:
        """Take a message of the first rank in."""
        match message["kind"]:
            case "form":
                if self._worker:
                    self._worker.close()
                form = message["form"]
                setup = {**self._setup, "group": message["group"]}
                self._worker = self._make(setup, lambda said: self._send({**said, "form": form}))
                self._worker.start()
            case "beat":
                pass  # the first rank lives
            case "ask":
                self._send({"kind": "beat"})
            case "quit":
                self.close()
            case "run" if self.busy:  # an objective in this very process goes on after the others'
                self._waiting.append(message)
            case _ if self._worker:
                self._worker.handle(message)

    def step(self) -> None:
        """Do whatever is due."""
        if self._worker:
            self._worker.step()
            if self._waiting and not self.busy:
                self._worker.handle(self._waiting.popleft())

    @property
    def descriptors(self) -> list[int]:
        """What to wait on."""
        return self._worker.descriptors if self._worker else []

    @property
    def busy(self) -> bool:
        """Whether a trial is being evaluated here."""
        return self._worker is not None and self._worker.busy

    def wake(self) -> float:
        """The time at which ``step`` must be called at the latest."""
        if self._waiting and not self.busy:
            return -math.inf
        return self._worker.wake() if self._worker else math.inf

    def close(self) -> None:
        """End the child; serve no more."""
        self.done = True
        if self._worker:
            self._worker.close()

    abandon = close  # the outcome of the trial is the first rank's
