"""The conditions and forbidden combinations of a space: read, bound to its parameters, parents first."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpibo.expression import Tree, names, parse
from mpibo.meaning import Domain, Test, bind
from mpibo.parameters import Constant, Parameter


@dataclass(frozen=True, slots=True)
class Rules:
    """What the expressions of a space say.

    Attributes:
        conditions: Name to the parsed condition, of the parameters that have one.
        active: Name to whether it is active, of the same ones, each after those that its condition names.
        forbidden: The parsed expressions of ``forbid``.
        broken: Whether each of these is true of a config.
    """

    conditions: dict[str, Tree]
    active: dict[str, Test]
    forbidden: tuple[Tree, ...]
    broken: tuple[Test, ...]


def rules_of(parameters: Mapping[str, Parameter], forbid: Sequence[str]) -> Rules:
    """The rules in the texts of parameters' ``when`` and of ``forbid``.

    Raises:
        ValueError: An expression without meaning, an unknown name in it, conditions in a circle.
    """
    domains = {
        name: Domain(i, p.levels, p.ordered, isinstance(p, Constant), p.when is not None)
        for i, (name, p) in enumerate(parameters.items())
    }
    read = {name: _read(f"when of {name!r}", p.when, domains) for name, p in parameters.items() if p.when is not None}
    conditions = {name: tree for name, (tree, _) in read.items()}
    active = {name: read[name][1] for name in _parents_first(tuple(parameters), conditions) if name in read}
    found = [_read(f"forbid[{i}]", text, domains) for i, text in enumerate(forbid)]
    return Rules(conditions, active, tuple(tree for tree, _ in found), tuple(test for _, test in found))


def suggest(name: Any, known: Sequence[str]) -> str:
    """What the person may have meant by an unknown name."""
    near = difflib.get_close_matches(str(name), known, n=1)
    some = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f"did you mean {near[0]!r}?" if near else f"known are {some}"


def _read(where: str, text: str, domains: Mapping[str, Domain]) -> tuple[Tree, Test]:
    try:
        tree = parse(text)
        for name in names(tree):
            if name not in domains:
                raise ValueError(f"unknown name {name!r} in {text!r}; {suggest(name, tuple(domains))}")
        return tree, bind(tree, domains)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


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
