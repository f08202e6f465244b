"""The search space: what a config may be, and configs as rows of numbers for a model.

A config is a dict of the active parameters; ``X`` is ``(n, d)`` float64 in [0, 1]. Per parameter, in their order: a
number or an ordered choice has one column, its position on its (log) scale, which ends at the last level (0.5 if
there is but one); another choice of k levels has k one-hot columns; a constant has none. A parameter (but no
constant) with ``when`` has one more column, ``activity``, 1.0 or 0.0. Inactive: 0.5 in the one column, 1/k in each
of k.

Laws: ``decode(encode([config]))`` is that config (floats to 1e-9); equal configs have equal rows, bit for bit;
``encode(decode(X))`` is ``snap(X)``.

Inside, points are *codes*: one array per parameter (see ``parameters``), and *active*: for each True or a bool
array.
"""

from __future__ import annotations

import difflib
import json
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.random import Generator

from mpibo import notation
from mpibo.expression import Domain, Test, Tree, bind, names, parse
from mpibo.parameters import Array, Choice, Constant, Float, Int, Parameter

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

__all__ = ["Choice", "Column", "Constant", "Float", "Int", "Parameter", "Space"]

Config = dict[str, Any]
RESERVED = ("trial", "config")
ENUMERABLE = 20_000  # combinations up to which a space is searched for legal configs one by one
DRAWS = 200_000  # random configs after which a larger space counts as without a legal one
FEW = 12  # configs up to which they are encoded one by one
_ABSENT: Any = object()


@dataclass(frozen=True, slots=True)
class Column:
    """One column of ``X``: name and index of its parameter, and what it is: ``numeric``, ``onehot`` or ``activity``."""

    name: str
    kind: str
    index: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """A parameter with its place in ``X``: columns ``start:stop``, then ``activity`` if it has that column."""

    index: int
    name: str
    parameter: Parameter
    start: int
    stop: int
    activity: int | None
    test: Test | None  # when it is active; None = always
    constant: bool


