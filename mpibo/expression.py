"""Conditions in text, such as ``optimizer == 'sgd' and lr > 0.01``: parsed with ``ast``, never evaluated as code.

The grammar is small: comparisons (chained ones too) of names and constants, ``in`` and ``not in`` with a tuple or
list of constants, ``and``, ``or``, ``not``, a bare name for ``name == True``, and ``True`` or ``False``. A name that
is no Python identifier stands in backticks. A comparison on an inactive parameter is false, whatever its sign.

What a comparison means: numbers compare as numbers. A constant means the choice's level of its very type if there is
one, else the one that looks alike (1 and 1.0 do, 1 and True do not); to be equal to what is no level at all is an
error, as it is a slip of the pen. ``<`` and the like compare numbers; levels that are none are then false; an
ordered choice that is not of numbers alone compares by position.

``parse`` turns a text into a tree of ``Compare``, ``All``, ``Some``, ``Not`` and ``Fixed``; ``bind`` turns a tree
into a function of *codes* (one entry per parameter: the number itself, or the index of a choice's level), which are
NumPy arrays or, for one config, plain numbers: the same function serves both.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from keyword import iskeyword
from typing import Any

import numpy as np

Test = Callable[[Sequence[Any], Sequence[Any]], Any]  # (codes, active) -> bool or (n,) bool

ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
EQUAL: dict[str, Callable[[Any, Any], Any]] = {"==": operator.eq, "!=": operator.ne}
MIRROR = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_SIGNS: dict[type, str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
    ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Name:
    """A parameter of the space."""

    name: str


@dataclass(frozen=True, slots=True)
class Compare:
    """``left sign right``; ``right`` is a Name or a constant (for ``in`` and ``not in`` a tuple of constants)."""

    left: Name
    sign: str
    right: Any


@dataclass(frozen=True, slots=True)
class All:
    """True when every part is."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """True when at least one part is."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """True when its part is false."""

    part: Tree


@dataclass(frozen=True, slots=True)
class Fixed:
    """A constant truth."""

    value: bool


Tree = Compare | All | Some | Not | Fixed


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


def parse(text: str) -> Tree:
    """The tree of an expression.

    Raises:
        ValueError: It is not in the grammar; the message quotes the text.
    """
    if not isinstance(text, str):
        raise TypeError(f"an expression must be text, got {text!r}")
    try:
        plain, quoted = _unquote(text)
        source = plain.strip()
        return _Reader(source, quoted).tree(ast.parse(source, mode="eval").body)
    except SyntaxError as error:
        hint = _hint(text, error)
        raise ValueError(f"cannot read the expression {text!r}: {hint}") from None
    except (RecursionError, MemoryError):
        raise ValueError(f"the expression {text[:40]!r}... is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"cannot read the expression {text!r}: {error}") from None


def names(tree: Tree) -> tuple[str, ...]:
    """The names in a tree, each once, in the order of their first use."""
    found: dict[str, None] = {}

    def visit(node: Tree) -> None:
        if isinstance(node, Compare):
            found.setdefault(node.left.name)
            if isinstance(node.right, Name):
                found.setdefault(node.right.name)
        elif isinstance(node, (All, Some)):
            for part in node.parts:
                visit(part)
        elif isinstance(node, Not):
            visit(node.part)

    visit(tree)
    return tuple(found)


def text_of(tree: Tree) -> str:
    """A text that ``parse`` turns into that tree."""
    if isinstance(tree, Fixed):
        return str(tree.value)
    if isinstance(tree, Not):
        return f"not ({text_of(tree.part)})"
    if isinstance(tree, (All, Some)):
        parts = [text_of(part) if isinstance(part, (Compare, Fixed)) else f"({text_of(part)})" for part in tree.parts]
        return (" and " if isinstance(tree, All) else " or ").join(parts)
    right = _written(tree.right.name) if isinstance(tree.right, Name) else repr(tree.right)
    return f"{_written(tree.left.name)} {tree.sign} {right}"


def _written(name: str) -> str:
    return name if name.isidentifier() and not iskeyword(name) else f"`{name}`"


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


def shown(levels: Sequence[Any], most: int = 8) -> str:
    """Levels for an error message, the first few of many."""
    text = ", ".join(map(repr, levels[:most]))
    return text if len(levels) <= most else f"{text}, ... ({len(levels)} in all)"


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
    compare = (ORDER | EQUAL)[sign]
    return lambda codes, active: compare(codes[index], constant)


def _two_names(tree: Compare, left: Domain, right: Domain) -> Test:
    sign, i, j = tree.sign, left.index, right.index
    compare = (ORDER | EQUAL)[sign]
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


class _Reader:
    """Turns ``ast`` nodes into a Tree; whatever is not in the grammar is an error."""

    def __init__(self, source: str, quoted: Mapping[str, str]) -> None:
        self.source = source
        self.quoted = quoted

    def tree(self, node: ast.expr) -> Tree:
        if isinstance(node, ast.BoolOp):
            parts = tuple(self.tree(value) for value in node.values)
            return All(parts) if isinstance(node.op, ast.And) else Some(parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return Not(self.tree(node.operand))
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            links = [
                self.compare(left, op, right)
                for left, op, right in zip(sides, node.ops, sides[1:], strict=False)
            ]  # fmt: skip
            return links[0] if len(links) == 1 else All(tuple(links))
        if isinstance(node, ast.Name):
            return Compare(self.name(node), "==", True)
        if isinstance(node, ast.Constant) and isinstance(node.value, bool):
            return Fixed(node.value)
        raise ValueError(f"{self.text(node)} is no condition: expected comparisons joined by and, or, not")

    def compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Compare:
        sign = _SIGNS.get(type(op))
        if sign is None:
            raise ValueError("'is' is not known here: write == or !=")
        if sign in ("in", "not in"):
            if not isinstance(left, ast.Name) or not isinstance(right, (ast.Tuple, ast.List)):
                got = f"{self.text(left)} {sign} {self.text(right)}"
                raise ValueError(f"expected NAME {sign} (constant, ...), got {got}")
            return Compare(self.name(left), sign, self.constant(right))
        if isinstance(left, ast.Name):
            other = self.name(right) if isinstance(right, ast.Name) else self.constant(right)
            return Compare(self.name(left), sign, other)
        if isinstance(right, ast.Name):
            return Compare(self.name(right), MIRROR[sign], self.constant(left))
        self.constant(left), self.constant(right)  # says so if one of them is neither
        raise ValueError(f"{self.text(left)} {sign} {self.text(right)} names no parameter")

    def name(self, node: ast.Name) -> Name:
        written = ast.get_source_segment(self.source, node) or node.id  # as written: ast normalises identifiers
        return Name(self.quoted.get(written, written))

    def constant(self, node: ast.expr) -> Any:
        if isinstance(node, (ast.Tuple, ast.List)):
            return tuple(self.constant(item) for item in node.elts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            value = self.constant(node.operand)
            if is_number(value):
                return -value if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, (bool, int, float, str))):
            return node.value
        raise ValueError(f"{self.text(node)} is neither a name nor a constant")

    def text(self, node: ast.expr) -> str:
        """A part of the expression as the person wrote it."""
        found = ast.get_source_segment(self.source, node) or ast.unparse(node)
        for identifier, name in self.quoted.items():
            found = found.replace(f"{identifier} ", f"`{name}`").replace(identifier, f"`{name}`")
        return found


def _unquote(text: str) -> tuple[str, dict[str, str]]:
    """The text with every name in backticks replaced by an identifier, and what each of these stands for."""
    stem = "_quoted"
    while stem in text:
        stem += "_"
    quoted: dict[str, str] = {}
    out: list[str] = []
    at = 0
    while at < len(text):
        char = text[at]
        end = at + 1
        if char == "`":
            end = text.find("`", at + 1) + 1
            if end == 0:
                raise ValueError("a backtick is not closed")
            identifier = f"{stem}{len(quoted)}_"  # no one of these is a part of another
            quoted[identifier] = text[at + 1 : end - 1]
            out.append(f" {identifier} ")
        elif char in "'\"":
            while end < len(text) and text[end] != char:
                end += 2 if text[end] == "\\" else 1
            end = min(end + 1, len(text))
            out.append(text[at:end])
        else:
            out.append(" " if char in "\r\n" else char)
        at = end
    return "".join(out), quoted


def _hint(text: str, error: SyntaxError) -> str:
    if not text.strip():
        return "it is empty"
    if "=" in text.replace("==", "").replace("!=", "").replace("<=", "").replace(">=", ""):
        return "write == for equality"
    return f"{error.msg}; a name that is no Python identifier stands in backticks"
