"""The four kinds of parameter, Float, Int, Choice and Constant, each with its own encoding.

======  ===================================================================================================
value   what the objective gets: a plain Python object
code    the same for arrays: a number itself, or the index of a choice's level
unit    a uniform draw in [0, 1): equal bins for levels, uniform on the (log) scale for numbers
column  what a model sees: position on the (log) scale, 0 = lowest and 1 = highest; one-hot for a choice
======  ===================================================================================================

A number without a step is rounded when it is decoded, to 12 digits or so (11 on a scale of 300 decades), far below
what a model can tell apart, so that encode and decode undo each other exactly; its bounds stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mpibo.expression import alike, key, shown

Array = NDArray[Any]


class _Unset:
    """No default given (None may be one of the values)."""

    def __repr__(self) -> str:
        return "UNSET"

    def __reduce__(self) -> str:
        return "UNSET"


UNSET = _Unset()
EXACT = 2**53  # beyond it not every integer is a float
LARGEST = 2**49  # of an Int: a column then tells all whole numbers between two of these apart
FINEST = 1e-12  # smallest step, in parts of the largest number, that a column of a Float or a log scale tells apart
_POWERS = np.array([float(f"1e{k}") for k in range(300)])


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
        _check_when(self.when)
        if self.default is not None:
            try:
                _set(self, default=self.code(self.default))
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
        _set(self, low=low, high=high, log=log, step=step, default=default, when=when)
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
                found = _round_digits(np.exp(found), 12 if max(abs(start), abs(start + length)) < 350 else 11)
        elif start == 0.0:
            found = _round_digits(found, 14)
        else:
            places = math.floor(14 - math.log10(max(abs(self.low), abs(self.high))))
            found = _round(found, np.array(places)) if abs(places) < len(_POWERS) else found
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
        _set(self, low=low, high=high, log=log, step=step, default=default, when=when)
        self._check()

    @cached_property
    def count(self) -> int:  # type: ignore[override]
        return (self.high - self.low) // (self.step or 1) + 1

    def _level(self, k: Any) -> Any:
        return self.low + (k.astype(np.int64) if isinstance(k, np.ndarray) else k) * (self.step or 1)


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Choice(Parameter):
    """One of ``values``: None, bool, int, float, str, or tuples of these. ``ordered``: the values have an order.

    Raises:
        ValueError: No value, or one twice (1, 1.0 and True are different).
    """

    kind = "choice"

    values: tuple[Any, ...]
    ordered: bool
    default: Any
    when: str | None

    def __init__(
        self, values: Sequence[Any], *, ordered: bool = False, default: Any = UNSET, when: str | None = None
    ) -> None:
        if not isinstance(values, (list, tuple)):
            raise TypeError(f"Choice needs a list of values, got {values!r}")
        if not isinstance(ordered, bool):
            raise TypeError(f"Choice needs ordered=True or ordered=False, got ordered={ordered!r}")
        _set(self, values=tuple(map(plain, values)), ordered=ordered, when=when)
        _check_when(when)
        if not values:
            raise ValueError("Choice needs at least one value, got none")
        for k, value in enumerate(self.values):
            if self._index[key(value)] != k:
                raise ValueError(f"Choice has the value {value!r} twice in {shown(self.values)}")
        try:
            _set(self, default=UNSET if default is UNSET else self.values[self.code(default)])
        except ValueError as error:
            raise ValueError(f"default {error}") from None

    def __repr__(self) -> str:
        default = "" if self.default is UNSET else f", default={self.default!r}"
        return f"Choice(values={list(self.values)!r}, ordered={self.ordered!r}{default}, when={self.when!r})"

    @property
    def levels(self) -> tuple[Any, ...]:  # type: ignore[override]
        return self.values

    @property
    def count(self) -> int:  # type: ignore[override]
        return len(self.values)

    @property
    def width(self) -> int:  # type: ignore[override]
        return 1 if self.ordered else len(self.values)

    @property
    def blank(self) -> tuple[float, ...]:  # type: ignore[override]
        return (0.5,) if self.ordered else (1 / self.count,) * self.count

    @cached_property
    def _index(self) -> dict[Any, int]:
        """The code of each value, by its key."""
        found: dict[Any, int] = {}
        for k, value in enumerate(self.values):
            found.setdefault(key(value), k)
        return found

    @cached_property
    def _rows(self) -> list[tuple[float, ...]]:
        if not self.ordered:
            return [tuple(float(j == k) for j in range(self.count)) for k in range(self.count)]
        return [(k / (self.count - 1) if self.count > 1 else 0.5,) for k in range(self.count)]

    @cached_property
    def _matrix(self) -> Array:
        return np.array(self._rows)

    def code(self, value: Any) -> int:
        found = self._index.get((type(value), value)) if type(value) in _SCALARS else None
        return self._search(value) if found is None else found

    def _search(self, value: Any) -> int:
        """The code of a value that need not be the very one: a NumPy scalar, a list for a tuple, 1 for 1.0."""
        try:
            given = plain(_tuples(value))
        except (TypeError, ValueError):
            pass
        else:
            if key(given) in self._index:
                return self._index[key(given)]
            for k, level in enumerate(self.values):
                if alike(level, given):
                    return k
        raise ValueError(f"must be one of {shown(self.values)}, got {value!r}")

    def codes(self, values: list[Any]) -> Array:
        kinds = set(map(type, values))
        if len(kinds) == 1 and kinds <= _SCALARS:  # of one type, equal means the same
            only = kinds.pop()
            index = {value: k for k, value in enumerate(self.values) if type(value) is only}
            try:
                return np.array([index[value] for value in values], dtype=np.intp)
            except KeyError:
                pass
        return np.array([self.code(value) for value in values], dtype=np.intp)

    def value_of(self, code: Any) -> Any:
        return self.values[code]

    def values_of(self, codes: Array) -> list[Any]:
        return [self.values[k] for k in codes.tolist()]

    def level_codes(self, places: Any) -> Array:
        return np.asarray(places, dtype=np.intp)

    def place(self, code: Any) -> int:
        return int(code)

    def spread(self, units: Array) -> Array:
        return np.minimum((units * self.count).astype(np.intp), self.count - 1)

    def read(self, columns: Array) -> Array:
        if self.ordered:
            return np.rint(np.clip(columns[:, 0], 0.0, 1.0) * (self.count - 1)).astype(np.intp)
        return columns.argmax(axis=1)

    def columns(self, codes: Array) -> Array:
        return np.asarray(self._matrix[codes])

    def row(self, code: Any) -> tuple[float, ...]:
        return self._rows[code]

    def summary(self) -> str:
        return (" < " if self.ordered else ", ").join(map(repr, self.values))

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"type": self.kind, "values": [_json(value) for value in self.values]}
        found |= {"ordered": True} if self.ordered else {}
        found |= {} if self.default is UNSET else {"default": _json(self.default)}
        return found | ({} if self.when is None else {"when": self.when})


@dataclass(frozen=True, eq=False, init=False)
class Constant(Parameter):
    """A value that never changes; it has no column and is in every config (in which it is active)."""

    kind = "constant"
    count = 1
    width = 0
    blank = ()

    value: Any
    when: str | None

    def __init__(self, value: Any, *, when: str | None = None) -> None:
        _set(self, value=plain(value), when=when)
        _check_when(when)

    @property
    def levels(self) -> tuple[Any, ...]:  # type: ignore[override]
        return (self.value,)

    def code(self, value: Any) -> int:
        try:
            if alike(plain(_tuples(value)), self.value):
                return 0
        except (TypeError, ValueError):
            pass
        raise ValueError(f"must be {self.value!r}, got {value!r}")

    def codes(self, values: list[Any]) -> Array:
        for value in values:
            if value is not self.value:
                self.code(value)
        return np.zeros(len(values), dtype=np.intp)

    def value_of(self, code: Any) -> Any:
        return self.value

    def values_of(self, codes: Array) -> list[Any]:
        return [self.value] * len(codes)

    def summary(self) -> str:
        return repr(self.value)

    def to_json(self) -> dict[str, Any]:
        found = {"type": self.kind, "value": _json(self.value)}
        return found | ({} if self.when is None else {"when": self.when})


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
    if type(value) in _SCALARS:
        return value
    if type(value) is tuple:
        made = tuple(map(plain, value))
        return value if all(one is other for one, other in zip(made, value, strict=True)) else made
    raise TypeError(f"a value must be None, bool, int, float, str or a tuple of these, got {value!r}")


def _json(value: Any) -> Any:
    """A value for JSON, which has no tuples: ``{"tuple": [...]}``."""
    return {"tuple": [_json(item) for item in value]} if isinstance(value, tuple) else value


def _tuples(value: Any) -> Any:
    """Lists as tuples: JSON has but one of them."""
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


# ---- numbers

_SCALARS = frozenset({type(None), bool, int, float, str})


def _set(parameter: Parameter, **given: Any) -> None:
    for name, value in given.items():
        object.__setattr__(parameter, name, value)


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


def _check_when(when: Any) -> None:
    if when is not None and not isinstance(when, str):
        raise TypeError(f"when must be an expression in text, got {when!r}")


def _round(values: Array, places: Array) -> Array:
    """Values rounded to decimal places; the same number comes out of any two that differ by a few bits."""
    power = _POWERS[np.abs(places)]
    up = places >= 0
    with np.errstate(over="ignore"):
        whole = np.rint(np.where(up, values * power, values / power))
        return np.where(up, whole / power, whole * power)


def _round_digits(values: Array, digits: int) -> Array:
    """Values >= 0 rounded to significant digits; tiny ones stay as they are."""
    with np.errstate(divide="ignore"):
        places = digits - 1 - np.floor(np.log10(values))
    fine = np.abs(places) < len(_POWERS)
    return np.where(fine, _round(values, np.where(fine, places, 0).astype(np.intp)), values)
