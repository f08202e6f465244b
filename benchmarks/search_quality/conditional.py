"""Conditional problems: tables of SVM, forest, network and neighbours, and functions with known optima.

The tables (``make_conditional.py`` makes them) hold, for every config, the validation errors on a few splits of a data
set of scikit-learn's. A run is told those of one split, that of its seed; true is the mean over the splits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mpibo import Choice, Float, Int, Space
from mpibo.objectives import synthetic
from mpibo.parameters import Parameter
from search_quality.problem import Config, Problem

DATA = Path(__file__).resolve().parent / "classifiers"

# ---- tables


def _levels(values: list[float], when: str) -> Choice:
    return Choice(values, ordered=True, when=when)


SVM, FOREST, MLP, KNN = (f"model == {name!r}" for name in ("svm", "forest", "mlp", "knn"))
MODELS = Space(
    {
        "model": Choice(["svm", "forest", "mlp", "knn"]),
        "scaled": Choice([False, True], when="model != 'forest'"),
        "kernel": Choice(["linear", "rbf", "poly"], when=SVM),
        "C": _levels([0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0], SVM),
        "gamma": _levels([1e-4, 1e-3, 1e-2, 1e-1, 1.0], "kernel != 'linear'"),
        "degree": Int(2, 3, when="kernel == 'poly'"),
        "trees": _levels([5, 10, 20, 40, 80], FOREST),
        "features": _levels([0.05, 0.1, 0.3, 1.0], FOREST),
        "leaf": _levels([1, 2, 4, 8], FOREST),
        "bootstrap": Choice([True, False], when=FOREST),
        "layers": Int(1, 2, when=MLP),
        "width": _levels([4, 8, 16, 32], MLP),
        "activation": Choice(["relu", "tanh"], when=MLP),
        "rate": _levels([1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1], MLP),
        "decay": _levels([1e-5, 1e-2, 1.0], MLP),
        "neighbours": Int(1, 10, when=KNN),
        "weights": Choice(["uniform", "distance"], when=KNN),
        "power": Int(1, 2, when=KNN),
    }
)


def every_config() -> Iterator[Config]:
    """All configs of the tables, in the order of their rows."""
    branches = [
        {"model": "svm", "kernel": "linear"}, {"model": "svm", "kernel": "rbf"}, {"model": "svm", "kernel": "poly"},
        {"model": "forest"}, {"model": "mlp"}, {"model": "knn"},
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    for branch in branches:
        active = list(MODELS.complete(branch, rng))
        choices = [[branch[name]] if name in branch else levels(MODELS.parameters[name]) for name in active]
        for values in itertools.product(*choices):
            yield dict(zip(active, values, strict=True))


def levels(parameter: Parameter) -> list[object]:
    """All values of a parameter that has levels."""
    assert parameter.count is not None
    return parameter.values_of(parameter.level_codes(np.arange(parameter.count)))


def table(name: str, block: str, data: str) -> Problem:
    """A table of ``classifiers/``."""
    with np.load(DATA / f"{data}.npz") as found:
        values = found["values"].astype(float)  # (configs, splits)
        times = found["seconds"].astype(float)
    mean, splits = values.mean(axis=1), values.shape[1]
    row = {_key(config): i for i, config in enumerate(every_config())}
    if len(row) != len(values):
        raise ValueError(f"{data}.npz has {len(values)} rows, the space has {len(row)} configs: make it again")
    chances = np.array([math.prod(1 / len(levels(MODELS.parameters[each])) for each, _ in key) for key in row])
    return Problem(
        name, block, MODELS, lambda c: float(mean[row[_key(c)]]), float(mean.min()),
        tell=lambda c, seed: float(values[row[_key(c)], seed % splits]),
        told_optimum=lambda seed: float(values[:, seed % splits].min()),
        every=mean, every_told=lambda seed: values[:, seed % splits], chances=chances,
        seconds=lambda c, seed: float(times[row[_key(c)], seed % splits]),
    )  # fmt: skip


def _key(config: Config) -> tuple[tuple[str, object], ...]:
    return tuple(sorted(config.items()))


# ---- functions


def branches(name: str, block: str) -> Problem:
    """Branin, Hartmann3 or Levy with whole numbers, each with its own parameters and floor, and a shared float.

    0 at ``kind = branin`` with one of its minima and ``shared = 0.3``; the floors of the others are 0.1 and 0.05.
    """
    of_branin, of_hartmann, of_levy = (f"kind == {each!r}" for each in ("branin", "hartmann", "levy"))
    space = Space(
        {
            "kind": Choice(["branin", "hartmann", "levy"]),
            "shared": Float(0.0, 1.0),
            "b1": Float(-5.0, 10.0, when=of_branin),
            "b2": Float(0.0, 15.0, when=of_branin),
            **{f"h{i}": Float(0.0, 1.0, when=of_hartmann) for i in (1, 2, 3)},
            **{f"l{i}": Int(-10, 10, when=of_levy) for i in (1, 2)},
            "l3": Float(-10.0, 10.0, when=of_levy),
        }
    )

    def value(c: Config) -> float:
        if c["kind"] == "branin":
            own = (synthetic.branin(c["b1"], c["b2"]) - synthetic.BRANIN_OPTIMUM) / 50
        elif c["kind"] == "hartmann":
            own = 0.1 + (synthetic.hartmann3(c["h1"], c["h2"], c["h3"]) + 3.8628) / 3.8628
        else:
            own = 0.05 + synthetic.levy({each: c[each] for each in ("l1", "l2", "l3")}) / 50
        return own + (c["shared"] - 0.3) ** 2

    return Problem(name, block, space, value, 0.0)


def pipeline(name: str, block: str) -> Problem:
    """A step before a model, each with choices and parameters of its own; the best step depends on the model.

    0 at ``prepare = reduce, parts = 12, model = net, optimizer = sgd, rate = 0.01, momentum = 0.9, width = 64``.
    """
    reduces, selects = "prepare == 'reduce'", "prepare == 'select'"
    tree, net = "model == 'tree'", "model == 'net'"
    space = Space(
        {
            "prepare": Choice(["none", "reduce", "select"]),
            "parts": Int(2, 40, log=True, when=reduces),
            "share": Float(0.05, 1.0, when=selects),
            "model": Choice(["tree", "net"]),
            "depth": Int(1, 20, when=tree),
            "leaf": Int(1, 64, log=True, when=tree),
            "width": Int(4, 512, log=True, when=net),
            "rate": Float(1e-5, 1.0, log=True, when=net),
            "optimizer": Choice(["adam", "sgd", "rmsprop"], when=net),
            "momentum": Float(0.0, 0.99, when="optimizer == 'sgd'"),
        }
    )

    def value(c: Config) -> float:
        if c["prepare"] == "reduce":
            step = 0.3 * math.log(c["parts"] / 12) ** 2 + (0.0 if c["model"] == "net" else 0.4)
        elif c["prepare"] == "select":
            step = 0.15 + (c["share"] - 0.4) ** 2 - (0.05 if c["model"] == "tree" else 0.0)
        else:
            step = 0.3
        if c["model"] == "tree":
            fit = 0.2 + 0.01 * (c["depth"] - 9) ** 2 + 0.05 * math.log(c["leaf"] / 4) ** 2
            return step + fit + 0.004 * (c["depth"] - 9) * math.log(c["leaf"] / 4)
        away = math.log10(c["rate"]) - {"adam": -3.0, "sgd": -2.0, "rmsprop": -3.5}[c["optimizer"]]
        width = math.log2(c["width"] / 64)
        fit = 0.3 * away**2 + 0.05 * width**2 + 0.1 * away * width
        if c["optimizer"] == "sgd":
            return step + fit + 0.5 * (c["momentum"] - 0.9) ** 2
        return step + fit + {"adam": 0.08, "rmsprop": 0.12}[c["optimizer"]]

    return Problem(name, block, space, value, 0.0)


LAYERS = 4
WIDTHS = (96, 48, 24)  # the best widths of the first three layers


def network(name: str, block: str) -> Problem:
    """A network of 1 to 4 layers, each with a width and a dropout of its own, beside shared parameters.

    0 at three layers of ``WIDTHS`` with dropouts of 0.3, 0.2, 0.1, ``activation = gelu`` and ``rate = 0.003``.
    """
    space = Space(
        {
            "layers": Int(1, LAYERS),
            "activation": Choice(["relu", "tanh", "gelu", "sigmoid"]),
            "rate": Float(1e-5, 1e-1, log=True),
            **{f"width{i}": Int(8, 256, log=True, when=f"layers >= {i}") for i in range(1, LAYERS + 1)},
            **{f"dropout{i}": Float(0.0, 0.8, when=f"layers >= {i}") for i in range(1, LAYERS + 1)},
        }
    )

    def value(c: Config) -> float:
        loss = 0.25 * (c["layers"] - 3) ** 2 * (1.0 if c["layers"] < 3 else 0.4)
        loss += {"relu": 0.05, "tanh": 0.15, "gelu": 0.0, "sigmoid": 0.4}[c["activation"]]
        loss += 0.2 * (math.log10(c["rate"]) - math.log10(0.003)) ** 2
        for i in range(1, min(c["layers"], 3) + 1):
            loss += 0.08 * math.log2(c[f"width{i}"] / WIDTHS[i - 1]) ** 2
            loss += 0.8 * (c[f"dropout{i}"] - 0.1 * (4 - i)) ** 2
        if c["layers"] == LAYERS:
            loss += 0.1 * c["dropout4"] + 0.02 * math.log2(c["width4"] / 8)
        return loss

    return Problem(name, block, space, value, 0.0)


def tree(name: str, block: str) -> Problem:
    """The tree of Jenatton, Archambeau, Gonzalez & Seeger 2017 (ICML): four leaves, 0.1 to 0.4 at their best."""
    space = Space(
        {
            "x1": Choice([0, 1]),
            "x2": Choice([0, 1], when="x1 == 0"),
            "x3": Choice([0, 1], when="x1 == 1"),
            **{
                f"x{4 + i}": Float(-1.0, 1.0, when=f"{'x3' if i > 1 else 'x2'} == {i % 2}")
                for i in range(4)
            },
            "r8": Float(0.0, 1.0, when="x1 == 0"),
            "r9": Float(0.0, 1.0, when="x1 == 1"),
        }
    )  # fmt: skip

    def value(c: Config) -> float:
        leaf = 2 * c["x1"] + (c["x3"] if c["x1"] else c["x2"])
        return c[f"x{4 + leaf}"] ** 2 + 0.1 * (leaf + 1) + (c["r9"] if c["x1"] else c["r8"])

    return Problem(name, block, space, value, 0.1)
