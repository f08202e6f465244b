"""The legal points of a space: drawn at random, listed all, beside another one, or around given values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator

from mpibo.parameters import Array, Choice, Parameter
from mpibo.space.coding import Coding, Config

ENUMERABLE = 20_000  # combinations up to which a space is searched for legal configs one by one
DRAWS = 200_000  # random configs after which a larger space counts as without a legal one


class Legal:
    """Finds points of which no forbidden combination is true."""

    def __init__(self, coding: Coding) -> None:
        self.coding = coding
        self._all: tuple[Array, Array] | None = None

    def check_possible(self) -> None:
        """ValueError: no config is legal, or none of many random ones."""
        coding = self.coding
        if not coding.broken:
            return
        if coding.size <= ENUMERABLE:
            if not len(self.all()[0]):
                raise ValueError(f"the space has no legal config: forbid rules out all {coding.size:.0f} combinations")
            return
        rng = np.random.default_rng(0)
        for size in (1_000, 9_000, 50_000, DRAWS - 60_000):
            codes, active = coding.draw(size, rng)
            if coding.obeys(codes, active, size).any():
                return
        raise ValueError(
            f"the space has no legal config among {DRAWS:,} random ones: forbid rules out all that was tried"
        )

    def sample(self, n: int, rng: Generator) -> Array:
        """``(n, d)`` points at random (see ``Space.sample``)."""
        coding = self.coding
        parts: list[Array] = [np.empty((0, coding.dimension))]
        found = drawn = 0
        while found < n:
            size = n
            if coding.broken:
                wanted = (n - found) * (drawn / max(found, 1) if drawn else 1.0)  # at the rate so far
                if coding.size <= ENUMERABLE and wanted > DRAWS + 10 * n:
                    return np.concatenate([*parts, self.pick(n - found, rng)])
                if wanted > 100 * (DRAWS + n) or (found == 0 and drawn >= 10 * DRAWS):
                    raise ValueError(f"too few configs to sample {n} obey forbid: {found} of {drawn:,} random ones")
                size = int(min(max(1.1 * wanted + 16, drawn / 2, 64), 20_000))
            codes, active = coding.draw(size, rng)
            legal = np.flatnonzero(coding.obeys(codes, active, size))[: n - found]
            parts.append(coding.rows(*_at(codes, active, legal), len(legal)))
            found, drawn = found + len(legal), drawn + size
        return np.concatenate(parts)

    def all(self) -> tuple[Array, Array]:
        """All distinct rows, the last parameter changing fastest, and their probabilities under ``sample``."""
        if self._all is not None:
            return self._all
        coding, n = self.coding, int(self.coding.size)
        codes: list[Array] = [np.zeros(n, dtype=np.intp)] * len(coding.entries)
        weights: Array = np.ones(n)
        places = np.unravel_index(np.arange(n), [e.parameter.count or 1 for e in coding.entries])
        for e in coding.free:
            codes[e.index] = e.parameter.level_codes(places[e.index])
            weights *= e.parameter.chances()[places[e.index]]
        active = coding.active(codes, n)
        legal = coding.obeys(codes, active, n)
        X = coding.rows(codes, active, n)[legal]
        first, member = _firsts(X)
        weights = np.bincount(member, weights[legal], len(first))
        found = X[first], weights / max(weights.sum(), 1e-300)
        if n <= ENUMERABLE:
            self._all = found
        return found

    def pick(self, n: int, rng: Generator) -> Array:
        """``(n, d)`` points as of ``sample``, from the list of all."""
        X, weights = self.all()
        return np.asarray(X[rng.choice(len(X), size=n, p=weights)])

    def neighbours(self, x: Array, rng: Generator, count: int) -> Array:
        """``(m, d)`` points beside ``x (d,)`` (see ``Space.neighbours``)."""
        coding = self.coding
        x = coding.matrix(np.asarray(x, dtype=float)[None, :])
        base, active = coding.read(x)
        on = [bool(np.all(active[e.index])) for e in coding.entries]
        moved = [
            (e.index, _moves(e.parameter, x[0, e.start : e.stop], base[e.index][0], rng, count))
            for e in coding.free
            if on[e.index]
        ]
        total = sum(len(codes) for _, codes in moved)
        codes = [np.repeat(code, total) for code in base]
        units = rng.random((total, len(coding.free)))
        for column, e in enumerate(coding.free):
            if not on[e.index]:
                codes[e.index] = e.parameter.spread(units[:, column])
        at = 0
        for index, some in moved:
            codes[index][at : at + len(some)] = some
            at += len(some)
        now = coding.active(codes, total)
        legal = coding.rows(codes, now, total)[coding.obeys(codes, now, total)]
        X = np.concatenate([coding.rows(base, active, 1), legal])
        return np.asarray(X[_firsts(X)[0][1:]])

    def complete(self, partial: Mapping[str, Any], rng: Generator) -> Config:
        """A config with the given values (see ``Space.complete``)."""
        coding = self.coding
        coding.check_known(partial)
        given: dict[int, Any] = {}
        for e in coding.entries:
            if e.name in partial:
                try:
                    given[e.index] = e.parameter.code(partial[e.name])
                except ValueError as error:
                    raise ValueError(f"{e.name} {error}") from None
        for size in (100, 2_000, 20_000, 20_000):
            codes, _ = coding.draw(size, rng)
            for index, code in given.items():
                codes[index] = np.full(size, code, dtype=codes[index].dtype)
            active = coding.active(codes, size)
            legal = np.flatnonzero(coding.obeys(codes, active, size))
            if len(legal):
                kept = sum((np.broadcast_to(active[index], size)[legal] * 1 for index in given), np.zeros(len(legal)))
                return coding.configs(*_at(codes, active, legal[[kept.argmax()]]), 1)[0]
        if coding.size <= ENUMERABLE:
            X = self.all()[0]
            codes, active = coding.read(X)
            fits = [~np.broadcast_to(active[index], len(X)) | (codes[index] == code) for index, code in given.items()]
            legal = np.flatnonzero(np.logical_and.reduce(fits)) if fits else np.arange(len(X))
            if len(legal):
                return coding.configs(*_at(codes, active, rng.choice(legal, 1)), 1)[0]
        raise ValueError(f"found no legal config with {dict(partial)}: see forbid")


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
