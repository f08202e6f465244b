"""A run's folder: a new one or one that goes on, held against its beginning, with the settings of its last start."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from mpibo.engine.job import Job
from mpibo.goals import aims_in
from mpibo.settings import Settings
from mpibo.store.atomic import write
from mpibo.store.journal import NAME
from mpibo.trial import Event, Ledger

log = logging.getLogger("mpibo")

LARGEST_SOURCE = 1 << 20  # bytes of an objective's file that is kept


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
        ValueError: Another space, another sign, other goals or limits.
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


def check_limits(ledger: Ledger, settings: Settings) -> None:
    """Hold a run that goes on against its limits.

    Raises:
        ValueError: One is reached already.
    """
    over = settings.max_trials is not None and ledger.configs >= settings.max_trials
    if over and not ledger.running and not ledger.lost and settings.schedule is None:  # else promotions may be left
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


def keep_source(folder: Path, job: Job) -> None:
    """A copy of the objective's file in the run folder: a run that comes back from S3 alone needs it."""
    if job.objective.get("kind") != "file":
        return
    path = Path(job.objective["path"])
    try:
        if path.stat().st_size <= LARGEST_SOURCE:
            (folder / "objective").mkdir(exist_ok=True)
            write(folder / "objective" / path.name, path.read_bytes())
    except OSError as error:
        log.warning("can't keep a copy of %s: %s", path, error.strerror)


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
