"""What an objective's return value means: a value with its metrics, or a failure with its reason."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from mpibo.trial import Outcome, State

MESSAGE_BYTES = 64 * 1024  # the largest message between ranks
METRICS_BYTES = MESSAGE_BYTES - 8 * 1024
ERROR_BYTES = 4 * 1024


def outcome_of(returned: Any, reported: float | None = None, duration: float = 0.0) -> Outcome:
    """The outcome of an evaluation that returned.

    Args:
        returned: What the objective gave back: a number, a dict with ``value`` and metrics, or None.
        reported: Its last report; the value when it returned None.
        duration: Seconds that it took.

    Returns:
        DONE, or FAILED with reason ``value`` (none, wrong type, too large) or ``nonfinite``.
    """
    metrics: dict[str, Any] = {}
    value = returned
    if isinstance(returned, Mapping):
        if "value" not in returned:
            keys = ", ".join(str(key)[:40] for key in list(returned)[:8]) or "nothing"
            return _failed("value", f"the returned dict has no key 'value'; it has {keys}", duration)
        metrics = {str(name): plain(item) for name, item in returned.items() if name != "value"}
        value = returned["value"]
    if value is None:
        if reported is None:
            return _failed("value", "the objective returned None and reported nothing; return a number", duration)
        value = reported
    number = as_number(value)
    if number is None:
        kind = type(value).__name__
        return _failed("value", f"expected a number, got {kind}: {repr(value)[:200]}", duration)
    if not math.isfinite(number):
        return _failed("nonfinite", f"the value is {number}", duration, metrics)
    size = len(json.dumps(metrics))
    if size > METRICS_BYTES:
        return _failed("value", f"the metrics take {size} bytes, at most {METRICS_BYTES} may be returned", duration)
    return Outcome(State.DONE, number, metrics=metrics, duration=duration)


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


def _failed(reason: str, error: str, duration: float, metrics: Mapping[str, Any] | None = None) -> Outcome:
    return Outcome(State.FAILED, reason=reason, error=error[:ERROR_BYTES], duration=duration, metrics=metrics or {})
