"""Functions with known optima: to try a search, to compare strategies, and to measure the search itself.

All are minimised but ``currin``, ``park1`` and ``park2``. Where it is known, ``optimum`` is the best value and
``minimisers`` (``maximisers``) are configs that have it. Formulas: the papers named, and Surjanovic & Bingham, "Virtual
Library of Simulation Experiments", sfu.ca/~ssurjano.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from typing import Any

from mpibo.objectives import RunningTrial, objective

UNIT = {"float": [0.0, 1.0]}


def _box(dimension: int, low: float, high: float) -> dict[str, Any]:
    return {f"x{i + 1}": {"float": [low, high]} for i in range(dimension)}


def _point(*x: float) -> dict[str, float]:
    return {f"x{i + 1}": value for i, value in enumerate(x)}


BRANIN = {"x1": {"float": [-5.0, 10.0]}, "x2": {"float": [0.0, 15.0]}}
BRANIN_OPTIMUM = 10 / (8 * math.pi)  # 0.397887
BRANIN_MINIMISERS = [_point(-math.pi, 12.275), _point(math.pi, 2.275), _point(3 * math.pi, 2.475)]


@objective(BRANIN, optimum=BRANIN_OPTIMUM, minimisers=BRANIN_MINIMISERS)
def branin(x1: float, x2: float) -> float:
    """Branin's function with three equal minima (Dixon & Szego 1978)."""
    bend = x2 - 5.1 / (4 * math.pi**2) * x1**2 + 5 / math.pi * x1 - 6
    return bend**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x1) + 10


HARTMANN_ALPHA = (1.0, 1.2, 3.0, 3.2)
HARTMANN3_A = ((3.0, 10, 30), (0.1, 10, 35), (3.0, 10, 30), (0.1, 10, 35))
HARTMANN3_P = ((0.3689, 0.1170, 0.2673), (0.4699, 0.4387, 0.7470), (0.1091, 0.8732, 0.5547), (0.0381, 0.5743, 0.8828))
HARTMANN6_A = (
    (10, 3, 17, 3.5, 1.7, 8),
    (0.05, 10, 17, 0.1, 8, 14),
    (3, 3.5, 1.7, 10, 17, 8),
    (17, 8, 0.05, 10, 0.1, 14),
)
HARTMANN6_P = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)


def _hartmann(x: tuple[float, ...], a: Any, p: Any, alphas: tuple[float, ...] = HARTMANN_ALPHA) -> float:
    """Minus the sum of alpha_i exp(-sum_j A_ij (x_j - P_ij)^2), i = 1 .. 4 (Hartman 1973, in Dixon & Szego 1978)."""
    return -sum(
        alpha * math.exp(-sum(aij * (xj - pij) ** 2 for xj, aij, pij in zip(x, ai, pi, strict=True)))
        for alpha, ai, pi in zip(alphas, a, p, strict=True)
    )


@objective(_box(3, 0.0, 1.0), optimum=-3.86278, minimisers=[_point(0.114614, 0.555649, 0.852547)])
def hartmann3(x1: float, x2: float, x3: float) -> float:
    """Hartmann's function of three variables: four local minima."""
    return _hartmann((x1, x2, x3), HARTMANN3_A, HARTMANN3_P)


@objective(
    _box(6, 0.0, 1.0),
    optimum=-3.322368,
    minimisers=[_point(0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573)],
)
def hartmann6(x1: float, x2: float, x3: float, x4: float, x5: float, x6: float) -> float:
    """Hartmann's function of six variables: six local minima."""
    return _hartmann((x1, x2, x3, x4, x5, x6), HARTMANN6_A, HARTMANN6_P)


