"""How rank 0 reaches the workers' ranks: messages that never block, and a transport over them."""

from __future__ import annotations

import select
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

from mpibo.engine import messages
from mpibo.engine.messages import Message
from mpibo.engine.mpi import ALERT_PAUSE, LOOK, World

SMALL = 1024  # bytes of a message that is here as a whole when it is seen


class Line:
    """Messages to and from other ranks under one tag, without ever blocking; what is sent to the dead is dropped."""

    def __init__(self, world: World, tag: int) -> None:
        self._world = world
        self._MPI = world.MPI
        self._comm = world.comm
        self._tag = tag
        self._status = world.MPI.Status()
        self._sending: list[tuple[Any, bytes, int]] = []
        self._arriving: list[tuple[Any, bytearray, int]] = []

    def send(self, rank: int, message: Message) -> None:
        """Send one message; keeps its bytes until MPI has them."""
        if rank in self._world.dead:
            return
        data = messages.pack(message)
        try:
            request = self._comm.Isend([data, self._MPI.BYTE], dest=rank, tag=self._tag)
        except self._MPI.Exception:
            if not self._world.excused():
                raise
            return
        self._sending.append((request, data, rank))
        if len(self._sending) > 32:
            self._tidy()

    def receive(self) -> tuple[int, Message] | None:
        """The next message and its sender, or None."""
        status = self._status
        if self._arriving and (arrived := self._arrived()):
            return arrived
        try:
            if not self._comm.Iprobe(source=self._MPI.ANY_SOURCE, tag=self._tag, status=status):
                return None
            buffer = bytearray(status.Get_count(self._MPI.BYTE))
            source = status.Get_source()
            if len(buffer) <= SMALL and not self._arriving:
                self._comm.Recv([buffer, self._MPI.BYTE], source=source, tag=self._tag)
                return source, messages.unpack(buffer)
            # the rest of a large message may still have to come, and never does when its sender has died since
            request = self._comm.Irecv([buffer, self._MPI.BYTE], source=source, tag=self._tag)
        except self._MPI.Exception:
            if not self._world.excused():
                raise
            return None
        self._arriving.append((request, buffer, source))
        return self._arrived()

    def flush(self, seconds: float = 2.0) -> None:
        """Let what was sent go out."""
        deadline = time.monotonic() + seconds
        while any(rank not in self._world.dead for _, _, rank in self._sending) and time.monotonic() < deadline:
            self._tidy()
            time.sleep(1e-4)
        self._world.kept += self._sending

    def _arrived(self) -> tuple[int, Message] | None:
        """The first message that is whole, none before those that its sender sent earlier."""
        waiting = set()
        for each in list(self._arriving):
            request, buffer, source = each
            if source not in waiting and self._is_over(request):
                self._arriving.remove(each)
                return source, messages.unpack(buffer)
            waiting.add(source)
            if source in self._world.dead:  # the rest of it will not come
                self._arriving.remove(each)
                self._world.kept.append(each)
        return None

    def _tidy(self) -> None:
        self._sending = [each for each in self._sending if not self._is_over(each[0])]

    def _is_over(self, request: Any) -> bool:
        try:
            return bool(request.Test())
        except self._MPI.Exception:
            if not self._world.excused():
                raise
            return False


class MPITransport:
    """The manager's side of MPI: a ``Transport`` whose workers are the ranks from 1 on, but for the dead.

    Args:
        world: The world.
        setup: What each worker needs; reaches the ranks by broadcast.

    Raises:
        ValueError: The ranks are too few for one worker.
        RuntimeError: No rank is left to work.
    """

    def __init__(self, world: World, setup: Mapping[str, Any]) -> None:
        self._told = set(world.failed())  # ranks whose death is no news
        self.workers: Sequence[int] = world.workers_of(setup)
        if not self.workers:
            raise RuntimeError("every other rank of this job has died; start the job again to search on")
        self.wakeups: list[int] = []
        self._world = world
        self._setup = setup
        self._line: Line | None = None
        self._dismissed: set[int] = set()
        self._look = 0.0
        self._pause = 1e-6

    def __enter__(self) -> Self:
        self._world.announce(self._setup)
        self._line = Line(self._world, self._world.runs)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._line
        for worker in set(self.workers) - self._dismissed:
            self._line.send(self._world.leader(worker), {"kind": "quit"})  # the manager failed
        self._line.flush()

    def now(self) -> float:
        """Seconds, monotonic."""
        return time.monotonic()

    def send(self, worker: int, message: Message) -> None:
        """Send; never blocks."""
        assert self._line
        if message["kind"] == "quit":
            self._dismissed.add(worker)
        self._line.send(self._world.leader(worker), message)
        self._pause = 1e-6

    def receive(self, until: float) -> tuple[int, Message] | None:
        """The next message, or the news of a worker's death; None at ``until``, or when a wakeup is readable."""
        assert self._line
        while True:
            arrived = self._line.receive()
            now = self.now()
            if arrived is None and now >= self._look:
                self._look = now + LOOK
                arrived = self._obituary()
            if arrived is not None:
                self._pause = 1e-6
                worker, message = self._world.worker_of(arrived[0]), arrived[1]
                if "member" in message:
                    self._world.bereaved[worker] = self._world.groups[worker - 1][message["member"]]
                return worker, message
            left = until - now
            if left <= 0:
                return None
            if select.select(self.wakeups, [], [], min(self._pause, left))[0]:
                self._pause = 1e-6
                return None
            self._pause = min(2 * self._pause, ALERT_PAUSE)

    def _obituary(self) -> tuple[int, Message] | None:
        """The news of a worker's rank whose death MPI has noticed, once."""
        failed = self._world.failed()
        while len(failed) > len(self._told):
            rank = min(failed - self._told)
            self._told.add(rank)
            if not self._world.groups or any(rank in group for group in self._world.groups):  # else it was parked
                return rank, {"kind": "gone", "why": f"rank {rank} has died (ULFM)"}
        return None
