"""Space: what a person, a strategy and a model ask of the search space."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.random import Generator

from mpibo.integrations.configspace import from_configspace, to_configspace
from mpibo.parameters import Array, Parameter
from mpibo.space import texts
from mpibo.space.coding import Coding, Config
from mpibo.space.conditions import rules_of
from mpibo.space.legal import ENUMERABLE, Legal

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace


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
        forbid = texts.forbid_of(forbid)
        if any(kind.__module__.partition(".")[0] == "ConfigSpace" for kind in type(parameters).__mro__):
            parameters, first = from_configspace(parameters)
            forbid = (*first, *forbid)
        self._build(texts.from_shorthand(parameters), forbid)
        self._legal.check_possible()

    def _build(self, parameters: dict[str, Parameter], forbid: tuple[str, ...]) -> None:
        self.parameters = parameters
        self.forbid = forbid
        rules = rules_of(parameters, forbid)
        self.conditions = rules.conditions
        self.forbidden = rules.forbidden
        self._coding = Coding(parameters, rules)
        self._legal = Legal(self._coding)
        self.names = self._coding.names
        self.columns = self._coding.columns
        self.dimension = self._coding.dimension
        self.size = self._coding.size

    # ---- points

    def sample(self, n: int, rng: Generator) -> Array:
        """``(n, d)`` legal points: uniform, log-uniform on log scales, uniform over levels.

        Raises:
            ValueError: So few configs are legal that drawing at random does not find ``n``.
        """
        return self._legal.sample(n, rng)

    def spread(self, U: Array) -> Array:
        """Points from unit columns, for designs.

        Args:
            U: ``(n, p)`` in [0, 1), a column per parameter that is no constant; levels get equal bins (on a log scale
                bins of their share of it).

        Returns:
            ``(n, d)``; forbidden ones may be among them.
        """
        U = np.asarray(U, dtype=float)
        columns = len(self._coding.free)
        if U.ndim != 2 or U.shape[1] != columns:
            raise ValueError(f"U must be (n, {columns}), a column per parameter, got {U.shape}")
        return self._coding.rows(*self._coding.spread(U), len(U))

    def legal(self, X: Array) -> Array:
        """``(n,)`` bool: no forbidden combination is true of the row's config."""
        X = self._coding.matrix(X)
        return self._coding.obeys(*self._coding.read(X), len(X)) if self.forbid else np.ones(len(X), dtype=bool)

    def snap(self, X: Array) -> Array:
        """``(n, d)`` nearest rows that a config can have: levels, one-hot, activity, the middle of what is inactive."""
        X = self._coding.matrix(X)
        return self._coding.rows(*self._coding.read(X), len(X))

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
        return self._legal.neighbours(x, rng, count)

    def enumerate(self, limit: float = ENUMERABLE) -> Array | None:
        """``(m, d)`` all distinct legal configs, the last parameter changing fastest; None when ``size > limit``."""
        return None if self.size > limit else self._legal.all()[0].copy()

    # ---- configs

    def decode(self, X: Array) -> list[Config]:
        """The config of each row, in plain Python types; what is inactive is absent."""
        X = self._coding.matrix(X)
        return self._coding.configs(*self._coding.read(X), len(X))

    def encode(self, configs: Iterable[Mapping[str, Any]]) -> Array:
        """``(n, d)`` rows of configs; equal configs have equal rows, bit for bit. Forbidden ones are encoded too.

        Raises:
            ValueError: Unknown, missing or inactive parameters, values out of range, with the index of the config.
        """
        return self._coding.encode(configs)

    def check(self, config: Mapping[str, Any]) -> Config:
        """The config in plain types and in the order of the space, with the constants that it lacks.

        Raises:
            ValueError: An unknown, missing or inactive parameter, a value out of range, a forbidden combination.
        """
        codes, active = self._coding.codes_of(config)
        for test, text in zip(self._coding.broken, self.forbid, strict=True):
            if test(codes, active):
                raise ValueError(f"the config is forbidden by {text!r}: {dict(config)}")
        return {e.name: e.parameter.value_of(codes[e.index]) for e in self._coding.entries if active[e.index]}

    def trim(self, config: Mapping[str, Any]) -> Config:
        """A config without the values that it has for inactive parameters.

        Raises:
            ValueError: As ``check``.
        """
        codes = [
            e.parameter.code(config[e.name]) if e.name in config else e.parameter.filler for e in self._coding.entries
        ]
        active = self._coding.active_one(codes)
        gone = {e.name for e in self._coding.conditional if not active[e.index]}
        return self.check({name: value for name, value in config.items() if name not in gone})

    def complete(self, partial: Mapping[str, Any], rng: Generator) -> Config:
        """A legal config with the given values; the missing ones are sampled, such that the given ones are active.

        Where that fails, a given value of an inactive parameter is dropped.

        Raises:
            ValueError: An unknown parameter, a value out of range, or no legal config with these values.
        """
        return self._legal.complete(partial, rng)

    # ---- text forms

    def to_json(self) -> dict[str, Any]:
        """A dict that strict JSON can hold; ``from_json`` undoes it."""
        return texts.to_json(self.parameters, self.forbid)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Space:
        """The space of ``to_json``'s dict."""
        return cls(*texts.from_json(data))

    def to_toml(self) -> str:
        """A ``[space]`` table with ``forbid`` before it; ``from_toml`` undoes it."""
        return texts.to_toml(self.parameters, self.forbid)

    @classmethod
    def from_toml(cls, source: str | Mapping[str, Any]) -> Space:
        """The space of a TOML text, or of what a TOML parser made of it: a table ``space`` and beside it ``forbid``."""
        return cls(*texts.from_toml(source))

    @classmethod
    def load(cls, path: str | Path) -> Space:
        """The space in a ``.toml`` or ``.json`` file (JSON as of ``to_json``, or of TOML's structure).

        Raises:
            ValueError: What is wrong with it, after the file's name.
        """
        path = Path(path)
        try:
            return cls(*texts.from_file(path))
        except (TypeError, ValueError) as error:  # JSON's and UTF-8's errors are ValueErrors
            raise ValueError(f"{path}: {error}") from None

    def to_configspace(self) -> ConfigurationSpace:
        """The same legal configs as a ``ConfigurationSpace``. ValueError: it cannot say that."""
        return to_configspace(self.parameters, self.conditions, self.forbidden, self.complete)

    @classmethod
    def from_configspace(cls, source: ConfigurationSpace) -> Space:
        """A ``ConfigurationSpace`` as a Space. ValueError: it has something that a Space cannot say."""
        return cls(*from_configspace(source))

    def describe(self) -> str:
        """A line per parameter, aligned, and one per forbidden combination."""
        return texts.described(self.parameters, self.forbid)

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
