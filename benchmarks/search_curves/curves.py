"""Objectives with learning curves that are known: a space, the curve of each config, what an epoch costs.

``hartmann``       six floats, a function of this package: low budgets mislead somewhat
``hartmann-hard``  the same with more bias and more noise: the first step says nothing
``digits``         a table: every config of a grid of multi-layer perceptrons, really trained (``make_digits.py``)
``FILE``           a file of curves of random configs of a space, ``.json`` or ``.json.gz`` (``from_file``): a search
                   chooses among these configs alone, the nearest one to what it proposes (``pool.py``)
"""

from __future__ import annotations

import functools
import gzip
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

Array = NDArray[np.float64]
Config = dict[str, Any]
DRAWS = 20_000  # random configs from which the scale is read where there is no table
HARTMANN = {"hartmann": (2.0, 0.5), "hartmann-hard": (3.0, 1.0)}  # bias and noise
SPREAD = 0.3  # of the logarithm of what a step costs, from config to config


@dataclass(frozen=True)
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

    def target(self, n: int = 64) -> float:
        """The median of what ``n`` full trainings of random configs reach."""
        return best_of(self.every, n)

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
    """Curves of random configs: ``{"space": TOML form, "configs": [...], "curves": [[...], ...], "seconds": [...]}``.

    ``curves`` are values to minimise by epoch, one row for each config, all as long; ``seconds`` what an epoch costs:
    a number for each config, or a row of as many numbers as epochs.
    """
    text = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    told = json.loads(text)
    space = Space.from_toml(told["space"] if "space" in told["space"] else {"space": told["space"]})
    configs = [space.check(config) for config in told["configs"]]
    values = np.array(told["curves"], float)
    seconds = np.array([np.mean(each) for each in told["seconds"]], float)
    place = {repr(sorted(config.items())): i for i, config in enumerate(configs)}

    def row(config: Config) -> int:
        return place[repr(sorted(config.items()))]

    return Curves(
        file.name.partition(".")[0], space, values.shape[1], lambda config, seed: values[row(config)],
        lambda config: float(seconds[row(config)]), float(values[:, -1].min()), values[:, -1], float(seconds.mean()),
        tuple(configs),
    )  # fmt: skip
