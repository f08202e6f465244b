"""The images that the built-in objectives learn from: each set is read once per child and kept as tensors.

MNIST (LeCun et al. 1998), FashionMNIST (Xiao et al. 2017) and CIFAR-10 (Krizhevsky 2009) are looked for in
``MPIBO_DATA``, else in ``./data``, where torchvision would put them; scikit-learn's digits come with it.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

from mpibo.objectives.training import Images


class Kind(NamedTuple):
    """A data set of torchvision: its class, its folder, our script that fetches it, and the objectives that read it."""

    name: str
    folder: str
    script: str
    read_by: tuple[str, ...]

    def lack(self, root: str) -> str:
        """That it is not in ``root``, and how to get it, in a line."""
        where = os.path.join(root, self.folder)
        ours = f"run python {self.script} (in mpibo's repository) or " if self.script else "run "
        there = f"torchvision.datasets.{self.name}({root!r}, download=True) in Python"
        return f"no {self.name} in {where}: {ours}{there}, or set MPIBO_DATA"


VALID = 5_000  # training images held back

KINDS = {
    "mnist": Kind("MNIST", "MNIST/raw", "scripts/get_mnist.py", ("mnist", "mnist-architecture")),
    "fashion": Kind("FashionMNIST", "FashionMNIST/raw", "scripts/get_fashion.py", ("fashion", "fashion-architecture")),
    "cifar10": Kind("CIFAR10", "cifar-10-batches-py", "", ("cifar10cnn",)),
}

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


def load(kind: Kind, root: str, train: bool) -> tuple[Any, Any]:
    """All images ``(n, channels, side, side)`` as bytes, and their labels ``(n,)``.

    Raises:
        FileNotFoundError: the data are not in ``root``.
    """
    import torch

    try:
        part = getattr(torchvision_datasets(), kind.name)(root, train=train, download=False)
    except RuntimeError as error:
        if "not found" not in str(error):
            raise
        raise FileNotFoundError(kind.lack(root)) from None
    images = torch.as_tensor(part.data)
    images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
    return images, torch.as_tensor(part.targets)


def read_by(objective: str, fixed: Mapping[str, Any]) -> Kind | None:
    """The data set that a built-in objective's trials read; None where they need none but scikit-learn's.

    Args:
        fixed: The arguments that are held; ``data`` may name the data set.
    """
    for name, kind in KINDS.items():
        if fixed.get("data") == name or objective in kind.read_by:
            return kind
    return None


def lack(objective: str, fixed: Mapping[str, Any]) -> str:
    """What a built-in objective would fail with here for want of data, in a line; empty where they are there."""
    kind = read_by(objective, fixed)
    if kind is None:
        return ""
    folder = os.path.join(_root(), kind.folder)
    return "" if os.path.isdir(folder) and os.listdir(folder) else kind.lack(_root())


def _root() -> str:
    return os.environ.get("MPIBO_DATA") or "data"


@functools.cache
def _part(name: str, root: str, train_size: int) -> Images:
    import torch

    kind = KINDS[name]
    images, labels = load(kind, root, train=True)
    most = len(labels) - VALID
    if not 1 <= train_size <= most:
        raise ValueError(f"train_size must lie in [1, {most}], got {train_size}")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    rows, valid = order[:train_size], order[most:]
    return Images(images[rows], labels[rows], images[valid], labels[valid], *load(kind, root, train=False))


@functools.cache
def digits() -> Images:
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
    return Images(images[~valid], labels[~valid], images[valid], labels[valid])


def data(name: str, train_size: int) -> Images:
    """A data set by name: ``digits`` whole, of the others the first ``train_size`` training images of one fixed random
    order, its last 5,000 to validate with, and the test images.

    Raises:
        FileNotFoundError: the data are not there; the line says how to get them.
        ValueError: no such data set, or not so many images.
    """
    if name == "digits":
        return digits()
    if name not in KINDS:
        raise ValueError(f"data must be digits or one of {', '.join(KINDS)}, got {name!r}")
    return _part(name, _root(), train_size)
