"""A running trial as objectives see it, without an engine: it keeps what it is told."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Stopped(BaseException):
    """As ``mpibo.Stopped``: not an Exception, so that a training loop does not swallow it."""


@dataclass
class Trial:
    """As much of a running trial as an objective sees; keeps the reports, and may stop at one of them."""

    folder: Path = Path("unused")
    id: int = 3
    budget: int = 1
    seed: int = 7
    device: str = "cpu"
    stop_at: int | None = None
    reports: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def resume(self, **parts: Any) -> int:
        return 0

    def report(self, value: float, step: int, **metrics: Any) -> None:
        self.reports.append((value, step, metrics))
        self.times.append(time.monotonic())
        if step == self.stop_at:
            raise Stopped
