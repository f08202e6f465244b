"""MNIST by 7 workers on the full set: ``auto`` with ASHA against random search with full trainings.

    python benchmarks/mnist_search.py [--out FOLDER] [--arms asha,random] [--seed 0]       runs what is not finished
    python benchmarks/mnist_search.py --curves FILE [--jobs 2]                             learning curves of 64 configs
    python benchmarks/mnist_search.py --curves FILE --from RUN                             those of a run's trials

Both runs have 64 configs, at most 9 epochs each, and go on in their folders when this is started again. The table has
the test error of the returned config (the best by validation error at the largest budget), wall time, CPU time of all
processes, how busy the workers were, and when each run reached the best validation error of the random one.

``--curves`` trains 64 random configs for 9 epochs each, one thread a process, and adds a JSON line to FILE as each
ends: its config, and by epoch the validation error, the training loss and the CPU seconds so far. Lines that the file
has are not made again. Other comparisons can replay these trainings (``early_stopping.py --problem FILE``).

With ``--from`` nothing is trained: the lines are made from the reports in the journal of a run, one for each config
that it trained to its largest budget (the ``random`` arm has 64 of them), through promotions and retries. Their
``cpu_seconds`` are then seconds of the worker, from its start to each report: where more workers ran than there are
cores, more than CPU seconds, by about the same factor for all; the first training of each worker has its start in it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from overhead import table
from training_runs import cpu, finished, told

CONFIGS, EPOCHS, TRAIN_SIZE = 64, 9, 55_000
ARMS = {
    "asha": ["--method", "auto", "--schedule", "asha:eta=3", "--budget", f"1:{EPOCHS}"],
    "random": ["--method", "random", "--budget", str(EPOCHS)],
}
TARGET = 0.009  # test error of the returned config
FASTER = 4.0  # aim: so many times faster to random search's error


HEADER = ("", "configs", "epochs", "validation", "test (at most 0.90 %)", "wall", "CPU", "busy", "to random's error",
          "at any budget")  # fmt: skip


# Learning curves


@dataclass
class Recording:
    """A running trial that notes the CPU seconds of this process at each report."""

    id: int
    seed: int
    budget: int
    device: str = "cpu"
    folder: Path = Path("unused")
    begun: float = 0.0
    values: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def resume(self, **parts: Any) -> int:
        self.begun = time.process_time()
        return 0

    def report(self, value: float, step: int, **metrics: Any) -> None:
        self.values.append(value)
        self.losses.append(metrics["train_loss"])
        self.cpu.append(round(time.process_time() - self.begun, 3))


def one_curve(number: int, config: dict[str, Any], seed: int, epochs: int, train_size: int) -> dict[str, Any]:
    """Train one config in this process; gives its line."""
    from mpibo.objectives.mnist import mnist

    trial = Recording(number, seed, epochs)
    result = mnist(**config, train_size=train_size, trial=trial)  # type: ignore[arg-type]
    kept = {name: result[name] for name in ("value", "test_error", "parameters", "epochs")}
    curve = {"values": trial.values, "train_losses": trial.losses, "cpu_seconds": trial.cpu}
    return {"id": number, "config": config, "seed": seed, "train_size": train_size, **kept, **curve}


def curves(given: argparse.Namespace) -> None:
    """Add the missing lines to the file, in the order in which they end."""
    import numpy as np

    from mpibo import Space
    from mpibo.objectives.mnist import mnist
    from mpibo.trial import trial_seed

    space = Space.from_toml(mnist.space)  # type: ignore[attr-defined]
    configs = space.decode(space.sample(given.configs, np.random.default_rng(given.seed)))
    path = Path(given.curves)
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    there = {line["id"] for line in lines}
    os.environ["OMP_NUM_THREADS"] = "1"
    workers = ProcessPoolExecutor(given.jobs, multiprocessing.get_context("spawn"))
    with workers, open(path, "a", encoding="utf-8") as file:
        todo = [
            workers.submit(one_curve, i, config, trial_seed(given.seed, i), given.epochs, given.train_size)
            for i, config in enumerate(configs)
            if i not in there
        ]
        for done in as_completed(todo):
            lines.append(done.result())
            file.write(json.dumps(lines[-1]) + "\n")
            file.flush()
            print(f"{len(lines)} of {given.configs}: {lines[-1]['value']:.4f} {lines[-1]['config']}", flush=True)
    summary(lines, "CPU seconds")


def curves_of(events: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[int]]:
    """The lines of a run's journal, in the order in which the configs began.

    What an attempt that was lost reported counts up to where the next one goes on; what both reported, once. A training
    that diverged has no report of its last epoch: it ends with the trial's value.

    Returns:
        The lines, and the ids of DONE trials at the largest budget of which a report is missing (a worker passes on
        one a second).
    """
    settings = next(event["settings"] for event in events if event["kind"] == "open")
    budget = settings["budget"]
    most = budget[-1] if isinstance(budget, list) else budget
    starts: dict[int, dict[str, Any]] = {}
    reports: dict[int, list[dict[str, Any]]] = {}
    lines: list[dict[str, Any]] = []
    gaps: list[int] = []
    for event in events:
        if event["kind"] == "start":
            starts[event["id"]] = event
        elif event["kind"] == "report":
            reports.setdefault(event["id"], []).append(event)
        elif event["kind"] == "end" and event["state"] == "DONE" and starts[event["id"]]["budget"] == most:
            attempts = [event["id"]]  # it, what it goes on from, and so on
            while (before := starts[attempts[-1]].get("retry_of", starts[attempts[-1]].get("parent"))) is not None:
                attempts.append(before)
            line = one_line(event, [(starts[each], reports.get(each, [])) for each in reversed(attempts)])
            if line is None:
                gaps.append(event["id"])
            else:
                lines.append(line | {"train_size": settings.get("fix", {}).get("train_size")})
    return sorted(lines, key=lambda line: line["id"]), gaps


def one_line(end: dict[str, Any], attempts: list[tuple[dict[str, Any], list[dict[str, Any]]]]) -> dict[str, Any] | None:
    """The line of a training that its attempts did one after the other; None where an epoch has no report.

    Args:
        end: The end of the last attempt.
        attempts: The start and the reports of each.
    """
    told: dict[int, tuple[float, float | None, float]] = {}  # by epoch: value, training loss, its seconds
    epochs = int(end["metrics"]["epochs"])
    for start, reports in attempts:
        last = start["t"]
        for report in reports:
            told[report["step"]] = report["value"], report["metrics"]["train_loss"], report["t"] - last
            last = report["t"]
    told.setdefault(epochs, (end["value"], None, end["t"] - last))
    if sorted(told) != list(range(1, epochs + 1)):
        return None
    values, losses, seconds = zip(*(told[epoch] for epoch in sorted(told)), strict=True)
    begun = attempts[0][0]
    kept = {"value": end["value"]} | {name: end["metrics"][name] for name in ("test_error", "parameters", "epochs")}
    curve = {"values": list(values), "train_losses": list(losses)}
    curve["cpu_seconds"] = [round(second, 3) for second in itertools.accumulate(seconds)]
    return {"id": begun["id"], "config": begun["config"], "seed": begun["seed"]} | kept | curve


def curves_from(run: Path, path: Path) -> None:
    """Write the lines of a run's journal to the file, in place of what it has."""
    from mpibo.store.atomic import write
    from mpibo.store.journal import read

    lines, gaps = curves_of(read(run).events)
    if not lines:
        raise SystemExit(f"{run} has no training up to the largest budget with a report of each epoch")
    write(path, "".join(json.dumps(line) + "\n" for line in lines))
    if gaps:
        print(f"left out, for want of a report: trials {', '.join(map(str, gaps))}")
    summary(lines, "seconds of the workers")


