"""``mpibo simulate``: what an allocation of so many workers will bring, before it is paid for."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mpibo.budgets import budget_range, scheduled
from mpibo.cli import Parser, describe
from mpibo.engine.probe import Probe
from mpibo.forecast import known
from mpibo.forecast.durations import DISTRIBUTIONS, Duration, duration_of
from mpibo.forecast.simulation import ROUNDS, Forecast, forecast
from mpibo.forecast.told import Told, evaluated
from mpibo.forecast.trainings import Trainings, missing
from mpibo.forecast.virtual import FIXED, FIXED_ANSWER, MESSAGE, Charges
from mpibo.goals import Aims
from mpibo.schedules import make
from mpibo.settings import seconds
from mpibo.space import Space
from mpibo.strategies import DEFAULT

WORKERS = "8,64,512,4096"
FEWER = "8,64,256"  # where a schedule stops trials: every report is a question to it
DURATION = "lognormal:60s"
PICTURES = (".png", ".svg", ".pdf")
SYNTHETIC = "synthetic:"
COLUMNS = ("workers", "utilisation", "steady", "evaluations", "best", "elapsed", "manager", "proposer", "model")
STOPPING = ("stopped", "saved")  # columns besides, where a schedule stops trials
EXAMPLES = """examples:
  mpibo simulate runs/cnn --workers 64,512,4096 --walltime 2h     the run's durations, a model of its values
  mpibo simulate synthetic:hartmann6 --duration lognormal:60s,0.8 --max-trials 5000 --plot forecast.png
  mpibo simulate runs/cnn --schedule median --budget 1:27         from what its trials have reported
  mpibo simulate train.py:train --workers 4096 --duration pareto:10m,2 --walltime 12h    no value is forecast
"""


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is simulated: its space and aims, what an evaluation tells (None: nobody knows), and what to say of that.

    ``silent`` says why there are no learning curves; empty where there are.
    """

    space: Space
    aims: Aims
    value: Callable[[Any], Any] | None
    told: str
    settings: dict[str, Any]
    silent: str
    duration: Duration | None = None


def simulate(argv: Sequence[str]) -> int:
    """``mpibo simulate``: forecast runs, print a row for each number of workers.

    Raises:
        ValueError: Bad input, one line.
    """
    given = _parser().parse_args(argv)
    workers = None if given.workers is None else _numbers(given.workers)
    charges = _charges(given)
    outputs = _outputs(given)
    text = given.duration or ("run" if _is_run(given.subject) else DURATION)
    duration = None if text.strip() == "run" else duration_of(text)
    subject = _subject(given, duration is None, None if given.budget is None else budget_range(given.budget)[1])
    duration = duration or subject.duration
    assert duration is not None
    max_trials = None if given.max_trials is None else _whole(given.max_trials)
    walltime = None if given.walltime is None else seconds(given.walltime)
    method = given.method or subject.settings.get("method", DEFAULT)
    schedule = given.schedule or subject.settings.get("schedule")
    budget = budget_range(given.budget or subject.settings.get("budget") or 1)
    seed = given.seed if given.seed is not None else int(subject.settings.get("seed", 0))
    until = [f"{max_trials} evaluations"] if max_trials else []
    until += [f"{walltime:g} s"] if walltime else []
    ends = " or ".join(until) or f"{ROUNDS} evaluations a worker"
    schedule = scheduled(schedule, budget)[0]
    stops = schedule is not None and make(schedule, *budget).stops
    if stops and subject.silent:
        raise ValueError(f"{schedule} stops trials by their learning curves: {subject.silent}")
    method_told = f"{method} under {schedule}, budgets {budget[0]}:{budget[1]}" if schedule else method
    print(f"{given.subject}: method {method_told}, durations {text}, {ends}, seed {seed}")
    print(f"{subject.told}; the engine's own time is {_costs_in_words(charges)}\n")
    print(_row((*COLUMNS, *STOPPING) if stops else COLUMNS), flush=True)
    rows = []
    for number in workers or _numbers(FEWER if stops else WORKERS):
        found = forecast(
            subject.space, method, number, duration, value=subject.value, max_trials=max_trials, walltime=walltime,
            seed=seed, aims=subject.aims, noise=bool(subject.settings.get("noise", False)), charges=charges,
            start=subject.settings.get("start", ()), schedule=schedule, budget=budget, reports=not subject.silent,
        )  # fmt: skip
        rows.append(found)
        told = (f"{found.stopped:,}", f"{100 * found.saved:.1f} %") if stops else ()
        print(_row((*_cells(found), *told)), flush=True)
    print("\nutilisation: evaluations' share of workers x elapsed; steady: without the first round and what follows\n"
          "the last start; manager, proposer: the share of the time that each works")  # fmt: skip
    if stops:
        print("stopped: evaluations that the schedule ended; saved: the share of their time left out")
    for path in outputs:
        if path.suffix == ".csv":
            write_csv(path, rows)
        else:
            draw(path, rows, f"{given.subject}, {method}, {text}")
        print(f"wrote {path}")
    return 0