@objective(
    _box(6, 0.0, 1.0),
    budget=27,
    optimum=-3.322368,
    minimisers=[_point(0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573)],
)
def hartmann6_fidelity(
    x1: float, x2: float, x3: float, x4: float, x5: float, x6: float, *,
    bias: float = 2.0, noise: float = 0.5, full: int = 27, seconds: float = 0.0, trial: RunningTrial,
) -> float:  # fmt: skip
    """Hartmann's function of six variables with learning curves: each unit of the budget is a step, as an epoch is.

    Args:
        bias: How much smaller each alpha is at the first step: other configs look good there than in the end.
        noise: Standard deviation at the first step of what half-normal noise adds; from the trial's seed.
        full: Steps after which the value is the function's, without bias and noise.
        seconds: What a step takes.
    """
    x = (x1, x2, x3, x4, x5, x6)
    for step in range(trial.resume() + 1, trial.budget + 1):
        if seconds:
            time.sleep(seconds)
        trial.report(hartmann6_at(x, step, full, bias, noise, trial.seed), step=step)
    return hartmann6_at(x, trial.budget, full, bias, noise, trial.seed)


def hartmann6_at(x: tuple[float, ...], step: int, full: int, bias: float, noise: float, seed: int) -> float:
    """Hartmann6 at a step of ``full``: alpha grows, and the noise goes, with the logarithm of the step.

    References:
        Kandasamy et al. 2017, arXiv:1703.06240, appendix: alpha falls with the fidelity. Mallik et al. 2023,
        PriorBand, NeurIPS: such a bias, and half-normal noise, on the log of the budget; with one difference: the noise
        is from seed and step.
    """
    missing = max(0.0, 1 - math.log(step) / math.log(full)) if full > 1 else 0.0
    alpha = tuple(each - bias * missing for each in HARTMANN_ALPHA)
    extra = noise * missing * abs(random.Random(f"{seed}:{step}").gauss(0.0, 1.0)) if noise else 0.0
    return _hartmann(x, HARTMANN6_A, HARTMANN6_P, alpha) + extra


@objective(_box(5, -32.768, 32.768), optimum=0.0, minimisers=[_point(0, 0, 0, 0, 0)])
def ackley(config: dict[str, float]) -> float:
    """Ackley's function (1987) of all the values of the space: many local minima around one deep one."""
    x, d = list(config.values()), len(config)
    slope = math.exp(-0.2 * math.sqrt(sum(v * v for v in x) / d))
    waves = math.exp(sum(math.cos(2 * math.pi * v) for v in x) / d)
    return -20 * slope - waves + 20 + math.e


@objective(_box(4, -10.0, 10.0), optimum=0.0, minimisers=[_point(1, 1, 1, 1)])
def levy(config: dict[str, float]) -> float:
    """Levy's function of all the values of the space (Levy & Montalvo 1985)."""
    w = [1 + (v - 1) / 4 for v in config.values()]
    middle = sum((v - 1) ** 2 * (1 + 10 * math.sin(math.pi * v + 1) ** 2) for v in w[:-1])
    last = (w[-1] - 1) ** 2 * (1 + math.sin(2 * math.pi * w[-1]) ** 2)
    return math.sin(math.pi * w[0]) ** 2 + middle + last


@objective(_box(4, -5.0, 10.0), optimum=0.0, minimisers=[_point(1, 1, 1, 1)])
def rosenbrock(config: dict[str, float]) -> float:
    """Rosenbrock's valley (1960) through all the values of the space, two or more."""
    x = list(config.values())
    return sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in itertools.pairwise(x))


@objective(_box(2, 0.0, 1.0), maximize=True, optimum=13.798722, maximisers=[_point(13 / 60, 0.0)])
def currin(x1: float, x2: float) -> float:
    """Currin's exponential function (Currin et al. 1988), maximised as in Kandasamy et al. 2018."""
    damping = 1 - math.exp(-1 / (2 * x2)) if x2 > 0 else 1.0
    rise = 2300 * x1**3 + 1900 * x1**2 + 2092 * x1 + 60
    return damping * rise / (100 * x1**3 + 500 * x1**2 + 4 * x1 + 20)


@objective(_box(4, 0.0, 1.0), maximize=True, optimum=25.589254, maximisers=[_point(1, 1, 1, 1)])
def park1(x1: float, x2: float, x3: float, x4: float) -> float:
    """Park's first function (1991), maximised as in Kandasamy et al. 2018; written so that x1 = 0 needs no limit."""
    root = math.sqrt(x1**2 + (x2 + x3**2) * x4)
    return (root - x1) / 2 + (x1 + 3 * x4) * math.exp(1 + math.sin(x3))