class Space:
    """Parameters by name, conditions (``when``) and forbidden combinations.

    Args:
        parameters: Name to Float, Int, Choice, Constant or a shorthand for them; or a ``ConfigurationSpace``.
        forbid: Expressions of which none may be true of a config.

    Attributes:
        parameters: Name to parameter.
        forbid: The expressions, as text.
        names: Names of the parameters.
        dimension: Number ``d`` of columns of ``X``.
        columns: What each of them is.
        size: Number of combinations, conditions and forbidden ones ignored; ``inf`` with a continuous parameter.
        conditions: Name to the parsed condition, of those that have one.
        forbidden: The parsed expressions.

    Raises:
        ValueError: A name that is empty, reserved or has blanks, quotes, ``=`` or braces; bounds, conditions or
            expressions without meaning; conditions in a circle; no legal config at all.
        TypeError: A value that no config can hold.
    """

    def __init__(self, parameters: Mapping[str, Any] | ConfigurationSpace, forbid: Sequence[str] = ()) -> None:
        forbid = _texts(forbid)
        if any(kind.__module__.partition(".")[0] == "ConfigSpace" for kind in type(parameters).__mro__):
            other = Space.from_configspace(parameters)
            parameters, forbid = other.parameters, (*other.forbid, *forbid)
        if not isinstance(parameters, Mapping) or not parameters:
            raise TypeError(f"a space is a dict of at least one parameter, got {parameters!r:.80}")
        self._build({name: _parameter(name, value) for name, value in parameters.items()}, forbid)
        self._check_possible()

    def _build(self, parameters: dict[str, Parameter], forbid: tuple[str, ...]) -> None:
        self.parameters = parameters
        self.forbid = forbid
        self.names = tuple(parameters)
        domains = {
            name: Domain(i, p.levels, p.ordered, isinstance(p, Constant), p.when is not None)
            for i, (name, p) in enumerate(parameters.items())
        }
        self.conditions: dict[str, Tree] = {}
        self.forbidden: tuple[Tree, ...] = ()
        tests: dict[str, Test] = {}
        for name, p in parameters.items():
            if p.when is not None:
                self.conditions[name], tests[name] = _expression(f"when of {name!r}", p.when, domains)
        order = _parents_first(self.names, self.conditions)
        self._forbidden: list[Test] = []
        for i, text in enumerate(forbid):
            tree, test = _expression(f"forbid[{i}]", text, domains)
            self.forbidden += (tree,)
            self._forbidden.append(test)

        self._entries: list[_Entry] = []
        columns: list[Column] = []
        for i, (name, p) in enumerate(parameters.items()):
            start, stop, constant = len(columns), len(columns) + p.width, isinstance(p, Constant)
            activity = stop if name in tests and not constant else None
            self._entries.append(_Entry(i, name, p, start, stop, activity, tests.get(name), constant))
            kind = "onehot" if isinstance(p, Choice) and not p.ordered else "numeric"
            columns += [Column(name, kind, i)] * p.width
            columns += [] if activity is None else [Column(name, "activity", i)]
        self.columns = tuple(columns)
        self.dimension = len(columns)
        counts = [p.count for p in parameters.values()]
        self.size = math.inf if None in counts else float(math.prod(count or 1 for count in counts))
        self._free = [e for e in self._entries if not e.constant]
        self._conditional = [self._entries[self.names.index(name)] for name in order if name in tests]
        self._all: tuple[Array, Array] | None = None

    def _check_possible(self) -> None:
        if not self._forbidden:
            return
        if self.size <= ENUMERABLE:
            if not len(self._legal_rows()[0]):
                raise ValueError(f"the space has no legal config: forbid rules out all {self.size:.0f} combinations")
            return
        rng = np.random.default_rng(0)
        for size in (1_000, 9_000, 50_000, DRAWS - 60_000):
            codes, active = self._draw(size, rng)
            if self._obeys(codes, active, size).any():
                return
        raise ValueError(
            f"the space has no legal config among {DRAWS:,} random ones: forbid rules out all that was tried"
        )

    # ---- codes and rows

    def _active(self, codes: Sequence[Any], n: int) -> list[Any]:
        active: list[Any] = [True] * len(codes)
        for e in self._conditional:
            assert e.test is not None
            active[e.index] = np.broadcast_to(e.test(codes, active), (n,))
        return active

    def _obeys(self, codes: Sequence[Any], active: Sequence[Any], n: int) -> Array:
        legal = np.ones(n, dtype=bool)
        for test in self._forbidden:
            legal &= ~np.broadcast_to(test(codes, active), (n,))
        return legal

    def _rows(self, codes: Sequence[Any], active: Sequence[Any], n: int) -> Array:
        X = np.empty((n, self.dimension))
        for e in self._free:
            X[:, e.start : e.stop] = e.parameter.columns(codes[e.index])
            if e.activity is not None:
                X[~active[e.index], e.start : e.stop] = e.parameter.blank
                X[:, e.activity] = active[e.index]
        return X

    def _read(self, X: Array) -> tuple[list[Array], list[Any]]:
        codes: list[Array] = [np.zeros(len(X), dtype=np.intp)] * len(self._entries)
        for e in self._free:
            codes[e.index] = e.parameter.read(X[:, e.start : e.stop])
        return codes, self._active(codes, len(X))

    def _spread(self, U: Array) -> tuple[list[Array], list[Any]]:
        codes: list[Array] = [np.zeros(len(U), dtype=np.intp)] * len(self._entries)
        for column, e in enumerate(self._free):
            codes[e.index] = e.parameter.spread(U[:, column])
        return codes, self._active(codes, len(U))

    def _draw(self, n: int, rng: Generator) -> tuple[list[Array], list[Any]]:
        return self._spread(rng.random((n, len(self._free))))

    def _matrix(self, X: Array) -> Array:
        X = np.asarray(X, dtype=float)
        if X.ndim != 2 or X.shape[1] != self.dimension:
            raise ValueError(f"X must be (n, {self.dimension}), got {X.shape}")
        return X

    # ---- points

    def sample(self, n: int, rng: Generator) -> Array:
        """``(n, d)`` legal points: uniform, log-uniform on log scales, uniform over levels.

        Raises:
            ValueError: So few configs are legal that drawing at random does not find ``n``.
        """
        parts: list[Array] = [np.empty((0, self.dimension))]
        found = drawn = 0
        while found < n:
            size = n
            if self._forbidden:
                wanted = (n - found) * (drawn / max(found, 1) if drawn else 1.0)  # at the rate so far
                if self.size <= ENUMERABLE and wanted > DRAWS + 10 * n:
                    return np.concatenate([*parts, self._pick(n - found, rng)])
                if wanted > 100 * (DRAWS + n) or (found == 0 and drawn >= 10 * DRAWS):
                    raise ValueError(f"too few configs to sample {n} obey forbid: {found} of {drawn:,} random ones")
                size = int(min(max(1.1 * wanted + 16, drawn / 2, 64), 20_000))
            codes, active = self._draw(size, rng)
            legal = np.flatnonzero(self._obeys(codes, active, size))[: n - found]
            parts.append(self._rows(*_at(codes, active, legal), len(legal)))
            found, drawn = found + len(legal), drawn + size
        return np.concatenate(parts)

    def spread(self, U: Array) -> Array:
        """Points from unit columns, for designs.

        Args:
            U: ``(n, p)`` in [0, 1), a column per parameter that is no constant; levels get equal bins (on a log scale
                bins of their share of it).

        Returns:
            ``(n, d)``; forbidden ones may be among them.
        """
        U = np.asarray(U, dtype=float)
        if U.ndim != 2 or U.shape[1] != len(self._free):
            raise ValueError(f"U must be (n, {len(self._free)}), a column per parameter, got {U.shape}")
        return self._rows(*self._spread(U), len(U))

    def legal(self, X: Array) -> Array:
        """``(n,)`` bool: no forbidden combination is true of the row's config."""
        X = self._matrix(X)
        return self._obeys(*self._read(X), len(X)) if self._forbidden else np.ones(len(X), dtype=bool)

    def snap(self, X: Array) -> Array:
        """``(n, d)`` nearest rows that a config can have: levels, one-hot, activity, the middle of what is inactive."""
        X = self._matrix(X)
        return self._rows(*self._read(X), len(X))

    def neighbours(self, x: Array, rng: Generator, count: int = 4) -> Array:
        """Legal rows that differ from ``x`` in one active parameter, and in what becomes active or inactive by it.

        Other levels of a choice, at most ``count``; of a number or an ordered choice one level up and down, and
        ``count`` normal moves with a standard deviation of 0.2 of the scale, reflected at its ends.

        Args:
            x: ``(d,)``.
            rng: Source of the moves, and of the values of what becomes active.
            count: Moves per parameter.

        Returns:
            ``(m, d)`` distinct rows, none of them ``x``.
        """
        x = self._matrix(np.asarray(x, dtype=float)[None, :])
        base, active = self._read(x)
        on = [bool(np.all(active[e.index])) for e in self._entries]
        moved = [
            (e.index, _moves(e.parameter, x[0, e.start : e.stop], base[e.index][0], rng, count))
            for e in self._free
            if on[e.index]
        ]
        total = sum(len(codes) for _, codes in moved)
        codes = [np.repeat(code, total) for code in base]
        units = rng.random((total, len(self._free)))
        for column, e in enumerate(self._free):
            if not on[e.index]:
                codes[e.index] = e.parameter.spread(units[:, column])
        at = 0
        for index, some in moved:
            codes[index][at : at + len(some)] = some
            at += len(some)
        now = self._active(codes, total)
        X = np.concatenate([self._rows(base, active, 1), self._rows(codes, now, total)[self._obeys(codes, now, total)]])
        return np.asarray(X[_firsts(X)[0][1:]])

    def enumerate(self, limit: float = ENUMERABLE) -> Array | None:
        """``(m, d)`` all distinct legal configs, the last parameter changing fastest; None when ``size > limit``."""
        return None if self.size > limit else self._legal_rows()[0].copy()

    def _legal_rows(self) -> tuple[Array, Array]:
        """All distinct legal rows, and their probabilities under ``sample``."""
        if self._all is not None:
            return self._all
        n = int(self.size)
        codes: list[Array] = [np.zeros(n, dtype=np.intp)] * len(self._entries)
        weights: Array = np.ones(n)
        places = np.unravel_index(np.arange(n), [e.parameter.count or 1 for e in self._entries])
        for e in self._free:
            codes[e.index] = e.parameter.level_codes(places[e.index])
            weights *= e.parameter.chances()[places[e.index]]
        active = self._active(codes, n)
        legal = self._obeys(codes, active, n)
        X = self._rows(codes, active, n)[legal]
        first, member = _firsts(X)
        weights = np.bincount(member, weights[legal], len(first))
        found = X[first], weights / max(weights.sum(), 1e-300)
        if n <= ENUMERABLE:
            self._all = found
        return found

    def _pick(self, n: int, rng: Generator) -> Array:
        X, weights = self._legal_rows()
        return np.asarray(X[rng.choice(len(X), size=n, p=weights)])

    # ---- configs

    def decode(self, X: Array) -> list[Config]:
        """The config of each row, in plain Python types; what is inactive is absent."""
        X = self._matrix(X)
        return self._configs(*self._read(X), len(X))

    def _configs(self, codes: Sequence[Any], active: Sequence[Any], n: int) -> list[Config]:
        lists = []
        for e in self._entries:
            values = e.parameter.values_of(codes[e.index])
            if e.test is not None:
                values = [v if on else _ABSENT for v, on in zip(values, active[e.index].tolist(), strict=True)]
            lists.append(values)
        rows, every = zip(*lists, strict=True), self.names
        if not self._conditional:
            return [dict(zip(every, row, strict=True)) for row in rows]
        return [{name: v for name, v in zip(every, row, strict=True) if v is not _ABSENT} for row in rows]

    def encode(self, configs: Iterable[Mapping[str, Any]]) -> Array:
        """``(n, d)`` rows of configs; equal configs have equal rows, bit for bit. Forbidden ones are encoded too.

        Raises:
            ValueError: Unknown, missing or inactive parameters, values out of range, with the index of the config.
        """
        configs = list(configs)
        found = self._codes(configs) if len(configs) > FEW else None
        if found is not None:
            return self._rows(*found, len(configs))
        X = np.empty((len(configs), self.dimension))
        for i, config in enumerate(configs):
            X[i] = self._row(*self._codes_of(config, f" in config {i}"))
        return X

    def _codes(self, configs: list[Mapping[str, Any]]) -> tuple[list[Array], list[Any]] | None:
        """Codes of many configs; None if one of them is wrong."""
        n = len(configs)
        codes: list[Array] = []
        given: list[Any] = []
        extra = np.fromiter(map(len, configs), np.intp, n)
        try:
            for e in self._entries:
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
        active = self._active(codes, n)
        wrong = extra != 0
        for e in self._conditional:
            wrong |= given[e.index] & ~active[e.index] if e.constant else given[e.index] ^ active[e.index]
        return None if wrong.any() else (codes, active)

    def _codes_of(self, config: Mapping[str, Any], where: str = "") -> tuple[list[Any], list[Any]]:
        """Codes of one config, as plain numbers."""
        codes: list[Any] = []
        given: list[bool] = []
        for e in self._entries:
            value = config.get(e.name, _ABSENT)
            given.append(value is not _ABSENT)
            if value is _ABSENT:
                if e.test is None and not e.constant:
                    self._check_known(config, where)
                    raise ValueError(f"{e.name} is missing{where}")
                codes.append(e.parameter.filler)
                continue
            try:
                codes.append(e.parameter.code(value))
            except ValueError as error:
                raise ValueError(f"{e.name} {error}{where}") from None
        active: list[Any] = [True] * len(codes)
        for e in self._conditional:
            assert e.test is not None
            on = active[e.index] = bool(e.test(codes, active))
            if on is not given[e.index] and not (on and e.constant):
                what = "missing" if on else "given but inactive"
                raise ValueError(f"{e.name} is {what}{where}: it is active when {e.parameter.when}")
        if sum(given) != len(config):
            self._check_known(config, where)
        return codes, active

    def _row(self, codes: Sequence[Any], active: Sequence[Any]) -> list[float]:
        """The row of one config, bit for bit that of ``_rows``."""
        row: list[float] = []
        for e in self._free:
            if e.activity is None:
                row += e.parameter.row(codes[e.index])
            elif active[e.index]:
                row += e.parameter.row(codes[e.index])
                row.append(1.0)
            else:
                row += e.parameter.blank
                row.append(0.0)
        return row

    def check(self, config: Mapping[str, Any]) -> Config:
        """The config in plain types and in the order of the space, with the constants that it lacks.

        Raises:
            ValueError: An unknown, missing or inactive parameter, a value out of range, a forbidden combination.
        """
        codes, active = self._codes_of(config)
        for test, text in zip(self._forbidden, self.forbid, strict=True):
            if test(codes, active):
                raise ValueError(f"the config is forbidden by {text!r}: {dict(config)}")
        return {e.name: e.parameter.value_of(codes[e.index]) for e in self._entries if active[e.index]}

    def trim(self, config: Mapping[str, Any]) -> Config:
        """A config without the values that it has for inactive parameters.

        Raises:
            ValueError: As ``check``.
        """
        given = [e.name in config for e in self._entries]
        codes = [
            e.parameter.code(config[e.name]) if here else e.parameter.filler
            for e, here in zip(self._entries, given, strict=True)
        ]
        active: list[Any] = [True] * len(codes)
        for e in self._conditional:
            assert e.test is not None
            active[e.index] = bool(e.test(codes, active))
        gone = {e.name for e in self._conditional if not active[e.index]}
        return self.check({name: value for name, value in config.items() if name not in gone})

    def complete(self, partial: Mapping[str, Any], rng: Generator) -> Config:
        """A legal config with the given values; the missing ones are sampled, such that the given ones are active.

        Where that fails, a given value of an inactive parameter is dropped.

        Raises:
            ValueError: An unknown parameter, a value out of range, or no legal config with these values.
        """
        self._check_known(partial)
        given: dict[int, Any] = {}
        for e in self._entries:
            if e.name in partial:
                try:
                    given[e.index] = e.parameter.code(partial[e.name])
                except ValueError as error:
                    raise ValueError(f"{e.name} {error}") from None
        for size in (100, 2_000, 20_000, 20_000):
            codes, _ = self._draw(size, rng)
            for index, code in given.items():
                codes[index] = np.full(size, code, dtype=codes[index].dtype)
            active = self._active(codes, size)
            legal = np.flatnonzero(self._obeys(codes, active, size))
            if len(legal):
                kept = sum((np.broadcast_to(active[index], size)[legal] * 1 for index in given), np.zeros(len(legal)))
                return self._configs(*_at(codes, active, legal[[kept.argmax()]]), 1)[0]
        if self.size <= ENUMERABLE:
            X = self._legal_rows()[0]
            codes, active = self._read(X)
            fits = [~np.broadcast_to(active[index], len(X)) | (codes[index] == code) for index, code in given.items()]
            legal = np.flatnonzero(np.logical_and.reduce(fits)) if fits else np.arange(len(X))
            if len(legal):
                return self._configs(*_at(codes, active, rng.choice(legal, 1)), 1)[0]
        raise ValueError(f"found no legal config with {dict(partial)}: see forbid")

    def _check_known(self, config: Mapping[str, Any], where: str = "") -> None:
        for name in config:
            if name not in self.parameters:
                raise ValueError(f"unknown parameter {name!r}{where}; {_suggest(name, self.names)}")

    # ---- text forms

    def to_json(self) -> dict[str, Any]:
        """A dict that strict JSON can hold; ``from_json`` undoes it."""
        listed = [{"name": name, **parameter.to_json()} for name, parameter in self.parameters.items()]
        return {"parameters": listed, "forbid": list(self.forbid)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Space:
        """The space of ``to_json``'s dict."""
        if not isinstance(data, Mapping) or not isinstance(data.get("parameters"), list):
            raise ValueError(f'a space in JSON is {{"parameters": [...], "forbid": [...]}}, got {data!r:.80}')
        notation.check_keys(data, ("parameters",), ("forbid",))
        found: dict[str, Parameter] = {}
        for item in data["parameters"]:
            if not isinstance(item, Mapping) or "name" not in item:
                raise ValueError(f"a parameter in JSON is an object with a name, got {item!r:.80}")
            rest = dict(item)
            name = rest.pop("name")
            if name in found:
                raise ValueError(f"the parameter {name!r} is there twice")
            found[name] = _named(name, notation.from_json, rest)
        return cls(found, data.get("forbid", ()))

    def to_toml(self) -> str:
        """A ``[space]`` table with ``forbid`` before it; ``from_toml`` undoes it."""
        lines = [f"forbid = {notation.toml_value(self.forbid)}", ""] if self.forbid else []
        lines.append("[space]")
        for name, parameter in self.parameters.items():
            bare = name.isascii() and name.replace("-", "").replace("_", "a").isalnum()
            lines.append(f"{name if bare else notation.toml_value(name)} = {notation.to_toml(parameter)}")
        return "\n".join(lines) + "\n"

    @classmethod
    def from_toml(cls, source: str | Mapping[str, Any]) -> Space:
        """The space of a TOML text, or of what a TOML parser made of it: a table ``space`` and beside it ``forbid``."""
        try:
            data = tomllib.loads(source) if isinstance(source, str) else source
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"not TOML: {error}") from None
        if not isinstance(data, Mapping) or not isinstance(data.get("space"), Mapping):
            raise ValueError(f"expected a table [space], got {data!r:.80}")
        notation.check_keys(data, ("space",), ("forbid",))
        found = {name: _named(name, notation.from_toml, value) for name, value in data["space"].items()}
        return cls(found, data.get("forbid", ()))

    @classmethod
    def load(cls, path: str | Path) -> Space:
        """The space in a ``.toml`` or ``.json`` file (JSON as of ``to_json``, or of TOML's structure).

        Raises:
            ValueError: What is wrong with it, after the file's name.
        """
        path = Path(path)
        try:
            if path.suffix == ".toml":
                return cls.from_toml(path.read_text(encoding="utf-8"))
            if path.suffix == ".json":
                data = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)
                return (cls.from_json if isinstance(data, dict) and "parameters" in data else cls.from_toml)(data)
            raise ValueError("expected a .toml or .json file")
        except (TypeError, ValueError) as error:  # JSON's and UTF-8's errors are ValueErrors
            raise ValueError(f"{path}: {error}") from None

    def to_configspace(self) -> ConfigurationSpace:
        """The same legal configs as a ``ConfigurationSpace``. ValueError: it cannot say that."""
        from mpibo.integrations.configspace import to_configspace

        return to_configspace(self)

    @classmethod
    def from_configspace(cls, source: ConfigurationSpace) -> Space:
        """A ``ConfigurationSpace`` as a Space. ValueError: it has something that a Space cannot say."""
        from mpibo.integrations.configspace import from_configspace

        return from_configspace(source)

    def describe(self) -> str:
        """A line per parameter, aligned, and one per forbidden combination."""
        rows = [(name, p.kind, p.summary(), f"when {p.when}" if p.when else "") for name, p in self.parameters.items()]
        width = [max(len(row[k]) for row in rows) for k in range(3)]
        lines = [f"{a:{width[0]}}  {b:{width[1]}}  {c:{width[2]}}  {d}".rstrip() for a, b, c, d in rows]
        return "\n".join([*lines, *(f"forbid  {text}" for text in self.forbid)])

    def __repr__(self) -> str:
        inside = ", ".join(f"{name!r}: {parameter!r}" for name, parameter in self.parameters.items())
        return f"Space({{{inside}}}{f', forbid={list(self.forbid)!r}' if self.forbid else ''})"

    def __eq__(self, other: object) -> bool:
        return self._text() == other._text() if isinstance(other, Space) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._text())

    def _text(self) -> str:
        return json.dumps(self.to_json())

    def __getstate__(self) -> tuple[dict[str, Parameter], tuple[str, ...]]:
        return self.parameters, self.forbid

    def __setstate__(self, state: tuple[dict[str, Parameter], tuple[str, ...]]) -> None:
        self._build(*state)


