"""Budgets as a person writes them: one, or with a schedule the smallest and the largest."""

from __future__ import annotations

from typing import Any

DEFAULT = "asha"  # the schedule of a range of budgets: docs/early_stopping.md


def budget_range(budget: Any) -> tuple[int, int]:
    """Smallest and largest budget from a whole number, a pair or ``"1:27"``.

    Raises:
        ValueError: Anything else.
    """
    parts = budget.split(":") if isinstance(budget, str) else budget if isinstance(budget, (tuple, list)) else [budget]
    try:
        if any(isinstance(part, bool) or (not isinstance(part, str) and part != int(part)) for part in parts):
            raise ValueError
        low, high = (int(part) for part in (parts if len(parts) == 2 else [*parts, *parts]))
    except (TypeError, ValueError, OverflowError):
        low = high = 0
    if not 1 <= low <= high:
        told = "a budget from 1 on, as in 9, or the smallest and the largest, as in 1:27 or (1, 27)"
        raise ValueError(f"expected {told}, got {budget!r}")
    return low, high


def scheduled(schedule: Any, budget: Any) -> tuple[Any, int, int]:
    """The schedule of a run, None without one, and its smallest and largest budget; a range alone means ``asha``.

    Raises:
        ValueError: A schedule without a range.
    """
    low, high = budget_range(budget)
    if schedule is not None and low == high:
        raise ValueError(f"the schedule {schedule} needs a smallest and a largest budget, as in 1:27; got {high}")
    return (DEFAULT if schedule is None and low != high else schedule), low, high
