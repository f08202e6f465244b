"""Unconditional functions with known optima, from ``mpibo.objectives.synthetic`` and of our own making."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from mpibo import Choice, Float, Int, Space
from mpibo.objectives import synthetic
from search_quality.problem import Config, Problem


def box(dimension: int, low: float, high: float) -> Space:
    """``x1 .. xd``, each a float in [low, high]."""
    return Space({f"x{i + 1}": Float(low, high) for i in range(dimension)})


def branin(name: str, block: str) -> Problem:
    """Branin's function on its own box."""
    return Problem(
        name,
        block,
        Space.from_toml({"space": synthetic.BRANIN}),
        lambda c: synthetic.branin(**c),
        synthetic.BRANIN_OPTIMUM,
    )


def hartmann6(name: str, block: str) -> Problem:
    """Hartmann's function of six variables."""
    return Problem(name, block, box(6, 0.0, 1.0), lambda c: synthetic.hartmann6(**c), HARTMANN6_OPTIMUM)


def levy(name: str, block: str, dimension: int) -> Problem:
    """Levy's function on +-10; the optimum is at 1."""
    return Problem(name, block, box(dimension, -10.0, 10.0), synthetic.levy, 0.0)


def rosenbrock(name: str, block: str, dimension: int) -> Problem:
    """Rosenbrock's valley on [-5, 10]; the optimum is at 1."""
    return Problem(name, block, box(dimension, -5.0, 10.0), synthetic.rosenbrock, 0.0)


def ackley(name: str, block: str, dimension: int) -> Problem:
    """Ackley's function on +-32.768, as the scale figures have it: the optimum is at 0, the centre of the box."""
    return Problem(name, block, box(dimension, -32.768, 32.768), synthetic.ackley, 0.0)


AWAY = {"x1": 11.3, "x2": -17.9, "x3": 5.7}  # where the optimum is put: a search must not gain by trying the centre
PLACES = {"a": 8.0, "b": -16.0, "c": 0.0, "d": 24.0, "e": -4.0}  # an unordered choice is a number in disguise


def ackley_mixed(name: str, block: str) -> Problem:
    """Ackley's function of five variables on +-32.768: 3 floats (optimum at ``AWAY``), an int, and a choice of five.

    The int runs from -32 to 32 and is best at -9; the choice stands for one of ``PLACES``.
    """
    floats: dict[str, Any] = {each: Float(-32.768, 32.768) for each in AWAY}
    space = Space(floats | {"n": Int(-32, 32), "kind": Choice(list(PLACES))})

    def value(config: Config) -> float:
        moved = {each: config[each] - centre for each, centre in AWAY.items()}
        return synthetic.ackley(moved | {"n": config["n"] + 9, "kind": PLACES[config["kind"]]})

    return Problem(name, block, space, value, 0.0)


def griewank(name: str, block: str, dimension: int) -> Problem:
    """Griewank's function (1981) on [-40, 60]: a bowl with many shallow waves; the optimum is at 0."""

    def value(config: Config) -> float:
        x = list(config.values())
        waves = math.prod(math.cos(v / math.sqrt(i + 1)) for i, v in enumerate(x))
        return sum(v * v for v in x) / 4000 - waves + 1

    return Problem(name, block, box(dimension, -40.0, 60.0), value, 0.0)


def park1(name: str, block: str) -> Problem:
    """Minus Park's first function (1991)."""
    return Problem(name, block, box(4, 0.0, 1.0), lambda c: -synthetic.park1(**c), PARK1_OPTIMUM)


def mixed(name: str, block: str) -> Problem:
    """A bowl over numbers of three kinds, two choices and a forbidden combination."""
    space = Space.from_toml(synthetic.mixed.space)  # type: ignore[attr-defined]
    return Problem(name, block, space, lambda c: synthetic.mixed(**c), 0.0)


def noisy(name: str, block: str, of: Callable[[str, str], Problem], spread: float) -> Problem:
    """Another problem with Gaussian noise of standard deviation ``spread``, the same at each visit of a config."""
    import random

    bare = of(name, block)

    def tell(config: Config, seed: int) -> float:
        return bare.true(config) + random.Random(f"{seed} {sorted(config.items())}").gauss(0.0, spread)

    return Problem(name, block, bare.space, bare.true, bare.optimum, tell=tell)


HARTMANN6_OPTIMUM = synthetic.hartmann6(0.20168952, 0.15001069, 0.47687398, 0.27533243, 0.31165162, 0.65730054)
PARK1_OPTIMUM = -synthetic.park1(1.0, 1.0, 1.0, 1.0)