@objective(_box(4, 0.0, 1.0), maximize=True, optimum=5.926037, maximisers=[_point(1, 1, 1, 0)])
def park2(x1: float, x2: float, x3: float, x4: float) -> float:
    """Park's second function (1991), maximised as in Kandasamy et al. 2018."""
    return 2 / 3 * math.exp(x1 + x2) - x4 * math.sin(x3) + x3


@objective(
    {
        "x": UNIT,
        "rate": {"float": [1e-5, 1e-1], "log": True},
        "n": {"int": [1, 12]},
        "kernel": ["linear", "poly", "rbf"],
        "scaled": [True, False],
    },
    forbid=["kernel == 'poly' and scaled == False"],
    optimum=0.0,
    minimisers=[{"x": 0.7, "rate": 1e-3, "n": 5, "kernel": "rbf", "scaled": True}],
)
def mixed(x: float, rate: float, n: int, kernel: str, scaled: bool) -> float:
    """A bowl over numbers of three kinds whose place and height depend on the choices. Ours."""
    centre, height = {"linear": (0.2, 0.3), "poly": (0.5, 0.1), "rbf": (0.7, 0.0)}[kernel]
    bowl = (x - centre) ** 2 + 0.02 * (n - 5) ** 2 + 0.1 * (math.log10(rate) + 3) ** 2
    return bowl + height + (0.0 if scaled else 0.2)


@objective(
    {
        "model": ["tree", "network"],
        "depth": {"int": [1, 10], "when": "model == 'tree'"},
        "rate": {"float": [1e-4, 1.0], "log": True, "when": "model == 'network'"},
        "optimizer": {"choice": ["adam", "sgd"], "when": "model == 'network'"},
        "momentum": {"float": [0.0, 0.99], "when": "optimizer == 'sgd'"},
    },
    optimum=0.0,
    minimisers=[{"model": "network", "rate": 1e-2, "optimizer": "sgd", "momentum": 0.9}],
)
def conditional(model: str, depth: int = 1, rate: float = 1.0, optimizer: str = "adam", momentum: float = 0.0) -> float:
    """Two branches, one with a branch of its own; the best lies where most parameters are active. Ours."""
    if model == "tree":
        return 0.2 + 0.01 * (depth - 6) ** 2
    step = (math.log10(rate) + 2) ** 2 / 10
    return step + (0.1 if optimizer == "adam" else (momentum - 0.9) ** 2)


@objective(BRANIN, optimum=BRANIN_OPTIMUM, minimisers=BRANIN_MINIMISERS)
def noisy(x1: float, x2: float, *, noise: float = 1.0, trial: RunningTrial) -> float:
    """Branin's function plus Gaussian noise of standard deviation ``noise``; ``optimum`` is that of the mean."""
    return branin(x1, x2) + random.Random(trial.seed).gauss(0.0, noise)


@objective(_box(2, 0.0, 1.0), optimum=0.0, minimisers=[_point(0.6, 0.4)])
def failing(x1: float, x2: float) -> float:
    """A bowl beside a cliff: raises RuntimeError where x1 > 0.8 and gives NaN where x2 > 0.9. Ours."""
    if x1 > 0.8:
        raise RuntimeError(f"out of memory (made up): x1 = {x1:.3f} is above 0.8")
    return math.nan if x2 > 0.9 else (x1 - 0.6) ** 2 + (x2 - 0.4) ** 2


@objective(_box(2, 0.0, 1.0), optimum=0.0, minimisers=[_point(0.3, 0.7)])
def sleep(x1: float, x2: float, *, seconds: float = 1.0, spread: float = 0.5, trial: RunningTrial) -> float:
    """Sleep for ``seconds`` times 1 +- ``spread`` (uniform, from the trial's seed); the value is a bowl's."""
    time.sleep(seconds * (1 + spread * random.Random(trial.seed).uniform(-1, 1)))
    return (x1 - 0.3) ** 2 + (x2 - 0.7) ** 2
