"""Runs to measure: objectives that sleep, compute or return at once, their launch under mpirun, their processes.

The runs' children import this file for its objectives.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

WORKERS = 7
HERE = str(Path(__file__).resolve())
MPIRUN = (str(Path(sys.executable).with_name("mpirun")),)
# Open MPI as root, and with more ranks than cores; MPICH takes no notice
OPEN_MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}  # fmt: skip
PATIENCE = 600.0  # seconds that one run may take
MB = 1e6

space = {f"x{i}": (0.0, 1.0) for i in range(1, 5)} | {"rate": (1e-5, 1e-1, "log"), "kind": ["a", "b", "c"]}


def nap(config: dict[str, Any], *, seconds: float = 1.0, spread: float = 0.5, stamps: str = "", trial: Any) -> float:
    """Sleep for ``seconds`` +- ``spread``; the first time in a process, leave the time of day in folder ``stamps``."""
    if stamps:
        with suppress(FileExistsError), open(Path(stamps, str(os.getpid())), "x") as file:
            file.write(repr(time.time()))
    time.sleep(seconds * (1 + spread * random.Random(trial.seed).uniform(-1, 1)))
    return at_once(config)


def spin(config: dict[str, Any], *, seconds: float = 0.02, trial: Any) -> float:
    """Compute for ``seconds`` of CPU +- 50 %."""
    until = time.process_time() + seconds * (1 + 0.5 * random.Random(trial.seed).uniform(-1, 1))
    while time.process_time() < until:
        pass
    return at_once(config)


def at_once(config: dict[str, Any]) -> float:
    """A bowl whose place depends on the choice."""
    centre = {"a": 0.2, "b": 0.5, "c": 0.7}[config["kind"]]
    bowl: float = sum((config[f"x{i}"] - centre) ** 2 for i in range(1, 5))
    return bowl + 0.1 * (math.log10(config["rate"]) + 3) ** 2


def launch(ranks: int = WORKERS + 1, launcher: Sequence[str] = MPIRUN) -> list[str]:
    """The words before those of a program of ``ranks`` ranks."""
    return [*launcher, "-n", str(ranks), sys.executable]


@dataclass
class Run:
    """A run that has ended: launched and gone (time of day), CPU seconds of all its processes, and what was seen."""

    launched: float
    gone: float
    cpu: float
    events: list[dict[str, Any]]
    stamps: list[float]
    seen: list[Any]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The events of one kind."""
        return [event for event in self.events if event["kind"] == kind]

    @property
    def opened(self) -> float:
        """The time of day from which the events' ``t`` counts."""
        return datetime.fromisoformat(self.of("open")[0]["utc"]).timestamp()


def run(
    objective: str, *flags: str, look: Callable[[int], Any] | None = None, every: float = 0.5,
    words: Sequence[str] | None = None, patience: float = PATIENCE,
) -> Run:  # fmt: skip
    """Run a search under mpirun to its end.

    Args:
        objective: A function of this file.
        flags: Those of ``python -m mpibo.run``.
        look: Called with mpirun's process id every ``every`` seconds; what it gives is kept.
        words: What ``launch`` gives; default eight ranks.
        patience: Seconds that it may take.

    Raises:
        RuntimeError: The run failed; its last output.
    """
    from mpibo.store.journal import read

    with tempfile.TemporaryDirectory(prefix="mpibo-overhead-") as name:
        folder = Path(name)
        stamps = folder / "stamps"
        stamps.mkdir()
        fixed = ["--fix", f"stamps={stamps}"] if objective == "nap" else []
        command = [
            *(words or launch()),
            "-m",
            "mpibo.run",
            f"{HERE}:{objective}",
            "--out",
            str(folder / "run"),
            *fixed,
            *flags,
        ]
        seen: list[Any] = []
        with open(folder / "output", "wb") as output:
            before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
            launched = time.time()
            process = subprocess.Popen(command, cwd=folder, env=OPEN_MPI | os.environ, stdin=subprocess.DEVNULL,
                                       stdout=output, stderr=subprocess.STDOUT)  # fmt: skip
            code = wait(process, look, every, seen, patience)
            gone = time.time()
            cpu = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before
        if code:
            said = (folder / "output").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{' '.join(command)} ended with code {code}:\n{said}")
        times = [float(each.read_text()) for each in stamps.iterdir()]
        return Run(launched, gone, cpu, read(folder / "run").events, times, seen)