def write_csv(path: Path, rows: Sequence[Forecast]) -> None:
    """A line for each forecast, its fields as columns; an empty cell is absent."""
    names = [each.name for each in dataclasses.fields(Forecast) if each.name != "curve"]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for row in rows:
            values = [getattr(row, name) for name in names]
            writer.writerow("" if value is None or value != value else value for value in values)


def draw(path: Path, rows: Sequence[Forecast], title: str) -> None:
    """A picture: utilisation, evaluations and, where there is one, the best value over the number of workers.

    Raises:
        ValueError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("a plot needs matplotlib: pip install 'mpibo[plot]'") from None
    with_value = any(row.curve for row in rows)
    figure = Figure(figsize=(11 if with_value else 7.5, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3 if with_value else 2)
    workers = [row.workers for row in rows]
    axes[0].plot(workers, [100 * row.utilisation for row in rows], "o-", label="whole run")
    axes[0].plot(workers, [100 * row.steady for row in rows], "s--", label="steady part")
    axes[0].set(ylabel="utilisation (%)", ylim=(0, 103))
    axes[0].legend()
    axes[1].plot(workers, [row.evaluations / row.elapsed * 3600 for row in rows], "o-")
    axes[1].set(ylabel="evaluations per hour", yscale="log")
    for each in axes[:2]:
        each.set_xscale("log", base=2)
        each.set_xticks(workers, [f"{number:,}" for number in workers])
        each.set_xlabel("workers")
        each.grid(alpha=0.3)
    if with_value:
        for row in (row for row in rows if row.curve):
            times, values = zip(*row.curve, (row.elapsed, row.curve[-1][1]), strict=True)
            axes[2].step(times, values, where="post", label=f"{row.workers:,} workers")
        axes[2].set(xlabel="seconds", ylabel="best value", xscale="log")
        axes[2].grid(alpha=0.3)
        axes[2].legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def _parser() -> Parser:
    made = Parser(
        prog="mpibo simulate", allow_abbrev=False, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter, usage="mpibo simulate RUN | OBJECTIVE [flags]",
        description="Forecast utilisation, evaluations and best value of an allocation: the real engine and\n"
        "strategies in virtual time, with the time that they take on this machine.",
    )  # fmt: skip
    add = made.add_argument
    add("subject", metavar="RUN | OBJECTIVE", help="a run's folder, or what mpibo run takes")
    add("--workers", metavar="N,...", help=f"evaluations at once (default {WORKERS}; {FEWER} where trials are stopped)")
    add(
        "--duration",
        metavar="NAME:MEAN[,SPREAD]",
        help=f"of an evaluation: {', '.join(DISTRIBUTIONS)}; run: as the run's (default for a RUN; else {DURATION})",
    )
    add("--max-trials", metavar="N", help=f"evaluations (default {ROUNDS} a worker)")
    add("--walltime", metavar="TIME", help="of the allocation, 90s 30m 2h 1d")
    add("--method", metavar="NAME", help=f"how to search (default the run's, else {DEFAULT})")
    add(
        "--schedule",
        metavar="NAME",
        help="how much of its budget a config gets (default the run's); one that stops trials needs a run whose trials "
        "have reported, or a built-in function that does: a new config trains as the run's nearest one did",
    )
    add("--budget", metavar="N|LOW:HIGH", help="of a trial; the durations are of the largest (default the run's)")
    add("--seed", metavar="N", type=int, help="of the search and the durations (default the run's, else 0)")
    add("--space", metavar="FILE", help="the space, where the objective has none of its own")
    add("--out", metavar="FILE", help="write the table to FILE.csv, or the plot to FILE.png")
    add("--plot", metavar="FILE", help="write a plot (png, svg, pdf); needs matplotlib")
    add(
        "--message-cost",
        metavar="SECONDS",
        type=float,
        default=MESSAGE,
        help=f"that MPI and JSON take of rank 0 for a message (default {MESSAGE:g})",
    )
    add("--manager-cost", metavar="SECONDS", type=float, help="of the manager for a message, in place of measuring it")
    add("--answer-cost", metavar="FIT,EACH", help="seconds of a fit and of each proposal, in place of measuring them")
    add(
        "--no-measure",
        action="store_true",
        help=f"take {FIXED:g} and {FIXED_ANSWER[0]:g},{FIXED_ANSWER[1]:g} for these: the same forecast each time",
    )
    add("--debug", action="store_true", help="show the traceback of an error")
    return made


def _is_run(text: str) -> bool:
    return Path(text).is_dir() or text.endswith(".jsonl")


def _subject(given: argparse.Namespace, timed: bool, largest: int | None) -> Subject:
    """What the command line names.

    Args:
        given: The flags.
        timed: Whether its durations are wanted, too.
        largest: The largest budget that is wanted; None: its own.
    """
    text = given.subject
    if _is_run(text):
        if given.space:
            raise ValueError("a run has its space in its journal: leave --space out")
        run = known.known(Path(text))
        silent = missing(run, largest)
        if silent:
            told = f"values as a model of the run's {len(run.trials)} results predicts, none better than the run's own"
        else:
            told = f"values and reports as a model of the run's {len(run.curves)} learning curves predicts"
        return Subject(run.space, run.aims, known.Values(run) if silent else Trainings(run), told, run.settings,
                       silent, known.durations_of(run) if timed else None)  # fmt: skip
    if timed:
        raise ValueError(f"--duration run wants a run's folder, and {text} is none")
    name, description, _ = describe(text, None)
    found = Probe(description, name, given.space, {"seconds": 1.0} if text == "synthetic:sleep" else {}).result()
    space, aims = Space.from_json(found["space"]), Aims(found["maximize"])
    settings = {"budget": found["budget"]}
    if not text.startswith(SYNTHETIC):
        told = "no value is forecast, since the objective is not evaluated: random ones stand in"
        silent = "the objective is not evaluated here; simulate a run of it whose trials have reported"
        return Subject(space, aims, None, told, settings, silent)
    evaluate = evaluated(description, {"seconds": 0.0} if text == "synthetic:sleep" else {})
    if _reports(evaluate, space, found["budget"]):
        return Subject(space, aims, evaluate, "values and reports are the function's own", settings, "")
    return Subject(space, aims, evaluate, "values are the function's own", settings, f"{text} reports nothing")


def _reports(evaluate: Callable[[Any], Told], space: Space, budget: int) -> bool:
    """Whether an objective reports: it is evaluated once."""
    (config,) = space.decode(space.sample(1, np.random.default_rng(0)))
    try:
        return bool(evaluate({"id": 0, "config": config, "budget": budget, "seed": 0}).reports)
    except Exception:
        return False


def _numbers(text: str) -> list[int]:
    return [_whole(each) for each in text.split(",")]


def _whole(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ValueError(f"expected whole numbers of at least 1, got {text!r}")
    return number


def _charges(given: argparse.Namespace) -> Charges:
    manager, answer = given.manager_cost, None
    if given.answer_cost is not None:
        try:
            fit, _, each = given.answer_cost.partition(",")
            answer = float(fit), float(each)
        except ValueError:
            raise ValueError(f"--answer-cost expects FIT,EACH in seconds such as 0.02,0.0002, "
                             f"got {given.answer_cost!r}") from None  # fmt: skip
    if given.no_measure:
        manager, answer = FIXED if manager is None else manager, answer or FIXED_ANSWER
    return Charges(message=given.message_cost, manager=manager, answer=answer)


def _costs_in_words(charges: Charges) -> str:
    manager = "measured" if charges.manager is None else f"{1e3 * charges.manager:g} ms a message"
    answer = "measured" if charges.answer is None else "{:g} s a fit and {:g} s a proposal".format(*charges.answer)
    both = manager if manager == answer else f"{manager} (manager), {answer} (proposer)"
    return f"{both}, plus {1e3 * charges.message:g} ms a message for MPI"


def _outputs(given: argparse.Namespace) -> list[Path]:
    """Where to write; told to be wrong before anything is simulated."""
    wanted = [(given.out, (".csv", *PICTURES)), (given.plot, PICTURES)]
    found = [(Path(text), endings) for text, endings in wanted if text]
    for path, endings in found:
        if path.suffix not in endings:
            raise ValueError(f"expected a file ending in {', '.join(endings)}, got {path}")
        if not path.parent.is_dir():
            raise ValueError(f"there is no folder {path.parent}")
        if path.suffix in PICTURES:
            try:
                import matplotlib  # noqa: F401
            except ImportError:
                raise ValueError("a plot needs matplotlib: pip install 'mpibo[plot]'") from None
    return [path for path, _ in found]


def _cells(found: Forecast) -> tuple[str, ...]:
    return (
        f"{found.workers:,}", f"{100 * found.utilisation:.1f} %",
        "-" if math.isnan(found.steady) else f"{100 * found.steady:.1f} %", f"{found.evaluations:,}",
        "-" if found.best is None else f"{found.best:.6g}", _time(found.elapsed), f"{100 * found.manager_busy:.0f} %",
        f"{100 * found.proposer_busy:.0f} %", found.model or "-",
    )  # fmt: skip


def _row(cells: Sequence[str]) -> str:
    return "  ".join(f"{cell:>11}" for cell in cells).rstrip()


def _time(elapsed: float) -> str:
    if elapsed < 120:
        return f"{elapsed:.1f} s"
    return f"{elapsed / 60:.1f} min" if elapsed < 7200 else f"{elapsed / 3600:.1f} h"
