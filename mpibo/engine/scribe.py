"""The scribe, a child of rank 0: makes every view of a run from its journal, beside the run and never in its way."""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
import select
import signal
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from mpibo.report import terminal
from mpibo.report.plain import Plain
from mpibo.report.progress import Progress
from mpibo.store import atomic, journal
from mpibo.store.follower import Follower
from mpibo.trial import Event, Trial

POLL = 0.2  # seconds between two looks at the journal
SETTLE = 0.5  # seconds after the first start line in which the workers have the processors to themselves
EXPORT_EVERY = 3.0  # seconds between two exports, at least,
EXPORT_SHARE = 20.0  # and as many times as long as the last one took
RETRY = 30.0  # seconds after an export that failed
FILES = ("journal.jsonl", "settings.toml", "status.json", "results.csv", "results.h5", "logs")


class Record:
    """All that the views are made of, from the journal's events."""

    def __init__(self) -> None:
        self.progress = Progress()
        self.trials: dict[int, Trial] = {}
        self.curve_ids, self.steps, self.values = array("q"), array("d"), array("d")
        self._zero = 0.0  # this machine's monotonic time at the last `open` line

    def take(self, event: Event) -> None:
        """Take one event in."""
        if event["kind"] == "start":
            _share(event)
        for trial in self.progress.feed(event):
            self.trials[trial.id] = trial
        if event["kind"] == "open":
            age = time.time() - datetime.fromisoformat(event["utc"]).timestamp()
            self._zero = time.monotonic() - max(0.0, age)
        elif event["kind"] == "report":
            self.curve_ids.append(event["id"])
            self.steps.append(event["step"])
            self.values.append(math.nan if event["value"] is None else event["value"])

    def now(self) -> float:
        """Seconds since the last ``open`` line; those of the journal where the run is over."""
        return self.progress.t if self.progress.closed else max(self.progress.t, time.monotonic() - self._zero)

    def is_of(self, pid: int) -> bool:
        """Whether the last ``open`` line is the one of that manager (0: of any)."""
        return bool(self.progress.opened) and pid in (0, self.progress.opened.get("pid", pid))


def _share(event: Event) -> None:
    """Let all trials have one copy of the names of hosts and choices: a trial takes about 1 KB."""
    for fields in (event, event["config"]):
        for name, value in fields.items():
            if type(value) is str:
                fields[name] = sys.intern(value)


