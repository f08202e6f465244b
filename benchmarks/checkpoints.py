"""What checkpoints cost: the part of a training's time that saving takes, for the CNN on MNIST, one save an epoch.

    python benchmarks/checkpoints.py [--epochs 5] [--train-size 5000] [--folder FOLDER]

Real images (MPIBO_DATA or ./data), the built-in objective's network and its own training loop, an optimizer with two
moments a weight. The time of each save is measured inside the training, so that a busy machine slows both alike. The
target is under 2 %. ``--folder`` says where to save: a folder of the file system that the runs would use.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time

from mpibo.engine.keeping import Keeping
from mpibo.engine.running import RunningTrial
from mpibo.objectives import cnn, mnist

TARGET = 0.02
SIZES = (4, 16, 32)  # channels: the smallest, a middle and the largest network of the space


class Timed(Keeping):
    """Checkpoints whose saves are timed."""

    wall = cpu = 0.0
    size = count = 0

    def save(self, *what):
        wall, cpu = time.perf_counter(), time.process_time()
        told = super().save(*what)
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu
        self.count += 1
        self.size = told["bytes"]
        return told


def measure(folder: str, channels: int, epochs: int, images: cnn.Images, batch: int) -> float:
    """Train, print a row, give the part of the time that went into saving."""
    keeping = Timed(folder, channels, every=0.0)  # every report saves
    trial = RunningTrial(channels, budget=epochs, seed=1, emit=lambda point: None, keeping=keeping)
    wall, cpu = time.perf_counter(), time.process_time()
    cnn.train(images, lr=1e-3, optimizer="adam", momentum=0.0, batch=batch, channels=channels, dropout=0.3,
              epochs=1, trial=trial)  # fmt: skip
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    part = keeping.wall / (wall - keeping.wall)
    cells = (
        f"{channels}", f"{batch}", f"{wall / epochs:.2f} s", f"{keeping.size / 1e6:.2f} MB",
        f"{1e3 * keeping.wall / keeping.count:.1f} ms", f"{part:.2%}", f"{keeping.cpu / (cpu - keeping.cpu):.2%}",
    )  # fmt: skip
    print(f"{cells[0]:>8} {cells[1]:>6} {cells[2]:>9} {cells[3]:>9} {cells[4]:>9} {cells[5]:>8} {cells[6]:>8}")
    return part


def main() -> int:
    """Measure each network; the exit code is 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--train-size", type=int, default=5000)
    parser.add_argument("--folder", default=None)
    given = parser.parse_args()
    images = mnist.data(os.environ.get("MPIBO_DATA") or "data", given.train_size)
    print(f"{given.train_size} images, {given.epochs} epochs; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print("channels  batch     epoch      file      save  of time   of CPU")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        parts = [measure(folder, channels, given.epochs, images, 64) for channels in SIZES]
    print(f"at most {max(parts):.2%} of the training time (target: under {TARGET:.0%})")
    return int(max(parts) >= TARGET)


if __name__ == "__main__":
    sys.exit(main())
