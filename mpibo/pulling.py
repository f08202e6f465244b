"""Bring a mirrored run back from S3: every piece is checked before anything of the journal is written."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mpibo.engine.keeping import place as file_of
from mpibo.engine.managing.account import take_in
from mpibo.goals import aims_in
from mpibo.store import atomic, journal, pieces
from mpibo.store.lock import Lock
from mpibo.store.owner import NAME as OWNER
from mpibo.store.pieces import Chosen, Gap, Piece, checkpoint_name, is_checkpoint
from mpibo.store.s3 import Changed, Missing, Place, insist
from mpibo.trial import Event

log = logging.getLogger("mpibo")

AT_ONCE = 8  # objects that are fetched together
AGAIN = 5  # looks at a run that goes on: its pieces become larger ones meanwhile


def pull(place: Place, folder: Path) -> int:
    """Bring the run at ``place`` into ``folder``, a new one or one with an older state of it; gives its lines.

    The journal is written last, whole or not at all. A checkpoint that is missing or damaged is left out with a
    warning: a trial then goes on from an older one.

    Raises:
        ValueError: No run is there, a piece is damaged or missing, or the folder holds another run.
        Trouble: S3 does not answer.
        Locked: A run works in the folder.
    """
    data = _journal(place)
    events = journal.parse(data, f"{place.url} (its journal)").events
    fresh = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with Lock(folder / "run.lock"):
        if not fresh:
            _check(folder, data, place.url)
        names = insist(place.names)
        for name in names:
            if not name.startswith(pieces.FOLDER) and not is_checkpoint(name) and name != OWNER:
                _fetch(place, name, folder / name if _is_plain(name) else None, None)
        for name, (where, sha256) in _checkpoints(events).items():
            if name not in names:
                log.warning("%s has no %s: its trial goes on from an older one, or anew", place.url, where)
            elif not _is_there(folder / where, names[name], sha256):
                _fetch(place, name, folder / where, sha256)
        atomic.write(folder / journal.NAME, data)
    return len(events)


def default_folder(url: str) -> Path:
    """Where a run comes to when nobody says: ``runs/`` and the last part of its place."""
    return Path("runs", url.rstrip("/").rpartition("/")[2])


def _journal(place: Place) -> bytes:
    """The journal's bytes, from its pieces."""
    before: list[Piece] = []
    for count in range(AGAIN):
        found = pieces.pieces_of(insist(lambda: place.names(pieces.FOLDER)))
        try:
            chosen = pieces.chain(found)
        except Gap as error:
            if found != before and count < AGAIN - 1:  # a long list comes in parts, between which pieces may become one
                before = found
                continue
            raise ValueError(f"{place.url} is damaged: {error} of the journal (nothing was written)") from None
        if not chosen:
            raise ValueError(f"{place.url} holds no run: there is no journal/ under it")
        try:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                return b"".join(pool.map(lambda each: _piece(place, each), chosen))
        except Missing:
            if count == AGAIN - 1:
                raise
    raise AssertionError


def _piece(place: Place, each: Chosen) -> bytes:
    """One piece's lines.

    Raises:
        Changed: It has another hash than its name says.
    """
    data = insist(lambda: place.get(each.piece.name)).data
    if hashlib.sha256(data).hexdigest() != each.piece.sha256:
        raise Changed(
            f"{place.url}/{each.piece.name} is damaged (its hash differs); nothing was written: restore it from an "
            f"earlier version of the bucket, or go on from the run folder"
        )
    lines = data.splitlines(keepends=True)
    return b"".join(lines[: each.last - each.piece.first + 1])


def _check(folder: Path, data: bytes, url: str) -> None:
    """A folder that is there must hold an older state of this run, or nothing of a run."""
    path = folder / journal.NAME
    if path.exists():
        good = journal.read(path).good
        if not data.startswith(good):
            more = good.startswith(data)
            told = f"holds more of this run than {url}: go on in it" if more else f"holds another run than {url}"
            raise ValueError(f"{folder} {told} (nothing was changed)")
    elif any(name != "run.lock" and name[0] != "." for name in os.listdir(folder)) and not _was_pulled(folder):
        raise ValueError(f"{folder} holds other files and no journal; give a new folder")


def _was_pulled(folder: Path) -> bool:
    return (folder / "settings.toml").exists() or (folder / "checkpoints").is_dir()


def _checkpoints(events: list[Event]) -> Mapping[str, tuple[str, str]]:
    """The checkpoints of use at the end, by their names in S3: file and hash."""
    opens = [event for event in events if event["kind"] == "open"]
    settings: Mapping[str, Any] = opens[-1]["settings"] if opens else {}
    kept = take_in(events, aims_in(settings), settings.get("schedule") is not None).shelf.kept
    return {
        checkpoint_name(trial, each["step"], each["sha256"]): (file_of(trial, each["step"]), each["sha256"])
        for trial, each in kept.items()
    }


def _fetch(place: Place, name: str, target: Path | None, sha256: str | None) -> None:
    if target is None:
        log.warning("%s holds an object of an odd name; it is left out", place.url)
        return
    try:
        place.fetch(name, target, sha256)
    except (Changed, Missing) as error:
        log.warning("%s: %s; it is left out", place.url, error)


def _is_plain(name: str) -> bool:
    """Whether an object's name is one inside a folder."""
    return bool(name) and all(part not in ("", ".", "..") for part in name.split("/")) and "\0" not in name


def _is_there(path: Path, size: int, sha256: str) -> bool:
    try:
        with open(path, "rb") as file:
            return path.stat().st_size == size and hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False
