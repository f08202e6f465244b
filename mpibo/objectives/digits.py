"""Validation error of a small CNN on the 1,797 handwritten 8x8 digits that come with scikit-learn."""

from __future__ import annotations

from typing import Any

from mpibo.objectives import RunningTrial, cnn, datasets, objective, training


@objective(cnn.SPACE, budget=12)
def digits(
    lr: float, optimizer: str, batch: int, channels: int, dropout: float, momentum: float = 0.0, *,
    trial: RunningTrial,
) -> dict[str, Any]:  # fmt: skip
    """Train the network and give its validation error, a fraction to be minimised."""
    images = datasets.digits()
    return training.train(
        images, lambda: cnn.build(images.side, channels, dropout),
        lambda network: training.make_optimizer(optimizer, network, lr, momentum), batch=batch, trial=trial,
    )  # fmt: skip
