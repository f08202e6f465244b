"""The small convolutional networks of the built-in objectives, and the worksheet's hyperparameters of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

SPACE: dict[str, Any] = {
    "lr": {"float": [3e-4, 1e-1], "log": True},
    "optimizer": ["adam", "sgd"],
    "momentum": {"float": [0.0, 0.99], "when": "optimizer == 'sgd'"},
    "batch": {"int": [16, 128], "log": True},
    "channels": {"int": [4, 32]},
    "dropout": {"float": [0.0, 0.6]},
}


def build(side: int, channels: int, dropout: float) -> nn.Module:
    """Two convolutions, the second twice as wide, dropout and one linear layer to ten classes.

    Images of ``side`` pixels are halved after the second convolution.
    """
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(),
        nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Dropout(dropout), nn.Flatten(), nn.Linear(2 * channels * (side // 2) ** 2, 10),
    )  # fmt: skip


IMAGES_SPACE: dict[str, Any] = {
    "lr": {"float": [3e-4, 1e-1], "log": True},
    "optimizer": ["adam", "sgd"],
    "momentum": {"float": [0.0, 0.99], "when": "optimizer == 'sgd'"},
    "batch": {"int": [32, 256], "log": True},
    "filters": {"int": [4, 24], "log": True},
    "dropout": {"float": [0.0, 0.6]},
}


def build_normed(side: int, filters: int, dropout: float) -> nn.Module:
    """Three normed convolutions, the first ``filters`` wide, the others twice; dropout, a linear layer to ten classes.

    Made for a CPU: each 2 x 2 block of pixels becomes one of four channels, and images are halved before the norm.
    """
    from torch import nn

    wide = 2 * filters
    return nn.Sequential(
        nn.PixelUnshuffle(2), nn.Conv2d(4, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters), nn.ReLU(),
        nn.Conv2d(filters, wide, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(wide), nn.ReLU(),
        nn.Conv2d(wide, wide, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(wide), nn.ReLU(),
        nn.Flatten(), nn.Dropout(dropout), nn.Linear(wide * (side // 8) ** 2, 10),
    )  # fmt: skip
