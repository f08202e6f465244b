"""``mpibo resume`` and ``mpibo pull``: go on with a run by its own settings, from its folder or from S3 alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mpibo.cli import Parser, from_flags, parser, told
from mpibo.engine import launch, mpi
from mpibo.engine.job import Job
from mpibo.engine.probe import Probe
from mpibo.pulling import default_folder
from mpibo.pulling import pull as bring
from mpibo.settings import FIELDS, Settings, load_toml, settings_from
from mpibo.store.journal import NAME, read
from mpibo.store.lock import Holder
from mpibo.store.owner import Owner
from mpibo.store.s3 import Place, Trouble
from mpibo.trial import Event

log = logging.getLogger("mpibo")

NOT_AGAIN = ("warm_start", "space", "out", "deadline")  # settings of a first start, or of one start alone


def pull(argv: Sequence[str]) -> int:
    """``mpibo pull URL [FOLDER]``: bring a mirrored run back."""
    _log()
    made = Parser(prog="mpibo pull", description="Bring a run that --sync has mirrored back into a folder.")
    made.add_argument("url", metavar="s3://BUCKET/PREFIX")
    made.add_argument("folder", metavar="FOLDER", nargs="?", help="default: runs/ and the last part of PREFIX")
    made.add_argument("--debug", action="store_true", help="show the traceback of an error")
    given = made.parse_args(argv)
    url = _url(given.url)
    folder = Path(given.folder) if given.folder else default_folder(url)
    lines = _asking(lambda: bring(Place(url), folder))
    print(f"{folder}: {lines} lines of the journal of {url}")
    return 0


def resume(argv: Sequence[str]) -> int:
    """``mpibo resume RUN [flags]``: go on with a run; flags win over its own settings.

    Raises:
        ValueError: There is no run, its objective can't be found, or another cluster works on it.
    """
    _log()
    made = parser("mpibo resume")
    made.usage = "mpibo resume FOLDER|s3://BUCKET/PREFIX [flags]"
    given = made.parse_args(argv)
    if given.debug:
        logging.getLogger("mpibo").setLevel(logging.DEBUG)
    if given.objective is None:
        raise ValueError("resume what? give a run's folder, or s3://BUCKET/PREFIX")
    more: dict[str, Any] = {}
    if given.objective.startswith("s3://"):
        url = _url(given.objective)
        folder = Path(given.out) if given.out else default_folder(url)
        _asking(lambda: _brought(url, folder))
        more["sync"] = url
    else:
        folder = Path(given.objective)
        if given.out is not None and Path(given.out).absolute() != folder.absolute():
            raise ValueError(f"--out {given.out}: a run goes on in its own folder, {folder}")
    if not (folder / NAME).exists():
        raise ValueError(f"{folder} is no run folder: it holds no {NAME}")
    opens = [event for event in read(folder).events if event["kind"] == "open"]
    if not opens:
        raise ValueError(f"{folder} has not begun: start it by the command that made it")
    job, settings = _as_it_was(folder, opens[-1], from_flags(given) | more)
    return told(launch.run(job, settings, mpi.join()).ended, given.debug)


def _as_it_was(folder: Path, opened: Event, flags: Mapping[str, Any]) -> tuple[Job, Settings]:
    """The run's objective and settings, from its last ``open`` line and settings.toml."""
    about = opened["objective"]
    own = _own_settings(folder, opened)
    settings = settings_from(own, flags, {"out": str(folder)})
    description = _found(folder, about)
    space = settings.space if flags.get("space") else opened["space"]
    found = Probe(description, about["name"], space, settings.fix, settings.schedule is not None).result()
    job = Job(about["name"], description, found["space"], found["source"], None, found["text"], found["budget"])
    return job, settings


def _own_settings(folder: Path, opened: Event) -> dict[str, Any]:
    """What the last start was told; the number of workers that it happened to have is not among it."""
    try:
        own = {name.replace("-", "_"): value for name, value in load_toml(folder / "settings.toml").items()}
    except ValueError:
        own = {name: value for name, value in opened["settings"].items() if name != "workers"}
    return {name: value for name, value in own.items() if name in FIELDS and name not in NOT_AGAIN}


def _found(folder: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """How the objective is loaded here: its file where it was, in this directory, or the copy in the run folder."""
    how = dict(about.get("load") or {})
    match how.get("kind"):
        case "module" | "command":
            return how
        case "file":
            path = Path(how["path"])
            for each in (path, Path(path.name), folder / "objective" / path.name):
                if each.is_file():
                    if each != path:
                        log.info("the objective is loaded from %s: %s is not here", each, path)
                    return how | {"path": str(each.absolute())}
            raise ValueError(
                f"the objective {path.name}:{how['function']} is neither at {path} nor in this directory: call "
                f"mpibo resume where it is"
            )
    raise ValueError(
        f"the objective {about['name']} can't be found by a name (it was given as an object, or by an older version): "
        f"start its script again with out={str(folder)!r}"
    )


def _brought(url: str, folder: Path) -> int:
    """Bring the run, unless a cluster works on it."""
    place = Place(url)
    Owner(place, Holder.me()).check()
    return bring(place, folder)


def _url(text: str) -> str:
    url = settings_from({"sync": text}).sync
    assert url
    return url


def _asking(call: Any) -> Any:
    """S3's troubles as one line and code 2."""
    try:
        return call()
    except Trouble as error:
        raise ValueError(str(error)) from None


def _log() -> None:
    logging.basicConfig(format="mpibo: %(message)s", level=logging.INFO)
