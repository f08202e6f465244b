"""A value of a config: what it may be, when two are the same, and how JSON and messages show it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

SCALARS = frozenset({type(None), bool, int, float, str})


def plain(value: Any) -> Any:
    """A value in plain Python types: NumPy scalars become numbers or text; anything else stays the very object.

    Raises:
        TypeError: Not None, bool, int, float, str or a tuple of these.
        ValueError: A float that is not finite.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if type(value) is float and not math.isfinite(value):
        raise ValueError(f"a value must be finite, got {value!r}")
    if type(value) in SCALARS:
        return value
    if type(value) is tuple:
        made = tuple(map(plain, value))
        return value if all(one is other for one, other in zip(made, value, strict=True)) else made
    raise TypeError(f"a value must be None, bool, int, float, str or a tuple of these, got {value!r}")


def is_number(value: Any) -> bool:
    """An int or a float; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def key(value: Any) -> Any:
    """A hashable key that keeps 1, 1.0 and True apart."""
    return tuple(key(item) for item in value) if isinstance(value, tuple) else (type(value), value)


def alike(one: Any, other: Any) -> bool:
    """Equal as a reader sees it: 1 and 1.0 are, 1 and True are not."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if is_number(one) and is_number(other):
        return bool(one == other)
    return bool(key(one) == key(other))


def as_json(value: Any) -> Any:
    """A value for JSON, which has no tuples: ``{"tuple": [...]}``."""
    return {"tuple": [as_json(item) for item in value]} if isinstance(value, tuple) else value


def tuples(value: Any) -> Any:
    """Lists as tuples: JSON has but one of them."""
    return tuple(map(tuples, value)) if isinstance(value, (list, tuple)) else value


def shown(levels: Sequence[Any], most: int = 8) -> str:
    """Levels for an error message, the first few of many."""
    text = ", ".join(map(repr, levels[:most]))
    return text if len(levels) <= most else f"{text}, ... ({len(levels)} in all)"
