"""Signals: rank 0 notes them and ends the run in order; workers wait for rank 0 to tell them."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from types import FrameType
from typing import Any, Self

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
GRACE = 20.0  # seconds that a worker waits for the manager after SIGTERM


class Signals:
    """Note the signals that end a run, while this context lasts; earlier handlers come back after it.

    A second SIGINT raises KeyboardInterrupt at once. Outside the main thread nothing is installed.
    """

    def __init__(self, impatient: bool = True) -> None:
        self.name: str | None = None
        self.since = 0.0
        self._impatient = impatient
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in ENDING:
                with contextlib.suppress(ValueError, OSError):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def ended(self) -> str | None:
        """The first signal that came, as ``SIGTERM``; None when none has."""
        return self.name

    def overdue(self) -> bool:
        """Whether a signal came so long ago that nobody will tell us to quit any more."""
        return self.name is not None and self.name != "SIGINT" and time.monotonic() - self.since > GRACE

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.name == "SIGINT" and number == signal.SIGINT and self._impatient:
            raise KeyboardInterrupt
        if self.name is None:
            self.name = signal.Signals(number).name
            self.since = time.monotonic()