def summary(lines: list[dict[str, Any]], unit: str) -> None:
    """Say what the curves cost, and how good the best config is."""
    most = max(line["epochs"] for line in lines)
    whole = [line for line in lines if line["epochs"] == most and line["cpu_seconds"]]
    best = min(lines, key=lambda line: line["value"])
    print(f"{len(lines)} configs, {sum(line['cpu_seconds'][-1] for line in whole):.0f} {unit}, a median of "
          f"{statistics.median(line['cpu_seconds'][-1] / line['epochs'] for line in whole):.1f} an epoch; the best has "
          f"a validation error of {best['value']:.2%} and a test error of {best['test_error']:.2%}")  # fmt: skip


# The two runs


def compare(given: argparse.Namespace) -> None:
    """Run the arms that are not finished; print the table."""
    rows = []
    folders = {arm: Path(given.out) / f"{arm}-{given.seed}" for arm in given.arms.split(",")}
    told_to_all = ["--fix", f"train_size={given.train_size}", "--max-trials", str(given.configs)]
    told_to_all += ["--seed", str(given.seed)]
    runs = {arm: told(finished(folder, ["mnist", *told_to_all, *ARMS[arm]])) for arm, folder in folders.items()}
    goal = runs["random"].returned().value if "random" in runs else None
    for arm, run in runs.items():
        best = run.returned()
        met = "" if best.test_error is None else ", met" if best.test_error <= TARGET else ", MISSED"
        test = "" if best.test_error is None else f"{best.test_error:.2%}{met}"
        times = []
        for budget in (best.budget, 0):
            found = run.reached(goal, budget) if goal is not None else None
            times.append(f"{found[0]:.0f} s, {found[1]} epochs" if found else "never")
        rows.append((arm, str(run.configs), str(sum(end.epochs for end in run.ends)), f"{best.value:.2%}", test,
                     f"{run.wall:.0f} s", cpu(folders[arm], run), f"{run.busy:.1%}", *times))  # fmt: skip
    print(table([HEADER, *rows]))
    if goal is None or "asha" not in runs:
        return
    whole, own = runs["random"].ends[-1].at, runs["random"].reached(goal)
    for where, budget in (("at the largest budget", EPOCHS), ("at any budget", 0)):
        if own and (found := runs["asha"].reached(goal, budget)):
            ratio, against_own = whole / found[0], own[0] / found[0]
            print(f"to {goal:.2%} {where}: {ratio:.1f} times faster than the 64 full trainings (aim: {FASTER:g}), "
                  f"{against_own:.1f} times faster than these got there")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="runs/mnist-search", help="folder of the runs")
    parser.add_argument("--arms", default=",".join(ARMS), help="which of them (default all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--curves", metavar="FILE", help="record learning curves instead")
    parser.add_argument("--from", dest="run", metavar="RUN", type=Path, help="take them from the journal of this run")
    parser.add_argument("--jobs", type=int, default=2, help="processes that record (default 2)")
    parser.add_argument("--configs", type=int, default=CONFIGS)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of each curve (default 9)")
    parser.add_argument("--train-size", type=int, default=TRAIN_SIZE)
    given = parser.parse_args()
    if given.run and not given.curves:
        parser.error("--from RUN wants --curves FILE, the file to write")
    if given.run:
        curves_from(given.run, Path(given.curves))
    elif given.curves:
        curves(given)
    else:
        compare(given)


if __name__ == "__main__":
    main()
