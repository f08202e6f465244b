"""Bring a run up and take it down: its folder, lock and journal, the children of rank 0, the loop, the last word."""

from __future__ import annotations

import base64
import json
import logging
import math
import os
import platform
import select
import shutil
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mpibo.engine import mpi
from mpibo.engine.beginning import Beginning, beginning
from mpibo.engine.children import Child
from mpibo.engine.environment import child_environment, fair_threads, scheduler_job
from mpibo.engine.keeper import Keeper
from mpibo.engine.manager import LEASE, TAKEN, Ended, Limits, Manager
from mpibo.engine.proposer import Proposer
from mpibo.engine.signals import Signals
from mpibo.engine.transport import Local, Transport
from mpibo.goals import Aims, aims_in
from mpibo.settings import Settings
from mpibo.store.atomic import sync_folder, write
from mpibo.store.journal import NAME, VERSION, Journal
from mpibo.store.lock import Lock
from mpibo.trial import Event, Ledger

log = logging.getLogger("mpibo")

VIEWS_PATIENCE = 60.0  # seconds that the last views may take


@dataclass(frozen=True)
class Job:
    """What is to be searched: an objective as a child loads it, and its space.

    Attributes:
        name: For the run folder and for people.
        objective: Its description (engine/loading.py).
        space: JSON form.
        source: Hash of the objective's source, where it has one.
        strategy: A pickled strategy object in place of ``settings.method``.
        text: The space in words.
    """

    name: str
    objective: Mapping[str, Any]
    space: Mapping[str, Any]
    source: str | None = None
    strategy: bytes | None = None
    text: str = ""


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
    with ExitStack() as stack:
        signals = stack.enter_context(Signals())
        workers = world.size - 1 if world else settings.workers or 1
        if world and settings.workers not in (None, workers):
            log.warning(
                "workers=%s is not used: the %d ranks of this job are %d workers", settings.workers, world.size, workers
            )
        begun = beginning(job.space, settings)
        proposer = Proposer(_search_setup(job, begun.settings, workers))
        stack.callback(proposer.close)
        first = _first_word(proposer, signals)
        folder, fresh = open_folder(job, settings)
        lock = Lock(folder / "run.lock")
        try:
            lock.acquire()
            stack.callback(lock.release)
            journal = Journal(folder)
        except OSError as error:
            raise ValueError(f"can't write in the run folder {folder}: {error.strerror}") from error
        stack.callback(journal.close)
        check_same(journal.events, job, settings)
        begun.check(journal.events)
        write(folder / "settings.toml", settings_toml(job, settings))
        token = folder / ".seen"
        token.touch()
        sync_folder(folder)
        if settings.progress != "none":
            print(f"{job.name}: {settings.aims} over\n{job.text}", flush=True)
        if fresh:
            log.info("run folder %s", folder)
        _say_cores(world)

        limits = Limits(
            settings.max_trials, settings.walltime, settings.target, settings.aims, settings.seed,
            settings.attempts, lease_of(settings),
        )  # fmt: skip
        setup = _worker_setup(job, settings, folder, token, fair_threads(world.sharing if world else workers))
        transport: Transport = mpi.MPITransport(world, setup) if world else Local(workers, setup)
        stack.enter_context(transport)
        keeper = Keeper(lock, folder)
        manager = Manager(
            limits, transport, Introduced(proposer, first), journal, _opening(job, begun, workers),
            signals.ended, keeper, prior=() if journal.events else begun.results,
        )  # fmt: skip
        keeper.manager = manager
        keeper.write(None)
        stack.callback(write_last_views := Views(folder, settings.progress))
        if also_show:
            stack.callback(also_show(folder))
        ended = Ended("error", 1, "the manager failed")
        try:
            ended = manager.run()
        finally:
            if world:
                world.damaged = world.damaged or manager.damaged
            if ended.why != TAKEN:
                with suppress(OSError):  # a disk that is full; what was written is what counts
                    journal.sync()
                    keeper.write(ended)  # before the views: a launcher that was told to end may leave us a second
                    token.unlink(missing_ok=True)
                write_last_views()
    return Finished(folder, ended)


def _say_cores(world: mpi.World | None) -> None:
    cores = len(os.sched_getaffinity(0))
    if world and cores < 2:
        log.info("rank 0 is bound to %d core; its message loop and its model share it", cores)


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

    def restart(self) -> None:
        """Pass on."""
        self._proposer.restart()


class Views:
    """The scribe child: it shows the run while it lasts, and is waited for at the end (by a call)."""

    def __init__(self, folder: Path, progress: str) -> None:
        columns = shutil.get_terminal_size().columns
        arguments = ["--run", str(folder), "--progress", progress, "--columns", str(columns), "--pid", str(os.getpid())]
        self._child: Child | None = Child("mpibo.engine.scribe", arguments, environment=child_environment(1))

    def __call__(self) -> None:
        """Let it finish, once."""
        if self._child is None:
            return
        child, self._child = self._child, None
        child.finish()
        if child.wait(VIEWS_PATIENCE) is None:
            log.warning("the views were not finished within %.0f s", VIEWS_PATIENCE)
        child.kill()


def lease_of(settings: Settings) -> float:
    """Seconds of silence after which a worker is taken for dead; one that evaluates in its rank can't beat."""
    if settings.isolation != "none":
        return LEASE
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


