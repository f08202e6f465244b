"""Conditions in text, such as ``optimizer == 'sgd' and lr > 0.01``: parsed with ``ast``, never evaluated as code.

The grammar is small: comparisons (chained ones too) of names and constants, ``in`` and ``not in`` with a tuple or
list of constants, ``and``, ``or``, ``not``, a bare name for ``name == True``, and ``True`` or ``False``. A name that
is no Python identifier stands in backticks.

``parse`` turns a text into a tree of ``Compare``, ``All``, ``Some``, ``Not`` and ``Fixed``, ``text_of`` a tree into a
text; ``meaning`` says what it means.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from keyword import iskeyword
from typing import Any

from mpibo.values import is_number

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


def join(kind: Callable[[tuple[Tree, ...]], Tree], parts: Sequence[Tree]) -> Tree:
    """All or Some (the ``kind``) of the parts; one part alone stays as it is."""
    return parts[0] if len(parts) == 1 else kind(tuple(parts))


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
