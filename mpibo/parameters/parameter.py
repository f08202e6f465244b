"""What every kind of parameter has and can do: values, codes, units and columns, one at a time or many."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mpibo.values import key

Array = NDArray[Any]


class _Unset:
    """No default given (None may be one of the values)."""

    def __repr__(self) -> str:
        return "UNSET"

    def __reduce__(self) -> str:
        return "UNSET"


UNSET = _Unset()


class Parameter:
    """What the kinds share.

    Attributes:
        kind: float, int, choice or constant.
        when: Condition under which it is active, in text; None = always.
        count: Number of levels; None for a continuum.
        levels: Values of a choice or constant; None for numbers.
        ordered: The levels have an order.
        width: Number of its columns.
        filler: Some code, to stand for an absent value.
        blank: Its columns when inactive.
    """

    kind: ClassVar[str]
    when: str | None
    count: int | None
    levels: tuple[Any, ...] | None = None
    ordered: bool = False
    width: int
    filler: Any = 0
    blank: tuple[float, ...]

    def code(self, value: Any) -> Any:
        """The code of one value. ValueError: ``must ..., got ...``, without the parameter's name."""
        raise NotImplementedError

    def codes(self, values: list[Any]) -> Array:
        """The codes of many values."""
        raise NotImplementedError

    def value_of(self, code: Any) -> Any:
        """The value of one code, a plain Python object."""
        raise NotImplementedError

    def values_of(self, codes: Array) -> list[Any]:
        """The values of many codes."""
        raise NotImplementedError

    def level_codes(self, places: Any) -> Array:
        """Codes of the levels at these places, an integer array."""
        raise NotImplementedError

    def place(self, code: Any) -> int:
        """The place of a code among the levels."""
        raise NotImplementedError

    def chances(self) -> Array:
        """``(count,)`` probability of each level under ``spread``."""
        assert self.count is not None
        return np.full(self.count, 1 / self.count)

    def spread(self, units: Array) -> Array:
        """Codes of ``(n,)`` units."""
        raise NotImplementedError

    def read(self, columns: Array) -> Array:
        """Codes nearest to ``(n, width)`` columns."""
        raise NotImplementedError

    def columns(self, codes: Array) -> Array:
        """``(n, width)`` columns of codes."""
        raise NotImplementedError

    def row(self, code: Any) -> tuple[float, ...]:
        """The columns of one code, bit for bit those of ``columns``."""
        raise NotImplementedError

    def summary(self) -> str:
        """What it may be, in a few words."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """A dict that strict JSON can hold, without what is left at its default; ``from_json`` undoes it."""
        raise NotImplementedError

    @property
    def _identity(self) -> Any:
        return tuple(key(getattr(self, item.name)) for item in fields(self))  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Parameter) or type(self) is not type(other):
            return NotImplemented
        return bool(self._identity == other._identity)

    def __hash__(self) -> int:
        return hash(self._identity)


def assign(parameter: Parameter, **given: Any) -> None:
    """Set attributes of a frozen one, while it is made."""
    for name, value in given.items():
        object.__setattr__(parameter, name, value)


def check_when(when: Any) -> None:
    """TypeError: a condition that is no text."""
    if when is not None and not isinstance(when, str):
        raise TypeError(f"when must be an expression in text, got {when!r}")
