"""Schedules: how much of its budget a config gets. Each wraps any method; ``make`` gives one by its name."""

from __future__ import annotations

from collections.abc import Callable, Set
from importlib import import_module
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mpibo.strategies import parse_options
from mpibo.table import Trials
from mpibo.trial import Proposal

SCHEDULES = {
    "sha": ("mpibo.schedules.halving", "SuccessiveHalving"),
    "hyperband": ("mpibo.schedules.halving", "Hyperband"),
    "bohb": ("mpibo.schedules.halving", "BOHB"),
    "asha": ("mpibo.schedules.asha", "asha"),
    "median": ("mpibo.schedules.stopping", "Median"),
    "curve": ("mpibo.schedules.curve", "Curve"),
}

New = Callable[[Trials, int], list[Proposal]]  # at most so many new configs of the method, which sees this table


@runtime_checkable
class Schedule(Protocol):
    """A function of the table, as a strategy is.

    Attributes:
        steps: Steps whose reports it compares.
        stops: Whether ``stop`` can name a trial.
    """

    steps: Set[int]
    stops: bool

    def propose(self, trials: Trials, n: int, rng: np.random.Generator, new: New) -> list[Proposal]:
        """At most ``n`` promotions and new configs, with their budgets; an empty list means wait."""
        ...

    def stop(self, trials: Trials) -> list[int]:
        """Ids of running trials that are to end."""
        ...

    def live(self, trials: Trials) -> NDArray[np.bool_]:
        """``(n,)`` True where a trial may still go on in another: its checkpoint is of use."""
        ...


def make(schedule: str | Schedule, low: int, high: int) -> Schedule:
    """A schedule from its name and options, ``"asha:eta=3"``.

    Args:
        schedule: A name of ``SCHEDULES``, options after a colon; or an object with its methods.
        low: Smallest budget.
        high: Largest budget.

    Raises:
        ValueError: An unknown name, option or value; the message names the valid ones.
        TypeError: Neither text nor a schedule.
    """
    if not isinstance(schedule, str):
        if isinstance(schedule, type) or not isinstance(schedule, Schedule):
            wanted = "a schedule's name or an object with propose, stop, live, steps and stops"
            raise TypeError(f"expected {wanted}, got {schedule!r}")
        return schedule
    name, _, options = schedule.partition(":")
    if name not in SCHEDULES:
        raise ValueError(f"unknown schedule {name!r}: expected one of {', '.join(SCHEDULES)}")
    module, attribute = SCHEDULES[name]
    maker = getattr(import_module(module), attribute)
    try:
        made = maker(low, high, **parse_options(name, options, maker, held=("low", "high")))
    except ValueError as error:
        raise ValueError(f"schedule {schedule!r}: {error}") from None
    assert isinstance(made, Schedule)
    return made
