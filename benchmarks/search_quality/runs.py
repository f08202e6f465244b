"""A file of runs, one JSON line each: a task is what a run is to be, its line also holds what came of it."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib import import_module
from pathlib import Path
from typing import Any

from search_quality import problems
from search_quality.drive import Optimiser, Ours, drive
from search_quality.problem import Problem

Task = dict[str, Any]
SAME = ("problem", "method", "seed", "workers", "evaluations", "durations")  # runs that agree in these are the same
WARM_UP = 14  # evaluations, not counted, by which a process loads what a method needs
_warm: set[str] = set()


def read(file: Path) -> Iterator[Task]:
    """The lines of a file, of the same run the last. A line cut short, or of no problem of ours, is left out."""
    found = {}
    if file.exists():
        for text in file.read_text().splitlines():
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                continue
            block = problems.find(line["problem"])
            if block is not None:  # as it is today
                found[same(line)] = line | {"block": block}
    yield from found.values()


def same(line: Task) -> tuple[Any, ...]:
    """What tells a run from others."""
    return tuple(line[name] for name in SAME)


def bare(method: str) -> str:
    """A method's name in a line without the tag, ``auto [v2]``."""
    return method.partition(" [")[0]


def run_missing(tasks: Sequence[Task], file: Path, jobs: int, told: Callable[[int, int, Task], None]) -> None:
    """Do the tasks of which the file has no line without an error, and append their lines.

    Args:
        tasks: The runs wanted.
        file: Made if it is not there.
        jobs: Processes.
        told: Called with the number of runs done, of all, and the newest line.
    """
    done = {same(line) for line in read(file) if "error" not in line}
    missing = [task for task in tasks if same(task) not in done]
    if not missing:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool, open(file, "a") as out:
        futures = [pool.submit(one, task) for task in missing]
        for count, future in enumerate(as_completed(futures), 1):
            line = future.result()
            out.write(json.dumps(line) + "\n")
            out.flush()
            told(count, len(missing), line)


def one(task: Task) -> Task:
    """Do one run: its line, with ``error`` where the method failed."""
    try:
        problem = problems.load(task["problem"])
        optimiser = _make(problem, task)
        run = drive(optimiser, problem, task["seed"], task["workers"], task["evaluations"], task["durations"])
        if not run.told:
            raise RuntimeError("the method proposed nothing")
    except Exception as error:  # a peer's crash is a result, too
        return task | {"block": problems.block_of(task["problem"]), "error": f"{type(error).__name__}: {error}"[:500]}
    n = task["evaluations"]
    unknown = problem.tell is not None and problem.told_optimum is None
    return task | {
        "block": problem.block,
        "optimum": problem.optimum,
        "scale": problem.scale(n),
        "told_optimum": None if unknown else problem.lowest_told(task["seed"]),
        "told_scale": None if unknown else problem.told_scale(n, task["seed"]),
        "cpu": run.cpu,
        "returned": run.returned,
        "recommended": run.recommended,
        "repeats": run.repeats,
        "choices": run.choices,
        "told": run.told,
        "true": run.true,
        "started": [round(value, 4) for value in run.started],
        "ended": [round(value, 4) for value in run.ended],
    }


def _make(problem: Problem, task: Task) -> Optimiser:
    """The optimiser, after a short run of the same method that loads its libraries."""
    name = bare(task["method"])
    if name not in _warm:
        _warm.add(name)
        small = problems.load("branin")
        drive(_new(small, name, task["peer"], 0, 2, WARM_UP), small, 0, 2, WARM_UP, "constant")
    return _new(problem, name, task["peer"], task["seed"], task["workers"], task["evaluations"])


def _new(problem: Problem, name: str, peer: bool, seed: int, workers: int, evaluations: int) -> Optimiser:
    if not peer:
        return Ours(problem, name, seed, workers, evaluations)
    made: Optimiser = import_module(f"search_quality.peers.{name}").Optimiser(problem.space, seed, workers, evaluations)
    return made
