"""Runs to measure: objectives that sleep or return at once, their launch under mpirun, and a look at its processes.

The runs' children import this file for its objectives, and ``bare`` runs it as a program of its own under mpirun.
"""

from __future__ import annotations

import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

WORKERS = 7
HERE = str(Path(__file__).resolve())
LAUNCH = [str(Path(sys.executable).with_name("mpirun")), "-n", str(WORKERS + 1), sys.executable]
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


def at_once(config: dict[str, Any]) -> float:
    """A bowl whose place depends on the choice."""
    centre = {"a": 0.2, "b": 0.5, "c": 0.7}[config["kind"]]
    bowl: float = sum((config[f"x{i}"] - centre) ** 2 for i in range(1, 5))
    return bowl + 0.1 * (math.log10(config["rate"]) + 3) ** 2


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


def run(objective: str, *flags: str, look: Callable[[int], Any] | None = None, every: float = 0.5) -> Run:
    """Run a search under mpirun to its end.

    Args:
        objective: A function of this file.
        flags: Those of ``python -m mpibo.run``.
        look: Called with mpirun's process id every ``every`` seconds; what it gives is kept.

    Raises:
        RuntimeError: The run failed; its last output.
    """
    from mpibo.store.journal import read

    with tempfile.TemporaryDirectory(prefix="mpibo-overhead-") as name:
        folder = Path(name)
        stamps = folder / "stamps"
        stamps.mkdir()
        fixed = ["--fix", f"stamps={stamps}"] if objective == "nap" else []
        command = [*LAUNCH, "-m", "mpibo.run", f"{HERE}:{objective}", "--out", str(folder / "run"), *fixed, *flags]
        seen: list[Any] = []
        with open(folder / "output", "wb") as output:
            before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
            launched = time.time()
            process = subprocess.Popen(command, cwd=folder, env=OPEN_MPI | os.environ, stdin=subprocess.DEVNULL,
                                       stdout=output, stderr=subprocess.STDOUT)  # fmt: skip
            code = wait(process, look, every, seen)
            gone = time.time()
            cpu = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before
        if code:
            said = (folder / "output").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{' '.join(command)} ended with code {code}:\n{said}")
        times = [float(each.read_text()) for each in stamps.iterdir()]
        return Run(launched, gone, cpu, read(folder / "run").events, times, seen)


def wait(process: subprocess.Popen[Any], look: Callable[[int], Any] | None, every: float, seen: list[Any]) -> int:
    """Wait for mpirun's end, looking at its processes on the way."""
    deadline = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < deadline:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(every if look else PATIENCE)
            if look:
                seen.append(look(process.pid))
        raise RuntimeError(f"no end after {PATIENCE:.0f} s")
    finally:
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


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


def bare(seconds: float) -> dict[str, float]:
    """``started`` (seconds from launch to the first answer of a worker) and ``rate`` of ``bare_ranks``."""
    launched = time.time()
    done = subprocess.run([*LAUNCH, HERE, str(seconds)], env=OPEN_MPI | os.environ, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=PATIENCE, check=True)  # fmt: skip
    told = json.loads(done.stdout.splitlines()[-1])
    return {"started": told["first"] - launched, "rate": told["rate"]}


def bare_ranks(seconds: float) -> None:
    """A manager that gives each idle rank the next message, for ``seconds``; nothing else. Run under mpirun."""
    import mpi4py

    mpi4py.rc.recv_mprobe = False
    from mpi4py import MPI

    comm, status = MPI.COMM_WORLD.Dup(), MPI.Status()
    work, stop, buffer = bytes(150), b"", bytearray(150)

    def receive() -> int:
        """Wait with a sleep that grows from 1 us to 5 ms; gives the number of bytes."""
        pause = 1e-6
        while not comm.Iprobe(status=status):
            time.sleep(pause)
            pause = min(2 * pause, 5e-3)
        size = status.Get_count(MPI.BYTE)
        comm.Recv([buffer, size, MPI.BYTE], source=status.Get_source())
        return int(size)

    if comm.rank:
        comm.Send([work, MPI.BYTE], dest=0)
        while receive():
            comm.Send([work, MPI.BYTE], dest=0)
        return
    trips, first, waiting = 0, 0.0, comm.size - 1
    began = end = time.perf_counter()
    while waiting:
        receive()
        if not trips:
            first, began = time.time(), time.perf_counter()
        trips += 1
        if more := time.perf_counter() < began + seconds:
            end = time.perf_counter()
        waiting -= not more
        comm.Send([work if more else stop, MPI.BYTE], dest=status.Get_source())
    print(json.dumps({"first": first, "rate": (trips - comm.size + 1) / (end - began)}), flush=True)


if __name__ == "__main__":
    bare_ranks(float(sys.argv[1]))
