"""What becomes of a trial that is told to end: by the run, by a stopping rule, at its time limit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mpibo.trial import Outcome, State


@dataclass(frozen=True, slots=True)
class Cancel:
    """A trial is to end.

    Attributes:
        why: ``end`` (of the run or its allocation), ``stop`` (a stopping rule), ``timeout``, ``abandon`` (nobody
            wants its answer any more); ``memory`` when its worker kills it at the memory limit.
        text: Words for the error; may be empty.
        grace: Seconds that it was given to end by itself; 0 when it was killed at once.
        deadline: When it is killed, by the worker's clock.
    """

    why: str
    text: str = ""
    grace: float = 0.0
    deadline: float = math.inf

    @staticmethod
    def of(message: Mapping[str, Any], now: float = 0.0) -> Cancel:
        """What a ``cancel`` message that came at ``now`` says; without a ``grace`` nothing is killed."""
        grace = message.get("grace")
        deadline = math.inf if grace is None else now + grace
        return Cancel(message.get("why", "stop"), message.get("text") or "", grace or 0.0, deadline)

    def message(self, trial: int) -> dict[str, Any]:
        """The ``cancel`` message for the child that evaluates ``trial``."""
        return {"kind": "cancel", "id": trial, "why": self.why, "text": self.text}

    def outcome(self, last: float | None, duration: float, *, killed: bool = False, several: bool = False) -> Outcome:
        """How the trial ended.

        Args:
            last: The last finite value that it reported; None without one.
            duration: Seconds that it took.
            killed: Whether its process was killed; else it ended by itself when it was told.
            several: Whether there are several goals: then a report is not the trial's value.
        """
        value = None if several else last
        if self.why in ("end", "abandon"):
            told = "ended by the run" if self.why == "end" else "given up by the run"
            error = self._told(f"{told} ({self.text})" if self.text else told, killed)
            return Outcome(State.LOST, value, "lost", error, duration=duration)
        if self.why == "stop" and (last is not None or not killed):
            error = self._told(self.text or "stopped", killed) if self.text or killed else ""
            return Outcome(State.STOPPED, value, error=error or None, duration=duration)
        if self.why == "timeout" and last is not None and not killed:
            return Outcome(State.STOPPED, value, "timeout", self.text or None, duration=duration)
        reason = "memory" if self.why == "memory" else "timeout"
        error = self._told(self.text or "told to end", killed)
        return Outcome(State.FAILED, reason=reason, error=error, duration=duration)

    def _told(self, words: str, killed: bool) -> str:
        return f"{words} and killed after {self.grace:g} s" if killed and self.grace else words
