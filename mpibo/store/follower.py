"""Read a journal while it grows: how the proposer and every view see a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from mpibo.store.journal import NAME, Damaged, event_of, events_of
from mpibo.trial import Event

CHUNK = 1 << 22  # bytes taken at a time


class Follower:
    """Read a journal while it grows.

    ``read`` gives the good events that have become whole since the last call. A file that was made anew (a restart)
    goes on where it was: the good lines are the same. After an error of the disk the next call goes on, too.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = Path(path)
        self.path = path / NAME if path.is_dir() else path
        self.offset = 0
        self.number = 0

    def read(self, until: int | None = None) -> list[Event]:
        """The new events; with ``until`` only those in the file's first ``until`` bytes.

        Raises:
            OSError: The file can't be read; one that is not there (yet) has no events.
            Damaged: The next good line has another number than it should; those before it were given before.
        """
        events: list[Event] = []
        try:
            events.extend(self.events(until))
        except (OSError, Damaged):
            if not events:
                raise
        return events

    def events(self, until: int | None = None) -> Iterator[Event]:
        """The same one by one, in bounded memory; an error comes behind the events that were read before it."""
        size = CHUNK
        while True:
            data = self._bytes(size if until is None else min(size, until - self.offset))
            before = self.offset
            yield from self._taken(data)
            behind = data[self.offset - before :]
            if b"\n" in behind:
                self._check(behind)
                return  # a bad line: it may become good, or end here
            if len(data) < size:
                return
            if self.offset == before:
                size *= 2  # a line that is longer than a piece

    def _bytes(self, size: int) -> bytes:
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                return file.read(max(0, size))
        except FileNotFoundError:
            return b""

    def _taken(self, data: bytes) -> list[Event]:
        """The events of the good lines that ``data`` begins with; they count as read."""
        lines = data.splitlines(keepends=True)
        events = events_of(lines, self.number + 1)
        self.number += len(events)
        self.offset += sum(map(len, lines[: len(events)]))
        return events

    def _check(self, data: bytes) -> None:
        event = event_of(data[: data.index(b"\n") + 1])
        if event is not None:
            raise Damaged(f"{self.path}: expected line {self.number + 1}, got line {event['n']}")
