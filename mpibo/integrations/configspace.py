"""Our Space as a ``ConfigSpace.ConfigurationSpace`` and back, as far as each can say what the other means.

Not sayable there, so an error: a condition that compares two numbers or is never true, steps on a log scale or more
than 1,000 of them (fewer become an ordinal), choices that only their type tells apart. Not sayable here: priors,
weights.

Facts of ConfigSpace 1.2.2 that shape this module: bounds are rounded to 13 decimals; values in conditions and
forbidden clauses must be legal; the default config must be legal, so defaults are set to those of a legal config;
``NotEquals`` holds for an inactive parent (a NaN), all other comparisons fail; an ordinal is compared by position,
in a relation by value; sampling reads a ``ForbiddenLessThanEqualsClause`` as its opposite, and checking a
``ForbiddenGreaterThanEqualsClause`` prints the vector, so neither is ever made.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np

from mpibo.expression import (
    MIRROR,
    All,
    Compare,
    Domain,
    Fixed,
    Name,
    Not,
    Some,
    Tree,
    bind,
    is_number,
    table,
    text_of,
)
from mpibo.parameters import UNSET, Choice, Constant, Float, Int, Parameter, plain

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

    from mpibo.space import Space

OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">", "in": "not in", "not in": "in"}
MOST_LEVELS = 1_000
_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_ORDERS = {"Equals": "==", "LessThan": "<", "LessThanEquals": "<=", "GreaterThan": ">", "GreaterThanEquals": ">="}


# ---- from ConfigSpace


def from_configspace(source: ConfigurationSpace) -> Space:
    """A ``ConfigurationSpace`` as a Space, its parameters in its order.

    Raises:
        ValueError: It has priors, weights, or values or names that a Space cannot have.
    """
    from mpibo.space import Space

    found: dict[str, Parameter] = {}
    for name, hyperparameter in source.items():
        conditions = source.parent_conditions_of[name]
        when = text_of(_join(All, [_condition(source, condition) for condition in conditions])) if conditions else None
        try:
            found[name] = _parameter(hyperparameter, when)
        except (TypeError, ValueError) as error:
            raise ValueError(f"parameter {name!r} of the ConfigurationSpace: {error}") from None
    return Space(found, [text_of(_clause(clause)) for clause in source.forbidden_clauses])


def _parameter(h: Any, when: str | None) -> Parameter:
    import ConfigSpace as cs

    default = plain(h.default_value)
    if isinstance(h, cs.UniformFloatHyperparameter):
        return Float(h.lower, h.upper, log=bool(h.log), default=default, when=when)
    if isinstance(h, cs.UniformIntegerHyperparameter):
        return Int(h.lower, h.upper, log=bool(h.log), default=default, when=when)
    if isinstance(h, cs.CategoricalHyperparameter):
        if len(set(h.probabilities.tolist())) > 1:
            raise ValueError("a Space has no weights; leave them out")
        return Choice(h.choices, default=default, when=when)
    if isinstance(h, cs.OrdinalHyperparameter):
        return Choice(h.sequence, ordered=True, default=default, when=when)
    if isinstance(h, cs.Constant):
        return Constant(h.value, when=when)
    raise ValueError(f"a Space has no {type(h).__name__}; its to_uniform() is one without a prior")


def _condition(source: ConfigurationSpace, condition: Any) -> Tree:
    import ConfigSpace as cs

    if isinstance(condition, (cs.AndConjunction, cs.OrConjunction)):
        kind = All if isinstance(condition, cs.AndConjunction) else Some
        return _join(kind, [_condition(source, part) for part in condition.components])
    parent = source[condition.parent.name]
    if isinstance(condition, cs.InCondition):
        return Compare(Name(parent.name), "in", tuple(plain(value) for value in condition.values))
    value = plain(condition.value)
    if isinstance(condition, cs.NotEqualsCondition):
        return Not(Compare(Name(parent.name), "==", value))  # true of an inactive parent, as there
    if isinstance(condition, cs.EqualsCondition):
        return Compare(Name(parent.name), "==", value)
    if isinstance(condition, (cs.LessThanCondition, cs.GreaterThanCondition)):
        return _ordering(parent, "<" if isinstance(condition, cs.LessThanCondition) else ">", value)
    raise ValueError(f"a Space has no condition of type {type(condition).__name__}")


def _ordering(h: Any, sign: str, value: Any) -> Compare:
    """``h sign value``; positions in an ordinal are written out as the values that stand there."""
    import ConfigSpace as cs

    if not isinstance(h, cs.OrdinalHyperparameter):
        return Compare(Name(h.name), sign, value)
    place = h.sequence.index(value)
    return Compare(Name(h.name), "in", tuple(plain(v) for k, v in enumerate(h.sequence) if _SIGNS[sign](k, place)))


def _clause(clause: Any) -> Tree:
    from ConfigSpace import forbidden as f

    if isinstance(clause, (f.ForbiddenAndConjunction, f.ForbiddenOrConjunction)):
        join = All if isinstance(clause, f.ForbiddenAndConjunction) else Some
        return _join(join, [_clause(part) for part in clause.components])
    if isinstance(clause, f.ForbiddenInClause):
        return Compare(Name(clause.hyperparameter.name), "in", tuple(plain(value) for value in clause.values))
    if isinstance(clause, f.ForbiddenEqualsClause):
        return Compare(Name(clause.hyperparameter.name), "==", plain(clause.value))
    kind = type(clause).__name__
    for name, sign in _ORDERS.items():
        if kind == f"Forbidden{name}Clause":
            return _ordering(clause.hyperparameter, sign, plain(clause.value))
        if kind == f"Forbidden{name}Relation":
            return _relation(clause.left, sign, clause.right)
    raise ValueError(f"a Space has no forbidden clause of type {kind}")


def _relation(left: Any, sign: str, right: Any) -> Tree:
    """``left sign right`` by value: of two numbers as it is, of choices level by level."""
    ours = [_levels(h) for h in (left, right)]
    if ours[0] is None and ours[1] is None:
        return Compare(Name(left.name), sign, Name(right.name))
    if ours[0] is None:
        left, right, sign, ours = right, left, MIRROR[sign], ours[::-1]
    assert ours[0] is not None
    parts: list[Tree] = []
    try:
        for value in ours[0]:
            other = (
                Compare(Name(right.name), MIRROR[sign], value)
                if ours[1] is None
                else Compare(Name(right.name), "in", tuple(w for w in ours[1] if _SIGNS[sign](value, w)))
            )
            if other.right != ():
                parts.append(All((Compare(Name(left.name), "==", value), other)))
    except TypeError:
        raise ValueError(f"the forbidden relation of {left.name} and {right.name} compares what has no order") from None
    return _join(Some, parts) if parts else Fixed(False)


def _levels(h: Any) -> tuple[Any, ...] | None:
    values = getattr(h, "choices", getattr(h, "sequence", None))
    if values is None and hasattr(h, "value"):
        values = (h.value,)
    return None if values is None else tuple(plain(value) for value in values)


def _join(kind: Callable[[tuple[Tree, ...]], Tree], parts: Sequence[Tree]) -> Tree:
    return parts[0] if len(parts) == 1 else kind(tuple(parts))


# ---- to ConfigSpace


def to_configspace(space: Space) -> ConfigurationSpace:
    """The same legal configs as a ``ConfigurationSpace``.

    Raises:
        ValueError: It has something that ConfigSpace cannot say.
    """
    import ConfigSpace as cs

    defaults = _legal_defaults(space)
    made: dict[str, Any] = {}
    for name, parameter in space.parameters.items():
        try:
            made[name] = _hyperparameter(name, parameter, defaults.get(name, UNSET))
        except ValueError as error:
            raise ValueError(f"ConfigSpace cannot say parameter {name!r}: {_line(error)}") from None
    result = cs.ConfigurationSpace()
    items: list[Any] = list(made.values())
    said: list[tuple[Tree, Any]] = []
    try:
        for name, tree in space.conditions.items():
            where, speaker = f"when of {name!r}", _Speaker(space, made, made[name])
            reduced = speaker.reduce(tree)
            if reduced == Fixed(False):
                raise ValueError("it is never true")
            if reduced != Fixed(True):
                said.append((reduced, _told_apart(reduced, speaker.say(reduced), said)))
        items += [condition for _, condition in said]
        for i, tree in enumerate(space.forbidden):
            where, speaker = f"forbid[{i}]", _Speaker(space, made, None)
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


def _legal_defaults(space: Space) -> dict[str, Any]:
    given = {
        name: p.default
        for name, p in space.parameters.items()
        if isinstance(p, (Float, Int, Choice))
        and p.default is not UNSET
        and not (p.default is None and p.levels is None)
    }
    try:
        return space.complete(given, np.random.default_rng(0))
    except ValueError:
        return space.complete({}, np.random.default_rng(0))


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

    def __init__(self, space: Space, made: dict[str, Any], child: Any) -> None:
        self.space = space
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
        asleep = [self.reduce(self.space.conditions[name], False) for name in named if name in self.space.conditions]
        return _some([*asleep, self.comparison(Compare(tree.left, OPPOSITE[tree.sign], tree.right))])

    def comparison(self, tree: Compare) -> Tree:
        """One comparison; a choice's becomes ``in`` the levels for which it is true."""
        levels, name = self.levels(tree.left.name), tree.left.name
        if isinstance(tree.right, Name):
            return self.two_names(tree, levels, self.levels(tree.right.name))
        if levels is not None:
            return self.among(name, levels, table(tree, self.domain(name, levels)))
        if tree.sign == "in":
            return _some([self.comparison(Compare(tree.left, "==", value)) for value in tree.right])
        if tree.sign == "not in":
            return _all(
                [self.always(name), *(self.comparison(Compare(tree.left, "!=", value)) for value in tree.right)]
            )
        return self.number(name, tree.sign, tree.right)

    def number(self, name: str, sign: str, value: float) -> Tree:
        """A number's comparison with a value, which must be a legal one there."""
        p = self.space.parameters[name]
        assert isinstance(p, (Float, Int))
        if sign == "!=":
            return _some([self.number(name, "<", value), self.number(name, ">", value)])
        if isinstance(p, Int) and value != int(value):
            if sign == "==":
                return Fixed(False)
            sign, value = (">=", math.ceil(value)) if sign in (">", ">=") else ("<=", math.floor(value))
        ends = [_SIGNS[sign](end, value) for end in (p.low, p.high)]
        if sign != "==" and ends[0] is ends[1]:
            return self.always(name) if ends[0] else Fixed(False)
        if not p.low <= value <= p.high:
            return Fixed(False)
        return Compare(Name(name), sign, p.value_of(p.code(value)))

    def two_names(self, tree: Compare, left: tuple[Any, ...] | None, right: tuple[Any, ...] | None) -> Tree:
        assert isinstance(tree.right, Name)
        if left is None and right is None:
            if self.child is not None:
                raise ValueError(f"it has no condition that compares two numbers, as {text_of(tree)}")
            if tree.sign == "!=":
                return _some([self.two_names(Compare(tree.left, sign, tree.right), left, right) for sign in ("<", ">")])
            return tree
        if left is None:
            return self.two_names(Compare(tree.right, MIRROR[tree.sign], tree.left), right, left)
        domains = {tree.left.name: self.domain(tree.left.name, left, 0)}
        parts: list[Tree] = []
        if right is not None:
            domains[tree.right.name] = self.domain(tree.right.name, right, 1)
            test = bind(tree, domains)
        for k, level in enumerate(left):
            here = self.among(tree.left.name, left, [j == k for j in range(len(left))])
            if right is not None:
                truth = [bool(test((k, j), (True, True))) for j in range(len(right))]
                there = self.among(tree.right.name, right, truth)
            elif is_number(level):
                there = self.number(tree.right.name, MIRROR[tree.sign], level)
            else:
                there = self.always(tree.right.name) if tree.sign == "!=" else Fixed(False)
            parts.append(_all([here, there]))
        return _some(parts)

    def always(self, name: str) -> Tree:
        """True whenever the parameter is active."""
        if name not in self.space.conditions:
            return Fixed(True)
        levels, p = self.levels(name), self.space.parameters[name]
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
        return _as_levels(self.space.parameters[name])

    def domain(self, name: str, levels: tuple[Any, ...], index: int = 0) -> Domain:
        p = self.space.parameters[name]
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
            kind = next(name for name, known in _ORDERS.items() if known == sign)
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
    return _join(All, rest) if rest else Fixed(True)


def _some(parts: Sequence[Tree]) -> Tree:
    rest = tuple(part for part in parts if part != Fixed(False))
    if Fixed(True) in rest:
        return Fixed(True)
    return _join(Some, rest) if rest else Fixed(False)
