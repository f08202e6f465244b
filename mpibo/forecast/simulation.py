"""One forecast: a whole run of the real manager, journal, supply and strategy, with simulated workers."""

from __future__ import annotations

import contextlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from mpibo.engine.ends import Limits
from mpibo.engine.managing.manager import TICK, Manager
from mpibo.engine.messages import Message
from mpibo.forecast.durations import Duration, duration_of
from mpibo.forecast.virtual import Answering, Charged, Charges
from mpibo.goals import Aims
from mpibo.search import Search
from mpibo.space import Space
from mpibo.store.journal import NAME, Journal
from mpibo.strategies import DEFAULT
from mpibo.trial import State

ROUNDS = 10  # evaluations a worker where nobody says when a run ends
TICKS = 20_000  # looks at the limits in a run, at most


@dataclass(frozen=True)
class Forecast:
    """What came of a simulated run. Times are virtual, CPU seconds are this machine's.

    Attributes:
        method, workers: What was simulated.
        utilisation: Share of workers x elapsed that passed in evaluations, from the first message to the end.
        steady: The same between the time when each worker has, on average, ended one evaluation, and the last start:
            without the beginning and the end. NaN where the run is shorter than that.
        evaluations: Evaluations that ended. failed: those of them without a value. stopped: by the schedule.
        saved: Share of the evaluations' whole durations that was left out by stopping some of them.
        best: The best value; None where no value is forecast, or there are several goals.
        elapsed: Seconds from the first message to the end.
        manager: CPU seconds of the manager per evaluation, besides the transport's.
        manager_busy: Share of the elapsed time that the manager works, the transport's part included.
        proposal: CPU seconds of the proposer per proposal asked for, fits and reading the journal included.
        proposer_busy: Share of the elapsed time that the proposer works.
        answers: Answers of the proposer.
        model: The model chosen last, where the method chooses; else None.
        why: Why the run ended: max_trials, walltime, exhausted, failing, error.
        curve: ``(seconds, best value)`` at each new best: the best at the highest budget that had one by then.
        simulated: Seconds that the simulation took.
    """

    method: str
    workers: int
    utilisation: float
    steady: float
    evaluations: int
    failed: int
    stopped: int
    saved: float
    best: float | None
    elapsed: float
    manager: float
    manager_busy: float
    proposal: float
    proposer_busy: float
    answers: int
    model: str | None
    why: str
    curve: tuple[tuple[float, float], ...] = field(repr=False)
    simulated: float


