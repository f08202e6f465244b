"""Functions of the COCO platform's suites bbob and bbob-mixint (``pip install coco-experiment``), instance 1.

References:
    Hansen, Auger, Ros, Mersmann, Tusar & Brockhoff 2021, Optim. Methods Softw. 36:114; Tusar, Brockhoff & Hansen 2019,
    GECCO (the mixed-integer suite).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mpibo import Float, Int, Space
from search_quality.problem import Problem

# Function and dimension of instance 1, with the value at its best point (tests ask the package for that point).
BBOB = {(2, 5): -209.88, (8, 5): 149.15, (9, 10): 123.83, (15, 10): 1000.0, (20, 5): -546.5, (21, 5): 40.78}
MIXINT = {(3, 10): -46.209, (15, 10): 100.0, (21, 5): 40.78}


def problem(name: str, block: str, function: int, dimension: int, *, mixed: bool = False) -> Problem:
    """Instance 1 of a function of bbob, or of bbob-mixint with 8 whole numbers of 2 to 16 values and 2 floats.

    Raises:
        ImportError: coco-experiment is not installed.
    """
    source = instance(function, dimension, mixed=mixed)
    whole = source.number_of_integer_variables  # these come first
    bounds = list(zip(source.lower_bounds, source.upper_bounds, strict=True))
    space = Space(
        {
            f"x{i + 1}": Int(int(low), int(high)) if i < whole else Float(low, high)
            for i, (low, high) in enumerate(bounds)
        }
    )
    order = space.names

    def value(config: dict[str, Any]) -> float:
        return float(source(np.array([config[each] for each in order], dtype=float)))

    return Problem(name, block, space, value, (MIXINT if mixed else BBOB)[function, dimension])


def instance(function: int, dimension: int, *, mixed: bool = False) -> Any:
    """The package's own object: a callable of an array, with bounds."""
    import cocoex

    chosen = f"dimensions: {dimension} function_indices: {function} instance_indices: 1"
    suite = cocoex.Suite("bbob-mixint" if mixed else "bbob", "", chosen)
    return suite[0]
