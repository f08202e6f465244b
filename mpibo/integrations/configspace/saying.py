"""A Space's parts as a ConfigurationSpace: its parameters, conditions and forbidden combinations in those classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.random import Generator

from mpibo.expression import MIRROR, All, Compare, Fixed, Name, Not, Some, Tree, join, text_of
from mpibo.integrations.configspace.reading import ORDERS
from mpibo.meaning import SIGNS, Domain, bind, table
from mpibo.parameters import UNSET, Choice, Constant, Float, Int, Parameter
from mpibo.values import is_number

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">", "in": "not in", "not in": "in"}
MOST_LEVELS = 1_000


def to_configspace(
    parameters: Mapping[str, Parameter],
    conditions: Mapping[str, Tree],
    forbidden: Sequence[Tree],
    complete: Callable[[Mapping[str, Any], Generator], dict[str, Any]],
) -> ConfigurationSpace:
    """The same legal configs as a ``ConfigurationSpace``.

    Args:
        parameters: Those of a Space, by name.
        conditions: Its parsed conditions, by name.
        forbidden: The parsed expressions of what it forbids.
        complete: ``Space.complete``: its default config must be legal.

    Raises:
        ValueError: It has something that ConfigSpace cannot say.
    """
    import ConfigSpace as cs

    defaults = _legal_defaults(parameters, complete)
    made: dict[str, Any] = {}
    for name, parameter in parameters.items():
        try:
            made[name] = _hyperparameter(name, parameter, defaults.get(name, UNSET))
        except ValueError as error:
            raise ValueError(f"ConfigSpace cannot say parameter {name!r}: {_line(error)}") from None
    result = cs.ConfigurationSpace()
    items: list[Any] = list(made.values())
    said: list[tuple[Tree, Any]] = []
    try:
        for name, tree in conditions.items():
            where, speaker = f"when of {name!r}", _Speaker(parameters, conditions, made, made[name])
            reduced = speaker.reduce(tree)
            if reduced == Fixed(False):
                raise ValueError("it is never true")
            if reduced != Fixed(True):
                said.append((reduced, _told_apart(reduced, speaker.say(reduced), said)))
        items += [condition for _, condition in said]
        for i, tree in enumerate(forbidden):
            where, speaker = f"forbid[{i}]", _Speaker(parameters, conditions, made, None)
            reduced = speaker.reduce(tree)  # never all true: the space has a legal config
            items += [] if reduced == Fixed(False) else [speaker.say(reduced)]
        where = "the whole"
        result.add(items)
    except (TypeError, ValueError, AssertionError) as error:
        raise ValueError(f"ConfigSpace cannot say {where}: {_line(error)}") from None
    return result


def _told_apart(tree: Tree, condition: Any, said: Sequence[tuple[Tree, Any]]) -> Any:
    """The condition, its last part repeated until ConfigSpace does not take it for another one.

    ConfigSpace evaluates equivalent conditions of several children once, and takes two conjunctions for equivalent when
    they have as many parts and each of the one is in the other: ``a == 1 and b == 2`` and ``a == 1 or b == 2`` are.
    """
    others = [other for known, other in said if known != tree]
    while any(
        one.equivalent_condition_on_parent(two) for other in others for one, two in permutations((condition, other))
    ):
        condition = type(condition)(*condition.components, condition.components[-1])
    return condition


def _legal_defaults(
    parameters: Mapping[str, Parameter], complete: Callable[[Mapping[str, Any], Generator], dict[str, Any]]
) -> dict[str, Any]:
    given = {
        name: p.default
        for name, p in parameters.items()
        if isinstance(p, (Float, Int, Choice))
        and p.default is not UNSET
        and not (p.default is None and p.levels is None)
    }
    try:
        return complete(given, np.random.default_rng(0))
    except ValueError:
        return complete({}, np.random.default_rng(0))


def _hyperparameter(name: str, p: Parameter, default: Any) -> Any:
    import ConfigSpace as cs

    if isinstance(p, Constant):
        return cs.Constant(name, p.value)
    levels = _as_levels(p)
    chosen = {} if default is UNSET else {"default_value": default}
    if levels is not None:
        if len(levels) == 1:
            return cs.Constant(name, levels[0])
        if len(set(levels)) < len(levels):
            raise ValueError(f"there, {', '.join(map(repr, levels))} are not all different")
        if isinstance(p, Choice) and not p.ordered:
            return cs.CategoricalHyperparameter(name, list(levels), **chosen)
        return cs.OrdinalHyperparameter(name, list(levels), **chosen)
    if isinstance(p, Int):
        return cs.UniformIntegerHyperparameter(name, p.low, p.high, log=p.log, **chosen)
    assert isinstance(p, Float)
    if any(abs(round(bound, 13) - bound) > 1e-9 * abs(bound) for bound in (p.low, p.high)):
        raise ValueError(f"it rounds the bounds [{p.low}, {p.high}] to 13 decimals")
    return cs.UniformFloatHyperparameter(name, p.low, p.high, log=p.log, **chosen)


def _as_levels(p: Parameter) -> tuple[Any, ...] | None:
    """The levels of what becomes categorical, ordinal or constant; None for a range."""
    if p.levels is not None:
        return p.levels
    if p.count == 1:
        return tuple(p.values_of(p.level_codes(np.arange(p.count))))
    if p.count is None or (isinstance(p, Int) and p.step in (None, 1)):
        return None
    assert isinstance(p, (Float, Int))
    if p.log or p.count > MOST_LEVELS:
        raise ValueError(f"it has no steps, and {p.summary()} is no ordinal")
    return tuple(p.values_of(p.level_codes(np.arange(p.count))))


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


class _Speaker:
    """Says a tree as a condition on ``child``, or without one as a forbidden clause.

    ``reduce`` first brings a tree to All, Some, Fixed and comparisons of which each is one thing that ConfigSpace has.
    """

    def __init__(
        self, parameters: Mapping[str, Parameter], conditions: Mapping[str, Tree], made: Mapping[str, Any], child: Any
    ) -> None:
        self.parameters = parameters
        self.conditions = conditions
        self.made = made
        self.child = child

    def reduce(self, tree: Tree, wanted: bool = True) -> Tree:
        """A tree without Not that is true where ``tree`` is ``wanted``; what is always or never true is left out."""
        if isinstance(tree, Fixed):
            return Fixed(tree.value is wanted)
        if isinstance(tree, Not):
            return self.reduce(tree.part, not wanted)
        if isinstance(tree, (All, Some)):
            parts = [self.reduce(part, wanted) for part in tree.parts]
            return _all(parts) if isinstance(tree, All) is wanted else _some(parts)
        if wanted:
            return self.comparison(tree)
        named = [tree.left.name, *([tree.right.name] if isinstance(tree.right, Name) else [])]
        asleep = [self.reduce(self.conditions[name], False) for name in named if name in self.conditions]
        return _some([*asleep, self.comparison(tree, False)])

    def comparison(self, tree: Compare, wanted: bool = True) -> Tree:
        """Where one comparison of what is active is ``wanted``; a choice's becomes ``in`` the levels for which it is.

        Of numbers the opposite holds where a comparison does not; a level that is none is neither below nor above.
        """
        levels, name = self.levels(tree.left.name), tree.left.name
        if isinstance(tree.right, Name):
            return self.two_names(tree, levels, self.levels(tree.right.name), wanted)
        if levels is not None:
            return self.among(name, levels, [bool(true) is wanted for true in table(tree, self.domain(name, levels))])
        if not wanted:
            return self.comparison(Compare(tree.left, OPPOSITE[tree.sign], tree.right))
        if tree.sign == "in":
            return _some([self.comparison(Compare(tree.left, "==", value)) for value in tree.right])
        if tree.sign == "not in":
            return _all(
                [self.always(name), *(self.comparison(Compare(tree.left, "!=", value)) for value in tree.right)]
            )
        return self.number(name, tree.sign, tree.right)

    def number(self, name: str, sign: str, value: float) -> Tree:
        """A number's comparison with a value, which must be a legal one there."""
        p = self.parameters[name]
        assert isinstance(p, (Float, Int))
        if sign == "!=":
            return _some([self.number(name, "<", value), self.number(name, ">", value)])
        if isinstance(p, Int) and value != int(value):
            if sign == "==":
                return Fixed(False)
            sign, value = (">=", math.ceil(value)) if sign in (">", ">=") else ("<=", math.floor(value))
        ends = [SIGNS[sign](end, value) for end in (p.low, p.high)]
        if sign != "==" and ends[0] is ends[1]:
            return self.always(name) if ends[0] else Fixed(False)
        if not p.low <= value <= p.high:
            return Fixed(False)
        return Compare(Name(name), sign, p.value_of(p.code(value)))

    def two_names(
        self, tree: Compare, left: tuple[Any, ...] | None, right: tuple[Any, ...] | None, wanted: bool = True
    ) -> Tree:  # fmt: skip
        assert isinstance(tree.right, Name)
        if left is None and right is None:
            if self.child is not None:
                raise ValueError(f"it has no condition that compares two numbers, as {text_of(tree)}")
            if not wanted:
                return self.two_names(Compare(tree.left, OPPOSITE[tree.sign], tree.right), left, right)
            if tree.sign == "!=":
                return _some([self.two_names(Compare(tree.left, sign, tree.right), left, right) for sign in ("<", ">")])
            return tree
        if left is None:
            return self.two_names(Compare(tree.right, MIRROR[tree.sign], tree.left), right, left, wanted)
        domains = {tree.left.name: self.domain(tree.left.name, left, 0)}
        parts: list[Tree] = []
        if right is not None:
            domains[tree.right.name] = self.domain(tree.right.name, right, 1)
            test = bind(tree, domains)
        for k, level in enumerate(left):
            here = self.among(tree.left.name, left, [j == k for j in range(len(left))])
            if right is not None:
                truth = [bool(test((k, j), (True, True))) is wanted for j in range(len(right))]
                there = self.among(tree.right.name, right, truth)
            elif is_number(level):
                sign = MIRROR[tree.sign] if wanted else OPPOSITE[MIRROR[tree.sign]]
                there = self.number(tree.right.name, sign, level)
            else:
                there = self.always(tree.right.name) if (tree.sign == "!=") is wanted else Fixed(False)
            parts.append(_all([here, there]))
        return _some(parts)

    def always(self, name: str) -> Tree:
        """True whenever the parameter is active."""
        if name not in self.conditions:
            return Fixed(True)
        levels, p = self.levels(name), self.parameters[name]
        if levels is not None:
            return Compare(Name(name), "in", levels)
        assert isinstance(p, (Float, Int))
        return Compare(Name(name), ">=", p.low)

    def among(self, name: str, levels: tuple[Any, ...], truth: Sequence[bool]) -> Tree:
        if all(truth):
            return self.always(name)
        chosen = tuple(level for level, true in zip(levels, truth, strict=True) if true)
        return Compare(Name(name), "in", chosen) if chosen else Fixed(False)

    def levels(self, name: str) -> tuple[Any, ...] | None:
        return _as_levels(self.parameters[name])

    def domain(self, name: str, levels: tuple[Any, ...], index: int = 0) -> Domain:
        p = self.parameters[name]
        return Domain(index, levels, p.ordered, fixed=not isinstance(p, Choice))

    def say(self, tree: Tree) -> Any:
        """A reduced tree in ConfigSpace's classes."""
        import ConfigSpace as cs

        if isinstance(tree, (All, Some)):
            kinds = (
                (cs.ForbiddenAndConjunction, cs.ForbiddenOrConjunction)
                if self.child is None
                else (cs.AndConjunction, cs.OrConjunction)
            )
            return kinds[isinstance(tree, Some)](*map(self.say, tree.parts))
        assert isinstance(tree, Compare)
        return self.clause(tree) if self.child is None else self.condition(tree)

    def condition(self, tree: Compare) -> Any:
        import ConfigSpace as cs

        parent, sign, value = self.made[tree.left.name], tree.sign, tree.right
        if sign == "in":
            if len(value) == 1:
                return cs.EqualsCondition(self.child, parent, value[0])
            return cs.InCondition(self.child, parent, list(value))
        strict = {"<": cs.LessThanCondition, ">": cs.GreaterThanCondition, "==": cs.EqualsCondition}
        if sign in strict:
            return strict[sign](self.child, parent, value)
        parts = strict[sign[0]](self.child, parent, value), cs.EqualsCondition(self.child, parent, value)
        return cs.OrConjunction(*parts)

    def clause(self, tree: Compare) -> Any:
        from ConfigSpace import forbidden as f

        left, sign, value = self.made[tree.left.name], tree.sign, tree.right
        if isinstance(value, Name):
            kind = next(name for name, known in ORDERS.items() if known == sign)
            return getattr(f, f"Forbidden{kind}Relation")(left, self.made[value.name])
        if sign == "in" and len(value) > 1:
            return f.ForbiddenInClause(left, list(value))
        equal = f.ForbiddenEqualsClause(left, value[0] if sign == "in" else value)
        if sign in ("in", "=="):
            return equal
        strict = (f.ForbiddenLessThanClause if sign[0] == "<" else f.ForbiddenGreaterThanClause)(left, value)
        return strict if sign in ("<", ">") else f.ForbiddenOrConjunction(strict, equal)


def _all(parts: Sequence[Tree]) -> Tree:
    rest = tuple(part for part in parts if part != Fixed(True))
    if Fixed(False) in rest:
        return Fixed(False)
    return join(All, rest) if rest else Fixed(True)


def _some(parts: Sequence[Tree]) -> Tree:
    rest = tuple(part for part in parts if part != Fixed(False))
    if Fixed(True) in rest:
        return Fixed(True)
    return join(Some, rest) if rest else Fixed(False)