def forecast(
    space: Space | Mapping[str, Any], method: Any = DEFAULT, workers: int = 8, duration: str | Duration = "constant:1s",
    *, value: Callable[[Message], Any] | None = None, max_trials: int | None = None, walltime: float | None = None,
    seed: int = 0, aims: Aims | None = None, noise: bool = False, start: Sequence[dict[str, Any]] = (),
    charges: Charges | None = None, folder: Path | None = None, schedule: str | None = None,
    budget: int | tuple[int, int] | str = 1, reports: bool = False,
) -> Forecast:  # fmt: skip
    """Simulate a run.

    Args:
        space: The space, or what makes one.
        method: A name with options, or a strategy object.
        workers: Evaluations at once.
        duration: A distribution as text (``lognormal:60s``), or a function of a ``run`` message (``id config budget
            seed``) and a ``random.Random`` that gives seconds.
        value: What an evaluation tells, from its ``run`` message: a number, a dict, or it raises; or ``Told`` with what
            it reports besides. None: random values.
        max_trials: Evaluations; walltime: seconds. With neither, ten evaluations a worker.
        seed: Of the search and of the durations.
        aims: Sign, goals and limits.
        noise: Values are noisy.
        start: Configs to try first.
        charges: What the engine's own work costs; by default it is measured.
        folder: Where the journal is kept; by default it is forgotten.
        schedule: How much of its budget a config gets; one that stops trials needs ``reports``.
        budget: Of every trial, or with a schedule the smallest and the largest. The durations are of the largest.
        reports: Whether ``value`` tells reports.

    Raises:
        ValueError: A space, method, distribution or limit that can't be.
    """
    if workers < 1:
        raise ValueError(f"expected at least 1 worker, got {workers}")
    if (max_trials is not None and max_trials < 1) or (walltime is not None and not walltime > 0):
        raise ValueError(f"expected max_trials and walltime above 0, got {max_trials} and {walltime}")
    space = space if isinstance(space, Space) else Space(space)
    aims, charges = aims or Aims(), charges or Charges()
    max_trials = ROUNDS * workers if max_trials is None and walltime is None else max_trials
    takes = duration_of(duration) if isinstance(duration, str) else duration
    search = Search(
        space, method, seed=seed, workers=workers, max_trials=max_trials, start=start, noise=noise,
        maximize=aims.maximize, goals=aims.goals, limits=aims.limits, schedule=schedule, budget=budget,
    )  # fmt: skip
    if search.stops and not reports:
        raise ValueError(f"there are no learning curves, by which {schedule or method} would stop trials")
    search.prepare()
    told = value or _random_values(seed, aims)
    tick = TICK if walltime is None else min(max(TICK, walltime / TICKS), 1.0)
    before = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="mpibo-forecast-") as temporary, _one_thread():
        home = folder or Path(temporary)
        transport = Charged(workers, told, takes, charges, seed, aims, search.budget)
        journal = Journal(home, now=transport.now, sync=False)
        proposer = Answering(search, transport, charges)
        opening = {"utc": "2000-01-01T00:00:00+00:00", "host": "simulated", "space": space.to_json(),
                   "settings": {"method": str(method), "seed": seed, "max_trials": max_trials}}  # fmt: skip
        manager = Manager(
            # simulated workers neither die nor beat
            Limits(
                max_trials=max_trials, walltime=walltime, seed=seed, aims=aims, lease=math.inf,
                rungs=schedule is not None,
            ),
            transport, proposer, journal, opening, tick=tick,
        )  # fmt: skip
        transport.skip()
        ended = manager.run()
        journal.close()
        model = _last_choice(home)
    if ended.why == "error":
        raise ValueError(ended.line)
    ledger = manager.ledger
    elapsed = max(ledger.elapsed, 1e-9)
    evaluations = len(transport.ends)
    best = ledger.best.value if value is not None and ledger.best is not None else None
    began, ran = np.array(transport.started), np.array(transport.seconds)
    return Forecast(
        method=str(method), workers=workers, utilisation=_busy(began, ran, workers, 0.0, elapsed),
        steady=_steady(began, ran, np.array(transport.ends), workers), evaluations=evaluations,
        failed=ledger.counts[State.FAILED], stopped=transport.stopped,
        saved=transport.saved / max(1e-9, transport.saved + ran.sum()), best=best, elapsed=elapsed,
        manager=transport.manager / max(1, evaluations),
        manager_busy=(transport.manager + charges.message * transport.messages) / elapsed,
        proposal=proposer.seconds / max(1, proposer.proposals), proposer_busy=proposer.seconds / elapsed,
        answers=proposer.answers, model=model, why=ended.why,
        curve=_curve(transport, aims) if best is not None else (), simulated=time.perf_counter() - before,
    )  # fmt: skip


def _busy(began: Any, ran: Any, workers: int, start: float, end: float) -> float:
    """Share of the workers' time between ``start`` and ``end`` that evaluations take."""
    inside = np.minimum(began + ran, end) - np.maximum(began, start)
    return float(np.maximum(inside, 0.0).sum() / (workers * (end - start)))


def _steady(began: Any, ran: Any, ends: Any, workers: int) -> float:
    if len(ends) <= workers or ends[workers - 1] >= began[-1]:
        return math.nan
    return _busy(began, ran, workers, float(ends[workers - 1]), float(began[-1]))


def _curve(transport: Charged, aims: Aims) -> tuple[tuple[float, float], ...]:
    sign = -1.0 if aims.maximize else 1.0
    points: list[tuple[float, float]] = []
    highest = 0
    for at, value, budget in zip(transport.ends, transport.values, transport.budgets, strict=True):
        if math.isnan(value) or budget < highest:
            continue
        if budget > highest or sign * value < sign * points[-1][1]:
            points.append((at, value))
        highest = budget
    return tuple(points)


def _last_choice(folder: Path) -> str | None:
    mark, last = b'"kind": "choice"', None
    with open(folder / NAME, "rb") as file:
        for line in file:
            last = line if mark in line[:60] else last
    if last is None:
        return None
    model: str = json.loads(last)["model"]
    return model


def _random_values(seed: int, aims: Aims) -> Callable[[Message], Any]:
    """Values that say nothing, for an objective that is not evaluated."""

    def value(run: Message) -> Any:
        rng = Random(f"{seed}:{run['id']}")
        return {name: rng.random() for name in aims.names} if aims.names else rng.random()

    return value


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One BLAS thread, as the proposer's process has."""
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
    except ImportError:
        yield
        return
    with threadpool_limits(1):
        yield
