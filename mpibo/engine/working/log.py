"""A worker's log: what its trials print, under a header for each trial that prints."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from mpibo.outcome import ERROR_BYTES

CAP = 32 * 2**20  # bytes
HEADER = re.compile(rb"=== mpibo trial (\d+) at ")


def path_of(folder: str | Path, worker: int) -> Path:
    """Where a worker's log lies in a run folder."""
    return Path(folder, "logs", f"worker-{worker:03d}.log")


class Log:
    """Keeps what one worker's trials print; the file is made when something is printed, and capped.

    Args:
        folder: The run folder; None keeps nothing.
        number: The worker's number.
        echo: Where to show it besides.
    """

    def __init__(self, folder: str | None, number: int, echo: BinaryIO | None = None) -> None:
        self.path = path_of(folder, number) if folder else None
        self.tail = b""  # the last of what the current trial printed
        self._file: Any = None
        self._header = b""
        self._left = CAP
        self._echo = echo

    def header(self, run: Mapping[str, Any]) -> None:
        """A trial begins."""
        self.tail = b""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._header = f"=== mpibo trial {run['id']} at {stamp} {run['config']}\n".encode()

    def write(self, data: bytes) -> None:
        """Keep what a trial printed. A full disk costs output, never the trial."""
        self.tail = (self.tail + data)[-ERROR_BYTES:]
        if self._echo:
            self._echo.write(data)
            self._echo.flush()
        if not self.path or self._left <= 0:
            return
        with contextlib.suppress(OSError):
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115
                self._left -= self._file.tell()
            data, self._header = self._header + data, b""
            self._file.write(data[: self._left])
            self._left -= len(data)
            if self._left <= 0:
                self._file.write(b"\n=== mpibo: this log is full; nothing more is kept\n")

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()
            self._file = None


def printed_by(path: Path, trial: int) -> bytes:
    """What stands under a trial's header in a worker's log."""
    if not path.exists():
        return b""
    found = b""
    mine = False
    with open(path, "rb") as file:
        for line in file:
            if header := HEADER.match(line):
                mine = int(header[1]) == trial
            elif mine:
                found += line
    return found
