"""What is good: the sign of the value, or goals over the metrics that an objective returns; and limits on metrics."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

_NAME = re.compile(r"[^,;<>=]+")
_LIMIT = re.compile(r"([^,;<>=]+?)\s*(<=|>=)\s*(\S+)")

NO_BEST = "with several goals there is no best trial but a front: take .front"


@dataclass(frozen=True, slots=True)
class Goal:
    """A metric to make as small, or as large, as can be."""

    name: str
    maximize: bool = False

    def __str__(self) -> str:
        return f"{'max' if self.maximize else 'min'} {self.name}"


@dataclass(frozen=True, slots=True)
class Limit:
    """A metric that must not pass ``bound``, upwards or (``upper`` False) downwards."""

    name: str
    bound: float
    upper: bool = True

    def excess(self, told: float) -> float:
        """By how much the limit is passed; 0 or less where it is kept."""
        return told - self.bound if self.upper else self.bound - told

    def __str__(self) -> str:
        bound = int(self.bound) if self.bound.is_integer() and abs(self.bound) < 1e15 else self.bound
        return f"{self.name} {'<=' if self.upper else '>='} {bound}"


class Aims(NamedTuple):
    """What a search is after. Without goals the value is minimised or maximised; one goal's metric is the value."""

    maximize: bool = False
    goals: tuple[Goal, ...] = ()
    limits: tuple[Limit, ...] = ()

    @property
    def several(self) -> bool:
        """Whether there is a front in place of a best."""
        return len(self.goals) > 1

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics that goals and limits are about, each once."""
        return tuple(dict.fromkeys([goal.name for goal in self.goals] + [limit.name for limit in self.limits]))

    def costs(self, value: float | None, metrics: Mapping[str, Any]) -> tuple[float, ...] | None:
        """What there is to minimise, one number a goal; None where it is not all known."""
        if not self.several:
            return None if value is None else (-value if self.maximize else value,)
        told = []
        for goal in self.goals:
            number = number_in(metrics, goal.name)
            if number is None:
                return None
            told.append(-number if goal.maximize else number)
        return tuple(told)

    def keep(self, metrics: Mapping[str, Any]) -> bool:
        """Whether every limit is known to be kept."""
        told = [(limit, number_in(metrics, limit.name)) for limit in self.limits]
        return all(number is not None and limit.excess(number) <= 0 for limit, number in told)

    def __str__(self) -> str:
        words = {True: "maximise", False: "minimise"}
        told = ", ".join(f"{words[goal.maximize]} {goal.name}" for goal in self.goals) or words[self.maximize]
        return told + (f" with {', '.join(map(str, self.limits))}" if self.limits else "")


def aims_of(
    maximize: bool = False, goals: str | Sequence[str | Goal] = (), limits: str | Sequence[str | Limit] = ()
) -> Aims:
    """The aims that a person's settings say.

    Raises:
        ValueError: A goal or limit that can't be read, or ``maximize`` together with goals.
    """
    wanted = goals_of(goals)
    if maximize and wanted:
        raise ValueError(f"maximize is for a single value; with goals write 'max {wanted[0].name}'")
    if len(wanted) == 1:
        maximize = wanted[0].maximize
    return Aims(maximize, wanted, limits_of(limits))


def aims_in(settings: Mapping[str, Any]) -> Aims:
    """The aims in the settings of an ``open`` line."""
    return aims_of(bool(settings.get("maximize", False)), settings.get("goals", ()), settings.get("limits", ()))


def goals_of(value: Any) -> tuple[Goal, ...]:
    """Goals from ``"min error, max recall"``, or a list of such.

    Raises:
        ValueError: Something else, or a name twice.
    """
    goals: list[Goal] = []
    for item in _items("goals", value, Goal):
        if not isinstance(item, Goal):
            way, _, name = item.partition(" ")
            if way not in ("min", "max") or not _NAME.fullmatch(name.strip()):
                raise ValueError(f"a goal is 'min NAME' or 'max NAME', got {item!r}")
            item = Goal(name.strip(), way == "max")
        if item.name in [goal.name for goal in goals]:
            raise ValueError(f"the goal {item.name!r} is given twice")
        goals.append(item)
    return tuple(goals)


def limits_of(value: Any) -> tuple[Limit, ...]:
    """Limits from ``"megabytes <= 20, recall >= 0.9"``, or a list of such.

    Raises:
        ValueError: Something else.
    """
    limits: list[Limit] = []
    for item in _items("limits", value, Limit):
        if not isinstance(item, Limit):
            match = _LIMIT.fullmatch(item)
            bound = _number(match[3]) if match else math.nan
            if not match or not math.isfinite(bound):
                raise ValueError(f"a limit is 'NAME <= NUMBER' or 'NAME >= NUMBER', got {item!r}")
            item = Limit(match[1], bound, match[2] == "<=")
        limits.append(item)
    return tuple(limits)


def dominates(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether ``first`` is nowhere worse than ``second`` and somewhere better, both to minimise."""
    for a, b in zip(first, second, strict=True):
        if a > b:
            return False
    return tuple(first) != tuple(second)


def _items(what: str, value: Any, kind: type) -> list[Any]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, (str, kind)) for part in parts):
        raise ValueError(f"expected {what} as text or a list of texts, got {value!r}")
    if isinstance(value, str) and not value.strip():
        return []
    return [part.strip() if isinstance(part, str) else part for part in parts]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def number_in(metrics: Mapping[str, Any], name: str) -> float | None:
    """A metric, if it is a finite number."""
    value = metrics.get(name)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return value if is_number else None
