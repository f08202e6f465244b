"""Architecture search: convolutional networks of one to four blocks, each of its own form, with how they are trained.

A config is laid out by ``plan`` as ``Layer`` records that know their shapes; the module (``build``), its source code
(``source``) and a picture of it (examples/best_architecture.py) are made from these. Every config gives a legal
network: convolutions keep the size of the image, pooling is left out where a single pixel remains, and a skip
connection gets a 1 x 1 convolution where the number of channels changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mpibo.objectives import RunningTrial, datasets, objective, training

if TYPE_CHECKING:
    from torch import nn

BLOCKS = 4
Shape = tuple[int, ...]


def _space() -> dict[str, Any]:
    space: dict[str, Any] = {"blocks": {"int": [1, BLOCKS]}}
    for i in range(1, BLOCKS + 1):
        when = {"when": f"blocks >= {i}"} if i > 1 else {}
        space |= {
            f"filters{i}": {"int": [8, 48], "step": 8, **when},
            f"kernel{i}": {"choice": [3, 5], "ordered": True, **when},
            f"convs{i}": {"int": [1, 2], **when},
            f"pool{i}": {"choice": ["none", "max", "avg"], **when},
            f"norm{i}": {"choice": [True, False], **when},
            f"skip{i}": {"choice": [True, False], **when},
        }
    return space | {
        "dense": {"int": [0, 2]},
        "width1": {"int": [16, 256], "log": True, "when": "dense >= 1"},
        "width2": {"int": [16, 256], "log": True, "when": "dense >= 2"},
        "dropout": {"float": [0.0, 0.6]},
        "lr": {"float": [1e-4, 1e-1], "log": True},
        "optimizer": ["adam", "sgd"],
        "momentum": {"float": [0.0, 0.99], "when": "optimizer == 'sgd'"},
        "weight_decay": {"float": [1e-6, 1e-2], "log": True},
        "batch": {"int": [32, 256], "log": True},
    }


SPACE = _space()


@dataclass(frozen=True)
class Layer:
    """A module of ``torch.nn`` by its class and arguments.

    Attributes:
        shape: What it gives for one image: ``(channels, side, side)`` or ``(width,)``.
        parameters: How many weights it has.
    """

    kind: str
    shape: Shape
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    parameters: int = 0

    def __str__(self) -> str:
        """As Python code: ``Conv2d(1, 8, 3, padding=1)``."""
        given = [repr(value) for value in self.arguments] + [f"{key}={value!r}" for key, value in self.options.items()]
        return f"{self.kind}({', '.join(given)})"


@dataclass(frozen=True)
class Group:
    """Layers in a row: the stem, a block, or the head.

    Attributes:
        shortcut: With a skip connection what its input goes through; its output is added to that of ``layers``.
        pool: What follows the sum.
    """

    name: str
    layers: tuple[Layer, ...]
    shortcut: Layer | None = None
    pool: Layer | None = None

    @property
    def shape(self) -> Shape:
        """What the group gives for one image."""
        return (self.pool or self.layers[-1]).shape

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in (*self.layers, self.shortcut) if layer)


def _convolution(channels: int, filters: int, side: int, kernel: int, bias: bool) -> Layer:
    options: dict[str, Any] = {"padding": kernel // 2} if kernel > 1 else {}
    return Layer(
        "Conv2d", (filters, side, side), (channels, filters, kernel), options if bias else options | {"bias": False},
        filters * (channels * kernel**2 + bias),
    )  # fmt: skip


def _block(config: Mapping[str, Any], i: int, channels: int, side: int) -> Group:
    filters, norm = config[f"filters{i}"], config[f"norm{i}"]
    shape = (filters, side, side)
    layers: list[Layer] = []
    for before in [channels, filters][: config[f"convs{i}"]]:
        layers.append(_convolution(before, filters, side, config[f"kernel{i}"], bias=not norm))
        if norm:
            layers.append(Layer("BatchNorm2d", shape, (filters,), parameters=2 * filters))
        layers.append(Layer("ReLU", shape))
    shortcut = pool = None
    if config[f"skip{i}"]:
        same = channels == filters
        shortcut = Layer("Identity", shape) if same else _convolution(channels, filters, side, 1, bias=False)
    if config[f"pool{i}"] != "none" and side >= 2:
        half = (filters, side // 2, side // 2)
        pool = Layer({"max": "MaxPool2d", "avg": "AvgPool2d"}[config[f"pool{i}"]], half, (2,))
    return Group(f"block {i}", tuple(layers), shortcut, pool)


def plan(config: Mapping[str, Any], side: int, classes: int, channels: int = 1) -> list[Group]:
    """The layers of a config's network for images ``(channels, side, side)``, with all shapes.

    Images above 16 pixels (of an even side) are halved first: each 2 x 2 block of pixels becomes one pixel of four
    times the channels. Nothing is lost, and the blocks cost a quarter.
    """
    groups = []
    if side > 16 and side % 2 == 0:
        channels, side = 4 * channels, side // 2
        groups.append(Group("stem", (Layer("PixelUnshuffle", (channels, side, side), (2,)),)))
    for i in range(1, config["blocks"] + 1):
        groups.append(_block(config, i, channels, side))
        channels, side = groups[-1].shape[:2]
    width = channels * side**2
    head = [Layer("Flatten", (width,))]
    for i in range(1, config["dense"] + 1):
        wide = config[f"width{i}"]
        head += [Layer("Linear", (wide,), (width, wide), parameters=(width + 1) * wide), Layer("ReLU", (wide,))]
        width = wide
    head.append(Layer("Dropout", (width,), (round(config["dropout"], 6),)))
    head.append(Layer("Linear", (classes,), (width, classes), parameters=(width + 1) * classes))
    return [*groups, Group("head", tuple(head))]


def build(config: Mapping[str, Any], side: int, classes: int, channels: int = 1) -> nn.Module:
    """The network of a config for images ``(n, channels, side, side)``; gives ``(n, classes)``.

    >>> best = mpibo.load("runs/mnist-architecture").best.config
    >>> network = build(best, side=28, classes=10)
    """
    from torch import nn

    from mpibo.objectives.modules import Skip

    def module(layer: Layer) -> nn.Module:
        made: nn.Module = getattr(nn, layer.kind)(*layer.arguments, **layer.options)
        return made

    parts: list[nn.Module] = []
    for group in plan(config, side, classes, channels):
        row = nn.Sequential(*map(module, group.layers))
        parts.append(Skip(row, module(group.shortcut)) if group.shortcut else row)
        if group.pool:
            parts.append(module(group.pool))
    return nn.Sequential(*parts)


def source(config: Mapping[str, Any], side: int, classes: int, channels: int = 1) -> str:
    """A Python file whose ``network()`` makes the module that ``build`` makes; it needs PyTorch alone."""
    import inspect

    from mpibo.objectives.modules import Skip

    groups = plan(config, side, classes, channels)
    rows = []
    for group in groups:
        inside = ",\n            ".join(f"nn.{layer}" for layer in group.layers)
        row = f"nn.Sequential(\n            {inside},\n        )"
        rows.append(f"        # {group.name}: {' x '.join(map(str, group.shape))}, {group.parameters:,} parameters")
        rows.append(f"        {f'Skip({row}, nn.{group.shortcut})' if group.shortcut else row},")
        if group.pool:
            rows.append(f"        nn.{group.pool},")
    skip = f"\n\n{inspect.getsource(Skip)}" if any(group.shortcut for group in groups) else ""
    count = sum(group.parameters for group in groups)
    what = f"images ({channels}, {side}, {side}) and {classes} classes, with {count:,} parameters"
    return f'''"""A network for {what}; found by mpibo."""

import torch
from torch import nn
{skip}

def network() -> nn.Module:
    return nn.Sequential(
{chr(10).join(rows)}
    )
'''


def _search(data: str, config: Mapping[str, Any], train_size: int, trial: RunningTrial) -> dict[str, Any]:
    images = datasets.data(data, train_size)
    return training.train(
        images, lambda: build(config, images.side, 10, images.channels),
        lambda network: training.make_optimizer(
            config["optimizer"], network, config["lr"], config.get("momentum", 0.0), config["weight_decay"]
        ),
        batch=config["batch"], trial=trial, average=True,
    )  # fmt: skip


@objective(SPACE, budget=3)
def mnist(config: dict[str, Any], *, train_size: int = 10_000, trial: RunningTrial) -> dict[str, Any]:
    """Train a config's network on MNIST and give its validation error, a fraction to be minimised.

    Metrics are ``parameters``, ``test_error`` and ``seconds_per_epoch``.

    Args:
        train_size: How many images to train with, 1 to 55,000.
    """
    return _search("mnist", config, train_size, trial)


@objective(SPACE, budget=3)
def fashion(config: dict[str, Any], *, train_size: int = 10_000, trial: RunningTrial) -> dict[str, Any]:
    """Train a config's network on FashionMNIST and give its validation error, a fraction to be minimised.

    Metrics are ``parameters``, ``test_error`` and ``seconds_per_epoch``.

    Args:
        train_size: How many images to train with, 1 to 55,000.
    """
    return _search("fashion", config, train_size, trial)
