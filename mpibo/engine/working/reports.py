"""A trial's reports on their way to the manager: merged to one message a second, but never late with a checkpoint."""

from __future__ import annotations

import math
from typing import Any

from mpibo.engine import messages
from mpibo.engine.messages import Message

MERGE = 1.0  # seconds between two report messages
POINTS = 100  # at most so many points in one report message


class Reports:
    """The points that wait. A worker has one of these, and a simulated worker too.

    Args:
        sent: When the last message went, by the clock of ``now``.
    """

    def __init__(self, sent: float = -math.inf) -> None:
        self.waiting: list[dict[str, Any]] = []
        self.sent = sent

    @property
    def due(self) -> float:
        """When what waits is to be sent; infinite where nothing waits."""
        return self.sent + MERGE if self.waiting else math.inf

    def add(self, points: list[dict[str, Any]], now: float) -> bool:
        """Let points wait; whether they are to be sent at once."""
        self.waiting.extend(points)
        if len(self.waiting) > POINTS:
            del self.waiting[:-POINTS:2]
        # a checkpoint that the manager has not heard of is of no use
        return now >= self.sent + MERGE or any("checkpoint" in point for point in points)

    def take(self, trial: int, now: float) -> list[Message]:
        """What waits, in as few messages as its size allows."""
        points, self.waiting, self.sent = self.waiting, [], now
        return _fitting({"kind": "report", "id": trial}, points) if points else []


def _fitting(head: Message, points: list[dict[str, Any]]) -> list[Message]:
    """The points in as few messages as their size allows."""
    try:
        messages.pack(message := head | {"points": points})
        return [message]
    except ValueError:
        half = len(points) // 2
        return _fitting(head, points[:half]) + _fitting(head, points[half:]) if half else []
