"""Workshop: the degree of a polynomial, chosen by cross-validation.

Training error falls with the degree; the error on new points turns, and cross-validation sees it without new points.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pictures import BLUE, GREEN, GREY, ORANGE, PURPLE, arguments, plt, save

import mpibo

POINTS, NEW, FOLDS, NOISE = 30, 2000, 10, 0.25


def truth(x: Any) -> Any:
    """What the points are drawn around."""
    return np.sin(1.5 * np.pi * x)


def sample(count: int, seed: int) -> tuple[Any, Any]:
    """Noisy points ``x (count,)``, one in each of ``count`` equal parts of [-1, 1], and ``y (count,)``."""
    rng = np.random.default_rng(seed)
    x = -1 + 2 * (np.arange(count) + rng.random(count)) / count
    return x, truth(x) + rng.normal(0, NOISE, count)


def error(fit: Any, x: Any, y: Any) -> float:
    """Mean squared error of a fit."""
    return float(np.mean((fit(x) - y) ** 2))


def polynomial(degree: int) -> dict[str, float]:
    """Mean squared error of cross-validation, to be minimised; those of training and of new points come along."""
    x, y = sample(POINTS, seed=1)
    left_out = []
    for fold in range(FOLDS):
        out = np.arange(POINTS) % FOLDS == fold
        left_out.append(error(np.polynomial.Chebyshev.fit(x[~out], y[~out], degree, [-1, 1]), x[out], y[out]))
    fit = np.polynomial.Chebyshev.fit(x, y, degree, [-1, 1])
    return {"value": float(np.mean(left_out)), "train": error(fit, x, y), "new": error(fit, *sample(NEW, seed=2))}


def main() -> None:
    """Try all degrees, print them, draw three fits and the three errors."""
    given = arguments(__doc__)
    highest = 8 if given.quick else 15
    search = mpibo.Search({"degree": (1, highest)}, f"grid:levels={highest}")
    while trials := search.ask():
        search.tell(trials[0], polynomial(**trials[0].config))
    degree = np.array([trial.config["degree"] for trial in search.trials])
    validated = np.array([trial.value for trial in search.trials])
    train = np.array([trial.metrics["train"] for trial in search.trials])
    new = np.array([trial.metrics["new"] for trial in search.trials])
    chosen = search.best.config["degree"]

    print(f"mean squared errors; the noise alone makes {NOISE**2:.4f}")
    print("degree  training  cross-validation  new points")
    for row in zip(degree, train, validated, new, strict=True):
        print("{:6d}  {:8.4f}  {:16.4f}  {:10.4f}".format(*row))
    print(f"cross-validation chooses degree {chosen}; on new points degree {degree[new.argmin()]} is best")

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    x, y = sample(POINTS, seed=1)
    line = np.linspace(-1, 1, 400)
    left.plot(x, y, "o", color="black", markersize=4, label=f"{POINTS} points")
    left.plot(line, truth(line), "--", color=GREY, label="truth")
    for shown, colour in ((1, PURPLE), (chosen, GREEN), (highest, ORANGE)):
        fit = np.polynomial.Chebyshev.fit(x, y, shown, [-1, 1])
        left.plot(line, fit(line), color=colour, label=f"degree {shown}")
    left.set(ylim=(-1.8, 2.4), xlabel="x", ylabel="y", title="too little, chosen, too much")
    left.legend(ncols=3, loc="upper center")
    for values, colour, label in (
        (train, BLUE, "training"),
        (validated, GREEN, "cross-validation"),
        (new, ORANGE, "new points"),
    ):
        right.semilogy(degree, values, "o-", color=colour, markersize=4, label=label)
    right.axhline(NOISE**2, color=GREY, linestyle="--", linewidth=1)
    right.text(highest, NOISE**2 * 1.06, "noise", color=GREY, ha="right", va="bottom")
    right.axvline(chosen, color=GREEN, linewidth=6, alpha=0.2)
    right.set(xlabel="degree", ylabel="mean squared error", title=f"cross-validation chooses degree {chosen}")
    right.legend(loc="upper center")
    save(figure, given.out, "polynomial")


if __name__ == "__main__":
    main()
