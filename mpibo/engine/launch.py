"""Bring a run up and take it down: its folder, lock and journal, the children of rank 0, the loop, the last word."""

from __future__ import annotations

import base64
import logging
import math
import os
import platform
import select
import shutil
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mpibo.engine import mpi
from mpibo.engine.beginning import Beginning, beginning
from mpibo.engine.children import Child
from mpibo.engine.deadline import noticed, seconds_left, until
from mpibo.engine.ends import CODES, LEASE, REQUEUE, TAKEN, Ended, Limits
from mpibo.engine.environment import child_environment, fair_threads, scheduler_job
from mpibo.engine.folder import check_limits, check_same, keep_source, open_folder, settings_toml
from mpibo.engine.hosted import beside
from mpibo.engine.job import Job
from mpibo.engine.keeper import Keeper
from mpibo.engine.managing.account import take_in
from mpibo.engine.managing.manager import Manager
from mpibo.engine.mirroring.mirrored import Mirrored
from mpibo.engine.proposer import Proposer
from mpibo.engine.ranks import MPITransport
from mpibo.engine.resources import for_rank_zero, local_setups, per_rank
from mpibo.engine.signals import Signals
from mpibo.engine.transport import Local, Transport
from mpibo.engine.working import orphans
from mpibo.engine.working.worker import BEAT
from mpibo.settings import Settings, seconds
from mpibo.store.atomic import sync_folder, write
from mpibo.store.journal import VERSION, Journal
from mpibo.store.lock import Lock
from mpibo.trial import Event

log = logging.getLogger("mpibo")

VIEWS_PATIENCE = 60.0  # seconds that the last views may take


@dataclass(frozen=True)
class Finished:
    """How a run ended, and where it lies."""

    folder: Path
    ended: Ended


def run(
    job: Job, settings: Settings, world: mpi.World | None, also_show: Callable[[Path], Callable[[], None]] | None = None
) -> Finished:
    """Run a search to its end. Rank 0 alone calls this.

    Args:
        job: What is searched.
        settings: The settings.
        world: The ranks; None without MPI.
        also_show: A view besides the scribe's: gets the run folder, gives what ends it.

    Raises:
        ValueError: Bad input: a folder that holds another search, a method that is none, limits that are reached.
    """
    settings = replace(settings, budget=settings.budget or job.budget)
    with ExitStack() as stack:
        signals = stack.enter_context(Signals())
        asked = _resources_of(settings)
        per_rank(settings.gpus_per_worker, settings.ranks_per_worker)  # bad input is told before there is a folder
        if world:
            workers = len(world.workers_of(asked)) + (settings.ranks_per_worker == 1 and world.hosts(asked))
        else:
            if settings.ranks_per_worker > 1:
                raise ValueError(f"ranks_per_worker {settings.ranks_per_worker} needs MPI: start with mpirun or srun")
            workers = _local_workers(settings, asked)
        if world and settings.workers not in (None, workers):
            log.warning(
                "workers=%s is not used: the %d ranks of this job are %d workers", settings.workers, world.size, workers
            )
        begun = beginning(job.space, settings)
        others = _cores_beside(world)
        proposer = Proposer(_search_setup(job, begun.settings, workers), others)
        stack.callback(proposer.close)
        mirror = Mirrored(settings.sync, others) if settings.sync else None
        if mirror:
            stack.callback(mirror.close)
        first = _first_word(proposer, signals)
        if mirror:
            mirror.check()
        folder, fresh = open_folder(job, settings)
        lock = Lock(folder / "run.lock")
        try:
            lock.acquire()
            stack.callback(lock.release)
            if mirror:
                mirror.begin(folder, lock.me, fresh)
            journal = Journal(folder)
            if mirror:
                stack.callback(mirror.finish, journal)  # when the journal is closed, while the lock is ours
        except OSError as error:
            raise ValueError(f"can't write in the run folder {folder}: {error.strerror}") from error
        stack.callback(_close, journal)
        check_same(journal.events, job, settings)
        begun.check(journal.events)
        if journal.events:
            proposer.read(journal.path, journal.size)  # beside what follows
        earlier = take_in(journal.events, settings.aims, settings.schedule is not None)
        check_limits(earlier.ledger, settings)
        write(folder / "settings.toml", settings_toml(job, settings))
        if mirror:
            keep_source(folder, job)
        token = folder / ".seen"
        token.touch()
        sync_folder(folder)
        if settings.progress != "none":
            print(f"{job.name}: {settings.aims} over\n{job.text}", flush=True)
        if fresh:
            log.info("run folder %s", folder)

        setup = _worker_setup(job, settings, folder, token, fair_threads(world.sharing if world else workers))
        transport = _transport(world, setup, workers, signals)
        stack.enter_context(transport)
        limits = limits_of(settings)
        keeper = Keeper(lock, folder, journal, mirror)
        kept = orphans.take(folder, log.warning)
        manager = Manager(
            limits, transport, Introduced(proposer, first), journal, _opening(job, begun, workers),
            signals.ended, keeper, prior=() if journal.events else begun.results, orphans=kept, earlier=earlier,
            noticed=lambda: noticed(folder / "notice"),
        )  # fmt: skip
        keeper.manager = manager
        keeper.write(None)
        stack.callback(write_last_views := Views(folder, settings.progress, others))
        if also_show:
            stack.callback(also_show(folder))
        ended = Ended("error", 1, "the manager failed")
        try:
            ended = manager.run()
        finally:
            if world:
                world.bury(manager.gone)
            if mirror:
                mirror.hurry = ended.exit_code in CODES.values() or ended.exit_code == REQUEUE
                if ended.why == TAKEN and not mirror.taken:
                    mirror.abandon()
            if ended.why != TAKEN or (mirror and mirror.taken):  # S3 is another's; the folder is ours
                with suppress(OSError):  # a disk that is full; what was written is what counts
                    journal.sync()
                    earlier.shelf.tidy(folder)
                    orphans.clear(folder, kept)  # now that their lines can't be lost any more
                    keeper.write(ended)  # before the views: a launcher that was told to end may leave us a second
                    token.unlink(missing_ok=True)
                write_last_views()
    return Finished(folder, ended)