def wait(
    process: subprocess.Popen[Any], look: Callable[[int], Any] | None, every: float, seen: list[Any],
    patience: float = PATIENCE,
) -> int:  # fmt: skip
    """Wait for mpirun's end, looking at its processes on the way."""
    deadline = time.monotonic() + patience
    try:
        while time.monotonic() < deadline:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(every if look else patience)
            if look:
                seen.append(look(process.pid))
        raise RuntimeError(f"no end after {patience:.0f} s")
    finally:
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


def busy(made: Run, workers: int = WORKERS) -> dict[str, float]:
    """Where the workers' time went, from the journal.

    Returns:
        ``whole``: the busy share in percent, from the first start line to the last end; ``steady``: that between the
        last worker's first objective and the last start line, while there was work for all; ``repeated``: configs
        started twice; and milliseconds: ``begin``, mean from a worker's first start line to its objective's begin;
        ``between``, ``p99``, ``longest``: from an evaluation of a worker to its next, median, 99th percentile, maximum.
    """
    starts = {event["id"]: event for event in made.of("start")}
    ends = {event["id"]: event for event in made.of("end")}
    if any(event["state"] != "DONE" for event in ends.values()) or len(ends) != len(starts):
        raise RuntimeError("not every trial is DONE")
    spans: dict[int, list[tuple[float, float]]] = defaultdict(list)  # of its trials, by worker
    first: dict[int, float] = {}
    for trial, event in starts.items():
        end = ends[trial]
        spans[event["worker"]].append((end["t"] - end["duration"], end["t"]))
        first.setdefault(event["worker"], event["t"])
    everything = [span for each in spans.values() for span in each]
    begin, last = min(first.values()), max(b for _, b in everything)
    loaded, fed = max(min(each)[0] for each in spans.values()), max(event["t"] for event in starts.values())
    inside = sum(max(0.0, min(b, fed) - max(a, loaded)) for a, b in everything)
    gaps = sorted(1e3 * (b[0] - a[1]) for each in spans.values() for a, b in itertools.pairwise(sorted(each)))
    configs = [text(event["config"]) for event in starts.values()]
    return {
        "whole": 100 * sum(b - a for a, b in everything) / (workers * (last - begin)),
        "steady": 100 * inside / (workers * (fed - loaded)) if fed > loaded else math.nan,
        "repeated": len(configs) - len(set(configs)),
        "begin": 1e3 * statistics.mean(min(spans[worker])[0] - t for worker, t in first.items()),
        "between": statistics.median(gaps),
        "p99": gaps[int(0.99 * len(gaps))],
        "longest": gaps[-1],
    }


def text(config: dict[str, Any]) -> str:
    """A config as text: equal for equal configs."""
    return json.dumps(config, sort_keys=True)


def ranks_and_children(launcher: int) -> dict[int, tuple[str, int]]:
    """Role and rank (-1 for children) of the processes of a run, by process id."""
    from mpibo.engine.environment import announced_rank

    below: dict[int, list[int]] = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            below[int(path.read_text().rpartition(")")[2].split()[1])].append(int(path.parent.name))
    found: dict[int, tuple[str, int]] = {}
    todo = [launcher]
    while todo:
        pid = todo.pop()
        todo += below[pid]
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            module = words[words.index("-m") + 1] if words[:1] == [sys.executable] and "-m" in words else ""
            if module == "mpibo.run":
                pairs = Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0")
                found[pid] = "rank", announced_rank(dict(pair.split("=", 1) for pair in pairs if "=" in pair))
            elif module.startswith("mpibo.engine."):
                found[pid] = module.removeprefix("mpibo.engine."), -1
    return found


def manager_cpu(launcher: int) -> tuple[float, float] | None:
    """Time of day, and CPU seconds of rank 0 so far."""
    for pid, (role, rank) in ranks_and_children(launcher).items():
        if (role, rank) == ("rank", 0):
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                return time.time(), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return None


def memory_of(launcher: int) -> list[tuple[str, int, dict[str, float]]]:
    """Role, process id, and MB resident (rss), proportional (pss) and unshared (uss) of each process of a run."""
    found = []
    for pid, (role, rank) in ranks_and_children(launcher).items():
        with suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
            kb = {line.split(":")[0]: int(line.split()[1]) for line in lines}
            sizes = {"rss": kb["Rss"], "pss": kb["Pss"], "uss": kb["Private_Clean"] + kb["Private_Dirty"]}
            role = {0: "manager"}.get(rank, "worker") if role == "rank" else role
            found.append((role, pid, {kind: size * 1024 / MB for kind, size in sizes.items()}))
    return found
