"""Worksheet, table 1: the learning rate of an MLP by a Gaussian process and expected improvement, 3 + 30 evaluations.

What GPyOpt's plots show: the model with its acquisition, the distance between consecutive points, the best value by
evaluation. Then the same from ten seeds, and by random search.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pictures import BLUE, GREEN, GREY, ORANGE, arguments, plt, save

import mpibo
from mpibo.acquisition.scores import ei
from mpibo.models.gp import GP
from mpibo.objectives.mlp import mlp  # the worksheet's data and classifier

SPACE = mpibo.Space({"learning_rate": (1e-5, 1e5, "log")})  # x = log10 of the rate in [-5, 5]
PLATEAU = (-3.5, 0.0)  # of x: there most rates have a test accuracy of about .81
GOOD, EARLY = 0.81, 15


def run(method: str, seed: int, evaluations: int, max_iter: int) -> mpibo.Search:
    """One search: ask, evaluate, tell."""
    search = mpibo.Search(SPACE, method, seed=seed, maximize=True, max_trials=evaluations)
    for _ in range(evaluations):
        trial = search.ask()[0]
        search.tell(trial, mlp(trial.config["learning_rate"], max_iter=max_iter))
    return search


def points(search: mpibo.Search) -> tuple[Any, Any, Any]:
    """``(n,)`` log10 of the rate, test accuracy, and whether the model chose the point."""
    x = np.log10([trial.config["learning_rate"] for trial in search.trials])
    return x, np.array([t.value for t in search.trials]), np.array([t.origin == "model" for t in search.trials])


def table(searches: dict[int, mpibo.Search]) -> None:
    """A row for each seed, and what the worksheet reports, counted."""
    print("seed  best  at log10 rate  evaluations to .81  model's points on the plateau")
    reached, most = 0, 0
    for seed, search in searches.items():
        x, accuracy, chosen = points(search)
        good = np.flatnonzero(accuracy >= GOOD - 1e-9)
        needed = str(good[0] + 1) if len(good) else "never"
        share = np.mean((x >= PLATEAU[0]) & (x <= PLATEAU[1]), where=chosen)
        reached += bool(len(good)) and good[0] < EARLY
        most += share > 0.5
        print(f"{seed:4d}  {accuracy.max():.3f}  {x[accuracy.argmax()]:12.2f}  {needed:>18}  {100 * share:26.0f} %")
    number = len(searches)
    print(f"{GOOD} or more within {EARLY} evaluations: {reached} of {number} seeds; "
          f"most of the model's points on the plateau: {most} of {number} seeds")  # fmt: skip


def draw(search: mpibo.Search) -> Any:
    """Three panels of one search."""
    x, accuracy, chosen = points(search)
    model = GP(SPACE, kind="rbf", additive=False, transform="none", begin=(0.2, 0.2, 0.05))  # as gp-ei has it
    X, y = SPACE.encode([trial.config for trial in search.trials]), -accuracy
    model.fit(X, y, np.random.default_rng(0))
    line = np.linspace(0, 1, 500)[:, None]
    mean, std = model.predict(line)
    gain = ei(mean, std, float(model.predict(X)[0].min()))
    axis, mean, std = 10 * line[:, 0] - 5, y.mean() + y.std() * mean, y.std() * std

    figure, panels = plt.subplot_mosaic("aac;aad", figsize=(11, 4.6))
    left, right, below = panels["a"], panels["c"], panels["d"]
    left.fill_between(axis, mean - 2 * std, mean + 2 * std, color=BLUE, alpha=0.18, linewidth=0, label="± 2 std")
    left.plot(axis, mean, color=BLUE, label="model's mean")
    left.plot(x[~chosen], y[~chosen], "s", color="black", markersize=5, label="starting points")
    left.plot(x[chosen], y[chosen], "o", color=ORANGE, markersize=5, label="chosen by the model")
    low, high = left.get_ylim()
    foot = low - 0.25 * (high - low)
    left.fill_between(axis, foot, foot + 0.2 * (high - low) * gain / gain.max(), color=GREEN, alpha=0.6, linewidth=0,
                      label="expected improvement (its own scale)")  # fmt: skip
    left.set(xlabel="log10 of the learning rate", ylabel="negative test accuracy", ylim=(foot, None))
    left.set_title(f"after {len(x)} evaluations")
    left.legend(loc="upper center", ncols=2)
    left.set_ylim(foot, high + 0.3 * (high - low))
    number = np.arange(1, len(x) + 1)
    right.plot(number[1:], np.abs(np.diff(x)), "o-", color=GREY, markersize=4, linewidth=1)
    right.set(ylabel="in log10", title="distance between consecutive points")
    below.plot(number, np.minimum.accumulate(y), "o-", color=ORANGE, markersize=4, linewidth=1)
    below.set(xlabel="evaluation n", ylabel="best value", title="best value so far")
    for axes in (right, below):
        axes.axvline(chosen.argmax() + 0.5, color="black", linestyle=":", linewidth=1)
    return figure


def main() -> None:
    """One search to draw, ten to count, ten random ones to compare."""
    given = arguments(__doc__)
    seeds, evaluations, max_iter = (2, 8, 30) if given.quick else (10, 33, 100)
    one = run("gp-ei", 42, evaluations, max_iter)
    save(draw(one), given.out, "table1")
    print("seed 42 (the picture):")
    table({42: one})
    print("gp-ei:")
    table({seed: run("gp-ei", seed, evaluations, max_iter) for seed in range(seeds)})
    best = [points(run("random", seed, min(evaluations, EARLY), max_iter))[1].max() for seed in range(seeds)]
    good = sum(each >= GOOD - 1e-9 for each in best)
    print(f"random search: {good} of {seeds} seeds, {min(best):.3f} to {max(best):.3f} after at most {EARLY}")


if __name__ == "__main__":
    main()