def _parameter(name: Any, value: Any) -> Parameter:
    if not isinstance(name, str):
        raise TypeError(f"a parameter's name must be text, got {name!r}")
    if not name or any(char.isspace() or char in "'\"`={}" for char in name):
        raise ValueError(f"a parameter's name must be text without blanks, quotes, = and braces, got {name!r}")
    if name in RESERVED:
        raise ValueError(f"the name {name!r} is reserved for what else an objective gets: choose another")
    return _named(name, notation.from_shorthand, value)


def _named(name: Any, make: Callable[[Any], Parameter], value: Any) -> Parameter:
    try:
        return make(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"parameter {name!r}: {error}") from None


def _texts(forbid: Any) -> tuple[str, ...]:
    if not isinstance(forbid, (list, tuple)) or not all(isinstance(text, str) for text in forbid):
        raise TypeError(f"forbid must be a list of expressions in text, got {forbid!r}")
    return tuple(forbid)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, of which no name comes twice."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {name!r} is there twice")
        found[name] = value
    return found


def _expression(where: str, text: str, domains: Mapping[str, Domain]) -> tuple[Tree, Test]:
    try:
        tree = parse(text)
        for name in names(tree):
            if name not in domains:
                raise ValueError(f"unknown name {name!r} in {text!r}; {_suggest(name, tuple(domains))}")
        return tree, bind(tree, domains)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _suggest(name: Any, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(name), known, n=1)
    some = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f"did you mean {near[0]!r}?" if near else f"known are {some}"


