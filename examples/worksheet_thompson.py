"""Worksheet: parallel Thompson sampling on Hartmann's function of three variables, in rounds and asynchronously.

Eight workers in virtual time; durations half-normal or exponential, of mean 1. Kandasamy et al. (2018) found that the
asynchronous one is ahead in time, the more so the heavier the tail, though it knows less at each evaluation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pictures import BLUE, GREY, ORANGE, arguments, plt, save

from mpibo.forecast import Charges, forecast
from mpibo.objectives.synthetic import hartmann3

WORKERS = 8
SPACE = {"x1": (0.0, 1.0), "x2": (0.0, 1.0), "x3": (0.0, 1.0)}
METHODS = {
    "in rounds": ("ts-sync:model=gp,n_initial=18", ORANGE),  # the paper begins with max(workers, 6 d) points
    "asynchronous": ("ts:model=gp,n_initial=18", BLUE),
    "random": ("random", GREY),
}
FREE = Charges(message=0.0, latency=0.0, manager=0.0, answer=(0.0, 0.0))  # only evaluations take time
EXPECTED = {"halfnormal": 2.23, "exponential": 2.72}  # E[max of 8 durations] / E[duration]


def value(message: dict[str, Any]) -> float:
    """What an evaluation gives."""
    return hartmann3(**message["config"])


def regret(curve: Any, times: np.ndarray) -> np.ndarray:
    """``(m,)`` best value until each of ``times (m,)``, less the optimum; NaN before the first."""
    ends, best = np.array(curve).T
    place = np.searchsorted(ends, times, side="right") - 1
    return np.where(place >= 0, best[np.maximum(place, 0)] - hartmann3.optimum, np.nan)


def middle(values: np.ndarray, draws: int = 1000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Geometric mean over the seeds of ``values (seeds, m)``, and the middle 68 % of it by bootstrap."""
    logs = np.log10(np.maximum(values, 1e-5))  # the optimum is known to five decimals
    rows = np.random.default_rng(0).integers(0, len(logs), (draws, len(logs)))
    low, high = np.quantile(logs[rows].mean(axis=1), (0.16, 0.84), axis=0)
    return 10 ** logs.mean(axis=0), 10**low, 10**high


def main() -> None:
    """Simulate, print throughput and regret, draw regret against time."""
    given = arguments(__doc__)
    seeds, end = (2, 6.0) if given.quick else (12, 10.0)
    times = np.linspace(0.5, end, 200)
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    print(f"{WORKERS} workers for {end:g} mean durations, {seeds} seeds; regret: geometric mean")
    for axes, durations in zip(panels, EXPECTED, strict=True):
        count: dict[str, float] = {}
        for name, (method, colour) in METHODS.items():
            found = [run(method, durations, end, seed) for seed in range(seeds)]
            count[name] = float(np.mean([each.evaluations for each in found]))
            curves = np.array([regret(each.curve, times) for each in found])
            started = ~np.isnan(curves).any(axis=0)
            mean, low, high = middle(curves[:, started])
            axes.fill_between(times[started], low, high, color=colour, alpha=0.18, linewidth=0)
            axes.semilogy(times[started], mean, color=colour, label=f"{name}: {count[name]:.0f} evaluations")
            half = mean[np.searchsorted(times[started], end / 2)]
            print(f"{durations:>12} {name:>13}: {count[name]:6.1f} evaluations, regret {half:.1e} at {end / 2:g}, "
                  f"{mean[-1]:.1e} at {end:g}")  # fmt: skip
        ratio = count["asynchronous"] / count["in rounds"]
        print(f"{durations:>12} asynchronous does {ratio:.2f} times as many (in the long run {EXPECTED[durations]})")
        axes.set(xlabel="time, in mean durations", title=f"{durations} durations, {WORKERS} workers")
        axes.legend(loc="lower left")
    panels[0].set(ylabel="regret of the best so far")
    save(figure, given.out, "thompson")


def run(method: str, durations: str, end: float, seed: int) -> Any:
    """A run of the real manager and strategy with simulated workers."""
    return forecast(SPACE, method, WORKERS, f"{durations}:1s", value=value, walltime=end, seed=seed,
                    charges=FREE)  # fmt: skip


if __name__ == "__main__":
    main()
