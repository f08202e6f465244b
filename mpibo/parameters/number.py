"""Float and Int: numbers on a (log) scale, with or without steps.

A number without a step is rounded when it is decoded, to 12 digits or so (11 on a scale of 300 decades), far below
what a model can tell apart, so that encode and decode undo each other exactly; its bounds stay as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from mpibo.parameters.parameter import Array, Parameter, assign, check_when
from mpibo.parameters.rounding import POWERS, round_digits, round_places

EXACT = 2**53  # beyond it not every integer is a float
LARGEST = 2**49  # of an Int: a column then tells all whole numbers between two of these apart
FINEST = 1e-12  # smallest step, in parts of the largest number, that a column of a Float or a log scale tells apart


class _Number(Parameter):
    """What Float and Int share: a (log) scale, and levels ``low + k * step`` (a Float without step: a continuum)."""

    low: Any
    high: Any
    log: bool
    step: Any
    default: Any
    width = 1
    blank = (0.5,)
    _type: ClassVar[type]
    _tolerance: ClassVar[float]  # how far from a level a value may lie, relative

    def _check(self) -> None:
        kind = type(self).__name__
        if not isinstance(self.log, bool):
            raise TypeError(f"{kind} needs log=True or log=False, got log={self.log!r}")
        if not self.low <= self.high:
            raise ValueError(f"{kind} needs low <= high, got low={self.low}, high={self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"{kind} on a log scale needs low > 0, got low={self.low}, high={self.high}")
        if self.step is not None and self.step <= 0:
            raise ValueError(f"{kind} needs step > 0, got step={self.step}")
        largest = max(abs(self.low), abs(self.high))
        coarse = self.count in (None, 1) or not (self.log or self._type is float)
        if not coarse and (self.step or 1) < FINEST * largest:
            where = f"{kind} needs steps{' on a log scale' if self.log else ''}"
            got = f"got steps of {self.step or 1} in [{self.low}, {self.high}]"
            raise ValueError(f"{where} of at least {FINEST} of its largest number, {got}")
        check_when(self.when)
        if self.default is not None:
            try:
                assign(self, default=self.code(self.default))
            except ValueError as error:
                raise ValueError(f"default {error}") from None

    def _level(self, k: Any) -> Any:
        """The ``k``-th level, for a number or an array."""
        raise NotImplementedError

    def _continuous(self, u: Array) -> Array:
        """Values at positions of a continuum."""
        raise NotImplementedError

    def _places(self, values: Any) -> Any:
        """Places of the levels nearest to values."""
        assert self.count is not None
        return np.clip(np.rint((values - self.low) / (self.step or 1)), 0, self.count - 1)

    @property
    def filler(self) -> Any:
        return self.low

    @cached_property
    def _scale(self) -> tuple[float, float]:
        """Start and length of the (log) scale; it ends at the last level."""
        top = self.high if self.count is None else self._level(self.count - 1)
        start, end = (math.log(self.low), math.log(top)) if self.log else (float(self.low), float(top))
        return start, end - start

    @cached_property
    def _edges(self) -> tuple[float, float]:
        """Ends of the interval of the log scale whose numbers, rounded to levels, are the levels."""
        assert self.count is not None
        step = float(self.step or 1)
        return math.log(max(self.low - step / 2, self.low / 2)), math.log(self._level(self.count - 1) + step / 2)

    def code(self, value: Any) -> Any:
        if type(value) is not self._type:
            value = self._number(value)
        if not self.low <= value <= self.high:
            raise ValueError(f"must lie in [{self.low}, {self.high}], got {value!r}")
        if self.step is None:
            return value + 0  # 0.0, never -0.0
        assert self.count is not None
        level = self._level(min(max(round((value - self.low) / self.step), 0), self.count - 1))
        if abs(level - value) > self._tolerance * max(self.step, abs(value)):
            raise ValueError(f"must be {self.low} plus a whole number of steps of {self.step}, got {value!r}")
        return level

    def _number(self, value: Any) -> Any:
        """A value of another type as a number of ours."""
        found = value.item() if isinstance(value, np.generic) else value
        whole = self._type is int
        if type(found) not in (int, float) or (whole and found != found // 1):
            kind = "a whole number" if whole else "a number"
            raise ValueError(f"must be {kind} in [{self.low}, {self.high}], got {value!r}")
        try:
            return self._type(found)
        except OverflowError:  # an int beyond all floats
            return math.inf

    def codes(self, values: list[Any]) -> Array:
        kinds = set(map(type, values))
        dtype = np.int64 if self._type is int else float
        if kinds <= {int} or (self._type is float and kinds <= {int, float}):
            try:
                codes = np.array(values, dtype=dtype)
            except OverflowError:  # the last line says which one
                codes = np.array([])
            if len(codes) == len(values) and (not values or (codes.min() >= self.low and codes.max() <= self.high)):
                levels = codes + 0 if self.step is None else self._level(self._places(codes))
                slack = 0.0 if self.step is None else self._tolerance * np.maximum(np.abs(codes), self.step)
                if (np.abs(levels - codes) <= slack).all():
                    return np.asarray(levels)
        return np.array([self.code(value) for value in values], dtype=dtype)

    def value_of(self, code: Any) -> Any:
        return code

    def values_of(self, codes: Array) -> list[Any]:
        return list(codes.tolist())

    def level_codes(self, places: Any) -> Array:
        return np.asarray(self._level(np.asarray(places)))

    def place(self, code: Any) -> int:
        return int(self._places(code))

    def chances(self) -> Array:
        if not self.log or self.count == 1:
            return super().chances()
        assert self.count is not None
        levels = self._level(np.arange(self.count)).astype(float)
        first, last = self._edges
        return np.diff(np.concatenate([[first], np.log((levels[1:] + levels[:-1]) / 2), [last]])) / (last - first)

    def spread(self, units: Array) -> Array:
        if self.count is None:
            return self.read(units[:, None])
        if not self.log:
            return np.asarray(self._level(np.minimum(np.floor(units * self.count), self.count - 1)))
        first, last = self._edges
        return np.asarray(self._level(self._places(np.exp(first + units * (last - first)))))

    def read(self, columns: Array) -> Array:
        u = np.clip(columns[:, 0], 0.0, 1.0)
        if self.count is None:
            return self._continuous(u)
        if not self.log:
            return np.asarray(self._level(np.rint(u * (self.count - 1))))
        start, length = self._scale
        below = np.floor((np.exp(start + u * length) - self.low) / (self.step or 1))
        below = np.clip(below, 0, max(self.count - 2, 0))
        one, other = self._level(below), self._level(np.minimum(below + 1, self.count - 1))
        nearer = np.abs(self.columns(other)[:, 0] - u) < np.abs(self.columns(one)[:, 0] - u)
        return np.where(nearer, other, one)

    def columns(self, codes: Array) -> Array:
        start, length = self._scale
        if length == 0.0:
            return np.full((len(codes), 1), 0.5)
        if self.log:  # math.log, not np.log: the same bits for one value and for many
            codes = np.fromiter(map(math.log, codes.tolist()), float, len(codes))
        return ((codes.astype(float) - start) / length + 0.0)[:, None]  # + 0.0: no -0.0, which has other bits

    def row(self, code: Any) -> tuple[float, ...]:
        start, length = self._scale
        if length == 0.0:
            return (0.5,)
        return (((math.log(code) if self.log else float(code)) - start) / length + 0.0,)

    def summary(self) -> str:
        step = "" if self.step is None else f" step {self.step}"
        return f"[{self.low}, {self.high}]{' log' if self.log else ''}{step}"

    def to_json(self) -> dict[str, Any]:
        found = {"type": self.kind, "low": self.low, "high": self.high} | ({"log": True} if self.log else {})
        rest = {"step": self.step, "default": self.default, "when": self.when}
        return found | {name: value for name, value in rest.items() if value is not None}


@dataclass(frozen=True, eq=False, init=False)
class Float(_Number):
    """A number in ``[low, high]``, ends included; with ``step`` one of ``low, low + step, ...`` in there.

    Raises:
        ValueError: Bad bounds, a log scale that touches 0, a default outside.
    """

    kind = "float"
    _type = float
    _tolerance = 1e-9

    low: float
    high: float
    log: bool
    step: float | None
    default: float | None
    when: str | None

    def __init__(
        self, low: float, high: float, *, log: bool = False, step: float | None = None, default: float | None = None,
        when: str | None = None,
    ) -> None:  # fmt: skip
        low, high = _bound("Float", "low", low), _bound("Float", "high", high)
        step = None if step is None else _bound("Float", "step", step)
        assign(self, low=low, high=high, log=log, step=step, default=default, when=when)
        if not math.isfinite(high - low):
            raise ValueError(f"Float needs a range that a float can hold, got [{low}, {high}]")
        self._check()

    @cached_property
    def count(self) -> int | None:  # type: ignore[override]
        if self.step is None:
            return None
        low, high, step = (Fraction(repr(x)) for x in (self.low, self.high, self.step))  # as written: 0.1 is a tenth
        return int((high - low) // step) + 1

    @cached_property
    def _grid(self) -> tuple[int, int, float] | None:
        """``low`` and ``step`` as whole numbers, and what to divide these by for exact decimals; None: too fine."""
        places = max(0, *(-int(Decimal(repr(x)).as_tuple().exponent) for x in (self.low, self.step)))
        low, high, step = (int(Fraction(repr(x)) * 10**places) for x in (self.low, self.high, self.step))
        return (low, step, 10.0**places) if places <= 22 and max(abs(low), abs(high), step) < EXACT else None

    def _level(self, k: Any) -> Any:
        if self._grid is not None:
            low, step, scale = self._grid
            return (low + k * step) / scale
        return np.minimum(self.low + k * self.step, self.high) + 0.0

    def _continuous(self, u: Array) -> Array:
        start, length = self._scale
        found = start + u * length
        if self.log:
            with np.errstate(over="ignore"):
                found = round_digits(np.exp(found), 12 if max(abs(start), abs(start + length)) < 350 else 11)
        elif start == 0.0:
            found = round_digits(found, 14)
        else:
            places = math.floor(14 - math.log10(max(abs(self.low), abs(self.high))))
            found = round_places(found, np.array(places)) if abs(places) < len(POWERS) else found
        found = np.clip(found, self.low, self.high)
        return np.where(u <= 0.0, self.low, np.where(u >= 1.0, self.high, found))


@dataclass(frozen=True, eq=False, init=False)
class Int(_Number):
    """A whole number in ``[low, high]``, ends included; with ``step`` one of ``low, low + step, ...`` in there.

    Raises:
        ValueError: Bad bounds, a log scale that touches 0, a default outside.
    """

    kind = "int"
    _type = int
    _tolerance = 0.0

    low: int
    high: int
    log: bool
    step: int | None
    default: int | None
    when: str | None

    def __init__(
        self, low: int, high: int, *, log: bool = False, step: int | None = None, default: int | None = None,
        when: str | None = None,
    ) -> None:  # fmt: skip
        low, high = _whole("low", low), _whole("high", high)
        step = None if step is None else _whole("step", step)
        assign(self, low=low, high=high, log=log, step=step, default=default, when=when)
        self._check()

    @cached_property
    def count(self) -> int:  # type: ignore[override]
        return (self.high - self.low) // (self.step or 1) + 1

    def _level(self, k: Any) -> Any:
        return self.low + (k.astype(np.int64) if isinstance(k, np.ndarray) else k) * (self.step or 1)


def _bound(kind: str, name: str, value: Any) -> float:
    found = value.item() if isinstance(value, np.generic) else value
    if type(found) not in (int, float):
        raise TypeError(f"{kind} needs a number as {name}, got {value!r}")
    if not abs(found) < 1.7976931348623157e308:
        raise ValueError(f"{kind} needs a finite {name}, got {value!r}")
    return float(found) + 0.0


def _whole(name: str, value: Any) -> int:
    found = value.item() if isinstance(value, np.generic) else value
    if not _bound("Int", name, found).is_integer():
        raise ValueError(f"Int needs a whole number as {name}, got {value!r}")
    if abs(found) > LARGEST:
        raise ValueError(f"Int needs numbers within +-2**49, got {name}={value!r}")
    return int(found)
