"""Validation error of a CNN on MNIST (LeCun et al. 1998), trained on a part of its 60,000 images.

``scripts/get_mnist.py`` fetches the data; they are looked for in ``MPIBO_DATA``, else in ``./data``.
"""

from __future__ import annotations

import functools
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mpibo.objectives import RunningTrial, cnn, objective

if TYPE_CHECKING:
    from torch import Tensor

VALID = 5_000  # images held back from the training set

_schemas: list[Any] = []  # operators stay defined only while their Library object lives


def torchvision_datasets() -> ModuleType:
    """Import ``torchvision.datasets``, also of a torchvision built for CUDA beside a PyTorch built for the CPU.

    There the operators of torchvision do not load and its import fails ("operator torchvision::nms does not exist").
    With their two schemas defined by hand it imports; data sets need none of the operators.
    """
    try:
        from torchvision import datasets
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        from torch.library import Library

        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]  # what the failed import left
        if not _schemas:
            library = Library("torchvision", "FRAGMENT")
            for operator in ("nms", "qnms"):
                library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _schemas.append(library)
        from torchvision import datasets
    return datasets


@functools.cache
def load(root: str, train: bool) -> tuple[Tensor, Tensor]:
    """All images ``(n, 1, 28, 28)`` as bytes, and their labels ``(n,)``.

    Raises:
        FileNotFoundError: there is no MNIST in ``root``.
    """
    try:
        part = torchvision_datasets().MNIST(root, train=train, download=False)
    except RuntimeError as error:
        if "not found" not in str(error):
            raise
        where = os.path.join(root, "MNIST", "raw")
        raise FileNotFoundError(f"no MNIST in {where}: run python scripts/get_mnist.py, or set MPIBO_DATA") from None
    return part.data[:, None], part.targets


def scaled(images: Tensor) -> Tensor:
    """Bytes as floats in [0, 1]."""
    return images.float() / 255.0


@functools.cache
def data(root: str, train_size: int) -> cnn.Images:
    """The first ``train_size`` and the last 5,000 training images of one fixed random order."""
    import torch

    images, labels = load(root, train=True)
    most = len(labels) - VALID
    if not 1 <= train_size <= most:
        raise ValueError(f"train_size must lie in [1, {most}], got {train_size}")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    rows, valid = order[:train_size], order[most:]
    return cnn.Images(scaled(images[rows]), labels[rows], scaled(images[valid]), labels[valid])


@objective(cnn.SPACE)
def mnist(
    lr: float, optimizer: str, batch: int, channels: int, dropout: float, momentum: float = 0.0, *,
    train_size: int = 5_000, epochs: int = 3, trial: RunningTrial,
) -> dict[str, Any]:  # fmt: skip
    """Train the network and give its validation error, a fraction to be minimised; ``test_error`` is a metric.

    Args:
        train_size: How many images to train with, 1 to 55,000.
        epochs: Passes over them per unit of the trial's budget.
    """
    root = os.environ.get("MPIBO_DATA") or "data"
    network, result = cnn.train(
        data(root, train_size), lr=lr, optimizer=optimizer, momentum=momentum, batch=batch, channels=channels,
        dropout=dropout, epochs=epochs, trial=trial,
    )  # fmt: skip
    images, labels = load(root, train=False)
    test_error = cnn.error(network, scaled(images).to(trial.device), labels.to(trial.device))
    return result | {"test_error": test_error}
