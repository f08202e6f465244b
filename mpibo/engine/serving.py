"""A worker's rank: it serves one run after the other until rank 0's program ends."""

from __future__ import annotations

import math
import os
import select
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NoReturn

from mpibo.engine.children import Child
from mpibo.engine.messages import Message
from mpibo.engine.mpi import ALERT_PAUSE, GONE, LONGEST_PAUSE, BrokenLaunch, World, join
from mpibo.engine.ranks import Line
from mpibo.engine.resources import seated, settle
from mpibo.engine.signals import GRACE, Signals
from mpibo.engine.working.following import Member
from mpibo.engine.working.leading import Group
from mpibo.engine.working.worker import Worker, new_child
from mpibo.settings import seconds

GROUPS = 1 << 14  # added to a run's tag: the messages within groups
ALERT = 1.0  # seconds that an idle worker stays alert
MANAGER_LEASE = 15 * 60.0  # seconds of silence after which a worker takes the manager for dead


def serve() -> NoReturn:
    """A worker's rank: serve one run after the other until rank 0's program ends; then leave."""
    spare: Child | None = new_child()  # it starts while MPI does
    try:
        world = join()
    except BrokenLaunch:
        world = None  # rank 0, or the copy that takes itself for it, says why
    if world is None:
        if spare:
            spare.kill()
        raise SystemExit(2)
    with Signals(impatient=False) as signals:
        while (setup := world.await_setup(signals)) is not None:
            if world.groups and not any(world.rank in ranks for ranks in world.groups):
                continue  # left over
            Rank(world, setup, signals, spare, world.rank).serve()
            spare = None
    if spare:
        spare.kill()
    world.close()
    raise SystemExit(0)


class Rank:
    """A worker's rank during one run: a ``Worker``, or its part in a group, driven by messages and its child's pipe.

    Args:
        world: The world.
        setup: The run's.
        signals: Of this process.
        spare: A child that waits for its setup already.
        rank: Its number; ``world.size`` for the one that rank 0 hosts.
    """

    def __init__(
        self, world: World, setup: Mapping[str, Any], signals: Signals, spare: Child | None, rank: int
    ) -> None:  # fmt: skip
        self._world = world
        self._signals = signals
        self._spare = spare
        self._token = setup.get("token")
        self._heard = time.monotonic()  # from the manager, or from the group's first rank
        self._freed = time.monotonic()
        self._share = world.share(setup, rank)
        self._setup = seated(setup, world.seat, self._share)
        self._in_rank = setup["isolation"] == "none"
        self._lease = manager_lease()
        self._line = Line(world, world.runs)
        self._mates: Line | None = None
        self._ranks = [rank]  # those of the group
        self._number = world.worker_of(rank)
        self._setup["variables"]["MPIBO_WORKER"] = str(self._number)
        if not world.groups:
            self.part: Worker | Group | Member = self._worker(self._number, self._setup, self._tell_manager)
            return
        self._ranks = world.groups[self._number - 1]
        self._mates = Line(world, GROUPS + world.runs)
        place = self._ranks.index(rank)
        alone = self._share.sharing == 1
        # a number of its own, for its log
        make = partial(self._worker, len(world.groups) * place + self._number)
        if place == 0:
            size = len(self._ranks)
            beside = self._ranks.index(world.size) if world.size in self._ranks else None
            self.part = Group(self._number, size, self._setup, self._tell_manager, self._tell_mate, make, alone, beside)
        else:
            self.part = Member(self._setup, partial(self._tell_mate, 0), make, alone)
            if self._in_rank:
                self._lease = math.inf  # the first rank can't beat while it evaluates

    def serve(self) -> None:
        """Serve until the manager says ``quit``, or is gone."""
        self.begin()
        part = self.part
        pause = 1e-6
        while not part.done:
            if self.take_in():
                pause = 1e-6
                continue
            now = time.monotonic()
            ready = select.select(part.descriptors, [], [], max(0.0, min(pause, part.wake() - now)))[0]
            if ready or time.monotonic() >= part.wake():
                part.step()
                pause = 1e-6
            if part.busy:
                self._freed = now
            alert = not part.busy and now - self._freed < ALERT
            pause = min(2 * pause, ALERT_PAUSE if alert else LONGEST_PAUSE)
            left = self._signals.overdue() and now - self._heard > GRACE  # else it waits for trials to end
            gone = self.forsaken() or left or self._world.manager_gone()
            if gone or (self._mates and self._world.dismissed()):
                part.abandon()
                if not gone:
                    break  # rank 0 lives on, and has something to say
                self.flush()
                sys.stderr.flush()
                os._exit(GONE if self._world.manager_gone() else 0)  # nobody is left to finalise with
        self.flush()
        if self._spare:
            self._spare.kill()
        if isinstance(part, Group) and part.bereaved:
            self._world.damaged = True

    def begin(self) -> None:
        """Start what evaluates, or say why that can't be."""
        host = os.uname().nodename
        if self._share.parked:
            self._refuse(f"worker {self._number} on {host} is {self._share.text}")
        elif self._token and not _seen(self._token):
            where = os.path.dirname(self._token)
            self._refuse(
                f"worker {self._number} on {host} does not see the run folder {where}; it must be on a file system "
                f"that all nodes share"
            )
        else:
            if self._in_rank:
                settle(self._setup)
            self.part.start()

    def take_in(self) -> bool:
        """Take one message in; False when there is none."""
        part = self.part
        if not isinstance(part, Member) and (arrived := self._line.receive()):
            part.handle(arrived[1])
            self._heard = time.monotonic()  # after an objective in this rank, too
            return True
        if self._mates and (arrived := self._mates.receive()):
            source, message = arrived
            if isinstance(part, Group):
                part.hear(self._ranks.index(self._world.rank_of(source)), message)
            else:
                part.handle(message)
                self._heard = time.monotonic()
            return True
        return False

    def _poll(self) -> None:
        """While an objective in this rank reports: what has come in the meantime."""
        while self.take_in():
            pass

    def _worker(self, number: int, setup: Mapping[str, Any], send: Callable[[Message], None]) -> Worker:
        spare, self._spare = self._spare, None
        return Worker(
            number, setup, send, spare=spare, ended=lambda: self._signals.ended() is not None, poll=self._poll,
            comm=self._world.group_comm,
        )  # fmt: skip

    def _refuse(self, line: str) -> None:
        message = {"kind": "broken", "line": line, "error": line}
        if isinstance(self.part, Member):
            self._tell_mate(0, message)
            return
        self._tell_manager(message)
        if isinstance(self.part, Group):
            self.part.close()  # lets the others go

    def _tell_manager(self, message: Message) -> None:
        self._line.send(0, message)

    def _tell_mate(self, place: int, message: Message) -> None:
        assert self._mates
        self._mates.send(self._world.process_of(self._ranks[place]), message)

    def forsaken(self) -> bool:
        """Whether the manager, or the group's first rank, was silent for too long."""
        return time.monotonic() - self._heard > self._lease

    def flush(self) -> None:
        """Let what was said go out."""
        self._line.flush()
        if self._mates:
            self._mates.flush()


def manager_lease(environ: Mapping[str, str] = os.environ) -> float:
    """Seconds of silence after which a worker takes the manager for dead; MPIBO_MANAGER_LEASE sets them, for tests."""
    told = environ.get("MPIBO_MANAGER_LEASE")
    return seconds(told) if told else MANAGER_LEASE


def _seen(token: str, patience: float = 5.0) -> bool:
    """Whether this node sees a file; a shared file system may need a moment."""
    deadline = time.monotonic() + patience
    while not os.path.exists(token):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
