"""Our Space as a ``ConfigSpace.ConfigurationSpace`` and back, as far as each can say what the other means.

Not sayable there, so an error: a condition that compares two numbers or is never true, steps on a log scale or more
than 1,000 of them (fewer become an ordinal), choices that only their type tells apart. Not sayable here: priors,
weights.

Facts of ConfigSpace 1.2.2 that shape this package: bounds are rounded to 13 decimals; values in conditions and
forbidden clauses must be legal; the default config must be legal, so defaults are set to those of a legal config;
``NotEquals`` holds for an inactive parent (a NaN), all other comparisons fail; an ordinal is compared by position,
in a relation by value; sampling reads a ``ForbiddenLessThanEqualsClause`` as its opposite, and checking a
``ForbiddenGreaterThanEqualsClause`` prints the vector, so neither is ever made.
"""

from mpibo.integrations.configspace.reading import from_configspace
from mpibo.integrations.configspace.saying import to_configspace

__all__ = ["from_configspace", "to_configspace"]
