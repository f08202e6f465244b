"""A run that is started, hurt and started again in one folder, with a witness of all that it wrote.

What faults.py does to it is said there. Every signal goes to one process id that this very run named.
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
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runs import OPEN_MPI, ranks_and_children
from witness import Witness

HERE = Path(__file__).resolve().parent
OBJECTIVE = f"{HERE / 'witness.py'}:noted"
START_PATIENCE = 90.0  # seconds until the first trial of a start
PATIENCE = 30.0  # seconds for whatever must happen after a fault
NEVER = str(10**7)  # --max-trials of a run that is to be killed


@dataclass
class Count:
    """What one mode's campaign came to."""

    mode: str
    kills: int = 0
    starts: int = 0
    lines: int = 0
    done: int = 0
    redone: int = 0  # evaluations whose result no line told in time: the price of the kills
    lost: int = 0
    doubled: int = 0
    differences: int = 0
    left: int = 0
    seconds: float = 0.0
    load: float = field(default_factory=lambda: os.getloadavg()[0])
    note: str = ""
    findings: list[str] = field(default_factory=list)

    @property
    def bad(self) -> int:
        """All that must be zero."""
        return self.lost + self.doubled + self.differences + self.left


class Stuck(RuntimeError):
    """What had to happen did not; the message says what, and the run's last output."""


class Campaign:
    """A run that is started, hurt and started again in one folder.

    Args:
        given: The command line's options.
        folder: An empty folder; the run goes into its folder ``run``, or into ``out``.
        out: The run folder.
    """

    def __init__(self, given: argparse.Namespace, folder: Path, mode: str, out: Path | None = None) -> None:
        self.given = given
        self.rng = random.Random(f"{given.seed} {mode}")
        self.folder = folder
        self.out = out or folder / "run"
        self.journal = self.out / "journal.jsonl"
        self.notes = folder / "notes"
        self.witness = Witness()
        self.count = Count(mode)
        self.environment: dict[str, str] = {}  # of the run, besides our own
        self.process: subprocess.Popen[bytes] | None = None
        self._began = time.monotonic()

    # --- a start ----------------------------------------------------------------------------------------------------

    def launch(self, trials: str = NEVER, launcher: list[str] | None = None) -> subprocess.Popen[bytes]:
        """Start the run, or start it again."""
        given = self.given
        method = given.methods[self.count.starts % len(given.methods)]
        words = ["--workers", str(given.workers)]
        if given.mpi:
            launcher = launcher or [str(Path(sys.executable).with_name("mpirun"))]
            launcher, words = [*launcher, "-n", str(given.workers + 1)], []
        command = [*(launcher or []), sys.executable, "-m", "mpibo.run", OBJECTIVE, "--out", str(self.out), "--method",
                   method, "--fix", f"notes={self.notes}", "--fix", f"seconds={given.evaluation}", "--progress", "none",
                   "--max-trials", trials, "--seed", str(given.seed), *words]  # fmt: skip
        with open(self.folder / "output", "ab") as output:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=output, stderr=subprocess.STDOUT,
                                            env=OPEN_MPI | os.environ | self.environment,
                                            stdin=subprocess.DEVNULL)  # fmt: skip
        self.count.starts += 1
        return self.process

    def written(self) -> bytes:
        """The journal file as it is now."""
        try:
            return self.journal.read_bytes()
        except FileNotFoundError:
            return b""

    def news(self) -> list[dict[str, Any]]:
        """Whole lines behind those that the witness has seen; not checked, for waiting alone."""
        found = []
        for line in self.written()[len(self.witness.kept) :].splitlines(keepends=True):
            with suppress(ValueError):
                found.append(json.loads(line))
        return found

    def wait_for(self, what: str, there: Callable[[], Any], patience: float = PATIENCE) -> Any:
        """What ``there`` gives, once it gives something."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if found := there():
                return found
            if self.process is None or self.process.poll() is not None:
                code = None if self.process is None else self.process.returncode
                raise Stuck(f"waited for {what}; the run ended with code {code}:\n{self.said()}")
            time.sleep(0.01)
        raise Stuck(f"waited {patience:.0f} s for {what}:\n{self.said()}")

    def said(self) -> str:
        """The run's last output."""
        return (self.folder / "output").read_text(errors="replace")[-1500:]

    def begun(self) -> int:
        """Wait until this start evaluates; hold its first lines against what was before. Gives the manager's pid."""

        def first() -> int | None:
            opened = None
            for event in self.news():
                if event["kind"] == "open":
                    opened = int(event["pid"])
                elif event["kind"] == "start" and opened is not None:
                    return opened
            return None

        manager: int = self.wait_for("the first trial of a start", first, START_PATIENCE)
        if manager not in self.family():
            raise Stuck(f"the journal's open line names process {manager}, which is none of ours")
        return manager

    def family(self) -> dict[int, str]:
        """Our run's processes, by id: what each is (launcher, rank 0, rank 3, sandbox, ...)."""
        assert self.process
        found = {self.process.pid: "launcher" if self.given.mpi else "manager"}
        for pid, (role, rank) in ranks_and_children(self.process.pid).items():
            found[pid] = f"rank {rank}" if self.given.mpi and role == "rank" else found.get(pid, role)
        return found

    # --- faults -----------------------------------------------------------------------------------------------------

    def kill(self, pid: int) -> None:
        """SIGKILL to one process of ours."""
        with suppress(ProcessLookupError):  # it has just ended by itself
            os.kill(pid, signal.SIGKILL)
        self.count.kills += 1

    def buried(self, family: dict[int, str]) -> None:
        """Wait until a run whose manager was killed is gone as a whole; count, and end, what it left behind."""
        assert self.process
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.finding(f"the launcher {self.process.pid} lives on {PATIENCE:.0f} s after the kill")
            self.process.kill()
            self.process.wait()
        until = time.monotonic() + 10
        while (still := [pid for pid in family if alive(pid)]) and time.monotonic() < until:
            time.sleep(0.01)
        for pid in still:
            self.finding(f"process {pid} ({family[pid]}) lives on 10 s after the kill")
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def finding(self, words: str) -> None:
        """Something was left behind."""
        self.count.left += 1
        self.count.findings.append(words)

    # --- checks -----------------------------------------------------------------------------------------------------

    def copy(self) -> tuple[bytes, bytes]:
        """The journal and the notes as they are now; a note is never newer than the journal."""
        notes = self.notes.read_bytes() if self.notes.exists() else b""
        return self.written(), notes

    def look(self, *copies: bytes, last: tuple[bytes, bytes] | None = None) -> None:
        """Hold copies of the journal, oldest first, then the last ``copy``, against all that was before."""
        data, notes = last or self.copy()
        for each in (*copies, data):
            self.witness.read(each)
        self.witness.hear(notes)

    def resumed(self, first: bytes, before: bytes, last: tuple[bytes, bytes]) -> None:
        """Check a start that was killed.

        Args:
            first: The journal as its first trial began; empty if none did.
            before: Just before the kill. last: the copy after it.
        """
        if first:
            self.witness.read(first)
            self.witness.resumed()
            self.compare(first)
        self.look(before, last=last)

    def compare(self, data: bytes) -> None:
        """Hold the library's tables of a copy of the journal, which the witness has just read, against its rows."""
        for name, rows in library_tables(data):
            self.witness.compare(rows, name)

    def finish(self) -> None:
        """The last start: run on to an end in order, and settle all accounts."""
        configs = sum(row.retry_of is None for row in self.witness.rows.values())
        if self.process is None or self.process.poll() is not None:
            self.launch(str(configs + 5 * self.given.workers))
        assert self.process
        code = self.process.wait(START_PATIENCE + PATIENCE)
        if code:
            raise Stuck(f"the last start ended with code {code}:\n{self.said()}")
        self.look()
        self.compare(self.written())
        self.witness.settle(final=True)
        self._views()

    def _views(self) -> None:
        """The last start has ended: its views must show all trials."""
        names = [name for name in ("results.csv", "results.h5", "status.json") if not (self.out / name).exists()]
        if names:
            self.witness.differs(f"the run has ended and there is no {', '.join(names)}")
            return
        shown = len((self.out / "results.csv").read_text().splitlines()) - 1
        if shown != len(self.witness.rows):
            self.witness.differs(f"results.csv shows {shown} trials of {len(self.witness.rows)}")

    def counted(self) -> Count:
        """The counts so far."""
        count, witness = self.count, self.witness
        count.lines, count.done = witness.lines, sum(row.state == "DONE" for row in witness.rows.values())
        count.redone = sum(row.state != "DONE" for row in witness.rows.values() if row.id in witness.begun)
        count.lost, count.doubled, count.differences = witness.lost, witness.doubled, witness.differences
        count.findings = [*witness.findings, *count.findings]
        count.seconds = time.monotonic() - self._began
        return count


