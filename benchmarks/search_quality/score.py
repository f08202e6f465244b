"""Scores of runs: normalised regrets per run, means per block with standard errors, and paired differences.

best        the lowest true value ever evaluated
told        the lowest value told, on the scale of what this training seed can tell
returned    the true value of the config with the lowest value told: what a user takes home
recommended the true value of the config that the method itself returns, where it says one

All are normalised (see ``problem``). A mean is over problems, of means over seeds; its standard error is that of the
seeds, with the problems as they are. A geometric mean is over problems, of means over seeds, none below ``FLOOR``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

FLOOR = 1e-4
SCORES = ("best", "told", "returned", "recommended")
Line = Mapping[str, Any]


def regrets(line: Line) -> dict[str, float]:
    """The normalised regrets of one run, NaN where there is none."""
    k = line["returned"]
    optimum, scale = line["optimum"], line["scale"]
    recommended = line.get("recommended")
    return {
        "best": normalised(min(line["true"]), optimum, scale),
        "told": normalised(min(line["told"]), line["told_optimum"], line["told_scale"]),
        "returned": normalised(line["true"][k], optimum, scale),
        "recommended": np.nan if recommended is None else normalised(recommended, optimum, scale),
    }


def normalised(value: float, optimum: float | None, scale: float | None) -> float:
    """Regret on a scale where 0 is the optimum and 1 the median of random search; NaN where there is no such scale."""
    if optimum is None or scale is None or not scale > optimum:
        return float("nan")
    return round((value - optimum) / (scale - optimum), 9)  # so that equal values are ties


def common(lines: Iterable[Line]) -> list[Line]:
    """The lines of those problems and seeds, block by block, of which every method there has a run without an error."""
    whole = [line for line in lines if "error" not in line]
    methods: dict[str, set[str]] = defaultdict(set)
    having: dict[tuple[str, int], set[str]] = defaultdict(set)
    for line in whole:
        methods[line["block"]].add(line["method"])
        having[line["problem"], line["seed"]].add(line["method"])
    return [line for line in whole if having[line["problem"], line["seed"]] == methods[line["block"]]]


class Scores:
    """Regrets of a set of runs by block, method, problem and seed."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self.lines = [line for line in lines if "error" not in line]
        self.of: dict[tuple[str, str], dict[str, dict[int, Line]]] = defaultdict(lambda: defaultdict(dict))
        for line in self.lines:
            self.of[line["block"], line["method"]][line["problem"]][line["seed"]] = line | {"regrets": regrets(line)}

    @property
    def blocks(self) -> list[str]:
        """Blocks in the order of their first run."""
        return list(dict.fromkeys(block for block, _ in self.of))

    def methods(self, block: str) -> list[str]:
        """Methods of a block in the order of their first run."""
        return [method for each, method in self.of if each == block]

    def mean(self, block: str, method: str, score: str = "best") -> tuple[float, float]:
        """Mean over problems of means over seeds, and its standard error."""
        groups = self._groups(block, method, score)
        if not groups:
            return float("nan"), float("nan")
        variances = [np.var(group, ddof=1) / len(group) if len(group) > 1 else np.nan for group in groups]
        return float(np.mean([np.mean(group) for group in groups])), float(np.sqrt(np.sum(variances)) / len(groups))

    def geometric(self, block: str, method: str, score: str = "best") -> float:
        """Geometric mean over problems of means over seeds, none below ``FLOOR``."""
        groups = self._groups(block, method, score)
        return float(np.exp(np.mean([np.log(max(np.mean(group), FLOOR)) for group in groups]))) if groups else np.nan

    def cpu(self, block: str, method: str) -> float:
        """CPU milliseconds per evaluation, mean over all runs."""
        lines = [line for seeds in self.of[block, method].values() for line in seeds.values()]
        return float(1e3 * np.mean([line["cpu"] / len(line["told"]) for line in lines]))

    def _groups(self, block: str, method: str, score: str) -> list[list[float]]:
        found = [[line["regrets"][score] for line in seeds.values()] for seeds in self.of[block, method].values()]
        kept = [[value for value in group if not np.isnan(value)] for group in found]
        return [group for group in kept if group]

    def paired(self, block: str, method: str, against: str, score: str = "best") -> dict[str, float]:
        """Differences ``method - against`` over the problems and seeds that both have.

        Returns:
            ``pairs``; ``mean`` over problems of means over seeds with its standard error ``se``; ``wins`` and
            ``losses``; ``p`` of Wilcoxon's signed-rank test over all pairs, two-sided.
        """
        groups = []
        for problem, seeds in self.of[block, method].items():
            other = self.of[block, against].get(problem, {}) if (block, against) in self.of else {}
            group = [seeds[s]["regrets"][score] - other[s]["regrets"][score] for s in seeds if s in other]
            group = [each for each in group if not np.isnan(each)]
            groups += [group] if group else []
        flat = [each for group in groups for each in group]
        if not flat:
            return {"pairs": 0}
        variances = [np.var(group, ddof=1) / len(group) if len(group) > 1 else np.nan for group in groups]
        return {
            "pairs": len(flat),
            "problems": len(groups),
            "mean": float(np.mean([np.mean(group) for group in groups])),
            "se": float(np.sqrt(np.sum(variances)) / len(groups)),
            "wins": sum(each < 0 for each in flat),
            "losses": sum(each > 0 for each in flat),
            "p": _wilcoxon(flat),
        }


def _wilcoxon(differences: Sequence[float]) -> float:
    from scipy.stats import wilcoxon

    if len(differences) < 2 or not any(differences):
        return float("nan")
    return float(wilcoxon(differences).pvalue)
