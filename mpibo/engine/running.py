"""What an objective gets to see of its trial, and how it reports."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpibo.outcome import as_number, plain
from mpibo.store import checkpoint

if TYPE_CHECKING:
    from mpibo.engine.keeping import Keeping


class Stopped(BaseException):
    """Raised by ``trial.report`` when the trial is to end; a BaseException, since training loops swallow Exception."""


class RunningTrial:
    """The trial that an objective evaluates.

    ``RunningTrial(budget=3)`` by hand prints its reports, so an objective can be tried without a search; it saves
    nothing.

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
        cancelled: Callable[[], str | None] | None = None,
        comm: Any = None,
        keeping: Keeping | None = None,
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
        self._keeping = keeping
        self._parts: dict[str, Any] = {}
        self._state: Mapping[str, Any] | None = None

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
        """Go on where an earlier part of this training was saved: every part is loaded in place, random numbers go on.

        From now on reports save these parts when the run wants it.

        Args:
            **parts: By name whatever has ``state_dict`` and ``load_state_dict``: a model, an optimizer, a scheduler.

        Returns:
            The last step that was saved; 0 without a checkpoint.

        Raises:
            TypeError: A part has no ``state_dict``.
        """
        for name, part in parts.items():
            checkpoint.check_part(name, part)
        self._parts.update(parts)
        found = self._keeping.restore(self._parts) if self._keeping else None
        if found is None:
            return 0
        self._state = self.saved = found.state
        self.last = found.value
        return found.step

    def report(self, value: float, step: int, *, state: Mapping[str, Any] | None = None, **metrics: Any) -> None:
        """Tell how the training goes.

        Args:
            value: The objective's value so far, a number in the person's sign.
            step: Steps of the budget that are done.
            state: What a later part of this training needs besides the parts, as ``trial.saved``: a dict of numbers,
                text, None, lists, dicts, arrays and tensors. It is saved with the parts, not with each report.
            **metrics: Further numbers of this step.

        Raises:
            Stopped: The trial is to end; let it pass.
            TypeError: ``value`` is no number, or the state (of a part) holds what can't be kept.
        """
        number = as_number(value)
        if number is None:
            raise TypeError(f"report expects a number, got {type(value).__name__}: {value!r}")
        if number == number and abs(number) != float("inf"):
            self.last = number
        if state is not None:
            checkpoint.check_state(state)
            self._state = state
        why = self._cancelled() if self._cancelled else None
        point = {"step": int(step), "value": plain(number), "metrics": plain(metrics)}
        if (
            self._keeping
            and (self._parts or self._state is not None)
            and self._keeping.due(int(step), self.budget, why)
        ):
            kept = self._keeping.save(int(step), self._parts, self._state or {}, self.last)
            point |= {"checkpoint": kept} if kept else {}
        if self._emit:
            self._emit(point)
        else:
            extra = "".join(f"  {name} {item}" for name, item in metrics.items())
            print(f"trial {self.id}  step {step}/{self.budget}  value {number:.6g}{extra}")
        if why is not None:
            raise Stopped
