"""What the examples share: their command line, their look, and PNG files that are small."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # files only: no window, no display

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE, GREY = "#4269d0", "#e8590c", "#2b8a3e", "#9c36b5", "#868e96"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, GREY)

plt.rcParams.update(
    {
        "figure.dpi": 110, "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
        "grid.color": "#e9ecef", "axes.axisbelow": True, "legend.edgecolor": "none", "legend.framealpha": 0.9,
        "axes.titlesize": 11, "axes.titlelocation": "left", "figure.constrained_layout.use": True,
        "lines.linewidth": 1.8,
    }
)  # fmt: skip


def arguments(about: str | None) -> argparse.Namespace:
    """``--out FOLDER`` for the pictures, ``--quick`` for a small version of the same in seconds."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="folder for the pictures (default pictures)")
    parser.add_argument("--quick", action="store_true", help="a reduced run that takes seconds")
    given = parser.parse_args()
    _use_one_thread()
    return given


def _use_one_thread() -> None:
    """The matrices of the examples are small: more threads of BLAS only wait for each other."""
    import scipy.linalg  # noqa: F401  # brings a BLAS of its own
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write ``folder/name.png`` with at most 128 colours, which these pictures look the same in, and say so."""
    from PIL import Image  # matplotlib needs it, too

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    plt.close(figure)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    Image.open(drawn).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"picture: {path}")
