"""What an objective's return value means: a value with its metrics, or a failure with its reason."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mpibo.goals import Aims
from mpibo.trial import Outcome, State

MESSAGE_BYTES = 64 * 1024  # the largest message between ranks
METRICS_BYTES = MESSAGE_BYTES - 8 * 1024
ERROR_BYTES = 4 * 1024


def outcome_of(
    returned: Any, reported: float | None = None, duration: float = 0.0, aims: Aims | None = None
) -> Outcome:
    """The outcome of an evaluation that returned.

    Args:
        returned: What the objective gave back: a number, a dict with ``value`` and metrics, or None; where there are
            goals or limits a dict with their names (with goals it needs no ``value``).
        reported: Its last report; the value when it returned None.
        duration: Seconds that it took.
        aims: The goals and limits of the search.

    Returns:
        DONE, or FAILED with reason ``value`` (none, wrong type, too large, a name missing) or ``nonfinite``. With
        several goals DONE has metrics and no value.
    """
    aims = aims or Aims()
    metrics: dict[str, Any] = {}
    numbers: dict[str, Any] = {"value": returned}  # what must be a finite number
    if isinstance(returned, Mapping):
        numbers = dict.fromkeys(aims.names if aims.goals else ("value", *aims.names))
        missing = [name for name in numbers if name not in returned]
        if missing:
            keys = ", ".join(str(key)[:40] for key in list(returned)[:8]) or "nothing"
            return _failed("value", f"the returned dict has no key {_listed(missing)}; it has {keys}", duration)
        numbers = {name: returned[name] for name in numbers}
        kept = (item for item in returned.items() if item[0] != "value" or aims.goals)
        metrics = {str(name): plain(item) for name, item in kept}
    elif aims.names:
        needed = _listed(aims.names if aims.goals else ("value", *aims.names))
        return _failed("value", f"expected a dict with {needed}, got {_described(returned)}", duration)
    if numbers.get("value", 0.0) is None and not aims.goals:
        if reported is None:
            return _failed("value", "the objective returned None and reported nothing; return a number", duration)
        numbers["value"] = reported
    for name, item in numbers.items():
        number = as_number(item)
        if number is None:
            of = "" if name == "value" else f" for {name!r}"
            return _failed("value", f"expected a number{of}, got {_described(item)}", duration)
        numbers[name] = number
    for name, number in numbers.items():
        if not math.isfinite(number):
            told = f"the value is {number}" if name == "value" else f"{name!r} is {number}"
            return _failed("nonfinite", told, duration, metrics)
    metrics |= {name: numbers[name] for name in aims.names}
    size = len(json.dumps(metrics))
    if size > METRICS_BYTES:
        return _failed("value", f"the metrics take {size} bytes, at most {METRICS_BYTES} may be returned", duration)
    value = None if aims.several else numbers[aims.goals[0].name if aims.goals else "value"]
    return Outcome(State.DONE, value, metrics=metrics, duration=duration)


def as_number(value: Any) -> float | None:
    """``value`` as a float: an int, a float, a NumPy scalar, an array or tensor without axes; None for all else."""
    if isinstance(value, (bool, str, bytes)) or not hasattr(value, "__float__"):
        return None
    if getattr(value, "shape", ()) != () or getattr(getattr(value, "dtype", None), "kind", "f") == "b":
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def plain(value: Any) -> Any:
    """A metric as strict JSON can say it: numbers, text, None, lists and dicts of them; NaN becomes None."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy scalars and arrays, tensors
        item = value.tolist()
        return plain(item) if not hasattr(item, "tolist") else repr(item)
    number = as_number(value)
    if number is None:
        return repr(value)
    return number if math.isfinite(number) else None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def _described(value: Any) -> str:
    return f"{type(value).__name__}: {repr(value)[:200]}"


def _failed(reason: str, error: str, duration: float, metrics: Mapping[str, Any] | None = None) -> Outcome:
    return Outcome(State.FAILED, reason=reason, error=error[:ERROR_BYTES], duration=duration, metrics=metrics or {})
