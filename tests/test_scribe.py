"""The scribe: all views and files from the journal, whatever happens around it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from a_run import CLOSE, RUN, end, open_line, start

from mpibo.store import csv, hdf5, journal
from mpibo.trial import Event, trials_of


class Scribe:
    """A scribe on a folder, in its own process, as the manager starts it."""

    def __init__(self, folder: Path, progress: str = "plain", stdout: int = subprocess.PIPE) -> None:
        command = [sys.executable, "-m", "mpibo.engine.scribe", "--run", str(folder), "--progress", progress]
        self.process = subprocess.Popen(
            [*command, "--pid", str(os.getpid())], stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip

    def finish(self) -> tuple[str, str]:
        """Close its stdin as the manager does at its end; what it said on stdout and stderr."""
        out, err = self.process.communicate("", timeout=60)
        assert self.process.returncode == 0, err
        return out or "", err


@pytest.fixture
def run(tmp_path: Path) -> Iterator[journal.Journal]:
    """A run folder's journal."""
    (tmp_path / "logs").mkdir()
    made = journal.Journal(tmp_path, sync=False)
    yield made
    made.close()


def write(run: journal.Journal, events: list[Event]) -> None:
    """Write events with the times that they have."""
    for event in events:
        run.append(event)
    run.write()


def mine(**settings: Any) -> Event:
    """An ``open`` line of this very moment by this process."""
    return open_line(utc=time.time(), pid=os.getpid(), **settings)


def eventually(claim: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until ``claim()`` is true."""
    until = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def test_scribe_makes_all_files_and_ends_with_the_run(run: journal.Journal, tmp_path: Path) -> None:
    """From the journal alone: both files hold every trial, the view its summary; the close line ends the scribe."""
    events = [mine(max_trials=8), *RUN[1:], CLOSE]
    write(run, events)
    scribe = Scribe(tmp_path)
    assert scribe.process.wait(30) == 0  # its stdin is still open
    out, err = scribe.finish()
    assert err == "" and "Ended    max_trials reached" in out and "0.25   trial 2" in out
    assert "journal.jsonl  results.csv  results.h5  logs/" in out
    trials = trials_of(events)
    contents = hdf5.read(tmp_path / "results.h5")
    assert [row.config for row in csv.read(tmp_path / "results.csv")] == [trial.config for trial in trials]
    assert [(row.state, row.value) for row in contents.trials] == [(trial.state, trial.value) for trial in trials]
    assert contents.curves == hdf5.Curves([4], [1.0], [0.9])
    assert contents.attributes["settings"] == {"max_trials": 8} and contents.attributes["versions"] == {"mpibo": "0"}


def test_scribe_shows_and_exports_while_it_runs(run: journal.Journal, tmp_path: Path) -> None:
    """A signal to the whole job leaves it at work; when the manager is gone it finishes what there is."""
    scribe = Scribe(tmp_path)
    write(run, [mine(max_trials=8), *RUN[1:4]])
    eventually((tmp_path / "results.h5").exists)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        os.kill(scribe.process.pid, number)
    write(run, RUN[4:8])
    out, err = scribe.finish()
    assert err == "" and "new best #0" in out and "the manager is gone" in out
    assert [trial.state for trial in csv.read(tmp_path / "results.csv")][:3] == ["DONE", "FAILED", "DONE"]
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]


def test_scribe_waits_for_its_own_start(run: journal.Journal, tmp_path: Path) -> None:
    """The close line of an earlier start does not end it."""
    write(run, [open_line(pid=1), *RUN[1:], CLOSE])
    scribe = Scribe(tmp_path)
    time.sleep(1.0)
    assert scribe.process.poll() is None
    lost = {"kind": "lost", "t": 0.1, "id": 4, "why": "restart"}
    write(run, [mine(), lost, start(0.2, 5, retry_of=4), end(0.3, 5, 0.01, 0.1), CLOSE])
    out, _ = scribe.finish()
    assert "0.01   trial 5" in out


def test_scribe_without_a_view_is_silent(run: journal.Journal, tmp_path: Path) -> None:
    write(run, [mine(), *RUN[1:], CLOSE])
    assert Scribe(tmp_path, "none").finish() == ("", "")
    assert (tmp_path / "results.csv").exists() and (tmp_path / "results.h5").exists()


def test_a_file_that_cannot_be_written_is_told_once(run: journal.Journal, tmp_path: Path) -> None:
    """The view and the other file go on; the last word repeats the warning."""
    (tmp_path / "results.csv").mkdir()
    scribe = Scribe(tmp_path)
    write(run, [mine(), *RUN[1:4]])
    eventually((tmp_path / "results.h5").exists)
    time.sleep(0.5)
    write(run, [*RUN[4:], CLOSE])
    out, _ = scribe.finish()
    assert out.count("warning: can't write") == 2 and "Is a directory" in out and "new best #0" in out
    assert len(hdf5.read(tmp_path / "results.h5").trials) == 5


@pytest.mark.parametrize("progress", ["plain", "live"])
def test_nobody_reads_the_view_any_more(run: journal.Journal, tmp_path: Path, progress: str) -> None:
    """A broken pipe ends the view, not the files."""
    reader, writer = os.pipe()
    scribe = Scribe(tmp_path, progress, stdout=writer)
    os.close(reader)
    os.close(writer)
    write(run, [mine(), *RUN[1:4]])
    eventually((tmp_path / "results.h5").exists)
    write(run, [*RUN[4:], CLOSE])
    assert scribe.finish() == ("", "")
    assert len(csv.read(tmp_path / "results.csv")) == 5


def test_a_damaged_journal_is_reported(run: journal.Journal, tmp_path: Path) -> None:
    write(run, [mine(), *RUN[1:4]])
    with open(tmp_path / "journal.jsonl", "ab") as file:
        file.write(journal.line_of({"kind": "ask", "t": 1.0}, 99, 0))
    _, err = Scribe(tmp_path).finish()
    assert "expected line 5, got line 99" in err and err.count("\n") == 1


def test_live_scribe_on_a_pipe(run: journal.Journal, tmp_path: Path) -> None:
    """Told to be live it draws through a pipe, as under a launcher."""
    scribe = Scribe(tmp_path, "live")
    write(run, [mine(max_trials=8), *RUN[1:]])
    eventually((tmp_path / "results.csv").exists)
    write(run, [CLOSE])
    out, err = scribe.finish()
    assert err == "" and "╭─" in out and "Ended    max_trials reached" in out


def test_scribe_starts_light() -> None:
    """Until there is something to show it loads neither rich nor NumPy nor h5py."""
    code = (
        "import sys, json, mpibo.engine.scribe; print(json.dumps(sorted({'rich', 'numpy', 'h5py'} & set(sys.modules))))"
    )
    assert json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) == []
