"""Points in their three forms: configs, *codes* and rows of ``X``, of one point or of many.

Codes: one array per parameter (see ``parameters``), or for one config a plain number; beside them *active*: for each
True or a bool array (for one config a bool).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator

from mpibo.meaning import Test
from mpibo.parameters import Array, Choice, Constant, Parameter
from mpibo.space.conditions import Rules, suggest

Config = dict[str, Any]
FEW = 12  # configs up to which they are encoded one by one
_ABSENT: Any = object()


@dataclass(frozen=True, slots=True)
class Column:
    """One column of ``X``: name and index of its parameter, and what it is: ``numeric``, ``onehot`` or ``activity``."""

    name: str
    kind: str
    index: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A parameter with its place in ``X``: columns ``start:stop``, then ``activity`` if it has that column."""

    index: int
    name: str
    parameter: Parameter
    start: int
    stop: int
    activity: int | None
    test: Test | None  # when it is active; None = always
    constant: bool


class Coding:
    """Where each parameter stands in ``X``, and the ways from each form of a point to the others.

    Args:
        parameters: Name to parameter.
        rules: Their conditions and what is forbidden of them.

    Attributes:
        names: Names of the parameters.
        entries: The parameters with their places, in their order.
        free: Those that are no constants.
        conditional: Those with a condition, parents first.
        broken: Whether each forbidden combination is true, of codes.
        columns: What each column of ``X`` is.
        dimension: Their number ``d``.
        size: Number of combinations, conditions and forbidden ones ignored; ``inf`` with a continuous parameter.
    """

    def __init__(self, parameters: Mapping[str, Parameter], rules: Rules) -> None:
        self.names = tuple(parameters)
        self.entries: list[Entry] = []
        columns: list[Column] = []
        for i, (name, p) in enumerate(parameters.items()):
            start, stop, constant = len(columns), len(columns) + p.width, isinstance(p, Constant)
            activity = stop if name in rules.active and not constant else None
            self.entries.append(Entry(i, name, p, start, stop, activity, rules.active.get(name), constant))
            kind = "onehot" if isinstance(p, Choice) and not p.ordered else "numeric"
            columns += [Column(name, kind, i)] * p.width
            columns += [] if activity is None else [Column(name, "activity", i)]
        self.free = [e for e in self.entries if not e.constant]
        self.conditional = [self.entries[self.names.index(name)] for name in rules.active]
        self.broken = rules.broken
        self.columns = tuple(columns)
        self.dimension = len(columns)
        counts = [p.count for p in parameters.values()]
        self.size = math.inf if None in counts else float(math.prod(count or 1 for count in counts))

    # ---- codes

    def active(self, codes: Sequence[Any], n: int) -> list[Any]:
        """What is active at ``n`` points."""
        active: list[Any] = [True] * len(codes)
        for e in self.conditional:
            assert e.test is not None
            active[e.index] = np.broadcast_to(e.test(codes, active), (n,))
        return active

    def active_one(self, codes: Sequence[Any]) -> list[Any]:
        """What is active at one point."""
        active: list[Any] = [True] * len(codes)
        for e in self.conditional:
            assert e.test is not None
            active[e.index] = bool(e.test(codes, active))
        return active

    def obeys(self, codes: Sequence[Any], active: Sequence[Any], n: int) -> Array:
        """``(n,)`` bool: no forbidden combination is true of a point."""
        legal = np.ones(n, dtype=bool)
        for test in self.broken:
            legal &= ~np.broadcast_to(test(codes, active), (n,))
        return legal

    def spread(self, U: Array) -> tuple[list[Array], list[Any]]:
        """Codes from unit columns, one per parameter that is no constant."""
        codes: list[Array] = [np.zeros(len(U), dtype=np.intp)] * len(self.entries)
        for column, e in enumerate(self.free):
            codes[e.index] = e.parameter.spread(U[:, column])
        return codes, self.active(codes, len(U))

    def draw(self, n: int, rng: Generator) -> tuple[list[Array], list[Any]]:
        """Codes of ``n`` points at random, forbidden ones among them."""
        return self.spread(rng.random((n, len(self.free))))

    # ---- rows

    def matrix(self, X: Array) -> Array:
        """``X`` as ``(n, d)`` floats. ValueError: another shape."""
        X = np.asarray(X, dtype=float)
        if X.ndim != 2 or X.shape[1] != self.dimension:
            raise ValueError(f"X must be (n, {self.dimension}), got {X.shape}")
        return X

    def rows(self, codes: Sequence[Any], active: Sequence[Any], n: int) -> Array:
        """``(n, d)`` rows of codes."""
        X = np.empty((n, self.dimension))
        for e in self.free:
            X[:, e.start : e.stop] = e.parameter.columns(codes[e.index])
            if e.activity is not None:
                X[~active[e.index], e.start : e.stop] = e.parameter.blank
                X[:, e.activity] = active[e.index]
        return X

    def read(self, X: Array) -> tuple[list[Array], list[Any]]:
        """Codes nearest to rows."""
        codes: list[Array] = [np.zeros(len(X), dtype=np.intp)] * len(self.entries)
        for e in self.free:
            codes[e.index] = e.parameter.read(X[:, e.start : e.stop])
        return codes, self.active(codes, len(X))

    def _row(self, codes: Sequence[Any], active: Sequence[Any]) -> list[float]:
        """The row of one config, bit for bit that of ``rows``."""
        row: list[float] = []
        for e in self.free:
            if e.activity is None:
                row += e.parameter.row(codes[e.index])
            elif active[e.index]:
                row += e.parameter.row(codes[e.index])
                row.append(1.0)
            else:
                row += e.parameter.blank
                row.append(0.0)
        return row

    # ---- configs

    def configs(self, codes: Sequence[Any], active: Sequence[Any], n: int) -> list[Config]:
        """The configs of codes, in plain Python types; what is inactive is absent."""
        lists = []
        for e in self.entries:
            values = e.parameter.values_of(codes[e.index])
            if e.test is not None:
                values = [v if on else _ABSENT for v, on in zip(values, active[e.index].tolist(), strict=True)]
            lists.append(values)
        rows, every = zip(*lists, strict=True), self.names
        if not self.conditional:
            return [dict(zip(every, row, strict=True)) for row in rows]
        return [{name: v for name, v in zip(every, row, strict=True) if v is not _ABSENT} for row in rows]

    def encode(self, configs: Iterable[Mapping[str, Any]]) -> Array:
        """``(n, d)`` rows of configs (see ``Space.encode``)."""
        configs = list(configs)
        found = self._codes(configs) if len(configs) > FEW else None
        if found is not None:
            return self.rows(*found, len(configs))
        X = np.empty((len(configs), self.dimension))
        for i, config in enumerate(configs):
            X[i] = self._row(*self.codes_of(config, f" in config {i}"))
        return X

    def _codes(self, configs: list[Mapping[str, Any]]) -> tuple[list[Array], list[Any]] | None:
        """Codes of many configs; None if one of them is wrong."""
        n = len(configs)
        codes: list[Array] = []
        given: list[Any] = []
        extra = np.fromiter(map(len, configs), np.intp, n)
        try:
            for e in self.entries:
                values = [config.get(e.name, _ABSENT) for config in configs]
                if e.test is None and not e.constant:
                    codes.append(e.parameter.codes(values))  # an absent one has no code
                    given.append(True)
                    extra -= 1
                    continue
                here = np.fromiter((value is not _ABSENT for value in values), bool, n)
                found = e.parameter.codes([value for value in values if value is not _ABSENT])
                codes.append(np.full(n, e.parameter.filler, dtype=found.dtype))
                codes[-1][here] = found
                given.append(here)
                extra -= here
        except (TypeError, ValueError):
            return None
        active = self.active(codes, n)
        wrong = extra != 0
        for e in self.conditional:
            wrong |= given[e.index] & ~active[e.index] if e.constant else given[e.index] ^ active[e.index]
        return None if wrong.any() else (codes, active)

    def codes_of(self, config: Mapping[str, Any], where: str = "") -> tuple[list[Any], list[Any]]:
        """Codes of one config, as plain numbers.

        Raises:
            ValueError: An unknown, missing or inactive parameter, or a value out of range, ``where``.
        """
        codes: list[Any] = []
        given: list[bool] = []
        for e in self.entries:
            value = config.get(e.name, _ABSENT)
            given.append(value is not _ABSENT)
            if value is _ABSENT:
                if e.test is None and not e.constant:
                    self.check_known(config, where)
                    raise ValueError(f"{e.name} is missing{where}")
                codes.append(e.parameter.filler)
                continue
            try:
                codes.append(e.parameter.code(value))
            except ValueError as error:
                raise ValueError(f"{e.name} {error}{where}") from None
        active: list[Any] = [True] * len(codes)
        for e in self.conditional:
            assert e.test is not None
            on = active[e.index] = bool(e.test(codes, active))
            if on is not given[e.index] and not (on and e.constant):
                what = "missing" if on else "given but inactive"
                raise ValueError(f"{e.name} is {what}{where}: it is active when {e.parameter.when}")
        if sum(given) != len(config):
            self.check_known(config, where)
        return codes, active

    def check_known(self, config: Mapping[str, Any], where: str = "") -> None:
        """ValueError: a name that the space does not have."""
        for name in config:
            if name not in self.names:
                raise ValueError(f"unknown parameter {name!r}{where}; {suggest(name, self.names)}")
