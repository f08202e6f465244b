"""Worksheet, figure 1: accuracy of a multi-layer perceptron over a grid of 40 learning rates, from 1e-8 to 1e5."""

from __future__ import annotations

from typing import Any

import numpy as np
from pictures import BLUE, ORANGE, arguments, plt, save

import mpibo
from mpibo.objectives.mlp import mlp  # the worksheet's data and classifier


def negative_accuracy(learning_rate: float, *, max_iter: int) -> dict[str, Any]:
    """The test accuracy with its sign changed, to be minimised; that of training comes along."""
    found = mlp(learning_rate, max_iter=max_iter)
    return {"value": -found["value"], "train": -found["train_accuracy"]}


def main() -> None:
    """Evaluate the grid with two workers and draw both curves."""
    given = arguments(__doc__)
    levels, max_iter = (14, 50) if given.quick else (40, 1000)
    result = mpibo.minimize(
        negative_accuracy, {"learning_rate": (1e-8, 1e5, "log")}, method=f"grid:levels={levels}", max_trials=levels,
        fix={"max_iter": max_iter}, workers=2, progress="none",
    )  # fmt: skip
    rows = sorted((t.config["learning_rate"], t.value, t.metrics["train"]) for t in result.trials)
    rate, test, train = np.array(rows).T

    print(f"{len(rate)} learning rates from {rate[0]:.0e} to {rate[-1]:.0e}, max_iter={max_iter}")
    best = result.best
    print(f"best test accuracy {-best.value:.3f} at a rate of {best.config['learning_rate']:.2g}")
    good = rate[test <= best.value + 0.03]
    print(f"within 0.03 of it: {len(good)} rates, from {good[0]:.2g} to {good[-1]:.2g}")
    full = rate[train == -1.0]
    print(
        "training accuracy 1: " + (f"{len(full)} rates, from {full[0]:.2g} to {full[-1]:.2g}" if len(full) else "never")
    )

    figure, axes = plt.subplots(figsize=(7, 4))
    axes.semilogx(rate, train, "o-", color=BLUE, markersize=4, label="training")
    axes.semilogx(rate, test, "o-", color=ORANGE, markersize=4, label="test")
    axes.set(
        xlabel="learning rate", ylabel="negative accuracy", title=f"MLP, one hidden layer of 50, {max_iter} iterations"
    )
    axes.legend(loc="lower left")
    save(figure, given.out, "figure1")


if __name__ == "__main__":
    main()
