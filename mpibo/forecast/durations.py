"""How long an evaluation takes: a distribution of which the mean is given, or what a model of a run says."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from mpibo.engine.messages import Message
from mpibo.settings import seconds

Duration = Callable[[Message, Random], float]  # seconds, from a trial's ``run`` message and a random generator
Draw = Callable[[Random, float], float]  # a draw of mean 1, from the spread

SHORTEST = 1e-6

# name: the spread where none is given, what it is, and a draw of mean 1
DISTRIBUTIONS: dict[str, tuple[float | None, str, Draw]] = {
    "constant": (None, "", lambda rng, spread: 1.0),
    "uniform": (1.0, "half of its width over the mean", lambda rng, spread: 1 + spread * rng.uniform(-1, 1)),
    "halfnormal": (None, "", lambda rng, spread: math.sqrt(math.pi / 2) * abs(rng.gauss(0, 1))),
    "exponential": (None, "", lambda rng, spread: rng.expovariate(1.0)),
    "lognormal": (0.5, "standard deviation of the logarithm",
                  lambda rng, spread: rng.lognormvariate(-spread * spread / 2, spread)),
    "pareto": (5.0, "its exponent, above 1",
               lambda rng, spread: (spread - 1) / spread * rng.paretovariate(spread)),
}  # fmt: skip


def duration_of(text: str) -> Duration:
    """A distribution of durations from ``NAME:MEAN`` or ``NAME:MEAN,SPREAD``: ``lognormal:60s``, ``pareto:2m,3``.

    Raises:
        ValueError: No such distribution, mean or spread.
    """
    name, _, rest = text.strip().partition(":")
    name = name.strip().lower().replace("-", "").replace("_", "")
    if name not in DISTRIBUTIONS or not rest:
        raise ValueError(f"expected a distribution and its mean such as lognormal:60s, got {text!r}; "
                         f"there are {', '.join(DISTRIBUTIONS)}")  # fmt: skip
    mean_text, comma, spread_text = rest.partition(",")
    mean = seconds(mean_text)
    usual, meaning, draw = DISTRIBUTIONS[name]
    if comma and usual is None:
        raise ValueError(f"{name} has no spread, got {text!r}")
    spread = usual or 0.0
    if comma:
        try:
            spread = float(spread_text)
        except ValueError:
            spread = math.nan
        low, high = (1.0, math.inf) if name == "pareto" else (0.0, 1.0 if name == "uniform" else math.inf)
        if not (low < spread <= high and math.isfinite(spread)):
            raise ValueError(f"the spread of {name} is {meaning}; it must be above {low:g}"
                             f"{f' and at most {high:g}' if high < math.inf else ''}, got {spread_text!r}")  # fmt: skip
    return lambda run, rng: max(SHORTEST, mean * draw(rng, spread))
