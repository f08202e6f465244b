"""Runs that train networks: under mpirun, to their end or gone on with; and what their journals tell.

Times are seconds while a run ran; between two starts none passes.
"""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runs import OPEN_MPI, WORKERS, launch


@dataclass(frozen=True)
class End:
    """A trial that is done: when (seconds of running time), after so many epochs of its own, and what it came to."""

    at: float
    value: float
    test_error: float | None
    budget: int
    epochs: int
    id: int
    parameters: int | None


@dataclass(frozen=True)
class Told:
    """A run as its journal tells it."""

    ends: list[End]
    configs: int
    wall: float
    busy: float
    starts: int

    def returned(self) -> End:
        """The best by validation error at the largest budget."""
        most = max(end.budget for end in self.ends)
        return min((end for end in self.ends if end.budget == most), key=lambda end: end.value)

    def reached(self, value: float, budget: int = 0) -> tuple[float, int] | None:
        """When a trial of at least this budget was first as good: seconds, and epochs of all trials until then."""
        epochs = 0
        for end in self.ends:
            epochs += end.epochs
            if end.budget >= budget and end.value <= value:
                return end.at, epochs
        return None


def told(events: list[dict[str, Any]], workers: int = WORKERS) -> Told:
    """Read a journal's events, of several starts too."""
    before = at = worked = possible = 0.0
    first: float | None = None
    starts: dict[int, dict[str, Any]] = {}
    ends: list[End] = []
    opened = 0
    for event in events:
        if event["kind"] == "open":
            possible += at - before - first if first is not None else 0.0
            before, first, opened = at, None, opened + 1
        at = before + event["t"]
        if event["kind"] == "start":
            first = event["t"] if first is None else first
            starts[event["id"]] = event
        elif event["kind"] == "end":
            worked += event.get("duration") or 0.0
            if event["state"] == "DONE":
                start = starts[event["id"]]
                parent = starts.get(start.get("parent"), {"budget": 0})
                metrics = event.get("metrics", {})
                epochs = start["budget"] - parent["budget"]
                found = metrics.get("test_error"), start["budget"], epochs, event["id"], metrics.get("parameters")
                ends.append(End(at, event["value"], *found))
    possible += at - before - first if first is not None else 0.0
    configs = sum("parent" not in start and "retry_of" not in start for start in starts.values())
    return Told(ends, configs, at, worked / (workers * possible) if possible else 0.0, opened)


def finished(folder: Path, words: Sequence[str], ranks: int = WORKERS + 1) -> list[dict[str, Any]]:
    """The events of a run in ``folder``, which is started, or gone on with, unless it has done all its trials.

    Args:
        words: Of ``python -m mpibo.run``, but ``--out``.
        ranks: The manager and the workers.

    Raises:
        SystemExit: The run failed.
    """
    from mpibo.store.journal import read

    events = read(folder).events if (folder / "journal.jsonl").exists() else []
    if events and events[-1]["kind"] == "close" and events[-1]["why"] == "max_trials":
        return events
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [*launch(ranks), "-m", "mpibo.run", *words, "--out", str(folder)]
    print("$", *command, flush=True)
    before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    code = subprocess.run(command, env=OPEN_MPI | os.environ).returncode
    used = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before
    with open(folder.with_suffix(".cpu"), "a") as file:
        file.write(f"{used:.1f}\n")
    if code:
        raise SystemExit(f"the run in {folder} ended with code {code}")
    return read(folder).events


def cpu(folder: Path, run: Told) -> str:
    """The CPU seconds of all processes of a run's starts, as ``finished`` kept them beside it."""
    file = folder.with_suffix(".cpu")
    each = [float(line) for line in file.read_text().split()] if file.exists() else []
    return f"{sum(each):.0f} s" + ("" if len(each) == run.starts else f" ({len(each)} of {run.starts} starts)")
