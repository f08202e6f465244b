"""The journal: numbered, checksummed JSON lines, written by rank 0 alone before an event has any effect.

A line reads ``{"n": 7, "kind": "end", "t": 3.2, ..., "synced": 5, "crc": "9f3a01c7"}``: its number (from 1, without a
gap), what happened, the number of the last line then known to be on the disk, and the CRC-32 of the bytes before ``,
"crc"``. A bad line after the highest line known to be synced is a torn tail (a crash); before it, it is damage.
"""

from __future__ import annotations

import json
import os
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpibo.store.atomic import sync_folder
from mpibo.trial import Event, config_of

VERSION = 1
NAME = "journal.jsonl"
TORN = "journal.torn"
_MARK = b', "crc": "'
_encode = json.JSONEncoder(allow_nan=False, ensure_ascii=True).encode


class Damaged(ValueError):
    """The journal holds a line that is neither good nor part of a torn tail. Nothing has been changed."""


@dataclass(frozen=True)
class Contents:
    """What a journal file holds: its good events, the bytes of these lines, and the torn tail after them."""

    events: list[Event]
    good: bytes
    torn: bytes


def line_of(event: Event, number: int, synced: int) -> bytes:
    """One line of the journal, newline included. NaN and infinity raise ValueError."""
    body = _encode({"n": number, **event, "synced": synced}).encode()[:-1]
    return b'%s, "crc": "%08x"}\n' % (body, zlib.crc32(body))


def event_of(line: bytes) -> Event | None:
    """The event of one line (newline included), or None if the line is not whole and good."""
    body, mark, rest = line.rpartition(_MARK)
    if not mark or len(rest) != 11 or rest[8:] != b'"}\n' or rest[:8] != b"%08x" % zlib.crc32(body):
        return None
    event: Event = json.loads(line)
    if "config" in event:
        event["config"] = config_of(event["config"])
    return event


def parse(data: bytes, where: object = NAME) -> Contents:
    """Sort the bytes of a journal into good lines and a torn tail.

    Raises:
        Damaged: A bad line lies before one that is known to be synced, or lines are missing.
    """
    lines = data.splitlines(keepends=True)
    events = [event_of(line) for line in lines]
    whole = [
        event or event_of(line[max(0, line.rfind(b'{"n": ')) :]) for event, line in zip(events, lines, strict=True)
    ]
    synced = max((event["synced"] for event in whole if event), default=0)  # also behind a newline that was lost
    good: list[Event] = []
    for number, event in enumerate(events, start=1):
        if event is None or event["n"] != number:
            if number <= synced:
                found = "a line that fails its checksum" if event is None else f"line number {event['n']}"
                raise Damaged(
                    f"{where} is damaged at line {number}: {found}, although line {synced} was already on the disk; "
                    f"restore the file from a copy, or give another folder with --out (nothing was changed)"
                )
            break
        good.append(event)
    size = sum(len(line) for line in lines[: len(good)])
    return Contents(good, data[:size], data[size:])


def read(path: str | os.PathLike[str]) -> Contents:
    """Read a journal file, or the one in a run folder."""
    path = Path(path)
    path = path / NAME if path.is_dir() else path
    return parse(path.read_bytes(), path)


class Journal:
    """Append events to a run's journal. Opening it keeps the good lines and sets a torn tail aside.

    ``append`` numbers and keeps a line; ``write`` writes all that wait, with one call; a thread syncs without pause.
    Only what can't be taken back waits for the sync (``sync``).

    Args:
        folder: The run folder.
        now: Seconds, monotonic; an event's ``t`` counts from the last ``restart``.
        sync: Whether a thread syncs the file (a simulation does without).
    """

    def __init__(self, folder: Path, now: Callable[[], float] = time.monotonic, sync: bool = True) -> None:
        self.path = folder / NAME
        self.events: list[Event] = []  # of earlier starts
        self._now = now
        self._zero = now()
        self._last = self._zero
        if self.path.exists():
            self.events = self._recover(folder)
        self.number = len(self.events)
        self.synced = self.number
        self._written = self.number
        self._waiting: list[bytes] = []
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.size = os.fstat(self._file).st_size  # bytes written, known to nobody else
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._sync_on, name="journal-sync", daemon=True) if sync else None
        if self._thread:
            self._thread.start()

    def _recover(self, folder: Path) -> list[Event]:
        """Copy the good lines to a new file, synced and renamed, and set the torn tail aside."""
        contents = read(self.path)
        if contents.torn:
            with open(folder / TORN, "ab") as torn:
                torn.write(contents.torn if contents.torn.endswith(b"\n") else contents.torn + b"\n")
        fresh = self.path.with_suffix(".new")
        with open(fresh, "wb") as file:
            file.write(contents.good)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self.path)
        sync_folder(folder)
        return contents.events

    def restart(self) -> None:
        """Count ``t`` from now on: the next event is an ``open`` line."""
        self._zero = self._now()

    def since_last(self) -> float:
        """Seconds since the last event."""
        return self._now() - self._last

    def append(self, event: Event) -> Event:
        """Number and stamp an event; it waits for ``write``. Gives the event as its line will read."""
        self._last = self._now()
        stamped = {"kind": event["kind"], "t": round(self._last - self._zero, 6), **event}
        self._waiting.append(line_of(stamped, self.number + 1, self.synced))
        self.number += 1
        return {"n": self.number, **stamped}

    def write(self) -> None:
        """Write all lines that wait. When it returns they survive this process, though perhaps not a power cut."""
        if not self._waiting:
            return
        data = b"".join(self._waiting)
        try:
            while data:
                written = os.write(self._file, data)
                self.size += written
                data = data[written:]
        finally:
            self._waiting = [data] if data else []
        self._written = self.number
        if self._thread and self._wake.acquire(blocking=False):
            self._wake.notify()
            self._wake.release()

    def sync(self) -> None:
        """Wait until every written line is on the disk."""
        number = self._written
        if self.synced < number:
            os.fdatasync(self._file)
            self.synced = max(self.synced, number)

    def close(self) -> None:
        """Write and sync what is left, and close the file."""
        self.write()
        self._closing = True
        if self._thread:
            with self._wake:
                self._wake.notify()
            self._thread.join()
        self.sync()
        os.close(self._file)

    def _sync_on(self) -> None:
        while not self._closing:
            with self._wake:
                if self.synced == self._written:
                    self._wake.wait(timeout=0.5)
            number = self._written
            if self.synced < number:
                os.fdatasync(self._file)
                self.synced = max(self.synced, number)
                time.sleep(0.005)  # a burst of lines shares one sync


class Follower:
    """Read a journal while it grows.

    ``read`` gives the good events that have become whole since the last call. A file that was made anew (a restart)
    goes on where it was: the good lines are the same.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = Path(path)
        self.path = path / NAME if path.is_dir() else path
        self.offset = 0
        self.number = 0

    def read(self, until: int | None = None) -> list[Event]:
        """The new events; with ``until`` only those in the file's first ``until`` bytes."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                data = file.read() if until is None else file.read(max(0, until - self.offset))
        except FileNotFoundError:
            return []
        events: list[Event] = []
        for line in data.splitlines(keepends=True):
            event = event_of(line)
            if event is None:
                break
            if event["n"] != self.number + 1:
                raise Damaged(f"{self.path}: expected line {self.number + 1}, got line {event['n']}")
            events.append(event)
            self.number += 1
            self.offset += len(line)
        return events


def dumps(value: Any) -> bytes:
    """Strict JSON on one line, newline included: how our processes talk through pipes."""
    return _encode(value).encode() + b"\n"