def _close(journal: Journal) -> None:
    try:
        journal.close()
    except OSError as error:
        log.warning("can't write the end of %s: %s", journal.path, error.strerror)


def _resources_of(settings: Settings) -> dict[str, Any]:
    """The part of a worker's setup that says what one evaluation gets."""
    names = ("isolation", "cores_per_worker", "gpus_per_worker", "ranks_per_worker")
    return {name: getattr(settings, name) for name in names}


def _local_workers(settings: Settings, asked: Mapping[str, Any]) -> int:
    """Evaluations at once without MPI: those for whom there is a GPU, where each is to have one."""
    wanted = settings.workers or 1
    found = len(local_setups(wanted, asked))
    if not found:
        raise ValueError(f"gpus_per_worker {settings.gpus_per_worker:g}: no worker can have that many GPUs here")
    if found < wanted:
        log.warning("%d of %d workers: there are GPUs for no more", found, wanted)
    return found


def _transport(world: mpi.World | None, setup: Mapping[str, Any], workers: int, signals: Signals) -> Transport:
    if world is None:
        return Local(workers, local_setups(workers, setup))
    ranks = MPITransport(world, setup)
    if world.hosts(setup):
        log.info("rank 0 evaluates, too: else a GPU of its node would idle")
    return beside(ranks, world, setup, signals)


def _cores_beside(world: mpi.World | None) -> list[int] | None:
    """Cores for rank 0's children beside its own; None where it has none to spare."""
    if world is None:
        return None
    if len(os.sched_getaffinity(0)) < 2:
        log.info("rank 0 is bound to 1 core; its message loop and its model share it")
        return None
    own, others = for_rank_zero(world.seat.cores, world.sharing > 1)
    return None if own == others else others


class Introduced:
    """A proposer whose first word was heard before the run had a journal."""

    due: float | None = None

    def __init__(self, proposer: Proposer, first: list[dict[str, Any]]) -> None:
        self._proposer = proposer
        self._first = first

    @property
    def descriptors(self) -> list[int]:
        """Those of the proposer."""
        return self._proposer.descriptors

    def ask(self, event: Event, journal: Path, until: int) -> None:
        """Pass on."""
        self._proposer.ask(event, journal, until)

    def poll(self) -> list[dict[str, Any]]:
        """What was heard before, then what comes."""
        first, self._first = self._first, []
        return first + self._proposer.poll()

    def judge(self, journal: Path, until: int) -> None:
        """Pass on."""
        self._proposer.judge(journal, until)

    def restart(self) -> None:
        """Pass on."""
        self._proposer.restart()