def alive(pid: int) -> bool:
    """Whether there is such a process, not merely its remains."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def library_tables(data: bytes) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """What the library makes of a journal's bytes: ``mpibo.load``, the strategies' table, the manager's account."""
    import mpibo
    from mpibo.space import Space
    from mpibo.store.journal import parse
    from mpibo.table import ORIGINS, STATES, Trials
    from mpibo.trial import Ledger

    names = ("id", "config", "budget", "origin", "seed", "worker", "retry_of", "value", "reason", "duration", "order")
    with tempfile.TemporaryDirectory(prefix="mpibo-faults-") as name:
        Path(name, "journal.jsonl").write_bytes(data)
        loaded = mpibo.load(name).trials
    yield "mpibo.load", [{each: getattr(row, each) for each in names} | {"state": row.state.value} for row in loaded]

    events = parse(data).events
    rows, ledger = Trials(Space.from_json(events[0]["space"])), Ledger()
    for event in events:
        if event["kind"] != "ask":  # that one is about proposals, which only the proposer's own table has
            rows.apply(event)
        ledger.apply(event)
    yield (
        "Trials",
        [
            {
                "state": STATES[rows.state[i]].value, "budget": int(rows.budget[i]), "origin": ORIGINS[rows.origin[i]],
                "value": None if rows.y[i] != rows.y[i] else float(rows.y[i]),
                "order": None if rows.order[i] < 0 else int(rows.order[i]),
            }
            for i in range(rows.n)
        ],
    )  # fmt: skip
    open_rows = dict.fromkeys(ledger.running, "RUNNING") | dict.fromkeys(ledger.lost, "LOST")
    yield "Ledger", [{"id": i} | ({"state": open_rows[i]} if i in open_rows else {}) for i in range(ledger.next_id)]
