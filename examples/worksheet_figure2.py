"""Worksheet, figure 2: training and validation loss of a CNN on MNIST over 25 epochs, Adam at a rate of 0.0005.

``python scripts/get_mnist.py`` fetches the data (./data, or the folder MPIBO_DATA). One trial of a search with one
config: its reports are in the run's journal, and the picture is drawn from there. About 6 minutes on one core.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np
from pictures import BLUE, ORANGE, arguments, plt, save

import mpibo
from mpibo.store.journal import read

VALID = 5_000  # of the 60,000 training images, held back


@functools.cache
def data(train_size: int) -> tuple[Any, Any, Any, Any]:
    """Training and validation images ``(n, 1, 28, 28)`` in [0, 1], then the labels of each ``(n,)``."""
    import torch

    raw = Path(os.environ.get("MPIBO_DATA") or "data") / "MNIST" / "raw"
    images = np.fromfile(raw / "train-images-idx3-ubyte", np.uint8, offset=16).reshape(-1, 1, 28, 28)
    labels = np.fromfile(raw / "train-labels-idx1-ubyte", np.uint8, offset=8)
    order = np.random.default_rng(0).permutation(len(labels))
    train, valid = order[:train_size], order[-VALID:]
    tensors = (torch.from_numpy(images[rows]).float() / 255 for rows in (train, valid))
    return (*tensors, torch.from_numpy(labels[train]).long(), torch.from_numpy(labels[valid]).long())


def network(channels: int) -> Any:
    """Two convolutions and two dense layers; nothing in it that holds overfitting back."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(2 * channels * 49, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def cnn(lr: float, *, train_size: int, channels: int = 16, batch: int = 64, trial: mpibo.RunningTrial) -> None:
    """Train for ``trial.budget`` epochs; reports the validation loss of each, and its training loss and errors."""
    import torch
    from torch.nn.functional import cross_entropy

    torch.set_num_threads(1)
    train, valid, train_labels, valid_labels = data(train_size)
    model = network(channels)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for epoch in range(1, trial.budget + 1):
        total = 0.0
        for rows in torch.randperm(len(train)).split(batch):
            optimizer.zero_grad()
            loss = cross_entropy(model(train[rows]), train_labels[rows])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        with torch.no_grad():
            outputs = torch.cat([model(part) for part in valid.split(1000)])
        wrong = float((outputs.argmax(1) != valid_labels).float().mean())
        valid_loss = cross_entropy(outputs, valid_labels).item()
        trial.report(valid_loss, step=epoch, train_loss=total / len(train), valid_error=wrong)


def main() -> None:
    """Train once, read the reports, draw them."""
    given = arguments(__doc__)
    epochs, train_size = (3, 2_000) if given.quick else (25, 55_000)
    result = mpibo.minimize(
        cnn, {"lr": (1e-5, 1e-1, "log")}, start=[{"lr": 5e-4}], max_trials=1, budget=epochs,
        fix={"train_size": train_size}, progress="none",
    )  # fmt: skip
    reports = [event for event in read(result.folder).events if event["kind"] == "report"]
    epoch = np.array([event["step"] for event in reports])
    valid = np.array([event["value"] for event in reports])
    train = np.array([event["metrics"]["train_loss"] for event in reports])
    wrong = np.array([event["metrics"]["valid_error"] for event in reports])

    print(f"{train_size:,} training and {VALID:,} validation images, {len(epoch)} epochs")
    print("epoch  training loss  validation loss  validation error")
    for row in zip(epoch, train, valid, 100 * wrong, strict=True):
        print("{:5d}  {:13.4f}  {:15.4f}  {:14.2f} %".format(*row))
    lowest = int(valid.argmin())
    print(
        f"validation loss is lowest, {valid[lowest]:.4f}, after epoch {epoch[lowest]}, and {valid[-1]:.4f} at the end;"
    )
    print(f"the training loss falls from {train[lowest]:.4f} to {train[-1]:.4f} meanwhile")

    figure, axes = plt.subplots(figsize=(7, 4))
    axes.semilogy(epoch, train, "o-", color=BLUE, markersize=4, label="training")
    axes.semilogy(epoch, valid, "o-", color=ORANGE, markersize=4, label="validation")
    axes.plot(epoch[lowest], valid[lowest], "o", color="white", markeredgecolor=ORANGE, markersize=10, zorder=1)
    axes.annotate(
        f"lowest: epoch {epoch[lowest]}", (epoch[lowest], valid[lowest]), xytext=(0, 26), textcoords="offset points",
        ha="center", color=ORANGE,
    )  # fmt: skip
    axes.set(xlabel="epoch", ylabel="cross entropy", title="CNN on MNIST, Adam, learning rate 0.0005")
    axes.legend()
    save(figure, given.out, "figure2")


if __name__ == "__main__":
    main()
