"""What a simulated evaluation tells: its value, and what it reports on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from mpibo.engine import loading
from mpibo.engine.keeping import Keeping
from mpibo.engine.messages import Message
from mpibo.engine.played import begun
from mpibo.engine.running import RunningTrial
from mpibo.store.checkpoint import Saved
from mpibo.trial import config_of


class Told(NamedTuple):
    """An evaluation.

    Attributes:
        value: What the objective returns: a number, or a dict.
        reports: ``(step, value)`` in their order; a value is None where it is not finite.
    """

    value: Any
    reports: Sequence[tuple[int, float | None]] = ()


def evaluated(description: Mapping[str, Any], fix: Mapping[str, Any]) -> Callable[[Message], Told]:
    """Evaluate an objective in this very process: what it returns for a ``run`` message, and its ``trial.report``s.

    A promoted trial goes on from the step at which its parent's checkpoint would be; the objective must not need what
    it kept there.
    """
    function = loading.load(dict(description))
    arguments = loading.parameters_of(function)

    def tell(run: Message) -> Told:
        reports: list[tuple[int, float | None]] = []
        trial = RunningTrial(
            run["id"], config_of(run["config"]), run["budget"], run["seed"],
            emit=lambda point: reports.append((point["step"], point["value"])), keeping=_Kept(run["id"], begun(run)),
        )  # fmt: skip
        return Told(loading.call(function, arguments, trial, fix), reports)

    return tell


class _Kept(Keeping):
    """In place of checkpoints: the step alone. Nothing is read or written."""

    def __init__(self, trial: int, step: int) -> None:
        super().__init__("", trial, writes=False)
        self._step = step

    def restore(self, parts: Mapping[str, Any]) -> Saved | None:
        return Saved(self._step, None, {}, {}, {}) if self._step else None
