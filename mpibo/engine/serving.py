"""A worker's rank: it serves one run after the other until rank 0's program ends."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Mapping
from typing import Any, NoReturn

from mpibo.engine.children import Child
from mpibo.engine.mpi import ALERT_PAUSE, LONGEST_PAUSE, BrokenLaunch, Line, World, join
from mpibo.engine.signals import Signals
from mpibo.engine.worker import Worker, new_child

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
            Rank(world, setup, signals, spare).serve()
            spare = None
    if spare:
        spare.kill()
    world.close()
    raise SystemExit(0)


class Rank:
    """A worker's rank during one run: a ``Worker`` driven by MPI's messages and its child's pipe."""

    def __init__(self, world: World, setup: Mapping[str, Any], signals: Signals, spare: Child | None) -> None:
        self._line = Line(world, world.runs)
        self._signals = signals
        self._worker = Worker(world.rank, setup, lambda message: self._line.send(0, message), spare=spare)
        self._token = setup.get("token")
        self._heard = time.monotonic()
        self._freed = time.monotonic()

    def serve(self) -> None:
        """Serve until the manager says ``quit``, or is gone."""
        worker = self._worker
        if self._token and not _seen(self._token):
            host = os.uname().nodename
            line = (
                f"worker {worker.number} on {host} does not see the run folder {os.path.dirname(self._token)}; it must "
            )
            line += "be on a file system that all nodes share"
            self._line.send(0, {"kind": "broken", "line": line, "error": line})
        else:
            worker.start()
        pause = 1e-6
        while not worker.done:
            arrived = self._line.receive()
            if arrived is not None:
                self._heard = time.monotonic()
                worker.handle(arrived[1])
                pause = 1e-6
                continue
            now = time.monotonic()
            ready = select.select(worker.descriptors, [], [], max(0.0, min(pause, worker.wake() - now)))[0]
            if ready or time.monotonic() >= worker.wake():
                worker.step()
                pause = 1e-6
            if worker.busy:
                self._freed = now
            alert = not worker.busy and now - self._freed < ALERT
            pause = min(2 * pause, ALERT_PAUSE if alert else LONGEST_PAUSE)
            if now - self._heard > MANAGER_LEASE or self._signals.overdue():
                worker.close()
                sys.stderr.flush()
                os._exit(0)  # nobody is left to finalise with
        self._line.flush()


def _seen(token: str, patience: float = 5.0) -> bool:
    """Whether this node sees a file; a shared file system may need a moment."""
    deadline = time.monotonic() + patience
    while not os.path.exists(token):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
