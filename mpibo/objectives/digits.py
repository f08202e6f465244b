"""Validation error of a small CNN on the 1,797 handwritten 8x8 digits that come with scikit-learn."""

from __future__ import annotations

import functools
from typing import Any

from mpibo.objectives import RunningTrial, cnn, objective


@functools.cache
def data() -> cnn.Images:
    """1,347 images to train with and 450 to validate with: the same quarter of each class in every trial."""
    import numpy as np
    import torch
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.tensor(bunch.images[:, None] / 16.0, dtype=torch.float32)
    labels = torch.tensor(bunch.target)
    rng = np.random.default_rng(0)
    valid = torch.zeros(len(labels), dtype=torch.bool)
    for digit in range(10):
        rows = rng.permutation(np.flatnonzero(bunch.target == digit))
        valid[rows[: round(len(rows) / 4)]] = True
    return cnn.Images(images[~valid], labels[~valid], images[valid], labels[valid])


@objective(cnn.SPACE)
def digits(
    lr: float, optimizer: str, batch: int, channels: int, dropout: float, momentum: float = 0.0, *,
    epochs: int = 12, trial: RunningTrial,
) -> dict[str, Any]:  # fmt: skip
    """Train the network and give its validation error, a fraction to be minimised.

    Args:
        epochs: Passes over the training images per unit of the trial's budget.
    """
    _, result = cnn.train(
        data(), lr=lr, optimizer=optimizer, momentum=momentum, batch=batch, channels=channels, dropout=dropout,
        epochs=epochs, trial=trial,
    )  # fmt: skip
    return result
