"""Workshop: a support vector machine by grids of 12, 16 and 64, and by random, tpe and auto at equal numbers.

scikit-learn's breast cancer data, error of 5-fold cross-validation. The grids are the slides'; the others may choose
any C and gamma between the grid's ends.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from pictures import COLOURS, arguments, plt, save

import mpibo

C, GAMMA = [10, 100, 1000], [0.1, 0.2, 0.5, 1.0]
KERNELS = ["rbf", "poly", "sigmoid", "linear"]
GRIDS = {
    12: {"C": C, "gamma": GAMMA},
    16: {"C": [1, *C], "gamma": GAMMA},
    64: {"C": [1, *C], "gamma": GAMMA, "kernel": KERNELS},  # 4 x 4 x 4: the slide prints 48
}
SPACES = {
    12: {"C": (10.0, 1000.0, "log"), "gamma": (0.1, 1.0, "log")},
    16: {"C": (1.0, 1000.0, "log"), "gamma": (0.1, 1.0, "log")},
    64: {"C": (1.0, 1000.0, "log"), "gamma": (0.1, 1.0, "log"), "kernel": KERNELS},
}
OTHERS = ("random", "tpe", "auto")


@functools.cache
def data() -> tuple[Any, Any]:
    """Points ``(569, 30)``, each feature scaled to [0, 1], and labels."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.preprocessing import minmax_scale

    points, labels = load_breast_cancer(return_X_y=True)
    return minmax_scale(points), labels


def svm(C: float, gamma: float, kernel: str = "rbf") -> float:
    """Percent of the samples that cross-validation gets wrong."""
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.svm import SVC

    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return 100 * (1 - float(cross_val_score(SVC(C=C, gamma=gamma, kernel=kernel), *data(), cv=folds).mean()))


def search(space: dict[str, Any], method: str, number: int, seed: int = 0) -> mpibo.Search:
    """Ask, evaluate, tell, until there are ``number`` results."""
    found = mpibo.Search(space, method, seed=seed, max_trials=number)
    while trials := found.ask() if len(found.trials) < number else []:
        found.tell(trials[0], svm(**trials[0].config))
    return found


def main() -> None:
    """Run all searches, print the table, draw where two of them looked and what all of them found."""
    given = arguments(__doc__)
    seeds, numbers = (1, (12,)) if given.quick else (5, (12, 16, 64))
    runs = {(number, "grid", 0): search(GRIDS[number], "grid", 1000) for number in numbers}  # until it is used up
    for number in numbers:
        for method in OTHERS:
            for seed in range(seeds):
                runs[number, method, seed] = search(SPACES[number], method, number, seed)

    print(f"error in % of 5-fold cross-validation; random, tpe and auto: mean of {seeds} seeds (lowest to highest)")
    print("evaluations " + "".join(f"{method:>20}" for method in ("grid", *OTHERS)))
    for number in numbers:
        grid = runs[number, "grid", 0]
        cells = [f"{grid.best.value:.2f}"]
        for method in OTHERS:
            errors = [runs[number, method, seed].best.value for seed in range(seeds)]
            cells.append(f"{np.mean(errors):.2f} ({min(errors):.2f} to {max(errors):.2f})")
        print(f"{len(grid.trials):11d} " + "".join(f"{cell:>20}" for cell in cells))
        print(f"  the grid's best: {grid.best.config}; auto's: {runs[number, 'auto', 0].best.config}")

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), width_ratios=(1.15, 1))
    shown = 16 if 16 in numbers else 12
    _points(left, runs[shown, "grid", 0], runs[shown, "auto", 0])
    for place, method in enumerate(("grid", *OTHERS)):
        errors = [[runs[n, method, s].best.value for s in range(1 if method == "grid" else seeds)] for n in numbers]
        at = np.arange(len(numbers)) + 0.12 * (place - 1.5)
        right.plot(
            at, [np.mean(each) for each in errors], "_", color=COLOURS[place], markersize=16, markeredgewidth=2.5
        )
        for x, each in zip(at, errors, strict=True):
            right.plot([x] * len(each), each, "o", color=COLOURS[place], markersize=5)
        right.plot([], [], "o", color=COLOURS[place], label=method)
    right.set_xticks(range(len(numbers)), [str(number) for number in numbers])
    right.set(xlabel="evaluations", ylabel="error of cross-validation, %", title="best found (bar: mean of the seeds)")
    right.legend(ncols=2)
    right.margins(x=0.15, y=0.25)
    save(figure, given.out, "svm")


def _points(axes: Any, grid: mpibo.Search, auto: mpibo.Search) -> None:
    """Where the two looked, numbered in their order, coloured by the error."""
    errors = [trial.value for trial in (*grid.trials, *auto.trials)]
    for found, marker, label in ((grid, "s", "grid"), (auto, "o", "auto, seed 0")):
        at = np.array([(trial.config["C"], trial.config["gamma"], trial.value) for trial in found.trials])
        drawn = axes.scatter(
            at[:, 0], at[:, 1], 190, at[:, 2], marker=marker, cmap="viridis_r", vmin=min(errors), vmax=max(errors),
            label=label, edgecolors="white",
        )  # fmt: skip
        for number, (x, y, error) in enumerate(at, start=1):
            colour = "white" if error > np.mean([min(errors), max(errors)]) else "black"
            axes.annotate(str(number), (x, y), ha="center", va="center", fontsize=7, color=colour)
    axes.set(
        xscale="log", yscale="log", xlabel="C", ylabel="gamma", title=f"{len(grid.trials)} points each, in their order"
    )
    axes.grid(False)
    axes.margins(0.1)
    axes.figure.colorbar(drawn, ax=axes, label="error, %")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, -0.3), ncols=2)


if __name__ == "__main__":
    main()