def _parents_first(every: Sequence[str], conditions: Mapping[str, Tree]) -> list[str]:
    """All names, each after those that its condition names. ValueError: a circle."""
    parents = {name: names(conditions[name]) if name in conditions else () for name in every}
    order: dict[str, None] = {}
    for root in every:
        path = [root]
        while path:
            waiting = [parent for parent in parents[path[-1]] if parent not in order]
            if not waiting:
                order.setdefault(path.pop())
            elif waiting[0] in path:
                circle = " needs ".join([*path[path.index(waiting[0]) :], waiting[0]])
                raise ValueError(f"the conditions (when) go in a circle: {circle}")
            else:
                path.append(waiting[0])
    return list(order)


def _at(codes: Sequence[Array], active: Sequence[Any], rows: Array) -> tuple[list[Array], list[Any]]:
    return [code[rows] for code in codes], [some if some is True else some[rows] for some in active]


def _moves(p: Parameter, columns: Array, code: Any, rng: Generator, count: int) -> Array:
    """Codes near ``code``, other than it, each once."""
    if isinstance(p, Choice) and not p.ordered:
        others = np.delete(np.arange(p.count), code)
        return rng.permutation(others)[:count] if len(others) > count else others
    u = np.abs(columns[0] + 0.2 * rng.standard_normal(count)) % 2.0
    codes = p.read(np.minimum(u, 2.0 - u)[:, None])
    if p.count is not None:
        beside = [k for k in (p.place(code) - 1, p.place(code) + 1) if 0 <= k < p.count]
        codes = np.concatenate([p.level_codes(np.array(beside, dtype=np.intp)), codes])
    codes = codes[codes != code]
    return np.asarray(codes[np.sort(np.unique(codes, return_index=True)[1])])


def _firsts(X: Array) -> tuple[Array, Array]:
    """Where each distinct row comes first, in that order, and for each row to which of these it belongs."""
    numbers: dict[bytes, int] = {}
    member = np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in X], dtype=np.intp)
    first = np.full(len(numbers), len(X), dtype=np.intp)
    np.minimum.at(first, member, np.arange(len(X)))
    return first, member
