"""Training a network on images held in memory: one epoch per unit of budget, and a part goes on exactly as the whole.

Weights may be averaged over the steps (polynomial-decay averaging, Shamir & Zhang 2013): what is evaluated is then the
mean of about the last tenth of all steps so far. It does for the error what a falling rate would, but no step depends
on where the training will end, so a larger budget goes on from a smaller one.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpibo.objectives import RunningTrial

if TYPE_CHECKING:
    from torch import Tensor, nn, optim

ETA = 9.0  # of the averaging: the mean reaches back over 1 / (ETA + 1) of the steps
CHECK = 50  # steps between two looks at whether the loss is finite


@dataclass(frozen=True)
class Images:
    """Images ``(n, channels, side, side)`` and their labels ``(n,)``, whole numbers from 0.

    Images are floats in [0, 1], or bytes. ``test`` is never seen by a search: its error is a metric of the end.
    """

    train: Tensor
    train_labels: Tensor
    valid: Tensor
    valid_labels: Tensor
    test: Tensor | None = None
    test_labels: Tensor | None = None

    @property
    def side(self) -> int:
        return int(self.train.shape[-1])

    @property
    def channels(self) -> int:
        return int(self.train.shape[1])

    def to(self, device: str) -> Images:
        """The same on another device."""
        tensors = (getattr(self, name) for name in self.__dataclass_fields__)
        return Images(*(None if tensor is None else tensor.to(device) for tensor in tensors))


def scaled(images: Tensor) -> Tensor:
    """Floats in [0, 1], from bytes too."""
    return images if images.is_floating_point() else images.float().div_(255.0)


def make_optimizer(
    name: str, network: nn.Module, lr: float, momentum: float = 0.0, weight_decay: float = 0.0
) -> optim.Optimizer:
    """Adam (with decoupled weight decay) or stochastic gradient descent; ``momentum`` is for the latter."""
    from torch import optim

    if name == "adam":
        return optim.AdamW(network.parameters(), lr=lr, weight_decay=weight_decay)
    if name == "sgd":
        return optim.SGD(network.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    raise ValueError(f"optimizer must be adam or sgd, got {name!r}")


def mixed(device: str) -> AbstractContextManager[Any]:
    """On a CUDA device the context of mixed precision, elsewhere one that does nothing."""
    import torch

    return torch.autocast("cuda", dtype=torch.float16, enabled=device.startswith("cuda"))


def error(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The fraction of ``images`` that the network takes for another class, dropout switched off."""
    import torch

    network.eval()
    wrong = torch.zeros((), dtype=torch.int64, device=images.device)
    with torch.no_grad(), mixed(images.device.type):
        for x, y in zip(images.split(1000), labels.split(1000), strict=True):
            wrong += (network(scaled(x)).argmax(1) != y).sum()
    return int(wrong) / len(labels)


def batches(count: int, size: int, device: Any = "cpu") -> list[Tensor]:
    """The rows of each step of an epoch, in an order from torch's global generator, the CPU's.

    A single image that is left over is left out: a batch norm learns nothing from it.
    """
    import torch

    parts = list(torch.randperm(count).to(device).split(size))
    return parts[:-1] if len(parts) > 1 and len(parts[-1]) == 1 else parts


class Average:
    """The mean of a network's weights and running statistics over its last steps; ``network`` has it."""

    def __init__(self, network: nn.Module) -> None:
        self.network = copy.deepcopy(network)
        now = network.state_dict()
        self._pairs = [
            (mean, now[name]) for name, mean in self.network.state_dict().items() if mean.is_floating_point()
        ]

    def update(self, step: int) -> None:
        """Take in the weights after this step, counted from 1. Shamir & Zhang (2013), eq. (3)."""
        for mean, now in self._pairs:
            mean.lerp_(now, (ETA + 1) / (step + ETA))


