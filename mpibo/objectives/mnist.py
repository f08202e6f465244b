"""Validation error of a CNN on MNIST (LeCun et al. 1998) or FashionMNIST (Xiao et al. 2017).

``scripts/get_mnist.py`` and ``scripts/get_fashion.py`` fetch the data; they are looked for in ``MPIBO_DATA``, else in
``./data``.
"""

from __future__ import annotations

from typing import Any

from mpibo.objectives import RunningTrial, cnn, datasets, objective, training

TRAIN_SIZE = 10_000  # an epoch in 1.5 s on one core of 2025; all 55,000: --fix train_size=55000


@objective(cnn.IMAGES_SPACE, budget=3)
def mnist(
    lr: float, optimizer: str, batch: int, filters: int, dropout: float, momentum: float = 0.0, *,
    train_size: int = TRAIN_SIZE, data: str = "mnist", trial: RunningTrial,
) -> dict[str, Any]:  # fmt: skip
    """Train the network and give its validation error, a fraction to be minimised; ``test_error`` is a metric.

    Args:
        train_size: How many images to train with, 1 to 55,000.
        data: ``mnist`` or ``fashion``.
    """
    images = datasets.data(data, train_size)
    return training.train(
        images, lambda: cnn.build_normed(images.side, filters, dropout),
        lambda network: training.make_optimizer(optimizer, network, lr, momentum),
        batch=batch, trial=trial, average=True,
    )  # fmt: skip


@objective(cnn.IMAGES_SPACE, budget=3)
def fashion(
    lr: float, optimizer: str, batch: int, filters: int, dropout: float, momentum: float = 0.0, *,
    train_size: int = TRAIN_SIZE, trial: RunningTrial,
) -> dict[str, Any]:  # fmt: skip
    """Train the network of ``mnist`` on FashionMNIST and give its validation error; ``test_error`` is a metric.

    Args:
        train_size: How many images to train with, 1 to 55,000.
    """
    return mnist(lr, optimizer, batch, filters, dropout, momentum, train_size=train_size, data="fashion", trial=trial)
