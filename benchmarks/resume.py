"""How long a run of many trials takes to go on: from the command to the first new ``start`` line.

    python benchmarks/resume.py [--trials 100000] [--method random,ambs,auto] [--per-ask 1] [--parts]

The journal is made, not run: a real start of 4 trials gives its first lines, the trials' lines are drawn. Then the same
command goes on with it. ``--parts`` also times, in this process, what rank 0 and its children do with these lines. Not
asserted; the target is 10 s for 100,000 trials.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mpibo.store import journal
from mpibo.store.follower import Follower
from mpibo.table import Trials
from mpibo.trial import Event, Ledger, trials_of

WORKERS = 4
PATIENCE = 300.0  # seconds for one resume
SPACE = """
[space]
rate = {float = [1e-5, 1e-1], log = true}
decay = {float = [0.0, 0.5]}
momentum = {float = [0.0, 1.0]}
noise = {float = [0.0, 1.0]}
width = {int = [8, 512], log = true}
layers = {int = [1, 8]}
batch = {choice = [16, 32, 64, 128]}
kind = {choice = ["adam", "sgd", "rms"]}
"""
OBJECTIVE = """
def at_once(config):
    return (config["momentum"] - 0.3) ** 2 + config["decay"] + 0.01 * config["layers"] + (config["kind"] != "adam")
"""


def config(dice: random.Random) -> dict[str, Any]:
    """A config of the space, as a journal has it."""
    return {
        "rate": 10 ** dice.uniform(-5, -1), "decay": dice.uniform(0, 0.5), "momentum": dice.random(),
        "noise": dice.random(), "width": dice.randint(8, 512), "layers": dice.randint(1, 8),
        "batch": dice.choice([16, 32, 64, 128]), "kind": dice.choice(["adam", "sgd", "rms"]),
    }  # fmt: skip


def command(work: Path, method: str, max_trials: int) -> list[str]:
    """The command line of one start."""
    return [sys.executable, "-m", "mpibo", "run", str(work / "objective.py") + ":at_once", "--space",
            str(work / "space.toml"), "--method", method, "--workers", str(WORKERS), "--out", str(work / "run"),
            "--max-trials", str(max_trials), "--progress", "none"]  # fmt: skip


def make(work: Path, method: str, trials: int, per_ask: int, typical: float = 1.0) -> int:
    """A run folder in ``work`` with so many finished trials, one ``ask`` line for ``per_ask`` of them.

    Returns:
        The size of the journal in bytes.
    """
    (work / "space.toml").write_text(SPACE)
    (work / "objective.py").write_text(OBJECTIVE)
    subprocess.run(command(work, method, WORKERS), check=True, capture_output=True, timeout=PATIENCE)
    path = work / "run" / journal.NAME
    first = [event for event in journal.read(path).events if event["kind"] in ("open", "proposer")]
    lines = [journal.line_of(_bare(event), number, number - 1) for number, event in enumerate(first, start=1)]
    dice = random.Random(0)
    for row in range(trials):
        t = round(row / WORKERS * typical, 6)
        events: list[Event] = []
        if row % per_ask == 0:
            events.append({"kind": "ask", "t": t, "ask": row // per_ask, "count": per_ask, "fit": True,
                           "typical": typical, "affordable": ["gp", "et"], "keep": []})  # fmt: skip
        events.append({"kind": "start", "t": t, "id": row, "config": config(dice), "budget": 1, "origin": "model",
                       "ask": row // per_ask, "place": row % per_ask, "seed": dice.getrandbits(32),
                       "worker": row % WORKERS + 1, "host": "node-1"})  # fmt: skip
        events.append({"kind": "end", "t": round(t + typical, 6), "id": row, "state": "DONE", "value": dice.random(),
                       "duration": typical})  # fmt: skip
        lines += [journal.line_of(event, len(lines) + i, len(lines)) for i, event in enumerate(events, start=1)]
    path.write_bytes(b"".join(lines))
    return path.stat().st_size


def _bare(event: Event) -> Event:
    return {name: value for name, value in event.items() if name not in ("n", "synced", "crc")}


def cpu_of(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resume(work: Path, method: str, trials: int) -> tuple[float, float, float]:
    """Go on; seconds to the first new ``start`` line: from the command, from its own ``open`` line; and CPU of rank 0.

    The last hardly changes on a busy machine; rank 0's children (the proposer, a worker's) come on top.
    """
    path = work / "run" / journal.NAME
    size = path.stat().st_size
    began = time.monotonic()
    process = subprocess.Popen(command(work, method, trials + 64), start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        while time.monotonic() < began + PATIENCE:
            time.sleep(0.02)
            with open(path, "rb") as file:
                file.seek(size)
                for line in file:
                    event = journal.event_of(line)
                    if event and event["kind"] == "start":
                        return time.monotonic() - began, event["t"], cpu_of(process.pid)
            if process.poll() is not None:
                raise RuntimeError(f"the run ended with code {process.returncode} before a trial was started")
        raise RuntimeError(f"no trial was started within {PATIENCE:.0f} s")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(PATIENCE)


def parts(work: Path) -> dict[str, float]:
    """CPU seconds of each step alone."""
    from mpibo.space import Space

    path = work / "run" / journal.NAME
    found: dict[str, float] = {}

    def timed(name: str, action: Callable[[], Any]) -> Any:
        began = time.process_time()
        result = action()
        found[name] = time.process_time() - began
        return result

    events = timed("journal.read", lambda: journal.read(path).events)
    ledger = Ledger()
    timed("Ledger.apply", lambda: deque(map(ledger.apply, events), maxlen=0))
    table = Trials(Space.from_json(events[0]["space"]))
    timed("Trials.apply", lambda: deque(map(table.apply, events), maxlen=0))
    timed("encode", lambda: table.X)
    timed("Follower.read", lambda: Follower(path).read())
    timed("trials_of", lambda: trials_of(events))
    return found


def main() -> None:
    """Measure and print a line for each method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--method", default="random,ambs,auto")
    parser.add_argument("--per-ask", type=int, default=1, help="trials of one ask line")
    parser.add_argument("--typical", type=float, default=1.0, help="seconds of an evaluation of the earlier start")
    parser.add_argument("--parts", action="store_true")
    told = parser.parse_args()
    for method in told.method.split(","):
        with tempfile.TemporaryDirectory() as name:
            work = Path(name)
            size = make(work, method, told.trials, told.per_ask, told.typical)
            if told.parts:
                print(json.dumps({each: round(seconds, 2) for each, seconds in parts(work).items()}), flush=True)
            whole, since_open, cpu = resume(work, method, told.trials)
            load = os.getloadavg()[0]
            print(f"{method}: {told.trials} trials ({size / 1e6:.0f} MB): the first new trial after {whole:.2f} s, "
                  f"{since_open:.2f} s of "
                  f"them since the open line, rank 0 took {cpu:.2f} s CPU (target 10 s; load {load:.1f})",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
