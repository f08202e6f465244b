"""What checkpoints cost: the part of a training's time that saving takes, for the CNN on MNIST, one save an epoch.

    python benchmarks/checkpoints.py [--epochs 5] [--train-size 5000] [--folder FOLDER]

The built-in objective ``mnist`` itself, on real images (MPIBO_DATA or ./data), trained twice for each size of network
with the same seed: once saving at each epoch, once not at all. Both must end alike. The part is the CPU time spent in
saving over that of the other training's epochs (with their validation, without the test at the end), one thread unless
OMP_NUM_THREADS says otherwise; the target is under 2 %. A save also waits for the disk, which costs no CPU: ``of time``
is the same by the clock, of the training that saves alone, so that a busy machine slows both alike. ``more CPU`` is the
whole difference between the two trainings, noise included. ``--folder`` says where to save: a folder of the file system
that the runs would use.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any

from mpibo.engine.keeping import Keeping
from mpibo.engine.running import RunningTrial
from mpibo.objectives.mnist import mnist

TARGET = 0.02
SIZES = (4, 10, 24)  # filters: the smallest, a middle and the largest network of the space


class Timed(Keeping):
    """Checkpoints whose saves are timed."""

    wall = cpu = 0.0
    size = count = 0

    def save(self, *what: Any) -> dict[str, Any] | None:
        wall, cpu = time.perf_counter(), time.process_time()
        told = super().save(*what)
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu
        if told is not None:
            self.count += 1
            self.size = told["bytes"]
        return told


@dataclass(frozen=True)
class Training:
    """What the epochs of a training took, in seconds up to its last report, and what the objective gave."""

    wall: float
    cpu: float
    result: dict[str, Any]


def train(filters: int, epochs: int, train_size: int, keeping: Keeping | None = None) -> Training:
    """Train a network of the objective; with ``keeping`` its reports may save."""
    times: list[tuple[float, float]] = []

    def emit(point: dict[str, Any]) -> None:
        times.append((time.perf_counter(), time.process_time()))

    trial = RunningTrial(filters, budget=epochs, seed=1, emit=emit, keeping=keeping)
    wall, cpu = time.perf_counter(), time.process_time()
    result = mnist(1e-3, "adam", 64, filters, 0.3, train_size=train_size, trial=trial)  # type: ignore[arg-type]
    return Training(times[-1][0] - wall, times[-1][1] - cpu, result)


def measure(folder: str, filters: int, epochs: int, train_size: int) -> float:
    """Train with and without saving, print a row, give the part of the CPU time that went into saving.

    Raises:
        RuntimeError: an epoch was not saved, or saving changed the training.
    """
    without = train(filters, epochs, train_size)
    keeping = Timed(folder, filters, every=0.0)  # every report saves
    saving = train(filters, epochs, train_size, keeping)
    if keeping.count != epochs:
        raise RuntimeError(f"{keeping.count} of {epochs} epochs were saved in {folder}")
    ends = [(each.result["value"], each.result["train_loss"]) for each in (without, saving)]
    if ends[0] != ends[1]:
        raise RuntimeError(f"{filters} filters: error and loss are {ends[0]} without saving, {ends[1]} with it")
    part = keeping.cpu / without.cpu
    print(f"{filters:>7} {without.cpu / epochs:>7.2f} s {keeping.size / 1e6:>6.2f} MB"
          f" {1e3 * keeping.cpu / epochs:>6.1f} ms {1e3 * keeping.wall / epochs:>8.1f} ms {part:>7.2%}"
          f" {keeping.wall / (saving.wall - keeping.wall):>8.2%} {saving.cpu / without.cpu - 1:>9.1%}")  # fmt: skip
    return part


def main() -> int:
    """Measure each network; the exit code is 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--train-size", type=int, default=5000)
    parser.add_argument("--folder", default=None)
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    train(SIZES[0], 1, given.train_size)  # reads the images, and all that only a first training does
    print(f"{given.train_size} images, {given.epochs} epochs; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print("filters epoch CPU      file  save CPU  save time  of CPU  of time  more CPU")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        parts = [measure(folder, filters, given.epochs, given.train_size) for filters in SIZES]
    print(f"at most {max(parts):.2%} of the training's CPU time (target: under {TARGET:.0%})")
    return int(max(parts) >= TARGET)


if __name__ == "__main__":
    sys.exit(main())
