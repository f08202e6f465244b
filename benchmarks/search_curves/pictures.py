"""Regret, or the best value, against virtual time, a panel for each objective: the mean and its standard error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from search_curves.curves import load
from search_curves.runs import Line, grouped, regrets, values

COLOURS = ["#4269d0", "#ff725c", "#3ca951", "#a463f2", "#9c6b4e", "#ff8ab7", "#6cc5b0", "#efb118", "#97bbf5", "#333333"]
POINTS = 120


def draw(lines: Sequence[Line], file: Path, which: str = "full", as_values: bool = False) -> None:
    """Draw the searches of a file.

    Args:
        lines: The searches.
        file: The picture.
        which: ``full``, the best full training so far, or ``seen``, the smallest value at any budget.
        as_values: Values against seconds in place of regrets against full trainings.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    problems = grouped(lines, ("name",))
    kinds = list(grouped(lines, ("schedule", "method")))
    figure, axes = pyplot.subplots(
        1, len(problems), figsize=(1 + 4.6 * len(problems), 4.6), squeeze=False, layout="constrained"
    )
    for panel, ((name,), mine) in zip(axes[0], problems.items(), strict=True):
        curves, workers = load(mine[0]["problem"]), mine[0]["workers"]
        times = np.linspace(0.5, max(line["trainings_worth"] for line in mine), POINTS)
        axis = times * curves.time(1, workers) if as_values else times
        measure = values if as_values else regrets
        for kind, group in grouped(mine, ("schedule", "method")).items():
            at = np.array([measure(line, times, which) for line in group])
            mean, error = at.mean(axis=0), at.std(axis=0, ddof=1 if len(at) > 1 else 0) / np.sqrt(len(at))
            place = kinds.index(kind)
            style = {"color": COLOURS[place % len(COLOURS)], "linestyle": "-" if place < len(COLOURS) else "--"}
            schedule, method = kind
            label = method if schedule == "full" else f"{schedule} + {method}"
            panel.plot(axis, mean, label=label, linewidth=1.6, **style)
            panel.fill_between(axis, mean - error, mean + error, color=style["color"], alpha=0.12, linewidth=0)
        if as_values:
            low, high = curves.optimum, float(np.quantile(curves.every, 0.15))
            panel.set_ylim(low - 0.03 * (high - low), high)
        else:
            panel.set_ylim(0, 2.0)
            panel.axhline(1.0, color="#999999", linewidth=0.8, linestyle=":")
        panel.set_title(f"{name}, {workers} workers", loc="left", fontsize=10)
        panel.set_xlabel("virtual seconds" if as_values else "virtual time, in full trainings")
        panel.grid(alpha=0.2)
        panel.spines[["top", "right"]].set_visible(False)
    what = "best full training" if which == "full" else "smallest value seen"
    axes[0, 0].set_ylabel(what if as_values else f"regret of the {what} (1: the target)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    figure.savefig(file, dpi=85)
    pyplot.close(figure)