def open_folder(job: Job, settings: Settings) -> tuple[Path, bool]:
    """The run's folder, made if need be, and whether it is new.

    Raises:
        ValueError: It can't be made, or holds something else.
    """
    if settings.out is None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        folder = Path("runs", f"{job.name}-{stamp}")
        for count in range(2, 1000):
            if not folder.exists():
                break
            folder = Path("runs", f"{job.name}-{stamp}-{count}")
    else:
        folder = Path(settings.out)
    folder = folder.absolute()
    fresh = not (folder / NAME).exists()
    if fresh and folder.is_dir() and any(folder.iterdir()) and not (folder / "settings.toml").exists():
        raise ValueError(f"{folder} holds other files and no journal; give a new folder with --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"can't make the run folder {folder}: {error.strerror}") from error
    return folder, fresh


def check_same(events: list[Event], job: Job, settings: Settings) -> None:
    """Hold a run that goes on against its beginning.

    Raises:
        ValueError: Another space, another sign, other goals or limits, or an end that is reached already.
    """
    opens = [event for event in events if event["kind"] == "open"]
    if not opens:
        return
    first = opens[0]
    where = "give a new folder with --out, or the settings of the first start"
    if first["space"] != json.loads(json.dumps(job.space)):
        raise ValueError(
            f"the run in this folder searches another space ({_differs(first['space'], job.space)}); {where}"
        )
    aims = aims_in(first["settings"])
    if aims != settings.aims:
        raise ValueError(f"the run in this folder is to {aims}, not to {settings.aims}; {where}")
    if first["settings"].get("seed", 0) != settings.seed:
        raise ValueError(
            f"the run in this folder has seed {first['settings'].get('seed', 0)}, got {settings.seed}; {where}"
        )
    last = opens[-1]
    if job.source and last.get("objective", {}).get("source") not in (None, job.source):
        log.warning("the objective's source has changed since the last start; older results are kept as they are")
    ledger = ledger_of(events, settings.aims)
    open_rows = len(ledger.running) + len(ledger.lost)
    if settings.max_trials is not None and ledger.configs >= settings.max_trials and not open_rows:
        raise ValueError(
            f"this run has evaluated {ledger.configs} configs and max_trials is {settings.max_trials}: it is finished; "
            f"raise --max-trials to go on"
        )
    if settings.walltime is not None and ledger.elapsed >= settings.walltime:
        raise ValueError(f"this run has taken {ledger.elapsed:.0f} s of its walltime of {settings.walltime:.0f} s; "
                         f"raise --walltime to go on")  # fmt: skip


def settings_toml(job: Job, settings: Settings) -> str:
    """The settings of the last start as TOML, as ``--settings`` reads them; comments name the objective."""
    import tomli_w

    values = {name: _toml(value) for name, value in settings.plain().items() if name != "deadline"}
    return f"# the last start of {job.name}\n{tomli_w.dumps(values)}"


def _toml(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _toml(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_toml(item) for item in value]
    return {"none": True} if value is None else value


def _differs(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    old = {each["name"]: each for each in before["parameters"]}
    new = {each["name"]: each for each in now["parameters"]}
    names = [name for name in {**old, **new} if old.get(name) != json.loads(json.dumps(new.get(name)))]
    return f"{', '.join(names)} differ" if names else "other forbidden combinations, or another order"


def _search_setup(job: Job, settings: Settings, workers: int) -> dict[str, Any]:
    return {
        "space": dict(job.space), "method": settings.method, "seed": settings.seed, "workers": workers,
        "maximize": settings.maximize, "goals": list(settings.goals), "limits": list(settings.limits),
        "noise": settings.noise, "max_trials": settings.max_trials, "start": list(settings.start),
        "budget": settings.budget,
        "pickle": base64.b64encode(job.strategy).decode() if job.strategy else None,
        "path": [os.getcwd(), *_script_folder()],
    }  # fmt: skip


def _worker_setup(job: Job, settings: Settings, folder: Path, token: Path, threads: int) -> dict[str, Any]:
    return {
        "objective": dict(job.objective), "fix": settings.fix, "folder": str(folder), "token": str(token),
        "argv": sys.argv, "isolation": settings.isolation, "trial_timeout": fixed_timeout(settings),
        "memory": settings.memory_per_worker, "threads": threads, "path": _script_folder(),
        "goals": list(settings.goals), "limits": list(settings.limits),
    }  # fmt: skip


def _opening(job: Job, begun: Beginning, workers: int) -> Event:
    event = {
        "version": VERSION, "utc": datetime.now(UTC).isoformat(), "host": socket.gethostname(), "pid": os.getpid(),
        "job": scheduler_job(), "settings": begun.settings.plain() | {"workers": workers}, "space": dict(job.space),
        "objective": {"name": job.name, "source": job.source},
        "versions": {"python": platform.python_version()},
    }  # fmt: skip
    return event | {"warm": begun.warm} if begun.warm else event


def _script_folder() -> list[str]:
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    return [os.path.dirname(os.path.abspath(main))] if main else []


def ledger_of(events: Iterable[Event], aims: Aims) -> Ledger:
    """The manager's account of a run, from its events."""
    ledger = Ledger(*aims)
    for event in events:
        ledger.apply(event)
    return ledger
