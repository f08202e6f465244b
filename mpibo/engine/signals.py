"""Signals: rank 0 notes them and ends the run in order; workers wait for rank 0 to tell them."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from types import FrameType
from typing import Any, Self

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
URGENCY = {"SIGUSR1": 0, "SIGTERM": 1, "SIGINT": 2}  # a more urgent signal takes the place of another
# Seconds that a worker waits for word of the manager after SIGTERM: longer than the manager then waits for trials, and
# than the time between two beats. After SIGUSR1 trials may have an hour.
GRACE = 45.0


class Signals:
    """Note the signals that end a run, while this context lasts; earlier handlers come back after it.

    A second SIGINT raises KeyboardInterrupt at once. Outside the main thread nothing is installed.
    """

    def __init__(self, impatient: bool = True) -> None:
        self.name: str | None = None
        self.since = 0.0
        self._impatient = impatient
        self._waits = False  # SIGTERM came, the launcher's or the scheduler's
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
        """The most urgent signal that came, as ``SIGTERM``; None when none has."""
        return self.name

    def overdue(self) -> bool:
        """Whether a signal came so long ago that nobody will tell us to quit any more."""
        return self._waits and time.monotonic() - self.since > GRACE

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.name == "SIGINT" and number == signal.SIGINT and self._impatient:
            raise KeyboardInterrupt
        name = signal.Signals(number).name
        if name == "SIGTERM" and not self._waits:
            self._waits = True
            self.since = time.monotonic()
        if self.name is None or URGENCY[name] > URGENCY[self.name]:
            self.name = name
