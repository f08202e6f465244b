"""A running trial as objectives see it, without an engine: it keeps what it is told."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Stopped(BaseException):
    """As ``mpibo.Stopped``: not an Exception, so that a training loop does not swallow it."""


@dataclass
class Trial:
    """As much of a running trial as an objective sees; keeps the reports, and may stop at one of them.

    With a dict as ``kept`` each report saves the parts and the random state of torch there, and ``resume`` goes on
    from the last ones.
    """

    folder: Path = Path("unused")
    id: int = 3
    budget: int = 1
    seed: int = 7
    device: str = "cpu"
    stop_at: int | None = None
    reports: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    kept: dict[int, Any] | None = None
    parts: dict[str, Any] = field(default_factory=dict)

    def resume(self, **parts: Any) -> int:
        self.parts = parts
        if not self.kept:
            return 0
        import torch

        step = max(self.kept)
        states, random_state = self.kept[step]
        for name, part in parts.items():
            part.load_state_dict(copy.deepcopy(states[name]))
        torch.set_rng_state(random_state)
        return step

    def report(self, value: float, step: int, **metrics: Any) -> None:
        self.reports.append((value, step, metrics))
        if self.kept is not None:
            import torch

            states = {name: copy.deepcopy(part.state_dict()) for name, part in self.parts.items()}
            self.kept[step] = states, torch.get_rng_state()
        self.times.append(time.monotonic())
        if step == self.stop_at:
            raise Stopped