class Views:
    """The scribe child: it shows the run while it lasts, and is waited for at the end (by a call)."""

    def __init__(self, folder: Path, progress: str, cores: Sequence[int] | None = None) -> None:
        columns = shutil.get_terminal_size().columns
        arguments = ["--run", str(folder), "--progress", progress, "--columns", str(columns), "--pid", str(os.getpid())]
        environment = child_environment(1)
        self._child: Child | None = Child("mpibo.engine.scribe", arguments, environment=environment, cores=cores)

    def __call__(self) -> None:
        """Let it finish, once."""
        if self._child is None:
            return
        child, self._child = self._child, None
        child.finish()
        if child.wait(VIEWS_PATIENCE) is None:
            log.warning("the views were not finished within %.0f s", VIEWS_PATIENCE)
        child.kill()


def limits_of(settings: Settings) -> Limits:
    """When the run ends, as the settings and the scheduler say."""
    left = seconds_left() if settings.deadline is None else until(settings.deadline)
    if left is not None:
        log.info("this allocation ends in %s", _span(left))
    multiple = settings.trial_timeout
    return Limits(
        settings.max_trials, settings.walltime, settings.target, settings.aims, settings.seed, settings.attempts,
        lease_of(settings), left, float(multiple.rstrip("x")) if isinstance(multiple, str) else None, multiple is None,
        settings.schedule is not None,
    )  # fmt: skip


def _span(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"


def lease_of(settings: Settings, environ: Mapping[str, str] = os.environ) -> float:
    """Seconds of silence after which a worker is taken for dead; one that evaluates in its rank can't beat.

    The variable MPIBO_LEASE sets it, for tests and for networks that stall.
    """
    if settings.isolation != "none":
        return seconds(environ["MPIBO_LEASE"]) if environ.get("MPIBO_LEASE") else LEASE
    return settings.trial_timeout + LEASE if isinstance(settings.trial_timeout, float) else math.inf


def fixed_timeout(settings: Settings) -> float | None:
    """The time limit that a worker holds by itself; a multiple of the median is the manager's to tell."""
    return settings.trial_timeout if isinstance(settings.trial_timeout, float) else None


def _first_word(proposer: Proposer, signals: Signals) -> list[dict[str, Any]]:
    """Wait until the proposer is ready; bad input ends here, before there is a folder."""
    while True:
        select.select(proposer.descriptors, [], [], 0.2)
        if signals.ended() == "SIGINT":
            raise KeyboardInterrupt
        if signals.ended():
            raise SystemExit(75)
        said = proposer.poll()
        for message in said:
            if message["kind"] == "refused":
                raise ValueError(message["line"])
            if message["kind"] == "gone":
                raise RuntimeError(f"the proposer ended with exit code {message['code']}; see its output above")
        if said:
            return said


def _search_setup(job: Job, settings: Settings, workers: int) -> dict[str, Any]:
    pickles = {"method": job.strategy, "schedule": job.schedule}
    return {
        "space": dict(job.space), "method": settings.method, "seed": settings.seed, "workers": workers,
        "maximize": settings.maximize, "goals": list(settings.goals), "limits": list(settings.limits),
        "noise": settings.noise, "max_trials": settings.max_trials, "start": list(settings.start),
        "budget": settings.budget, "schedule": settings.schedule,
        "pickles": {name: base64.b64encode(data).decode() for name, data in pickles.items() if data},
        "path": [os.getcwd(), *_script_folder()],
    }  # fmt: skip


def _worker_setup(job: Job, settings: Settings, folder: Path, token: Path, threads: int) -> dict[str, Any]:
    return {
        "objective": dict(job.objective), "fix": settings.fix, "folder": str(folder), "token": str(token),
        "argv": sys.argv, "isolation": settings.isolation, "trial_timeout": fixed_timeout(settings),
        "memory": settings.memory_per_worker, "threads": threads, "path": _script_folder(),
        "goals": list(settings.goals), "limits": list(settings.limits), **_resources_of(settings),
        "beat": min(BEAT, lease_of(settings) / 4), "checkpoint_every": settings.checkpoint_every,
    }  # fmt: skip


def _opening(job: Job, begun: Beginning, workers: int) -> Event:
    event = {
        "version": VERSION, "utc": datetime.now(UTC).isoformat(), "host": socket.gethostname(), "pid": os.getpid(),
        "job": scheduler_job(), "settings": begun.settings.plain() | {"workers": workers}, "space": dict(job.space),
        "objective": {"name": job.name, "source": job.source, "load": _load_of(job)},
        "versions": {"python": platform.python_version()},
    }  # fmt: skip
    return event | {"warm": begun.warm} if begun.warm else event


def _load_of(job: Job) -> dict[str, Any]:
    """How the objective is loaded, for ``mpibo resume``; a pickle is not kept."""
    return {name: value for name, value in job.objective.items() if name != "data"}


def _script_folder() -> list[str]:
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    return [os.path.dirname(os.path.abspath(main))] if main else []