@dataclass
class Training:
    """A network, its optimizer and what else a checkpoint needs to go on exactly."""

    network: nn.Module
    optimizer: optim.Optimizer
    scaler: Any
    average: Average | None = None
    clip: float | None = None

    @property
    def parts(self) -> dict[str, Any]:
        """What ``trial.resume`` takes."""
        more = {"average": self.average.network} if self.average else {}
        return {"model": self.network, "optimizer": self.optimizer, "scaler": self.scaler, **more}

    @property
    def evaluated(self) -> nn.Module:
        """The network whose error counts."""
        return self.average.network if self.average else self.network

    def epoch(self, images: Tensor, labels: Tensor, batch: int, before: int) -> float:
        """One pass over the images in a new random order, after ``before`` epochs.

        Returns:
            The mean cross entropy; not finite if the training diverged, and then the epoch was not ended.
        """
        import torch
        from torch.nn.functional import cross_entropy
        from torch.nn.utils import clip_grad_norm_

        self.network.train()
        device = images.device.type
        total = torch.zeros((), dtype=torch.float64, device=images.device)
        parts = batches(len(images), batch, images.device)
        for number, rows in enumerate(parts, start=1):
            self.optimizer.zero_grad()
            with mixed(device):
                loss = cross_entropy(self.network(scaled(images[rows])), labels[rows])
            self.scaler.scale(loss).backward()
            if self.clip:
                self.scaler.unscale_(self.optimizer)
                clip_grad_norm_(self.network.parameters(), self.clip)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if self.average:
                self.average.update(before * len(parts) + number)
            total += loss.detach() * len(rows)
            if number % CHECK == 0 and not math.isfinite(total.item()):
                break
        return total.item() / sum(len(part) for part in parts)


def use_own_threads() -> None:
    """Let PyTorch use as many threads as ``OMP_NUM_THREADS`` says (the engine sets it), where it is a number."""
    import torch

    count = os.environ.get("OMP_NUM_THREADS", "")
    if count.isdecimal() and int(count) > 0:
        torch.set_num_threads(int(count))


def train(
    images: Images, build: Callable[[], nn.Module], optimize: Callable[[nn.Module], optim.Optimizer], *,
    batch: int, trial: RunningTrial, average: bool = False, clip: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train a network for ``trial.budget`` epochs and report the validation error after each.

    A trial that has a checkpoint goes on from there. On a CUDA device the images lie in its memory and the training is
    in mixed precision. Training that diverges (a loss that is not finite) ends at once, and the value is the error of
    the network as it then is.

    Args:
        build: Makes the network; its random numbers depend on the trial's seed alone.
        optimize: Makes the optimizer of a network.
        average: Evaluate averaged weights.
        clip: The largest norm that a gradient may have.

    Returns:
        ``value`` (validation error, a fraction), ``test_error`` (if there are test images), ``train_loss`` (if finite),
        ``parameters`` (their number), ``epochs`` (trained, over all parts of the trial) and ``seconds_per_epoch`` (of
        this part, without the evaluations).
    """
    import torch

    use_own_threads()
    torch.manual_seed(trial.seed)
    images = images.to(trial.device)
    network = build().to(trial.device)
    network = network.to(memory_format=torch.channels_last)
    scaler = torch.amp.GradScaler("cuda", enabled=trial.device.startswith("cuda"))
    run = Training(network, optimize(network), scaler, Average(network) if average else None, clip)
    result: dict[str, Any] = {"parameters": sum(weight.numel() for weight in network.parameters())}
    first = epoch = trial.resume(**run.parts)
    seconds = 0.0
    while epoch < trial.budget:
        begun = time.perf_counter()
        loss = run.epoch(images.train, images.train_labels, batch, before=epoch)
        seconds += time.perf_counter() - begun
        epoch += 1
        result["value"] = error(run.evaluated, images.valid, images.valid_labels)
        if not math.isfinite(loss):
            result.pop("train_loss", None)
            break
        result["train_loss"] = loss
        trial.report(value=result["value"], step=epoch, train_loss=loss)
    if epoch > first:
        result["seconds_per_epoch"] = round(seconds / (epoch - first), 3)
    else:  # the checkpoint had all epochs behind it
        result["value"] = error(run.evaluated, images.valid, images.valid_labels)
    if images.test is not None and images.test_labels is not None:
        result["test_error"] = error(run.evaluated, images.test, images.test_labels)
    return result | {"epochs": epoch}
