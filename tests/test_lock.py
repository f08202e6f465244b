"""The lock of a run folder: one holder at a time, and a dead one's lock passes to exactly one other."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mpibo.store.follower import Follower
from mpibo.store.lock import SILENCE, Holder, Lock, Locked, start_time
from mpibo.trial import Event

ME = Holder.me({})
RACE = """
import sys, time
from mpibo.store.lock import Lock, Locked
lock = Lock(sys.argv[1])
time.sleep(max(0, float(sys.argv[2]) - time.time()))
try:
    lock.acquire()
    print("mine", flush=True)
    sys.stdin.read()
    print("held" if lock.refresh() else "taken", flush=True)
except Locked:
    print("locked", flush=True)
"""


def left_by(path: Path, holder: Holder, silent: float = 0.0) -> None:
    """Put a lock there as another process would have left it."""
    path.write_text(json.dumps(asdict(holder)))
    os.utime(path, (time.time() - silent,) * 2)


def dead_process() -> int:
    """The id of a process that is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_one_at_a_time(tmp_path: Path) -> None:
    """A second manager is told in one line who holds the folder; it may have it when the first gives it back."""
    path = tmp_path / "run.lock"
    first, second = Lock(path), Lock(path)
    with first:
        assert first.held() and first.refresh()
        with pytest.raises(Locked) as error:
            second.acquire()
        assert f"process {os.getpid()} on {ME.host}" in str(error.value) and "\n" not in str(error.value)
        assert not second.held()
        second.release()  # not its own: left alone
        assert first.held()
    with second:
        assert second.held() and not first.held()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("left", "environ"),
    [
        (lambda: replace(ME, pid=dead_process()), {}),
        (lambda: replace(ME, started=(ME.started or 0) - 1), {}),  # its process id has been given to us
        (lambda: replace(ME, boot="an earlier boot"), {}),
        (lambda: replace(ME, host="node9", job="slurm:c:7", restarts=1),
         {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2", "SLURM_CLUSTER_NAME": "c"}),
    ],
    ids=["dead", "process id used again", "rebooted", "requeued"],
)  # fmt: skip
def test_taken_over_from_a_holder_that_is_gone(
    tmp_path: Path, left: Callable[[], Holder], environ: dict[str, str]
) -> None:
    left_by(tmp_path / "run.lock", left())
    with Lock(tmp_path / "run.lock", environ) as lock:
        assert lock.held()


@pytest.mark.parametrize(
    ("left", "environ"),
    [
        (replace(ME, host="node9", pid=1), {}),
        (replace(ME, namespace="pid:[1]", pid=999_999_999), {}),  # another container: its ids tell us nothing
        (replace(ME, host="node9", job="slurm::7"), {"SLURM_JOB_ID": "7"}),  # another step of the same start
        (replace(ME, host="node9", job="slurm::7"), {"SLURM_JOB_ID": "8", "SLURM_RESTART_COUNT": "1"}),
    ],
    ids=["other host", "other container", "same start of the job", "other job"],
)
def test_who_may_live_is_left_alone_until_silent(tmp_path: Path, left: Holder, environ: dict[str, str]) -> None:
    """Only five minutes of silence, by the file system's clock, tell that a process out of sight is gone."""
    path = tmp_path / "run.lock"
    left_by(path, left, SILENCE - 20)
    with pytest.raises(Locked, match=f"process {left.pid} on {left.host}"):
        Lock(path, environ).acquire()
    left_by(path, left, SILENCE + 20)
    with Lock(path, environ) as lock:
        assert lock.held()


def test_a_lock_that_says_nothing_is_judged_by_its_age(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    path.write_text("?")
    with pytest.raises(Locked, match="does not name"):
        Lock(path).acquire()
    os.utime(path, (1.0, 1.0))
    with Lock(path) as lock:
        assert lock.held()


def test_holder_finds_its_lock_taken(tmp_path: Path) -> None:
    """A manager that slept through its lease sees that another works there, and takes nothing back from it."""
    path = tmp_path / "run.lock"
    sleeper, other = Lock(path).acquire(), Lock(path)
    os.utime(path, (time.time() - SILENCE - 1,) * 2)
    other.acquire()
    assert not sleeper.held() and not sleeper.refresh()
    sleeper.release()
    assert other.held()


def test_refresh_speaks_and_a_deleted_lock_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    lock = Lock(path).acquire()
    os.utime(path, (1.0, 1.0))
    assert lock.refresh() and time.time() - path.stat().st_mtime < 60
    path.unlink()
    assert lock.refresh() and path.exists()
    path.unlink()
    other = Lock(path).acquire()
    assert not lock.refresh() and other.held()


def test_file_systems_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with Lock(tmp_path / "run.lock") as lock:
        assert lock.held()
        with pytest.raises(Locked):
            Lock(tmp_path / "run.lock").acquire()


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Lock(tmp_path / "nowhere" / "run.lock").acquire()


def test_start_time() -> None:
    """A living process has one; a dead one has none, not even as a zombie."""
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert start_time(os.getpid()) == ME.started is not None
    assert start_time(process.pid) is None
    process.wait()
    assert start_time(process.pid) is None


@pytest.mark.parametrize("dead", [False, True], ids=["free", "left by a dead process"])
def test_of_many_exactly_one_gets_it(tmp_path: Path, dead: bool) -> None:
    """Eight processes reach for one lock at the same moment; one holds it, then and afterwards."""
    path = tmp_path / "run.lock"
    if dead:
        left_by(path, replace(ME, pid=dead_process()))
    command = [sys.executable, "-c", RACE, str(path), str(time.time() + 1.5)]
    racers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    first = [racer.stdout.readline().strip() for racer in racers if racer.stdout]
    last = [racer.communicate("")[0].strip() for racer in racers]
    assert sorted(first) == ["locked"] * 7 + ["mine"]
    assert [answer for answer in last if answer] == ["held"]


def test_a_second_start_is_refused_and_a_third_takes_over(tmp_path: Path) -> None:
    """Real runs of one folder: the second learns who is there, the first goes on; killed, it leaves the folder free."""
    (tmp_path / "objective.py").write_text("import time\n\ndef nap(x):\n    time.sleep(0.02)\n    return x\n")
    (tmp_path / "space.toml").write_text("[space]\nx = {float = [0.0, 1.0]}\n")
    out = tmp_path / "run"

    def start(max_trials: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "mpibo", "run", f"{tmp_path / 'objective.py'}:nap", "--method", "random", "--space",
             str(tmp_path / "space.toml"), "--workers", "1", "--max-trials", str(max_trials), "--out", str(out),
             "--progress", "none"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def events(kind: str) -> list[Event]:
        return [event for event in Follower(out).read() if event["kind"] == kind]

    def eventually(claim: Callable[[], bool]) -> None:
        until = time.monotonic() + 60
        while not claim():
            assert first.poll() is None and time.monotonic() < until, "waited in vain"
            time.sleep(0.05)

    first = start(100_000)
    try:
        eventually(lambda: len(events("end")) > 2)
        second = start(100_000)
        _, told = second.communicate(timeout=60)
        lines = [line for line in told.splitlines() if "run.lock" in line]
        assert second.returncode == 2 and "Traceback" not in told
        assert len(lines) == 1 and f"held by process {first.pid} on {socket.gethostname()}" in lines[0]
        before = len(events("end"))
        eventually(lambda: len(events("end")) > before + 2)
        assert len(events("open")) == 1
    finally:
        first.kill()
        first.communicate(timeout=60)
    ended = {event["id"] for event in events("end")}
    third = start(len(events("start")) + 2)
    _, told = third.communicate(timeout=60)
    assert third.returncode == 0, told
    assert [event["pid"] for event in events("open")] == [first.pid, third.pid]
    rows = [event["id"] for event in events("end")]
    assert len(rows) == len(set(rows)) and ended < set(rows)
    assert not (out / "run.lock").exists()
