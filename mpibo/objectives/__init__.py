"""The built-in objectives by name; looking one up imports none of them.

A built-in is a module-level function. It takes its parameters by name (or the whole ``config``), some take the running
trial, and it carries what a search needs to know as attributes: ``space`` (the TOML form as a dict), ``maximize``,
``budget`` (of its trials where nobody says one; default 1), and where they are known ``optimum`` (the best value, in
the function's own sign), ``minimisers`` or ``maximisers``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class Builtin(NamedTuple):
    """Where a built-in objective lives (``package.module:function``) and what it is, in a line."""

    target: str
    description: str


class RunningTrial(Protocol):
    """What the built-in objectives use of the running trial that the engine passes to them."""

    id: int
    budget: int
    seed: int
    device: str

    @property
    def folder(self) -> Path: ...

    def resume(self, **parts: Any) -> int: ...

    def report(
        self, value: float, step: int, *, state: Mapping[str, Any] | None = None, **metrics: Any
    ) -> None: ...  # fmt: skip


def _synthetic(function: str, description: str) -> tuple[str, Builtin]:
    return f"synthetic:{function.replace('_', '-')}", Builtin(f"{__name__}.synthetic:{function}", description)


NAMES: dict[str, Builtin] = {
    "digits": Builtin(f"{__name__}.digits:digits", "validation error of a small CNN on scikit-learn's 8x8 digits"),
    "mnist": Builtin(f"{__name__}.mnist:mnist", "validation error of a CNN on MNIST (scripts/get_mnist.py fetches it)"),
    "fashion": Builtin(f"{__name__}.mnist:fashion", "the same on FashionMNIST (scripts/get_fashion.py fetches it)"),
    "mnist-architecture": Builtin(f"{__name__}.architecture:mnist", "a CNN's blocks and its training, on MNIST"),
    "fashion-architecture": Builtin(f"{__name__}.architecture:fashion", "the same on FashionMNIST"),
    "rnn": Builtin(f"{__name__}.rnn:rnn", "an image read row by row: digits, or --fix data=mnist or data=fashion"),
    "cifar10cnn": Builtin(f"{__name__}.cifar:cifar10cnn", "validation error of a CNN on CIFAR-10, where its data are"),
    "mlp": Builtin(f"{__name__}.mlp:mlp", "test accuracy of a multi-layer perceptron by its learning rate (maximised)"),
} | dict(
    [
        _synthetic("branin", "2 floats, three minima of 0.397887"),
        _synthetic("hartmann3", "3 floats, minimum -3.86278"),
        _synthetic("hartmann6", "6 floats, minimum -3.322368"),
        _synthetic("hartmann6_fidelity", "hartmann6 with learning curves of 27 steps that cross, for schedules"),
        _synthetic("ackley", "5 floats or as many as the space has, minimum 0 among many local ones"),
        _synthetic("levy", "4 floats or as many as the space has, minimum 0"),
        _synthetic("rosenbrock", "4 floats or as many as the space has, minimum 0 in a curved valley"),
        _synthetic("currin", "2 floats, maximum 13.798722"),
        _synthetic("park1", "4 floats, maximum 25.589254"),
        _synthetic("park2", "4 floats, maximum 5.926037"),
        _synthetic("mixed", "floats, an integer, choices and a forbidden combination, minimum 0"),
        _synthetic("conditional", "parameters that depend on choices, two levels deep, minimum 0"),
        _synthetic("noisy", "branin with Gaussian noise"),
        _synthetic("failing", "2 floats; raises on a part of the space and gives NaN on another, minimum 0"),
        _synthetic("sleep", "sleeps for `seconds` +- `spread`: for measuring the search itself"),
    ]
)


def resolve(name: str) -> str:
    """Give the ``package.module:function`` of a built-in objective.

    Raises:
        ValueError: no built-in has that name; the line lists the names.
    """
    if name not in NAMES:
        raise ValueError(f"no built-in objective is called {name!r}; there are {', '.join(NAMES)}")
    return NAMES[name].target


def objective(space: Mapping[str, Any], forbid: Sequence[str] = (), **facts: Any) -> Callable[[F], F]:
    """Give a function its ``space`` (parameters in their TOML form) and other ``facts`` as attributes."""

    def put(function: F) -> F:
        attributes = {"space": {"space": dict(space), "forbid": list(forbid)}, "maximize": False} | facts
        for key, value in attributes.items():
            setattr(function, key, value)
        return function

    return put
