"""An evaluation in virtual time: what its worker says and when, and how it ends when it is told to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mpibo.engine import messages
from mpibo.engine.cancelling import Cancel
from mpibo.engine.messages import Message
from mpibo.engine.working.reports import Reports
from mpibo.trial import Outcome, State

Point = dict[str, Any]  # ``step value metrics`` of a report, ``checkpoint`` where one was saved


@dataclass(frozen=True)
class Training:
    """What an evaluation says if nobody ends it.

    Attributes:
        outcome: Its end, after ``outcome.duration`` seconds.
        reports: Seconds since its start, and the point that is reported then; in their order.
    """

    outcome: Outcome
    reports: Sequence[tuple[float, Point]] = ()


def begun(run: Message) -> int:
    """The step of its best checkpoint, from which a trial goes on; 0 without one."""
    return max((each["step"] for each in run.get("checkpoints", ())), default=0)


def training_of(run: Message, outcome: Outcome, points: Sequence[Point] = ()) -> Training:
    """Reports spread over an evaluation's seconds, each as late as its step; under a schedule the last one saves.

    Args:
        run: The trial's ``run`` message.
        outcome: Its end.
        points: What it reports, in their order. Steps beyond its budget come at its end.
    """
    first, last = begun(run), run["budget"]
    told = [dict(point) for point in points]
    if run.get("rung") and outcome.state is State.DONE:  # the end of its budget is saved, and told
        if not told or told[-1]["step"] != last:
            told.append({"step": last, "value": None, "metrics": {}})
        told[-1]["checkpoint"] = {"step": last, "sha256": f"{run['id']:064x}", "bytes": 1}
    reports, share = [], 0.0
    for point in told:
        share = max(share, min(1.0, (point["step"] - first) / max(1, last - first)))
        reports.append((share * outcome.duration, point))
    return Training(outcome, reports)


class Playing:
    """A simulated worker's trial, message by message.

    Args:
        number: The trial's id.
        training: What it says if nobody ends it.
        began: When it began.
        sent: When its worker sent the last report.
        several: Whether there are several goals.
    """

    def __init__(
        self, number: int, training: Training, began: float, sent: float = -math.inf, several: bool = False
    ) -> None:
        self.number = number
        self._training = training
        self._began = began
        self._sent = sent
        self._several = several
        self._told = 0  # reports that were sent
        self._cancel: Cancel | None = None
        self._heard = math.inf  # when the cancel came

    def cancel(self, cancel: Cancel, now: float) -> None:
        """It is told to end: at its next report it does, or it is killed. Of several reasons the first stands."""
        if self._cancel is None:
            self._cancel, self._heard = cancel, now
        else:
            self._cancel = replace(self._cancel, deadline=min(cancel.deadline, self._cancel.deadline))

    def next(self) -> tuple[float, list[Message], Playing | None]:
        """What its worker says next: when, the messages, and the trial behind them; None where that was its end.

        Nothing is decided by this: a cancel that comes before then changes it.
        """
        waiting, count = Reports(self._sent), self._told
        over = self._began + self._training.outcome.duration
        end = over if self._cancel is None else min(over, max(self._heard, self._cancel.deadline))
        for after, point in self._training.reports[self._told :]:
            at = self._began + after
            if at > end:
                break
            if waiting.due <= at:
                return self._on(waiting, waiting.due, count)
            count += 1
            now = waiting.add([point], at)
            if self._heard <= at:
                return self._end(waiting, at, self._cancelled(at, count))
            if now:
                return self._on(waiting, at, count)
        if waiting.due < end:
            return self._on(waiting, waiting.due, count)
        return self._end(waiting, end, self._training.outcome if end == over else self._cancelled(end, count, True))

    def _cancelled(self, at: float, count: int, killed: bool = False) -> Outcome:
        assert self._cancel is not None
        values = [point["value"] for _, point in self._training.reports[:count] if point["value"] is not None]
        last = values[-1] if values else None
        return self._cancel.outcome(last, at - self._began, killed=killed, several=self._several)

    def _on(self, waiting: Reports, at: float, count: int) -> tuple[float, list[Message], Playing]:
        behind = Playing(self.number, self._training, self._began, at, self._several)
        behind._told, behind._cancel, behind._heard = count, self._cancel, self._heard
        return at, waiting.take(self.number, at), behind

    def _end(self, waiting: Reports, at: float, outcome: Outcome) -> tuple[float, list[Message], None]:
        return at, [*waiting.take(self.number, at), messages.finished(self.number, outcome)], None
