"""The journal: numbered, checksummed JSON lines, written by rank 0 alone before an event has any effect.

A line reads ``{"n": 7, "kind": "end", "t": 3.2, ..., "synced": 5, "crc": "9f3a01c7"}``: its number (from 1, without a
gap), what happened, the number of the last line then known to be on the disk, and the CRC-32 of the bytes before ``,
"crc"``. A bad line after the highest line known to be synced is a torn tail (a crash); before it, it is damage.

A disk may be full, slow, or gone for a while. Nothing is lost by that while the process lives: what is not known to be
on the disk is kept in memory. After an error nobody knows what the file holds behind its last synced byte: a write may
have ended half way; a kernel whose sync failed may have dropped the pages, and says of the next sync that all is well.
So the next ``write`` opens the file anew, writes all from that byte on again in its place, cuts off what is behind, and
syncs.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpibo.store.atomic import sync_folder
from mpibo.strict import encoder
from mpibo.trial import Event, config_of

VERSION = 1
NAME = "journal.jsonl"
TORN = "journal.torn"
BATCH = 1024  # lines that are decoded together
_TAIL = b', "crc": "%08x"}\n'
_TAIL_SIZE = len(_TAIL % 0)
_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)  # of a file system that knows no sync
_encode = encoder(", ", ": ")
_decode = json.JSONDecoder().decode


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
    return body + _TAIL % zlib.crc32(body)


def event_of(line: bytes) -> Event | None:
    """The event of one line (newline included), or None if the line is not whole and good."""
    return _decoded([line])[0] if _is_whole(line) else None


def _is_whole(line: bytes) -> bool:
    return line[-_TAIL_SIZE:] == _TAIL % zlib.crc32(line[:-_TAIL_SIZE])


def _decoded(lines: list[bytes]) -> list[Event]:
    """The events of whole lines. Decoded together they share the names in them: a third of their memory."""
    events: list[Event] = _decode(f"[{b','.join(lines).decode('ascii')}]")
    for event in events:
        config = event.get("config")
        if config is not None and list in map(type, config.values()):
            event["config"] = config_of(config)
    return events


def events_of(lines: list[bytes], number: int) -> list[Event]:
    """The events of the good lines that ``lines`` begins with, numbered from ``number`` without a gap."""
    events: list[Event] = []
    whole = next((i for i, line in enumerate(lines) if not _is_whole(line)), len(lines))
    with _no_collection():
        for first in range(0, whole, BATCH):
            events += _decoded(lines[first : min(first + BATCH, whole)])
    for i, event in enumerate(events):
        if event["n"] != number + i:
            return events[:i]
    return events


def parse(data: bytes, where: object = NAME) -> Contents:
    """Sort the bytes of a journal into good lines and a torn tail.

    Raises:
        Damaged: A bad line lies before one that is known to be synced, or lines are missing.
    """
    lines = data.splitlines(keepends=True)
    good = events_of(lines, 1)
    size = sum(map(len, lines[: len(good)]))
    number = len(good) + 1
    for line in lines[len(good) :]:  # what the lines behind a bad one know of it, also behind a newline that was lost
        later = event_of(line) or event_of(line[max(0, line.rfind(b'{"n": ')) :])
        if later and later["synced"] >= number:
            bad = event_of(lines[len(good)])
            found = "a line that fails its checksum" if bad is None else f"line number {bad['n']}"
            raise Damaged(
                f"{where} is damaged at line {number}: {found}, although line {later['synced']} was already on the "
                f"disk; restore the file from a copy, or give another folder with --out (nothing was changed)"
            )
    return Contents(good, data[:size], data[size:])


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without the search for cycles: a million new dicts make it look through all of them again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


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
        sync: Whether a thread syncs the file (a simulation does without: what is written counts as synced).

    Attributes:
        number: Of the last line appended.
        synced: Of the last line known to be on the disk.
        size: Bytes of the file that ``write`` has written.
        trouble: What went wrong with the disk, until a ``write`` has put it right; None when all is well.
    """

    def __init__(self, folder: Path, now: Callable[[], float] = time.monotonic, sync: bool = True) -> None:
        self.path = folder / NAME
        self.events: list[Event] = []  # of earlier starts
        self.trouble: str | None = None
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
        about = os.fstat(self._file)
        self.size = about.st_size  # bytes written, known to nobody else
        self._inode = about.st_ino
        self._safe = self.size  # bytes known to be on the disk
        self._held: deque[tuple[int, bytes]] = deque()  # what was written behind them: end in the file, bytes
        self._wake = threading.Condition()
        self._disk = threading.Lock()  # held while the descriptor may not be closed
        self._closing = False
        self._thread = threading.Thread(target=self._sync_on, name="journal-sync", daemon=True) if sync else None
        if self._thread:
            self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of lines that were appended and not written."""
        return len(self._waiting)

    def _recover(self, folder: Path) -> list[Event]:
        """Copy the good lines to a new file, synced and renamed, and set the torn tail aside.

        The new file also tells a manager whose lock was taken that the journal is no longer its own.
        """
        contents = read(self.path)
        if contents.torn:
            with open(folder / TORN, "ab") as torn:
                torn.write(contents.torn if contents.torn.endswith(b"\n") else contents.torn + b"\n")
        fresh = self.path.with_suffix(".new")
        try:
            with open(fresh, "wb") as file:
                file.write(contents.good)
                file.flush()
                _sync(file.fileno())
            os.replace(fresh, self.path)
        except OSError:
            with suppress(OSError):
                fresh.unlink()
            raise
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
        number = self.number + 1
        stamped = {"n": number, "kind": event["kind"], "t": round(self._last - self._zero, 6), **event}
        self._waiting.append(line_of(stamped, number, self.synced))
        self.number = number
        return stamped

    def write(self) -> None:
        """Write all lines that wait. When it returns they survive this process, though perhaps not a power cut.

        After trouble it first puts the file right, even when nothing waits.

        Raises:
            OSError: The disk is full, gone, or could not sync. Nothing is lost: call it again, after a pause and as
                often as need be (``trouble`` says why). Until then no line that waits may have an effect.
        """
        if self.trouble:
            self._mend()
        if not self._waiting:
            return
        data = b"".join(self._waiting)
        try:
            _write_all(self._file, data)
        except OSError as error:
            self.trouble = _told(error)
            raise
        self._waiting.clear()
        self.size += len(data)
        if self._thread:
            self._held.append((self.size, data))
        else:
            self._safe = self.size
        self._written = self.number
        if self._thread and self._wake.acquire(blocking=False):
            self._wake.notify()
            self._wake.release()

    def sync(self) -> None:
        """Wait until every written line is on the disk.

        Raises:
            OSError: As ``write``.
        """
        if self.trouble:
            self._mend()
        if self._written > self.synced:
            self._sync_once()

    def close(self) -> None:
        """Write and sync what is left, and close the file: tried once, it never waits for a disk that comes back.

        Raises:
            OSError: Some of it could not be written or synced; the file is closed all the same.
        """
        if self._closing:
            return
        try:
            self.write()
        finally:
            self._closing = True
            if self._thread:
                with self._wake:
                    self._wake.notify()
                self._thread.join()
            try:
                self.sync()
            finally:
                os.close(self._file)

    def _sync_on(self) -> None:
        while not self._closing:
            with self._wake:
                if (self.synced == self._written or self.trouble) and not self._closing:
                    self._wake.wait(timeout=0.5)
            if self.synced < self._written and not self.trouble:
                with suppress(OSError):  # it is noted; a second sync would say that all is well
                    self._sync_once()
                time.sleep(0.005)  # a burst of lines shares one sync

    def _sync_once(self) -> None:
        with self._disk:
            number, size = self._written, self.size
            if number <= self.synced:
                return  # somebody was faster
            try:
                _sync(self._file)
            except OSError as error:
                self.trouble = _told(error)
                raise
            self._on_disk(number, size)

    def _on_disk(self, number: int, size: int) -> None:
        while self._held and self._held[0][0] <= size:
            self._safe = self._held.popleft()[0]
        self.synced = max(self.synced, number)

    def _mend(self) -> None:
        """Write what is not known to be on the disk once more, in its place, and cut off what is behind it."""
        with self._disk:
            try:
                file = os.open(self.path, os.O_WRONLY)
                try:
                    about = os.fstat(file)
                    if about.st_ino != self._inode:
                        raise OSError(errno.ESTALE, "another file is in the place of the journal")
                    if about.st_size < self._safe:
                        raise OSError(errno.EIO, f"{self._safe - about.st_size} synced bytes of the journal are gone")
                    os.lseek(file, self._safe, os.SEEK_SET)
                    _write_all(file, b"".join(data for _, data in self._held))
                    os.ftruncate(file, self.size)
                    if self._thread:
                        _sync(file)
                finally:
                    os.close(file)
                fresh = os.open(self.path, os.O_WRONLY | os.O_APPEND)  # the old one may be of a mount that is gone
            except OSError as error:
                self.trouble = _told(error)
                raise
            with suppress(OSError):
                os.close(self._file)
            self._file = fresh
            self._on_disk(self._written, self.size)
            self.trouble = None


def _write_all(file: int, data: bytes) -> None:
    """All of ``data``; a signal or a short write (a disk that is filling up) does not end it."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _sync(file: int) -> None:
    try:
        os.fdatasync(file)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


def _told(error: OSError) -> str:
    return error.strerror or str(error)


def dumps(value: Any) -> bytes:
    """Strict JSON on one line, newline included: how our processes talk through pipes."""
    return _encode(value).encode() + b"\n"
