"""Objectives with learning curves that are known: a space, the curve of each config, what an epoch costs.

``hartmann``       six floats, a function of this package: low budgets mislead somewhat
``hartmann-hard``  the same with more bias and more noise: the first step says nothing
``digits``         a table: every config of a grid of multi-layer perceptrons, really trained (``make_digits.py``)
``FILE``           curves of random configs of ``mnist``, by ``mnist_search.py --curves`` (``mnist.jsonl`` has 64): a
                   search chooses among these configs alone, the nearest one to what it proposes (``pool.py``)
"""

from __future__ import annotations

import functools
import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from search_quality.problem import best_of

from mpibo import Space
from mpibo.objectives import synthetic
from mpibo.table import key

Array = NDArray[np.float64]
Config = dict[str, Any]
DRAWS = 20_000  # random configs from which the scale is read where there is no table
HARTMANN = {"hartmann": (2.0, 0.5), "hartmann-hard": (3.0, 1.0)}  # bias and noise
SPREAD = 0.3  # of the logarithm of what a step costs, from config to config


@dataclass(frozen=True, eq=False)
class Curves:
    """An objective to minimise.

    Attributes:
        name: Its name.
        space: Its space.
        high: The largest budget, in epochs.
        curve: ``(high,)`` what the trainings of a config tell, epoch by epoch; the second argument is the trial's seed.
        seconds: What an epoch of a config costs.
        optimum: The lowest value at the largest budget.
        every: Values at the largest budget of all configs, or of many random ones.
        typical: Mean cost of an epoch over random configs.
        pool: All configs, where only these can be evaluated.
    """

    name: str
    space: Space
    high: int
    curve: Callable[[Config, int], Array]
    seconds: Callable[[Config], float]
    optimum: float
    every: Array
    typical: float
    pool: tuple[Config, ...] = ()

    @property
    def reference(self) -> int:
        """Full trainings of random configs whose result is the target: 64; of few configs a quarter."""
        return max(1, min(64, len(self.pool) // 4)) if self.pool else 64

    @functools.cached_property
    def target(self) -> float:
        """The median of what ``reference`` full trainings of random configs reach."""
        return best_of(self.every, self.reference)

    def time(self, n: float, workers: int) -> float:
        """Seconds in which as many workers train ``n`` random configs fully."""
        return n * self.high * self.typical / workers


@functools.cache
def load(name: str) -> Curves:
    """An objective by its name, or of a file.

    Raises:
        ValueError: Neither a name nor a file.
    """
    if name in HARTMANN:
        return _hartmann(name, *HARTMANN[name])
    if name == "digits":
        return _digits()
    if Path(name).is_file():
        return from_file(Path(name))
    raise ValueError(f"unknown objective {name!r}: expected {', '.join(HARTMANN)}, digits or a file of curves")


def _hartmann(name: str, bias: float, noise: float, full: int = 27) -> Curves:
    space = Space.from_toml(synthetic.hartmann6_fidelity.space)

    def curve(config: Config, seed: int) -> Array:
        x = tuple(config.values())
        return np.array([synthetic.hartmann6_at(x, t, full, bias, noise, seed) for t in range(1, full + 1)])

    def seconds(config: Config) -> float:
        return math.exp(random.Random(repr(sorted(config.items()))).gauss(-(SPREAD**2) / 2, SPREAD))

    draws = np.random.default_rng(7).random((DRAWS, 6))
    every = np.array([synthetic.hartmann6_at(tuple(x), full, full, bias, 0.0, 0) for x in draws])
    return Curves(name, space, full, curve, seconds, synthetic.hartmann6_fidelity.optimum, every, 1.0)


def _digits() -> Curves:
    from search_curves.make_digits import EPOCHS, FILE, GRID

    kept = np.load(FILE)
    error, seconds = kept["wrong"] / float(kept["of"]), kept["seconds"].astype(float)
    space = Space.from_toml(
        {
            "space": {
                name: {"choice": list(levels)} | ({"ordered": True} if not isinstance(levels[0], str) else {})
                for name, levels in GRID.items()
            }
        }
    )
    sizes = [len(levels) for levels in GRID.values()]

    def row(config: Config) -> int:
        return int(np.ravel_multi_index([GRID[name].index(config[name]) for name in GRID], sizes))

    return Curves(
        "digits", space, EPOCHS, lambda config, seed: error[row(config)], lambda config: float(seconds[row(config)]),
        float(error[:, -1].min()), error[:, -1], float(seconds.mean()),
    )  # fmt: skip


def from_file(file: Path) -> Curves:
    """Curves of random configs of ``mnist``, as ``mnist_search.py --curves`` writes them.

    Each line has a ``config``, its ``values`` by epoch, and the ``cpu_seconds`` until the end of each. A curve that
    ended early stays at its last value.

    Raises:
        ValueError: There is none, or none has an epoch.
    """
    from mpibo.objectives.mnist import mnist

    space = Space.from_toml(mnist.space)  # type: ignore[attr-defined]
    lines = [json.loads(text) for text in file.read_text().splitlines() if text.strip()]
    lines = [line for line in lines if line["values"]]
    if not lines:
        raise ValueError(f"{file} has no learning curve")
    high = max(len(line["values"]) for line in lines)
    values = np.array([line["values"] + line["values"][-1:] * (high - len(line["values"])) for line in lines])
    seconds = np.array([line["cpu_seconds"][-1] / len(line["values"]) for line in lines])
    pool = tuple(space.check(line["config"]) for line in lines)
    place = {key(x): i for i, x in enumerate(space.encode(list(pool)))}

    def row(config: Config) -> int:
        found = place.get(key(space.encode([config])[0]))
        if found is None:
            raise ValueError(
                f"{file} has no curve of {config}: `bohb` proposes configs of its own, which have none here"
            )
        return found

    return Curves(
        file.stem, space, high, lambda config, seed: values[row(config)], lambda config: float(seconds[row(config)]),
        float(values[:, -1].min()), values[:, -1], float(seconds.mean()), pool,
    )  # fmt: skip
