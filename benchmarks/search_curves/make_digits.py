"""Every config of a grid of multi-layer perceptrons on scikit-learn's digits, trained for 27 epochs: ``digits.npz``.

    cd benchmarks; python -m search_curves.make_digits

1,944 trainings on 600 of the 1,797 images; after each epoch the error on the other 1,197. Configs of the same shape are
trained side by side in one batch of matrices (the same arithmetic, each with its own first weights), some two CPU
minutes in all; what an epoch costs is measured apart, on one training of each shape alone, one thread.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILE = Path(__file__).with_name("digits.npz")
EPOCHS = 27
TRAINED = 600  # images
CLASSES = 10
MOMENTUM = 0.9  # of sgd, Nesterov's
RATES = 0.9, 0.999, 1e-8  # of Adam: the two moments' decay, and epsilon
GRID: dict[str, tuple[Any, ...]] = {
    "lr": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0),
    "alpha": (1e-4, 1e-2, 1e-1, 1.0),
    "solver": ("sgd", "adam"),
    "activation": ("relu", "tanh", "logistic"),
    "batch": (20, 60, 200),
    "hidden": (8, 32, 128),
}
APART = ("solver", "activation", "batch", "hidden")  # configs that agree in these are trained side by side


def images() -> tuple[Any, Any, Any, Any]:
    """Images to train with and to validate with, then the labels of each; every class in both as often."""
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    points, labels = load_digits(return_X_y=True)
    split = train_test_split(points / 16, labels, train_size=TRAINED, stratify=labels, random_state=1)
    train, valid, mine, theirs = split
    return (
        torch.tensor(train, dtype=torch.float32), torch.tensor(valid, dtype=torch.float32),
        torch.tensor(mine), torch.tensor(theirs),
    )  # fmt: skip


def training(shape: dict[str, Any], lr: Any, alpha: Any, seed: int, data: tuple[Any, ...], epochs: int) -> Any:
    """Train k networks of one shape.

    Args:
        shape: Values of ``APART``.
        lr: ``(k,)`` learning rates.
        alpha: ``(k,)`` weight decays, as scikit-learn's: over the size of the batch.
        seed: Of the first weights and of the order of the images.
        data: What ``images`` gives.
        epochs: How many.

    Returns:
        ``(k, epochs)`` numbers of validation images that are taken for another digit.
    """
    import torch

    train, valid, mine, theirs = data
    k, hidden, batch = len(lr), shape["hidden"], shape["batch"]
    dice = torch.Generator().manual_seed(seed)
    weights = []
    for inner, outer in ((train.shape[1], hidden), (hidden, CLASSES)):
        bound = ((2 if shape["activation"] == "logistic" else 6) / (inner + outer)) ** 0.5  # Glorot & Bengio 2010
        weights.append((torch.rand(k, inner, outer, generator=dice) * 2 - 1) * bound)
        weights.append((torch.rand(k, 1, outer, generator=dice) * 2 - 1) * bound)
    first, second = ([torch.zeros_like(each) for each in weights] for _ in range(2))  # moments, or the velocity
    rate, decay = (torch.tensor(each, dtype=torch.float32)[:, None, None] for each in (lr, alpha))
    targets = torch.eye(CLASSES)[mine]
    wrong, step = np.empty((k, epochs), np.int16), 0
    for epoch in range(epochs):
        order = torch.randperm(len(train), generator=dice)
        for rows in order.split(batch):
            step += 1
            for at, gradient in enumerate(_gradients(weights, train[rows], targets[rows], shape["activation"])):
                if at % 2 == 0:
                    gradient += decay / len(rows) * weights[at]
                if shape["solver"] == "sgd":
                    first[at].mul_(MOMENTUM).sub_(rate * gradient)
                    weights[at].add_(MOMENTUM * first[at] - rate * gradient)
                else:
                    first[at].lerp_(gradient, 1 - RATES[0])
                    second[at].mul_(RATES[1]).addcmul_(gradient, gradient, value=1 - RATES[1])
                    size = rate * (1 - RATES[1] ** step) ** 0.5 / (1 - RATES[0] ** step)
                    weights[at].sub_(size * first[at] / (second[at].sqrt() + RATES[2]))
        scores = _layers(weights, valid, shape["activation"])[1]
        numbers = torch.isfinite(scores).all(dim=2, keepdim=True)
        scores = torch.where(numbers, scores, 0.0)  # of weights that grew beyond all bounds: class 0
        wrong[:, epoch] = (scores.argmax(dim=2) != theirs).sum(dim=1).numpy()
    return wrong


def _layers(weights: list[Any], x: Any, activation: str) -> tuple[Any, Any]:
    """What the hidden layer gives, ``(k, n, hidden)``, and the last, ``(k, n, 10)``."""
    import torch

    inside = torch.matmul(x, weights[0]) + weights[1]
    inside = {"relu": torch.relu, "tanh": torch.tanh, "logistic": torch.sigmoid}[activation](inside)
    return inside, torch.matmul(inside, weights[2]) + weights[3]


def _gradients(weights: list[Any], x: Any, targets: Any, activation: str) -> list[Any]:
    """Of the mean cross entropy, for each of ``weights``."""
    inside, scores = _layers(weights, x, activation)
    above = (scores.softmax(dim=2) - targets) / len(x)
    slope = {"relu": lambda a: (a > 0).float(), "tanh": lambda a: 1 - a * a, "logistic": lambda a: a * (1 - a)}
    below = above @ weights[2].transpose(1, 2) * slope[activation](inside)
    return [
        x.T @ below, below.sum(dim=1, keepdim=True),
        inside.transpose(1, 2) @ above, above.sum(dim=1, keepdim=True),
    ]  # fmt: skip


def configs() -> list[dict[str, Any]]:
    """All configs, in the order of the file."""
    return [dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())]


def main() -> None:
    """Train all; write the file."""
    import torch

    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    data, every = images(), configs()
    shapes = list(itertools.product(*(GRID[name] for name in APART)))
    wrong: NDArray[Any] = np.empty((len(every), EPOCHS), np.int16)
    seconds: NDArray[Any] = np.empty(len(every), np.float32)
    for seed, values in enumerate(shapes):
        shape = dict(zip(APART, values, strict=True))
        rows = [i for i, config in enumerate(every) if shape.items() <= config.items()]
        lr, alpha = ([every[i][name] for i in rows] for name in ("lr", "alpha"))
        wrong[rows] = training(shape, lr, alpha, seed, data, EPOCHS)
        took = []
        for _ in range(3):
            before = time.process_time()
            training(shape, [1e-3], [1e-4], seed, data, 1)
            took.append(time.process_time() - before)
        seconds[rows] = min(took)
        print(f"{seed + 1} of {len(shapes)} shapes", flush=True)
    np.savez_compressed(FILE, wrong=wrong, of=len(data[3]), seconds=seconds)


if __name__ == "__main__":
    main()
