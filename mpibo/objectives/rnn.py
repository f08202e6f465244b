"""Validation error of a recurrent network that reads an image row by row: in the spirit of DeepHyper's ``rnn2``."""

from __future__ import annotations

from typing import Any

from mpibo.objectives import RunningTrial, datasets, objective, training


@objective(
    {
        "cell": ["rnn", "gru", "lstm"],
        "hidden": {"int": [8, 128], "log": True},
        "layers": {"int": [1, 3]},
        "both": [True, False],
        "dropout": {"float": [0.0, 0.6]},
        "lr": {"float": [1e-4, 1e-1], "log": True},
        "optimizer": ["adam", "sgd"],
        "momentum": {"float": [0.0, 0.99], "when": "optimizer == 'sgd'"},
        "clip": {"float": [0.1, 10.0], "log": True},
        "batch": {"int": [16, 128], "log": True},
    },
    budget=12,
)
def rnn(
    cell: str, hidden: int, layers: int, both: bool, dropout: float, lr: float, optimizer: str, clip: float, batch: int,
    momentum: float = 0.0, *, data: str = "digits", train_size: int = 10_000, trial: RunningTrial,
) -> dict[str, Any]:  # fmt: skip
    """Train the network and give its validation error, a fraction to be minimised.

    Args:
        data: ``digits`` (8 rows), or ``mnist`` or ``fashion`` (28 rows; their test error is a metric).
        train_size: How many images of the latter two to train with, 1 to 55,000.
    """
    if data not in ("digits", "mnist", "fashion"):
        raise ValueError(f"data must be digits, mnist or fashion, got {data!r}")
    images = datasets.data(data, train_size)

    def build() -> Any:
        from mpibo.objectives.modules import Rows

        return Rows(images.side, cell, hidden, layers, dropout, both)

    return training.train(
        images, build, lambda network: training.make_optimizer(optimizer, network, lr, momentum),
        batch=batch, trial=trial, clip=clip,
    )  # fmt: skip
