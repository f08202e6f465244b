"""Pictures of a block: regret against evaluations and against virtual time, the mean over problems and seeds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_quality.score import FLOOR, Line, Scores, normalised

Array = NDArray[np.float64]
POINTS = 200  # of an axis of time
TOP = 10.0  # the first few results of a run may be far above
COLOURS = ["#4269d0", "#ff725c", "#3ca951", "#a463f2", "#9c6b4e", "#ff8ab7", "#6cc5b0", "#efb118", "#97bbf5", "#333333"]


def best_so_far(line: Line) -> tuple[Array, Array]:
    """``(n,)`` virtual times of the ends and ``(n,)`` normalised regrets of the best true value until then."""
    ended = np.array(line["ended"])
    order = np.lexsort((np.arange(len(ended)), ended))
    lowest = np.minimum.accumulate(np.array(line["true"])[order])
    return ended[order], np.array([normalised(value, line["optimum"], line["scale"]) for value in lowest])


def by_evaluations(line: Line, axis: Array) -> Array:
    """Regret after each number of ended evaluations in ``axis``."""
    regret = best_so_far(line)[1]
    return np.asarray(regret[np.minimum(axis.astype(int), len(regret)) - 1])


def by_time(line: Line, axis: Array) -> Array:
    """Regret at each virtual time in ``axis``; NaN before the first end."""
    times, regret = best_so_far(line)
    place = np.searchsorted(times, axis, side="right") - 1
    return np.where(place >= 0, regret[np.maximum(place, 0)], np.nan)


def draw(scores: Scores, folder: Path) -> list[Path]:
    """A PNG for each block.

    Returns:
        The files.

    Raises:
        ValueError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise ValueError("--plot needs matplotlib: pip install matplotlib") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for block in scores.blocks:
        figure, axes = pyplot.subplots(1, 2, figsize=(13, 4.8), sharey=True, layout="constrained")
        _panels(axes, scores, block)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)
        one = next(line for line in scores.lines if line["block"] == block)
        files.append(folder / f"{block}-{one['workers']}-{one['durations']}.png")
        figure.savefig(files[-1], dpi=120)
        pyplot.close(figure)
    return files


def _panels(axes: Any, scores: Scores, block: str) -> None:
    methods = sorted(scores.methods(block), key=lambda m: scores.mean(block, m)[0])
    lines = [line for m in methods for seeds in scores.of[block, m].values() for line in seeds.values()]
    most = max(len(line["true"]) for line in lines)
    ends = [max(line["ended"]) for line in lines]
    counts = np.arange(1.0, most + 1)
    times = np.linspace(max(min(line["ended"]) for line in lines), np.median(ends), POINTS)
    least = 1.0
    for place, method in enumerate(methods):
        style = {"color": COLOURS[place % len(COLOURS)], "linestyle": "-" if place < len(COLOURS) else "--"}
        for panel, axis, curve in ((axes[0], counts, by_evaluations), (axes[1], times, by_time)):
            mean, error = _mean(scores, block, method, axis, curve)
            least = min(least, float(np.nanmin(mean)))
            panel.plot(axis, mean, label=method, linewidth=1.8, **style)
            panel.fill_between(
                axis, np.maximum(mean - error, FLOOR / 10), mean + error, color=style["color"], alpha=0.15, linewidth=0
            )
    line = lines[0]
    axes[0].set_xlabel("evaluations ended")
    axes[1].set_xlabel("virtual time, in mean evaluations" if line["durations"] != "table" else "virtual time, seconds")
    axes[0].set_ylabel("normalised regret of the best so far")
    for panel in axes:
        panel.set_yscale("log")
        panel.set_ylim(max(least / 2, FLOOR / 10), TOP)
        panel.axhline(1.0, color="#999999", linewidth=0.8, linestyle=":")
        panel.grid(alpha=0.2)
        panel.spines[["top", "right"]].set_visible(False)
    problems = max(len(scores.of[block, m]) for m in methods)
    seeds = max(len(by_seed) for m in methods for by_seed in scores.of[block, m].values())
    runs = f"{problems} problems, {seeds} seeds, {line['workers']} workers, {line['durations']} durations"
    axes[0].set_title(f"{block}: {runs}; band: standard error", loc="left", fontsize=10)


def _mean(
    scores: Scores, block: str, method: str, axis: Array, curve: Callable[[Line, Array], Array]
) -> tuple[Array, Array]:
    """Mean over problems of means over seeds at each point of the axis, and its standard error."""
    groups = [np.array([curve(line, axis) for line in seeds.values()]) for seeds in scores.of[block, method].values()]
    variance = [np.var(each, axis=0, ddof=1) / len(each) if len(each) > 1 else np.zeros(len(axis)) for each in groups]
    return np.mean([each.mean(axis=0) for each in groups], axis=0), np.sqrt(np.sum(variance, axis=0)) / len(groups)
