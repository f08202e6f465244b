"""What a running trial reports, merged on its way to the manager: few messages, however often it reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mpibo.engine import messages
from mpibo.engine.messages import Message

MERGE = 1.0  # seconds between two report messages
POINTS = 100  # at most so many points in one report message


class Reports:
    """The points of one trial after the other.

    Args:
        send: Sends a message to the manager.
        now: Seconds.

    Attributes:
        last: The last finite value that the trial reported.
    """

    def __init__(self, send: Callable[[Message], None], now: Callable[[], float]) -> None:
        self.last: float | None = None
        self._send = send
        self._now = now
        self._points: list[dict[str, Any]] = []
        self._sent = 0.0

    def begin(self) -> None:
        """The next trial."""
        self.forget()
        self.last = None

    def take(self, number: int, points: list[dict[str, Any]]) -> None:
        """The trial ``number`` has reported; of too many points in a message every second one goes."""
        self._points.extend(points)
        told = [point["value"] for point in points if point["value"] is not None]
        self.last = told[-1] if told else self.last
        if len(self._points) > POINTS:
            del self._points[:-POINTS:2]
        # a checkpoint that the manager has not heard of is of no use
        if self._now() >= self._sent + MERGE or any("checkpoint" in point for point in points):
            self.flush(number)

    @property
    def due(self) -> float | None:
        """When the next message is to be sent; None where there is nothing to say."""
        return self._sent + MERGE if self._points else None

    def flush(self, number: int | None) -> None:
        """Send what has not been sent, if there is a trial."""
        if self._points and number is not None:
            for message in _fitting({"kind": "report", "id": number}, self._points):
                self._send(message)
        self._points = []
        self._sent = self._now()

    def forget(self) -> None:
        """Nobody wants the rest."""
        self._points = []


def _fitting(head: Message, points: list[dict[str, Any]]) -> list[Message]:
    """The points in as few messages as their size allows."""
    try:
        messages.pack(message := head | {"points": points})
        return [message]
    except ValueError:
        half = len(points) // 2
        return _fitting(head, points[:half]) + _fitting(head, points[half:]) if half else []
