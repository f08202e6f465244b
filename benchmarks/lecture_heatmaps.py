"""The lecture's pictures: five searches on one heat map of a loss over two hyperparameters, with numbered points.

    .venv/bin/python benchmarks/lecture_heatmaps.py --out docs/lecture_heatmaps.png

The loss is real: the validation error of a multi-layer perceptron on scikit-learn's digits after 16 epochs, by learning
rate and weight decay, trained for each of 24 x 24 pixels (about ten CPU seconds). A search is told the pixel in which
its point lies, after as many epochs as its schedule wants. Numbers show the order of the points, with halving the order
of discarding: the highest is the last one kept.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from search_curves import make_digits

from mpibo import Search, Space

PIXELS = 24
EPOCHS = 16
SHAPE = {"solver": "adam", "activation": "relu", "batch": 60, "hidden": 32}
LR, DECAY = (1e-4, 1.0), (1e-3, 1e2)
SPACE = Space.from_toml(
    {"space": {"lr": {"float": list(LR), "log": True}, "decay": {"float": list(DECAY), "log": True}}}
)
TITLES = {
    "grid": ("grid", "grid:levels=4", None),
    "random": ("random", "random", None),
    "adaptive": ("adaptive selection", "adaptive:n_initial=6", None),
    "halving": ("successive halving, a quarter kept", "random", "sha:eta=4"),
    "hyperband": ("Hyperband, a quarter kept", "random", "hyperband:eta=4"),
}
POINTS = 16


@dataclass
class Searched:
    """The points of a search in the order in which they are numbered.

    Attributes:
        configs: Their configs.
        epochs: How many epochs each was trained.
        best: The index of the one that the search returns.
        cost: Epochs in all.
    """

    configs: list[dict[str, float]] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    best: int = 0
    cost: int = 0


def main() -> None:
    """Train the map, search on it five times, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("lecture_heatmaps.png"), help="the picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--map", type=Path, default=None, help="keep the trained map in this .npy file")
    chosen = parser.parse_args()
    errors = np.load(chosen.map) if chosen.map and chosen.map.exists() else trained()
    if chosen.map:
        np.save(chosen.map, errors)
    searches = {name: search(errors, method, schedule, chosen.seed) for name, (_, method, schedule) in TITLES.items()}
    for name, found in searches.items():
        error = at(errors, found.configs[found.best], EPOCHS)
        print(f"{name:10s} {len(found.configs):3d} points, {found.cost:4d} epochs, error {error:.2%}: {found.best + 1}")
    draw(errors, searches, chosen.out)


def trained() -> NDArray[Any]:
    """``(24, 24, 16)`` validation errors by decay, rate and epoch."""
    import torch

    torch.set_num_threads(1)
    data = make_digits.images()
    middle = (np.arange(PIXELS) + 0.5) / PIXELS
    lr, decay = (low * (high / low) ** middle for low, high in (LR, DECAY))
    rows = [make_digits.training(SHAPE, list(lr), [each] * PIXELS, row, data, EPOCHS) for row, each in enumerate(decay)]
    return np.array(rows) / len(data[3])


def at(errors: NDArray[Any], config: dict[str, float], epochs: int) -> float:
    """What a config tells after so many epochs: its pixel's error."""
    x = SPACE.encode([config])[0]
    column, row = np.minimum((x * PIXELS).astype(int), PIXELS - 1)
    return float(errors[row, column, epochs - 1])


def search(errors: NDArray[Any], method: str, schedule: str | None, seed: int) -> Searched:
    """Sixteen points, or the brackets of a schedule once."""
    budget = (1, EPOCHS) if schedule else EPOCHS
    engine = Search(SPACE, method, seed=seed, schedule=schedule, budget=budget, max_trials=None if schedule else POINTS)
    found, left = Searched(), POINTS
    if schedule:
        from mpibo.schedules.rungs import brackets

        shapes = brackets(1, EPOCHS, 4)
        left = shapes[0][0].size if schedule.startswith("sha") else sum(shape[0].size for shape in shapes)
    while True:
        asked = engine.ask()
        if not asked or (asked[0].parent is None and left == 0):
            break
        (trial,) = asked
        left -= trial.parent is None
        engine.tell(trial, at(errors, trial.config, trial.budget))
        found.cost += trial.budget - (0 if trial.parent is None else engine.trials[trial.parent].budget)
    ended = [trial for trial in engine.trials if trial.value is not None]
    went_on = {trial.parent for trial in ended}
    last = [trial for trial in ended if trial.id not in went_on]  # of each config
    if schedule:  # what was discarded first stands first, bracket by bracket
        last.sort(key=lambda trial: (trial.bracket, trial.budget, -trial.value))
    found.configs, found.epochs = [trial.config for trial in last], [trial.budget for trial in last]
    found.best = next(i for i, trial in enumerate(last) if trial.id == engine.best.id)
    return found


def draw(errors: NDArray[Any], searches: dict[str, Searched], file: Path) -> None:
    """Five panels beside each other and the scale."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(12, 7.6), layout="constrained")
    panels = list(axes.flat)
    extent = [*np.log10(LR), *np.log10(DECAY)]
    for panel, (name, found) in zip(panels, searches.items(), strict=False):
        image = panel.imshow(
            np.log10(errors[:, :, -1]), origin="lower", extent=extent, aspect="auto", cmap="viridis",
            interpolation="nearest",
        )  # fmt: skip
        for number, (config, epochs) in enumerate(zip(found.configs, found.epochs, strict=True)):
            x, y = np.log10(config["lr"]), np.log10(config["decay"])
            best, full = number == found.best, epochs == EPOCHS
            colour = "#ffdd55" if best else "white" if full else "#d8d8d8"
            panel.scatter(
                x, y, s=230 if best else 150, color=colour, edgecolors="black", zorder=3 + int(best), clip_on=False,
                linewidths=1.8 if best else 0.8, alpha=1.0 if full else 0.75,
            )  # fmt: skip
            panel.text(x, y, str(number + 1), ha="center", va="center", fontsize=7.5, zorder=5)
        cost = f"{len(found.configs)} points, {found.cost} epochs"
        error = at(errors, found.configs[found.best], EPOCHS)
        panel.set_title(
            f"{TITLES[name][0]}\n{cost}; best: {found.best + 1}, error {error:.1%}", loc="left", fontsize=9, pad=12
        )
        panel.set_xlabel("log10 learning rate", fontsize=8)
        panel.set_ylabel("log10 weight decay", fontsize=8)
        panel.tick_params(labelsize=7)
    panels[-1].axis("off")
    bar = figure.colorbar(image, ax=panels[-1], location="top", shrink=0.9, pad=-0.5)
    ticks = [t for t in (0.03, 0.05, 0.1, 0.2, 0.4, 0.8) if errors[:, :, -1].min() <= t <= errors[:, :, -1].max()]
    bar.set_ticks(np.log10(ticks), labels=[f"{t:.0%}" for t in ticks], fontsize=8)
    bar.set_label(f"validation error after {EPOCHS} epochs", fontsize=8)
    text = (
        "Numbers: the order of the points;\nwith halving the order of discarding,\nso the highest of a bracket is kept "
        "last.\n\nYellow: what the search returns.\nWhite: trained for all 16 epochs.\nGrey: fewer."
    )
    panels[-1].text(0.05, 0.6, text, fontsize=9, va="top", transform=panels[-1].transAxes)
    figure.savefig(file, dpi=80)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
