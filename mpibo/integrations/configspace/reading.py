"""A ConfigurationSpace as what makes a Space: parameters, and texts of what is forbidden."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpibo.expression import MIRROR, All, Compare, Fixed, Name, Not, Some, Tree, join, text_of
from mpibo.meaning import SIGNS
from mpibo.parameters import Choice, Constant, Float, Int, Parameter
from mpibo.values import plain

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

ORDERS = {"Equals": "==", "LessThan": "<", "LessThanEquals": "<=", "GreaterThan": ">", "GreaterThanEquals": ">="}


def from_configspace(source: ConfigurationSpace) -> tuple[dict[str, Parameter], list[str]]:
    """The parameters of a ``ConfigurationSpace``, in its order, and the texts of what it forbids.

    Raises:
        ValueError: It has priors, weights, or values or names that a Space cannot have.
    """
    found: dict[str, Parameter] = {}
    for name, hyperparameter in source.items():
        conditions = source.parent_conditions_of[name]
        when = text_of(join(All, [_condition(source, condition) for condition in conditions])) if conditions else None
        try:
            found[name] = _parameter(hyperparameter, when)
        except (TypeError, ValueError) as error:
            raise ValueError(f"parameter {name!r} of the ConfigurationSpace: {error}") from None
    return found, [text_of(_clause(clause)) for clause in source.forbidden_clauses]


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
        return join(kind, [_condition(source, part) for part in condition.components])
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
    return Compare(Name(h.name), "in", tuple(plain(v) for k, v in enumerate(h.sequence) if SIGNS[sign](k, place)))


def _clause(clause: Any) -> Tree:
    from ConfigSpace import forbidden as f

    if isinstance(clause, (f.ForbiddenAndConjunction, f.ForbiddenOrConjunction)):
        kind = All if isinstance(clause, f.ForbiddenAndConjunction) else Some
        return join(kind, [_clause(part) for part in clause.components])
    if isinstance(clause, f.ForbiddenInClause):
        return Compare(Name(clause.hyperparameter.name), "in", tuple(plain(value) for value in clause.values))
    if isinstance(clause, f.ForbiddenEqualsClause):
        return Compare(Name(clause.hyperparameter.name), "==", plain(clause.value))
    said = type(clause).__name__
    for name, sign in ORDERS.items():
        if said == f"Forbidden{name}Clause":
            return _ordering(clause.hyperparameter, sign, plain(clause.value))
        if said == f"Forbidden{name}Relation":
            return _relation(clause.left, sign, clause.right)
    raise ValueError(f"a Space has no forbidden clause of type {said}")


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
                else Compare(Name(right.name), "in", tuple(w for w in ours[1] if SIGNS[sign](value, w)))
            )
            if other.right != ():
                parts.append(All((Compare(Name(left.name), "==", value), other)))
    except TypeError:
        raise ValueError(f"the forbidden relation of {left.name} and {right.name} compares what has no order") from None
    return join(Some, parts) if parts else Fixed(False)


def _levels(h: Any) -> tuple[Any, ...] | None:
    values = getattr(h, "choices", getattr(h, "sequence", None))
    if values is None and hasattr(h, "value"):
        values = (h.value,)
    return None if values is None else tuple(plain(value) for value in values)
