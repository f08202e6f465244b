"""The best network of an architecture search: its module, its weights and a picture of its layers.

    python -m mpibo.run mnist-architecture --out runs/architecture
    python examples/best_architecture.py runs/architecture [--out FOLDER]

Writes to FOLDER (default: the run folder) ``best_network.py``, whose ``network()`` makes the module and needs PyTorch
alone; ``best_network.pt``, its weights, if the trial has a checkpoint (a run with a schedule keeps the incumbent's);
and ``best_network.png``. To use them: ``network().load_state_dict(torch.load("best_network.pt", weights_only=True))``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mpibo
from mpibo.objectives.architecture import Group, Layer, plan, source
from mpibo.store import journal

COLOURS = {
    "Conv2d": "#9ec5e8", "Linear": "#f3c98b", "BatchNorm2d": "#d9e6c3", "ReLU": "#ececec", "MaxPool2d": "#e3b5c8",
    "AvgPool2d": "#e3b5c8", "Dropout": "#ececec", "Flatten": "#ececec", "PixelUnshuffle": "#cfc5e6",
}  # fmt: skip
WIDE, HIGH, GAP, COLUMN = 1.75, 0.44, 0.18, 2.6  # of a box; below it; from one column to the next


def words(layer: Layer) -> str:
    """What a box says in its first line."""
    match layer.kind:
        case "Conv2d":
            return f"convolution {layer.arguments[2]} x {layer.arguments[2]}"
        case "Linear":
            return "dense"
        case "BatchNorm2d":
            return "batch norm"
        case "MaxPool2d" | "AvgPool2d":
            return f"{layer.kind[:3].lower()} pooling 2 x 2"
        case "PixelUnshuffle":
            return "2 x 2 to channels"
        case "Dropout":
            return f"dropout {layer.arguments[0]:.2f}"
        case kind:
            return kind if kind == "ReLU" else kind.lower()


def draw(groups: Sequence[Group], image: tuple[int, ...], title: str, out: Path) -> None:
    """A column for each group, read downwards: boxes with the shapes that they give and their numbers of weights."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = max(len(group.layers) + bool(group.shortcut) + bool(group.pool) for group in groups)
    figure, axes = plt.subplots(figsize=(1.05 * COLUMN * len(groups), (HIGH + GAP) * rows + 2.2), dpi=110)
    line: dict[str, Any] = {"color": "#666666", "linewidth": 1.0, "solid_joinstyle": "round"}
    head = {"arrowstyle": "-|>", "color": "#666666", "linewidth": 1.0, "shrinkA": 0, "shrinkB": 0}

    def arrow(start: tuple[float, float], end: tuple[float, float]) -> None:
        axes.annotate("", xy=end, xytext=start, arrowprops=head)

    def box(x: float, above: float, layer: Layer) -> float:
        """An arrow from ``above`` to a box; gives the box's lower edge."""
        y = above - GAP - HIGH / 2
        arrow((x, above), (x, above - GAP))
        look = {"facecolor": COLOURS.get(layer.kind, "white"), "edgecolor": "#666666", "linewidth": 0.8, "zorder": 3}
        axes.add_patch(plt.Rectangle((x - WIDE / 2, y - HIGH / 2), WIDE, HIGH, **look))
        small = " x ".join(map(str, layer.shape)) + (f"   {layer.parameters:,} weights" if layer.parameters else "")
        axes.text(x, y + 0.085, words(layer), ha="center", va="center", fontsize=8.5, zorder=4)
        axes.text(x, y - 0.105, small, ha="center", va="center", fontsize=6.8, color="#444444", zorder=4)
        return y - HIGH / 2

    before: tuple[float, float] | None = None  # where the column to the left ended
    for column, group in enumerate(groups):
        x, top = column * COLUMN, 0.55
        axes.text(x, 1.02, group.name, ha="center", fontsize=11, weight="bold")
        count = f"{group.parameters:,} weights" if group.parameters else "no weights"
        axes.text(x, 0.84, count, ha="center", fontsize=8)
        if before is None:
            axes.text(x, top + 0.04, "image " + " x ".join(map(str, image)), ha="center", fontsize=8)
        else:
            turn, low = x - COLUMN / 2, before[1] - 0.2
            axes.plot([before[0], before[0], turn, turn, x], [before[1], low, low, top, top], **line)
        below = top
        for layer in group.layers:
            below = box(x, below, layer)
        if group.shortcut:
            plus = below - 0.26
            arrow((x, below), (x, plus + 0.1))
            axes.add_patch(plt.Circle((x, plus), 0.1, facecolor="white", edgecolor="#666666", zorder=3))
            axes.text(x, plus - 0.008, "+", ha="center", va="center", fontsize=10, zorder=4)
            side = x - WIDE / 2 - 0.1
            axes.plot([x, side, side], [top - 0.12, top - 0.12, plus], **line)
            arrow((side, plus), (x - 0.1, plus))
            same = group.shortcut.kind == "Identity"
            label = "skip" if same else f"1 x 1 convolution, {group.shortcut.parameters:,} weights"
            place: dict[str, Any] = {"rotation": 90, "ha": "right", "va": "center", "fontsize": 6.8}
            axes.text(side - 0.03, (top + plus) / 2, label, **place)
            below = plus - 0.1
        if group.pool:
            below = box(x, below, group.pool)
        before = (x, below)
    assert before is not None
    arrow(before, (before[0], before[1] - 0.2))
    axes.text(before[0], before[1] - 0.36, "classes", ha="center", fontsize=8)
    axes.text(-WIDE / 2, 1.45, title, fontsize=11)
    axes.set_aspect("equal")
    axes.autoscale_view()
    axes.axis("off")
    figure.savefig(out, bbox_inches="tight")
    plt.close(figure)


def weights(run: Path, trial: int) -> dict[str, Any] | None:
    """The state of the network that a trial's value is of, from its last checkpoint; None if it has none."""
    reports = [event for event in journal.read(run).events if event["kind"] == "report" and event["id"] == trial]
    kept = [event["checkpoint"] for event in reports if event.get("checkpoint")]
    for last in reversed(kept):
        path = run / "checkpoints" / str(trial) / f"{last['step']}.ckpt"
        if path.exists():
            from mpibo.store import checkpoint

            return dict(checkpoint.load(path, last["sha256"]).parts["average"])
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--out", type=Path, help="folder to write to (default: the run folder)")
    parser.add_argument("--side", type=int, default=28, help="pixels of an image's side (default 28)")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--classes", type=int, default=10)
    arguments = parser.parse_args()
    out: Path = arguments.out or arguments.run
    best = mpibo.load(arguments.run).best
    if best is None or "blocks" not in best.config:
        print(f"{arguments.run} has no best trial of an architecture search", file=sys.stderr)
        return 1
    shape = (arguments.channels, arguments.side, arguments.side)
    groups = plan(best.config, arguments.side, arguments.classes, arguments.channels)
    out.mkdir(parents=True, exist_ok=True)
    code = source(best.config, arguments.side, arguments.classes, arguments.channels)
    (out / "best_network.py").write_text(code, encoding="utf-8")
    count = sum(group.parameters for group in groups)
    error = f"validation error {best.value:.2%} after {best.budget} epochs"
    draw(groups, shape, f"trial {best.id}: {count:,} weights, {error}", out / "best_network.png")
    made = "best_network.py, best_network.png"
    if state := weights(arguments.run, best.id):
        import torch

        torch.save(state, out / "best_network.pt")
        made += ", best_network.pt"
    print(
        f"trial {best.id}, {count:,} weights, {error}: {made} in {out}" + ("" if state else " (it has no checkpoint)")
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
