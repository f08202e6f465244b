"""What an objective gets to see of its trial, and how it reports."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mpibo.outcome import as_number, plain


class Stopped(BaseException):
    """Raised by ``trial.report`` when the trial is to end; a BaseException, since training loops swallow Exception."""


class RunningTrial:
    """The trial that an objective evaluates.

    ``RunningTrial(budget=3)`` by hand prints its reports, so an objective can be tried without a search.

    Attributes:
        id: The trial's number.
        config: The whole config.
        budget: Resource of this trial, e.g. epochs; a whole number.
        seed: The trial's own seed; random, numpy.random and torch are seeded with it already.
        comm: A communicator of the ranks that share the trial; None for a single one.
        saved: The small state that an earlier part of this training kept; empty without one.
    """

    def __init__(
        self,
        id: int = 0,
        config: Mapping[str, Any] | None = None,
        budget: int = 1,
        seed: int = 0,
        *,
        folder: str | os.PathLike[str] | None = None,
        emit: Callable[[dict[str, Any]], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        comm: Any = None,
    ) -> None:
        self.id = id
        self.config = dict(config or {})
        self.budget = budget
        self.seed = seed
        self.comm = comm
        self.saved: dict[str, Any] = {}
        self.last: float | None = None
        self._folder = Path(folder) if folder else None
        self._emit = emit
        self._cancelled = cancelled

    @property
    def device(self) -> str:
        """Where to compute: what MPIBO_DEVICE says; else ``cuda`` where torch is loaded and sees a GPU, or ``cpu``."""
        if told := os.environ.get("MPIBO_DEVICE"):
            return told
        torch = sys.modules.get("torch")
        return "cuda" if torch is not None and torch.cuda.is_available() else "cpu"

    @property
    def folder(self) -> Path:
        """A folder of the trial's own in the run folder; made on first use."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="mpibo-trial-"))
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder

    def resume(self, **parts: Any) -> int:
        """The step at which the training goes on: 0, as long as no checkpoint of this trial exists."""
        return 0

    def report(self, value: float, step: int, **metrics: Any) -> None:
        """Tell how the training goes.

        Args:
            value: The objective's value so far, a number in the person's sign.
            step: Steps of the budget that are done.
            **metrics: Further numbers of this step.

        Raises:
            Stopped: The trial is to end; let it pass.
            TypeError: ``value`` is no number.
        """
        number = as_number(value)
        if number is None:
            raise TypeError(f"report expects a number, got {type(value).__name__}: {value!r}")
        if number == number and abs(number) != float("inf"):
            self.last = number
        if self._emit:
            self._emit({"step": int(step), "value": plain(number), "metrics": plain(metrics)})
        else:
            extra = "".join(f"  {name} {item}" for name, item in metrics.items())
            print(f"trial {self.id}  step {step}/{self.budget}  value {number:.6g}{extra}")
        if self._cancelled and self._cancelled():
            raise Stopped
