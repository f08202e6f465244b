"""Validation error of a CNN on CIFAR-10 (Krizhevsky 2009): in the spirit of DeepHyper's ``cifar10cnn``.

The data are torchvision's, looked for in ``MPIBO_DATA``, else in ``./data``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpibo.objectives import RunningTrial, datasets, objective, training

if TYPE_CHECKING:
    from torch import nn


def build(
    side: int, filters1: int, filters2: int, kernel: int, units: int, dropout1: float, dropout2: float, activation: str
) -> nn.Module:
    """Twice two normed convolutions, pooling and dropout; then a hidden layer of ``units``, and ten classes."""
    from torch import nn

    act = {"relu": nn.ReLU, "elu": nn.ELU, "tanh": nn.Tanh}[activation]
    layers: list[nn.Module] = []
    channels = 3
    for filters in (filters1, filters2):
        for before in (channels, filters):
            convolution = nn.Conv2d(before, filters, kernel, padding=kernel // 2, bias=False)
            layers += [convolution, nn.BatchNorm2d(filters), act()]
        layers += [nn.MaxPool2d(2), nn.Dropout(dropout1)]
        channels = filters
    layers += [nn.Flatten(), nn.Linear(channels * (side // 4) ** 2, units), act(), nn.Dropout(dropout2)]
    return nn.Sequential(*layers, nn.Linear(units, 10))


@objective(
    {
        "filters1": {"int": [8, 64], "log": True},
        "filters2": {"int": [16, 128], "log": True},
        "kernel": {"choice": [3, 5], "ordered": True},
        "units": {"int": [32, 512], "log": True},
        "dropout1": {"float": [0.0, 0.5]},
        "dropout2": {"float": [0.0, 0.6]},
        "activation": ["relu", "elu", "tanh"],
        "lr": {"float": [1e-4, 1e-1], "log": True},
        "optimizer": ["adam", "sgd"],
        "momentum": {"float": [0.0, 0.99], "when": "optimizer == 'sgd'"},
        "weight_decay": {"float": [1e-6, 1e-2], "log": True},
        "batch": {"int": [32, 256], "log": True},
    },
    budget=9,
)
def cifar10cnn(
    filters1: int, filters2: int, kernel: int, units: int, dropout1: float, dropout2: float, activation: str,
    lr: float, optimizer: str, weight_decay: float, batch: int, momentum: float = 0.0, *,
    train_size: int = 10_000, trial: RunningTrial,
) -> dict[str, Any]:  # fmt: skip
    """Train the network and give its validation error, a fraction to be minimised; ``test_error`` is a metric.

    Args:
        train_size: How many images to train with, 1 to 45,000.
    """
    images = datasets.data("cifar10", train_size)
    return training.train(
        images,
        lambda: build(images.side, filters1, filters2, kernel, units, dropout1, dropout2, activation),
        lambda network: training.make_optimizer(optimizer, network, lr, momentum, weight_decay),
        batch=batch, trial=trial, average=True,
    )  # fmt: skip