class Export:
    """One file made from the record: anew each time it is due, at a bounded cost, whatever goes wrong."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._due = 0.0
        self._lines = -1  # of the journal, when it was last made
        self._failed = ""
        atomic.sweep(path)

    def update(self, record: Record, lines: int, last: bool) -> str | None:
        """Make the file if it is due or the ``last`` time; gives a warning to show, or None."""
        began = time.monotonic()
        if lines == self._lines or not record.progress.opened or (began < self._due and not last):
            return None
        try:
            self._write(record)
        except (OSError, ImportError, RuntimeError, ValueError) as error:
            self._due = time.monotonic() + RETRY
            told = f"can't write {self.path}: {error} (the journal has it all)"
            known, self._failed = told == self._failed and not last, told
            return None if known else told
        now = time.monotonic()
        self._due = now + max(EXPORT_EVERY, EXPORT_SHARE * (now - began))
        self._lines, self._failed = lines, ""
        return None

    def _write(self, record: Record) -> None:
        trials = [record.trials[number] for number in sorted(record.trials)]
        names = record.progress.parameters
        if self.path.suffix == ".csv":
            from mpibo.store import csv

            csv.write(self.path, trials, names)
        else:
            from mpibo.store import hdf5

            opened = record.progress.opened
            names_told = ("space", "settings", "objective", "versions", "utc", "host", "job")
            about: dict[str, Any] = {name: opened[name] for name in names_told if name in opened}
            curves = hdf5.Curves(record.curve_ids, record.steps, record.values)
            hdf5.write(self.path, trials, names, curves, about)


class Screen:
    """The view, opened when there is something to see; a broken one is given up, never the files."""

    def __init__(self, progress: str, pid: int, columns: int, folder: str, out: TextIO) -> None:
        self._kind = progress if progress != "auto" else "live" if terminal.wants_live(progress, pid) else "plain"
        self._pid, self._columns, self._folder, self._out = pid, columns, folder, out
        self._view: Any = None

    def show(self, record: Record) -> None:
        """Bring the view up to date."""
        self._try(lambda view: view.show(record.progress, record.now()), record)

    def warn(self, text: str) -> None:
        """Show a warning; without a view it goes to stderr."""
        if self._view is None:
            print(f"mpibo: warning: {text}", file=sys.stderr, flush=True)
        else:
            self._try(lambda view: view.warn(text))

    def close(self, record: Record, files: Sequence[str]) -> None:
        """The last view and the summary."""
        self._try(lambda view: view.close(record.progress, record.now(), files), record)

    def _opened(self, record: Record) -> Any:
        if self._kind == "live" and not record.progress.closed:
            from mpibo.report.live import Live

            view: Any = Live(self._out, self._folder, self._size)
        else:
            view = Plain(self._out, self._folder)
        view.start(record.progress)
        return view

    def _size(self) -> tuple[int, int]:
        return terminal.size(self._pid) or (self._columns, 24)

    def _try(self, action: Callable[[Any], None], record: Record | None = None) -> None:
        try:
            if self._view is None and record is not None and self._kind != "none":
                self._view = self._opened(record)
            if self._view is not None:
                action(self._view)
        except BlockingIOError:
            pass  # a pipe that is full for a moment: the next picture has it all
        except OSError:
            self._kind, self._view = "none", None  # nobody reads it any more


def follow(folder: Path, screen: Screen, pid: int, ended: Callable[[float], bool]) -> None:
    """Make all views until the run of manager ``pid`` has closed, or ``ended(seconds)`` says that it is gone."""
    record = Record()
    follower = Follower(folder / journal.NAME)
    exports = [Export(folder / "results.csv"), Export(folder / "results.h5")]
    began: float | None = None
    over = False
    while not over:
        over = ended(POLL)  # what the manager wrote before its end is read below
        try:
            for event in follower.events():
                record.take(event)
        except ValueError as error:
            screen.warn(str(error))
            break
        except OSError:
            continue  # a file system that fails for a while
        over = over or record.is_of(pid) and record.progress.closed is not None
        if record.is_of(pid) and record.progress.first_start is not None:
            began = began or time.monotonic()
        if not over and began and time.monotonic() - began >= SETTLE:
            screen.show(record)
            for export in exports:
                _warn(screen, export.update(record, follower.number, last=False))
    for export in exports:
        _warn(screen, export.update(record, follower.number, last=True))
    if record.is_of(pid):
        present = set(atomic.list_names(folder))
        screen.close(record, [name + "/" * (folder / name).is_dir() for name in FILES if name in present])


def _warn(screen: Screen, text: str | None) -> None:
    if text:
        screen.warn(text)


def end_of_stdin(seconds: float) -> bool:
    """Wait until stdin is at its end, at most so long; True when it is."""
    until = time.monotonic() + seconds
    try:
        while select.select([0], [], [], max(0.0, until - time.monotonic()))[0]:
            if not os.read(0, 1 << 16):
                return True
    except OSError:
        return True
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as ``python -m mpibo.engine.scribe --run FOLDER``; the end of stdin says that the manager is gone."""
    parser = argparse.ArgumentParser(prog="python -m mpibo.engine.scribe", description=__doc__)
    parser.add_argument("--run", required=True, help="run folder")
    parser.add_argument("--progress", choices=("auto", "live", "plain", "none"), default="auto")
    parser.add_argument("--columns", type=int, default=80, help="width of a live view whose terminal tells none")
    parser.add_argument("--pid", "--parent", dest="pid", type=int, default=0, help="the manager's process")
    parser.add_argument("--answers", type=int, help="a pipe to the manager; not used")
    told = parser.parse_args(arguments)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)  # the manager ends us
    with contextlib.suppress(OSError):
        os.nice(10)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # when memory runs out: we before the run
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # whatever the locale, no letter ends us
    screen = Screen(told.progress, told.pid or os.getpid(), told.columns, told.run, sys.stdout)
    follow(Path(told.run), screen, told.pid, end_of_stdin)
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at its exit
    return 0


if __name__ == "__main__":
    sys.exit(main())
