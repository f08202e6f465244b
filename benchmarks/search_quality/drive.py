"""One run in virtual time: W workers, N evaluations, durations that do not depend on the method.

The clock jumps from end to end, so nothing waits. The k-th started evaluation takes the k-th duration drawn for the
problem and seed: two methods on the same are paired. What an evaluation tells depends on the config and the seed only.
With the durations ``table`` an evaluation takes the table's own training time of its config.
"""

from __future__ import annotations

import heapq
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from search_quality.problem import Config, Problem

Array = NDArray[np.float64]
SHAPE = 5.0  # of the Pareto distribution (Kandasamy et al. 2018)

DURATIONS: dict[str, Callable[[np.random.Generator, int], Array]] = {  # all of mean 1
    "constant": lambda rng, n: np.ones(n),
    "uniform": lambda rng, n: 2 * rng.random(n),
    "half-normal": lambda rng, n: np.sqrt(np.pi / 2) * np.abs(rng.standard_normal(n)),
    "exponential": lambda rng, n: rng.exponential(size=n),
    "pareto": lambda rng, n: (SHAPE - 1) / SHAPE * (1 + rng.pareto(SHAPE, n)),
}


class Optimiser(Protocol):
    """What the driver asks of a method, ours or a peer's. It may have ``recommend()`` and ``choices`` as well."""

    def ask(self) -> tuple[Any, Config] | None:
        """A handle and the config (active parameters only) to evaluate next; None: wait until an evaluation ends."""
        ...

    def tell(self, handle: Any, value: float) -> None:
        """The value, to minimise, of an evaluation that was asked for."""
        ...


class Ours:
    """A method of this package behind ``ask`` and ``tell``.

    Synchronous methods are asked for a batch of W when nothing runs.

    Args:
        method: A method's text for ``mpibo.Search``; ``+noise`` at its end: with ``noise=True``.
    """

    def __init__(self, problem: Problem, method: str, seed: int, workers: int, evaluations: int) -> None:
        from inspect import signature

        from mpibo import Search

        text, _, noise = method.partition("+")
        if noise not in ("", "noise"):
            raise ValueError(f"expected +noise or nothing after a method, got {method!r}")
        wanted: dict[str, Any] = {"max_trials": evaluations} | ({"noise": True} if noise else {})
        known = signature(Search).parameters
        given = {name: value for name, value in wanted.items() if name in known or name == "noise"}
        self.search = Search(problem.space, method=text, seed=seed, workers=workers, **given)
        self.search.prepare()
        self.batch = workers if text.partition(":")[0].endswith("-sync") else 1
        self.choices: list[tuple[int, str, str]] = []
        self._waiting: list[Any] = []
        self._running = 0
        self._asked = 0

    def ask(self) -> tuple[Any, Config] | None:
        """The next trial; None where the method waits for results, or the space is exhausted."""
        if not self._waiting and (self.batch == 1 or not self._running):
            self._waiting = self.search.ask(self.batch)
            choice = getattr(self.search, "choice", None)
            if choice is not None and (not self.choices or self.choices[-1][1:] != tuple(choice)):
                self.choices.append((self._asked, *choice))
        if not self._waiting:
            return None
        trial = self._waiting.pop(0)
        self._running += 1
        self._asked += 1
        return trial, trial.config

    def tell(self, handle: Any, value: float) -> None:
        """Tell a trial's value."""
        self._running -= 1
        self.search.tell(handle, value)

    def recommend(self) -> Config | None:
        """What the search itself would return: the best observed, or with noise the best by the model's mean."""
        best = self.search.best
        return None if best is None else best.config


@dataclass
class Run:
    """What came of one run. Arrays are in the order of the starts.

    Attributes:
        told: Values told.
        true: True values of the same configs.
        started: Virtual times of the starts.
        ended: Virtual times of the ends.
        cpu: CPU seconds of all asks and tells.
        returned: Index of the evaluation with the lowest value told, the first of equals.
        recommended: True value of the config that the method itself would return; None where it does not say.
        choices: ``(evaluation, model, why)`` at each change, where the method chooses among models.
        repeats: Evaluations of a config that had been started before.
    """

    told: list[float] = field(default_factory=list)
    true: list[float] = field(default_factory=list)
    started: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    cpu: float = 0.0
    returned: int = 0
    recommended: float | None = None
    choices: list[tuple[int, str, str]] = field(default_factory=list)
    repeats: int = 0

    @property
    def order(self) -> list[int]:
        """Indices in the order of their ends; of equal times the one that started first."""
        return sorted(range(len(self.ended)), key=lambda k: (self.ended[k], k))


def durations(kind: str, problem: str, seed: int, n: int) -> Array:
    """``(n,)`` durations of the first n evaluations of a run; mean 1.

    Raises:
        ValueError: An unknown distribution.
    """
    if kind not in DURATIONS:
        raise ValueError(f"unknown durations {kind!r}: expected one of {', '.join(DURATIONS)}, table")
    return DURATIONS[kind](np.random.default_rng((zlib.crc32(problem.encode()), seed)), n)


def drive(optimiser: Optimiser, problem: Problem, seed: int, workers: int, evaluations: int, kind: str) -> Run:
    """Run a method on a problem.

    Args:
        optimiser: The method.
        problem: The problem.
        seed: The run's seed: of the durations and of the values told, not of the method.
        workers: Evaluations at once.
        evaluations: How many to start; all of them end. Fewer if the method has no more.
        kind: A name of ``DURATIONS``, or ``table``.

    Raises:
        ValueError: No such distribution, or the problem has no training times of its own.
    """
    if kind == "table" and problem.seconds is None:
        raise ValueError(f"problem {problem.name} has no training times: choose other durations than table")
    times = durations(kind, problem.name, seed, evaluations) if kind != "table" else None
    run = Run()
    running: list[tuple[float, int, Any]] = []  # (end, index, handle)
    seen: set[str] = set()
    now, idle = 0.0, workers
    while True:
        while idle and len(run.told) < evaluations:
            before = time.process_time()
            asked = optimiser.ask()
            run.cpu += time.process_time() - before
            if asked is None:
                break
            handle, config = asked
            k = len(run.told)
            run.told.append(problem.told(config, seed))
            run.true.append(problem.true(config))
            run.started.append(now)
            run.ended.append(now + (float(times[k]) if times is not None else problem.seconds(config, seed)))
            text = repr(sorted(config.items()))
            run.repeats += text in seen
            seen.add(text)
            heapq.heappush(running, (run.ended[k], k, handle))
            idle -= 1
        if not running:
            break
        now, k, handle = heapq.heappop(running)
        idle += 1
        before = time.process_time()
        optimiser.tell(handle, run.told[k])
        run.cpu += time.process_time() - before
    if run.told:
        run.returned = int(np.argmin(run.told))
        recommend = getattr(optimiser, "recommend", None)
        named = recommend() if recommend else None
        run.recommended = None if named is None else problem.true(named)
    run.choices = list(getattr(optimiser, "choices", []))
    return run
