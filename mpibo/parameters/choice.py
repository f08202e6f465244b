"""Choice and Constant: one of a few values, or always the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mpibo.parameters.parameter import UNSET, Array, Parameter, assign, check_when
from mpibo.values import SCALARS, alike, as_json, key, plain, shown, tuples


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
        assign(self, values=tuple(map(plain, values)), ordered=ordered, when=when)
        check_when(when)
        if not values:
            raise ValueError("Choice needs at least one value, got none")
        for k, value in enumerate(self.values):
            if self._index[key(value)] != k:
                raise ValueError(f"Choice has the value {value!r} twice in {shown(self.values)}")
        try:
            assign(self, default=UNSET if default is UNSET else self.values[self.code(default)])
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
        found = self._index.get((type(value), value)) if type(value) in SCALARS else None
        return self._search(value) if found is None else found

    def _search(self, value: Any) -> int:
        """The code of a value that need not be the very one: a NumPy scalar, a list for a tuple, 1 for 1.0."""
        try:
            given = plain(tuples(value))
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
        if len(kinds) == 1 and kinds <= SCALARS:  # of one type, equal means the same
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
        found: dict[str, Any] = {"type": self.kind, "values": [as_json(value) for value in self.values]}
        found |= {"ordered": True} if self.ordered else {}
        found |= {} if self.default is UNSET else {"default": as_json(self.default)}
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
        assign(self, value=plain(value), when=when)
        check_when(when)

    @property
    def levels(self) -> tuple[Any, ...]:  # type: ignore[override]
        return (self.value,)

    def code(self, value: Any) -> int:
        try:
            if alike(plain(tuples(value)), self.value):
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
        found = {"type": self.kind, "value": as_json(self.value)}
        return found | ({} if self.when is None else {"when": self.when})
