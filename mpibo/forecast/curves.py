"""What the trials of a run have reported: a learning curve for each config."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpibo.trial import Config, Event, State, Trial

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """What the training of one config has told, over all the trials that it went on in.

    Attributes:
        config: The config.
        steps: ``(k,)`` steps that were reported, rising, k >= 1.
        values: ``(k,)`` what was reported there, in the person's sign.
        final: What its training with the whole budget returned; None where it ended before.
    """

    config: Config
    steps: Array
    values: Array
    final: float | None


def curves_of(events: Iterable[Event], trials: Sequence[Trial], full: int) -> list[Curve]:
    """The curves of a journal, but for configs that failed or ran when the run ended.

    Args:
        events: The journal's lines. trials: Its trials.
        full: The largest budget.
    """
    roots: list[int] = []
    for trial in trials:
        before = trial.retry_of if trial.retry_of is not None else trial.parent
        roots.append(trial.id if before is None else roots[before])
    told: defaultdict[int, dict[float, float]] = defaultdict(dict)
    for event in events:
        if event["kind"] == "report" and event.get("value") is not None:
            told[roots[event["id"]]][event["step"]] = event["value"]
    latest = dict(zip(roots, trials, strict=True))
    found = []
    for root in sorted(told):
        trial, points = latest[root], told[root]
        if trial.state not in (State.DONE, State.STOPPED):
            continue
        steps = sorted(points)
        whole = trial.state is State.DONE and trial.budget >= full
        found.append(Curve(
            trial.config, np.array(steps, float), np.array([points[step] for step in steps]),
            trial.value if whole else None,
        ))  # fmt: skip
    return found


def completed(curves: Sequence[Curve]) -> tuple[Array, Array, NDArray[np.bool_], Array]:
    """All curves at the same steps, those that ended early brought to the end.

    Between two of its reports a curve is a line. After its last one a training that ended early changes as those that
    were trained fully did from that step on, in the median.

    Args:
        curves: At least one of them with a final value.

    Returns:
        ``(m,)`` steps, each that any curve has; ``(n, m)`` values; ``(n, m)`` True where the config reports: where it
        did, and after its early end; ``(n,)`` final values.
    """
    steps = np.unique(np.concatenate([each.steps for each in curves]))
    values = np.stack([np.interp(steps, each.steps, each.values) for each in curves])
    reports = np.stack([np.isin(steps, each.steps) for each in curves])
    final = np.array([np.nan if each.final is None else each.final for each in curves])
    full = ~np.isnan(final)
    for row, each in enumerate(curves):
        if each.final is not None:
            continue
        last = int(np.searchsorted(steps, each.steps[-1]))
        before = values[full, last]
        values[row, last:] = values[row, last] + np.median(values[full, last:] - before[:, None], axis=0)
        final[row] = values[row, last] + np.median(final[full] - before)
        reports[row, last:] = True
    return steps, values, reports, final
