"""A small convolutional network and its training: what ``digits`` and ``mnist`` have in common."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpibo.objectives import RunningTrial

if TYPE_CHECKING:
    from torch import Tensor, nn, optim

SPACE: dict[str, Any] = {
    "lr": {"float": [3e-4, 1e-1], "log": True},
    "optimizer": ["adam", "sgd"],
    "momentum": {"float": [0.0, 0.99], "when": "optimizer == 'sgd'"},
    "batch": {"int": [16, 128], "log": True},
    "channels": {"int": [4, 32]},
    "dropout": {"float": [0.0, 0.6]},
}


@dataclass(frozen=True)
class Images:
    """Images ``(n, 1, side, side)``, floats in [0, 1], and labels ``(n,)``, 0 to 9, for training and validation."""

    train: Tensor
    train_labels: Tensor
    valid: Tensor
    valid_labels: Tensor

    def to(self, device: str) -> Images:
        """The same on another device."""
        tensors = (self.train, self.train_labels, self.valid, self.valid_labels)
        return Images(*(tensor.to(device) for tensor in tensors))


def build(side: int, channels: int, dropout: float) -> nn.Module:
    """Two convolutions, the second twice as wide, dropout and one linear layer to ten classes.

    Images of ``side`` pixels are halved after the second convolution, those above 16 pixels after the first one too.
    """
    from torch import nn

    first = nn.MaxPool2d(2) if side > 16 else nn.Identity()
    rest = side // 4 if side > 16 else side // 2
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(), first,
        nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Dropout(dropout), nn.Flatten(), nn.Linear(2 * channels * rest**2, 10),
    )  # fmt: skip


def make_optimizer(name: str, network: nn.Module, lr: float, momentum: float) -> optim.Optimizer:
    """Adam or stochastic gradient descent; ``momentum`` is for the latter."""
    from torch import optim

    if name == "adam":
        return optim.Adam(network.parameters(), lr=lr)
    if name == "sgd":
        return optim.SGD(network.parameters(), lr=lr, momentum=momentum)
    raise ValueError(f"optimizer must be adam or sgd, got {name!r}")


def error(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The fraction of ``images`` that the network takes for another digit, dropout switched off."""
    import torch

    network.eval()
    with torch.no_grad():
        parts = zip(images.split(1000), labels.split(1000), strict=True)
        wrong = sum(int((network(x).argmax(1) != y).sum()) for x, y in parts)
    return wrong / len(labels)


def train_epoch(network: nn.Module, optimizer: optim.Optimizer, images: Images, batch: int) -> float:
    """One pass over the training images in a new random order; gives the mean cross entropy, not finite if diverged."""
    import torch
    from torch.nn.functional import cross_entropy

    network.train()
    total = 0.0
    for rows in torch.randperm(len(images.train)).to(images.train.device).split(batch):
        optimizer.zero_grad()
        loss = cross_entropy(network(images.train[rows]), images.train_labels[rows])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
        if not math.isfinite(total):
            break
    return total / len(images.train)


def use_own_threads() -> None:
    """Let PyTorch use as many threads as ``OMP_NUM_THREADS`` says (the engine sets it), where it is a number."""
    import torch

    count = os.environ.get("OMP_NUM_THREADS", "")
    if count.isdecimal() and int(count) > 0:
        torch.set_num_threads(int(count))


def train(
    images: Images, *, lr: float, optimizer: str, momentum: float, batch: int, channels: int, dropout: float,
    epochs: int, trial: RunningTrial,
) -> tuple[nn.Module, dict[str, Any]]:  # fmt: skip
    """Train a network for ``epochs`` epochs per unit of the trial's budget and report each epoch's validation error.

    A trial that has a checkpoint goes on from there. Training that diverges (a loss that is not finite) ends at once,
    and the value is the error of the network as it then is.

    Returns:
        The network, and ``value`` (validation error, a fraction), ``train_loss`` (if finite), ``parameters`` (their
        number) and ``epochs`` (trained, over all parts of the trial).
    """
    import torch

    use_own_threads()
    torch.manual_seed(trial.seed)
    images = images.to(trial.device)
    network = build(images.train.shape[-1], channels, dropout).to(trial.device)
    descent = make_optimizer(optimizer, network, lr, momentum)
    result: dict[str, Any] = {"parameters": sum(weight.numel() for weight in network.parameters())}
    epoch = trial.resume(model=network, optimizer=descent)
    while epoch < epochs * trial.budget:
        loss = train_epoch(network, descent, images, batch)
        epoch += 1
        result["value"] = error(network, images.valid, images.valid_labels)
        if not math.isfinite(loss):
            result.pop("train_loss", None)
            break
        result["train_loss"] = loss
        trial.report(value=result["value"], step=epoch, train_loss=loss)
    if "value" not in result:  # the checkpoint had all epochs behind it
        result["value"] = error(network, images.valid, images.valid_labels)
    return network, result | {"epochs": epoch}
