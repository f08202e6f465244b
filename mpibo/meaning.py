"""What a condition means: a tree of ``expression`` as a function of codes.

A code is the number itself, or the index of a choice's level; there is one entry per parameter, a NumPy array or, for
one config, a plain number: the same function serves both. A comparison on an inactive parameter is false, whatever its
sign.

Numbers compare as numbers. A constant means the choice's level of its very type if there is one, else the one that
looks alike (1 and 1.0 do, 1 and True do not); to be equal to what is no level at all is an error, as it is a slip of
the pen. ``<`` and the like compare numbers; levels that are none are then false; an ordered choice that is not of
numbers alone compares by position.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from mpibo.expression import All, Compare, Fixed, Name, Not, Some, Tree
from mpibo.values import alike, is_number, key, shown

Test = Callable[[Sequence[Any], Sequence[Any]], Any]  # (codes, active) -> bool or (n,) bool

ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
EQUAL: dict[str, Callable[[Any, Any], Any]] = {"==": operator.eq, "!=": operator.ne}
SIGNS = ORDER | EQUAL


@dataclass(frozen=True, slots=True)
class Domain:
    """What an expression needs to know of a parameter.

    Attributes:
        index: Place of its code in ``codes``.
        levels: Values of a choice or constant; None for a number, whose code is the number.
        ordered: The levels have an order of their own.
        fixed: A constant, which may be compared with what it can never be.
        conditional: It may be inactive.
    """

    index: int
    levels: tuple[Any, ...] | None = None
    ordered: bool = False
    fixed: bool = False
    conditional: bool = False


def bind(tree: Tree, domains: Mapping[str, Domain]) -> Test:
    """A function ``test(codes, active)`` that says where the expression is true.

    Args:
        tree: From ``parse``; all its names are in ``domains``.
        domains: What each name stands for.

    Raises:
        ValueError: A comparison that can have no meaning, as of a number with a text.
    """
    if isinstance(tree, Fixed):
        return lambda codes, active: tree.value
    if isinstance(tree, Not):
        part = bind(tree.part, domains)
        return lambda codes, active: part(codes, active) ^ True
    if isinstance(tree, (All, Some)):
        parts = [bind(node, domains) for node in tree.parts]
        join = operator.and_ if isinstance(tree, All) else operator.or_
        return lambda codes, active: reduce(join, [part(codes, active) for part in parts])
    left = domains[tree.left.name]
    if isinstance(tree.right, Name):
        right = domains[tree.right.name]
        return _where_active(_two_names(tree, left, right), [left, right])
    return _where_active(_name_and_constant(tree, left), [left])


def table(tree: Compare, domain: Domain) -> list[bool]:
    """For each level of a choice, whether ``name sign constant`` holds."""
    levels, sign, constant = domain.levels, tree.sign, tree.right
    assert levels is not None
    if sign in ("in", "not in"):
        hits = [_hits(tree, domain, item) for item in constant]
        return [any(row) is (sign == "in") for row in zip(*hits, strict=True)] if hits else [sign != "in"] * len(levels)
    if sign in EQUAL:
        return [hit is (sign == "==") for hit in _hits(tree, domain, constant)]
    if domain.ordered and not all(map(is_number, levels)):
        place = _hits(tree, domain, constant).index(True)
        return [ORDER[sign](k, place) for k in range(len(levels))]
    if not (is_number(constant) and (domain.fixed or any(map(is_number, levels)))):
        raise ValueError(
            f"{tree.left.name} {sign} {constant!r} needs numbers or an ordered choice, "
            f"and {tree.left.name} is one of {shown(levels)}"
        )
    return [is_number(level) and ORDER[sign](level, constant) for level in levels]


def _hits(tree: Compare, domain: Domain, constant: Any) -> list[bool]:
    """Which levels a constant means: those of its very type if there is one, else those that look alike."""
    levels = domain.levels
    assert levels is not None
    hits = [key(level) == key(constant) for level in levels]
    if not any(hits):
        hits = [alike(level, constant) for level in levels]
    if not any(hits) and not domain.fixed:
        raise ValueError(f"{tree.left.name} is never {constant!r}: it is one of {shown(levels)}")
    return hits


def _name_and_constant(tree: Compare, domain: Domain) -> Test:
    index, sign, constant = domain.index, tree.sign, tree.right
    if domain.levels is not None:
        truth = np.array(table(tree, domain), dtype=bool)
        return lambda codes, active: truth[codes[index]]
    for item in constant if sign in ("in", "not in") else (constant,):
        if not is_number(item):
            raise ValueError(f"{tree.left.name} is a number and cannot be compared with {item!r}")
    if sign in ("in", "not in"):
        negate = sign == "not in"
        return lambda codes, active: (
            reduce(operator.or_, [codes[index] == item for item in constant], codes[index] != codes[index]) ^ negate
        )
    compare = SIGNS[sign]
    return lambda codes, active: compare(codes[index], constant)


def _two_names(tree: Compare, left: Domain, right: Domain) -> Test:
    sign, i, j = tree.sign, left.index, right.index
    compare = SIGNS[sign]
    if left.levels is None and right.levels is None:
        return lambda codes, active: compare(codes[i], codes[j])
    if left.levels is None or right.levels is None:
        levels = left.levels if left.levels is not None else right.levels
        assert levels is not None
        if not any(map(is_number, levels)):
            raise ValueError(f"{tree.left.name} {sign} {tree.right.name} compares a number with one of {shown(levels)}")
        numbers = np.array([level if is_number(level) else np.nan for level in levels], dtype=float)
        if left.levels is None:
            return lambda codes, active: compare(codes[i], numbers[codes[j]])
        return lambda codes, active: compare(numbers[codes[i]], codes[j])
    if sign in EQUAL:
        pairs = [[alike(a, b) is (sign == "==") for b in right.levels] for a in left.levels]
    elif left.ordered and right.ordered and key(left.levels) == key(right.levels) and not _numeric(left.levels):
        pairs = [[compare(a, b) for b in range(len(right.levels))] for a in range(len(left.levels))]
    elif any(map(is_number, left.levels)) and any(map(is_number, right.levels)):
        pairs = [[is_number(a) and is_number(b) and compare(a, b) for b in right.levels] for a in left.levels]
    else:
        raise ValueError(f"{tree.left.name} {sign} {tree.right.name} needs numbers or two choices ordered alike")
    truth = np.array(pairs, dtype=bool)
    return lambda codes, active: truth[codes[i], codes[j]]


def _numeric(levels: Sequence[Any]) -> bool:
    return all(map(is_number, levels))


def _where_active(test: Test, domains: Sequence[Domain]) -> Test:
    """False where a parameter that the comparison names is inactive."""
    conditional = sorted({domain.index for domain in domains if domain.conditional})
    if not conditional:
        return test
    if len(conditional) == 1:
        only = conditional[0]
        return lambda codes, active: test(codes, active) & active[only]
    one, other = conditional
    return lambda codes, active: test(codes, active) & active[one] & active[other]
