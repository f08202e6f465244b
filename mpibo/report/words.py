"""How every view writes numbers, times, configs and failures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mpibo.goals import Aims, number_in
from mpibo.trial import Trial


def number(value: float | None) -> str:
    """A value in at most six digits."""
    return "none" if value is None else format(value, ".6g")


def time(seconds: float | None) -> str:
    """A duration in its two largest units: ``9.4 s``, ``41 s``, ``3 min 25 s``, ``2 h 05 min``, ``3 d 4 h``."""
    if seconds is None:
        return "unknown"
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def rate(per_second: float | None) -> str:
    """Evaluations per second, minute or hour, whichever reads best."""
    if per_second is None:
        return "none yet"
    for factor, unit in ((1, "s"), (60, "min")):
        if per_second * factor >= 1:
            return f"{_short(per_second * factor)}/{unit}"
    return f"{_short(per_second * 3600)}/h"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}"


def share(part: float | None) -> str:
    """A part of one as per cent."""
    return "unknown" if part is None else f"{100 * part:.0f} %"


def value(item: Any, digits: int = 4) -> str:
    """One value of a config: floats in so many digits, text as it is, everything else as JSON."""
    if isinstance(item, float):
        return format(item, f".{digits}g")
    return line(item) if isinstance(item, str) and item else json.dumps(item)


def config(items: Mapping[str, Any]) -> str:
    """A config on one line."""
    return "  ".join(f"{name}={value(item)}" for name, item in items.items())


def result(trial: Trial, aims: Aims) -> str:
    """What a trial came to: its value, its goals where there are several, or else its state."""
    if aims.costs(trial.value, trial.metrics) is None:
        return str(trial.state).lower()
    if not aims.several:
        return number(trial.value)
    return "  ".join(f"{goal.name}={number(number_in(trial.metrics, goal.name))}" for goal in aims.goals)


def budget(trial: Trial) -> str:
    """The budget of a trial, where a schedule gave it one."""
    return "" if trial.rung is None else f" at budget {trial.budget}"


def line(text: str, width: int | None = None) -> str:
    """Text as one line without control characters, cut to ``width``."""
    text = "".join(letter if letter.isprintable() else " " for letter in text).strip()
    return text if width is None or len(text) <= width else text[: max(width - 3, 0)] + "..."


def choice(model: str, why: str) -> str:
    """The model that a strategy has chosen, and its reason."""
    return f"model {model}: {why}"


def headline(error: str | None) -> str:
    """The line of an error that says most: below a traceback's frames, else the first."""
    lines = [each for each in (error or "").splitlines() if each.strip()]
    frames = [index for index, each in enumerate(lines) if each.lstrip().startswith('File "')]
    below = [each for each in lines[frames[-1] + 1 :] if not each.startswith((" ", "("))] if frames else lines
    return line((below or lines or [""])[0])


def failure(trial: Trial) -> str:
    """Why a trial has no value."""
    reason = f" ({trial.reason})" if trial.reason and trial.reason != "lost" else ""
    told = headline(trial.error)
    return f"trial {trial.id} {str(trial.state).lower()}{reason}{': ' if told else ''}{told}"
