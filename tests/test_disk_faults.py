"""A disk that is full, slow, or gone for a while: nothing is lost, nothing is glued, and the run goes on."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from simulation import simulate

from mpibo.engine import proposer
from mpibo.engine.ends import Ended
from mpibo.engine.keeper import Keeper
from mpibo.engine.managing import account
from mpibo.engine.proposer import answer_of
from mpibo.store import atomic, journal
from mpibo.store import follower as following
from mpibo.store.follower import Follower
from mpibo.store.journal import Damaged, Journal, line_of, read
from mpibo.store.lock import Lock
from mpibo.trial import Event, Ledger, trials_of

GONE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ENODEV)


def report(step: int) -> Event:
    return {"kind": "report", "id": 0, "step": step, "value": 0.5, "metrics": {}}


def eventually(claim: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until ``claim()`` is true."""
    until = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.005)


class Disk:
    """The calls that the journal makes, on a disk that can be made to fail.

    Attributes:
        room: Bytes that can still be written; None: any number.
        error: What every call fails with; None: none does.
        syncs: Errors of the next syncs, one each.
        drops: Whether a sync that fails leaves zeros where unsynced bytes were, as a kernel may drop its pages.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.room: int | None = None
        self.error: int | None = None
        self.syncs: list[int] = []
        self.drops = False
        self._sound = 0
        self._write, self._sync, self._open = os.write, os.fdatasync, os.open
        patch.setattr(journal.os, "write", self.write)
        patch.setattr(journal.os, "fdatasync", self.sync)
        patch.setattr(journal.os, "open", self.open)

    def write(self, file: int, data: Any) -> int:
        self._fail()
        if self.room is None:
            return self._write(file, data)
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self._write(file, data[: min(3, self.room)])  # short writes, as of a disk that is filling up
        self.room -= written
        return written

    def sync(self, file: int) -> None:
        self._fail()
        if self.syncs:
            if self.drops:
                size = os.fstat(file).st_size
                with open(f"/proc/self/fd/{file}", "r+b") as lost:
                    lost.seek(self._sound)
                    lost.write(bytes(size - self._sound))
            number = self.syncs.pop(0)
            raise OSError(number, os.strerror(number))
        size = os.fstat(file).st_size  # what is written from now on, this sync may miss
        self._sync(file)
        self._sound = size

    def open(self, *arguments: Any, **more: Any) -> int:
        self._fail()
        return self._open(*arguments, **more)

    def _fail(self) -> None:
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A disk under the journal."""
    return Disk(monkeypatch)


def steps(folder: Path) -> list[int]:
    """The steps of the reports in a journal without any torn tail."""
    contents = read(folder)
    assert contents.torn == b""
    return [event["step"] for event in contents.events]


# --- the writer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize("room", [0, 3, 7, 100, 131, 200])
def test_a_full_disk_glues_and_loses_nothing(tmp_path: Path, disk: Disk, room: int, sync: bool) -> None:
    """The write ends somewhere in a line; when there is room again the file has every line once."""
    run = Journal(tmp_path, sync=sync)
    run.append(report(1))
    run.write()
    run.append(report(2))
    run.append(report(3))
    disk.room = room
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            run.write()
        assert run.waiting == 2 and run.trouble == "No space left on device"
        assert [event["step"] for event in Follower(tmp_path).read()][:1] == [1]
    run.append(report(4))
    disk.room = None
    run.write()
    assert run.waiting == 0 and run.trouble is None and run.size == run.path.stat().st_size
    assert steps(tmp_path) == [1, 2, 3, 4]
    run.append(report(5))
    run.close()
    assert steps(tmp_path) == [1, 2, 3, 4, 5]


def test_short_writes_are_one_line(tmp_path: Path, disk: Disk) -> None:
    run = Journal(tmp_path, sync=False)
    disk.room = 100_000
    for step in (1, 2):
        run.append(report(step))
        run.write()
    run.close()
    assert disk.room < 100_000 - run.size + 3 and steps(tmp_path) == [1, 2]


@pytest.mark.parametrize("error", GONE)
def test_a_disk_that_is_gone_for_a_while(tmp_path: Path, disk: Disk, error: int) -> None:
    """Every call fails, in the sync thread too; the run's folder comes back and the same objects go on."""
    run, follower = Journal(tmp_path), Follower(tmp_path)
    run.append(report(1))
    run.write()
    run.sync()
    assert [event["step"] for event in follower.read()] == [1]
    disk.error = error
    run.append(report(2))
    for _ in range(3):
        with pytest.raises(OSError, match=os.strerror(error)):
            run.write()
        with pytest.raises(OSError, match=os.strerror(error)):
            run.sync()
    assert run.synced == 1 and run.trouble == os.strerror(error)
    disk.error = None
    run.write()
    eventually(lambda: run.synced == 2)
    run.append(report(3))
    run.close()
    assert [event["step"] for event in follower.read()] == [2, 3] and steps(tmp_path) == [1, 2, 3]


def test_a_failed_sync_is_not_followed_by_one_that_tells_nothing(tmp_path: Path, disk: Disk) -> None:
    """The kernel drops what it could not write and calls the next sync a success: the lines are written once more."""
    run = Journal(tmp_path)
    run.append(report(1))
    run.write()
    run.sync()
    disk.drops = True
    disk.syncs = [errno.EIO]
    run.append(report(2))
    run.append(report(3))
    run.write()
    eventually(lambda: run.trouble is not None)
    assert run.synced == 1 and run.trouble == "Input/output error"
    assert b"\0" in run.path.read_bytes()
    follower = Follower(tmp_path)
    assert [event["step"] for event in follower.read()] == [1]  # and waits for what is behind
    disk.syncs = [errno.EIO]
    with pytest.raises(OSError, match="Input/output"):
        run.write()
    assert run.synced == 1
    run.write()  # though no line waits
    assert run.synced == 3 and run.trouble is None
    assert [event["step"] for event in follower.read()] == [2, 3] and steps(tmp_path) == [1, 2, 3]
    run.close()


def test_a_line_never_says_more_is_synced_than_is(tmp_path: Path, disk: Disk) -> None:
    """Else a torn tail would be taken for damage, and the run could not go on."""
    run = Journal(tmp_path)
    disk.syncs = [errno.EIO] * 3
    run.append(report(1))
    run.write()
    eventually(lambda: run.trouble is not None)
    run.append(report(2))
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output"):
            run.write()
    run.append(report(3))
    run.write()
    run.close()
    assert [event["synced"] for event in read(tmp_path).events] == [0, 0, 0]


def test_closing_on_a_bad_disk_says_so_and_ends(tmp_path: Path, disk: Disk) -> None:
    """No hang and no thread left; the good lines are what the next start finds."""
    run = Journal(tmp_path)
    run.append(report(1))
    run.write()
    run.sync()
    run.append(report(2))
    disk.room = 5
    with pytest.raises(OSError, match="No space"):
        run.close()
    run.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "journal-sync"]
    disk.room = None
    again = Journal(tmp_path)
    assert [event["step"] for event in again.events] == [1]
    assert not (tmp_path / "journal.torn").exists()  # the half line was cut off
    again.close()


def test_a_full_disk_at_a_start_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Journal(tmp_path, sync=False)
    run.append(report(1))
    run.close()
    before = run.path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(journal.os, "fdatasync", full)
        with pytest.raises(OSError, match="No space"):
            Journal(tmp_path)
    assert run.path.read_bytes() == before and os.listdir(tmp_path) == ["journal.jsonl"]


def test_a_file_system_without_sync(tmp_path: Path, disk: Disk) -> None:
    run = Journal(tmp_path)
    disk.syncs = [errno.EINVAL, errno.ENOTSUP]
    for step in (1, 2):
        run.append(report(step))
        run.write()
        run.sync()
    assert run.synced == 2 and run.trouble is None
    run.close()


def test_the_journal_of_another_manager_is_left_alone(tmp_path: Path, disk: Disk) -> None:
    """While our disk was gone another start took the folder over: what we hold is not written into its journal."""
    ours = Journal(tmp_path)
    ours.append(report(1))
    ours.write()
    ours.sync()
    ours.append(report(2))
    disk.error = errno.ESTALE
    with pytest.raises(OSError, match="Stale"):
        ours.write()
    disk.error = None
    theirs = Journal(tmp_path)
    theirs.append(report(3))
    theirs.write()
    with pytest.raises(OSError, match="another file is in the place"):
        ours.write()
    with pytest.raises(OSError, match="another file"):
        ours.close()
    theirs.close()
    assert steps(tmp_path) == [1, 3]


# --- who reads ------------------------------------------------------------------------------------------------------


def test_a_follower_gives_what_it_read_before_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged line, and a disk that goes away between two pieces: first the good lines, then the error."""
    monkeypatch.setattr(following, "CHUNK", 256)
    lines = [line_of(report(step), step, 0) for step in range(1, 9)]
    (tmp_path / "journal.jsonl").write_bytes(b"".join(lines) + line_of(report(11), 11, 0))
    follower = Follower(tmp_path)
    assert [event["step"] for event in follower.read()] == list(range(1, 9))
    for _ in range(2):
        with pytest.raises(Damaged, match="expected line 9, got line 11"):
            follower.read()
    (tmp_path / "journal.jsonl").write_bytes(b"".join(lines))
    follower = Follower(tmp_path)
    opened = iter([open, open])

    def opens(*arguments: Any) -> Any:
        made = next(opened, None)
        if made is None:
            raise OSError(errno.ESTALE, "Stale file handle")
        return made(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(following, "open", opens, raising=False)
        first = follower.read()
        with pytest.raises(OSError, match="Stale"):
            follower.read()
    assert first and [event["step"] for event in first + follower.read()] == list(range(1, 9))


@pytest.mark.parametrize("chunk", [10, 97, 300, 1 << 22])
def test_a_follower_reads_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Lines longer than a piece too; and no further than it is told."""
    monkeypatch.setattr(following, "CHUNK", chunk)
    lines = [line_of(report(step) | {"text": "x" * (50 * step)}, step, 0) for step in range(1, 8)]
    (tmp_path / "journal.jsonl").write_bytes(b"".join(lines)[:-3])
    follower = Follower(tmp_path)
    assert [event["step"] for event in follower.read(until=len(b"".join(lines[:3])))] == [1, 2, 3]
    assert [event["step"] for event in follower.events()] == [4, 5, 6] and follower.read() == []


class Told:
    """A search that only keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def apply(self, event: Event) -> None:
        self.events.append(event)

    def answer(self, event: Event) -> list[Any]:
        return [event["ask"]]


def test_lines_that_show_late_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system shows the request late, and fails before it does."""
    lines = [line_of(report(1), 1, 0), line_of({"kind": "ask", "ask": 0}, 2, 0)]
    path = tmp_path / "journal.jsonl"
    until = len(b"".join(lines))
    looks: list[float] = []

    def look(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 1:
            path.mkdir()  # reading it fails
        elif len(looks) == 3:
            path.rmdir()
            path.write_bytes(lines[0] + lines[1][:9])
        elif len(looks) == 4:
            path.write_bytes(b"".join(lines))

    monkeypatch.setattr(proposer.time, "sleep", look)
    search = Told()
    assert answer_of(search, Follower(path), 0, until)["proposals"] == [0]
    assert len(looks) == 4 and [event["kind"] for event in search.events] == ["report"]


def test_a_request_that_never_shows_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposer, "LATE", 0.0)
    monkeypatch.setattr(proposer, "GONE", 0.0)
    with pytest.raises(LookupError, match="no request 3 before byte 100"):
        answer_of(Told(), Follower(tmp_path), 3, 100)
    follower = Follower(tmp_path)
    (tmp_path / "journal.jsonl").mkdir()
    with pytest.raises(IsADirectoryError):
        answer_of(Told(), follower, 3, 100)


# --- the files beside it --------------------------------------------------------------------------------------------


class Stub:
    """As much of a manager as the keeper sees."""

    closing = None

    def __init__(self) -> None:
        self.ledger = Ledger()


def keeper_of(folder: Path, run: Journal | None = None) -> Keeper:
    keeper = Keeper(Lock(folder / "run.lock").acquire(), folder, run)
    keeper.manager = Stub()  # type: ignore[assignment]
    return keeper


def test_a_status_that_cannot_be_written_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The run goes on; the old status stays, whole, and no rubbish beside it."""
    left = tmp_path / ".status.json.0123.tmp"
    left.write_text("of a start that was killed")
    keeper = keeper_of(tmp_path)
    keeper.write(None)
    before = (tmp_path / "status.json").read_bytes()
    keeper.manager.ledger.configs = 7  # type: ignore[union-attr]

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "fsync", full)
        for _ in range(3):
            keeper._next = 0.0
            assert keeper() is None
        with pytest.raises(OSError, match="No space"):
            keeper.write(Ended("max_trials", 0))
    assert [record.getMessage() for record in caplog.records] == [
        f"can't write {tmp_path}/status.json: No space left on device (the journal has it all)"
    ]
    assert (tmp_path / "status.json").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["run.lock", "status.json"]
    keeper._next = 0.0
    assert keeper() is None and json.loads((tmp_path / "status.json").read_text())["counts"]["configs"] == 7


def test_a_lock_taken_while_the_disk_was_gone_ends_the_run(tmp_path: Path, disk: Disk) -> None:
    """In trouble the lock is looked at each time, not only every 30 s, and before anything is written."""
    run = Journal(tmp_path)
    run.append(report(1))
    run.write()
    run.sync()
    keeper = keeper_of(tmp_path, run)
    assert keeper() is None
    disk.error = errno.EIO
    run.append(report(2))
    with pytest.raises(OSError, match="Input/output"):
        run.write()
    assert keeper() is None  # nobody has taken it, as far as can be told
    disk.error = None
    os.unlink(tmp_path / "run.lock")
    other = Lock(tmp_path / "run.lock").acquire()
    assert "another manager has taken" in (keeper() or "")
    assert steps(tmp_path) == [1]
    other.release()
    run.write()
    run.close()


def test_an_idle_manager_puts_a_failed_sync_right(tmp_path: Path, disk: Disk) -> None:
    run = Journal(tmp_path)
    keeper = keeper_of(tmp_path, run)
    keeper.write(None)
    disk.syncs = [errno.EIO]
    run.append(report(1))
    run.write()
    eventually(lambda: run.trouble is not None)
    keeper._next = 0.0
    assert keeper() is None and run.trouble is None and run.synced == 1
    run.close()


def test_a_run_on_a_disk_that_fails_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole run: every seventh write of the journal ends half way. Its table is that of an undisturbed run."""
    (tmp_path / "good").mkdir()
    assert simulate(tmp_path / "good", max_trials=40)[1].why == "max_trials"
    count = 0
    write = os.write

    def failing(file: int, data: Any) -> int:
        nonlocal count
        count += 1
        if count % 7 == 0:
            write(file, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data)

    with monkeypatch.context() as patch:
        patch.setattr(journal.os, "write", failing)
        patch.setattr(account, "BLOCKED", 0.0)
        (tmp_path / "bad").mkdir()
        _, again, _ = simulate(tmp_path / "bad", max_trials=40)
    assert again.why == "max_trials" and count > 70
    good, bad = (trials_of(read(tmp_path / name).events) for name in ("good", "bad"))
    assert [(t.config, t.value, t.state) for t in good] == [(t.config, t.value, t.state) for t in bad]


def test_a_slow_disk_delays_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one sync takes its time lines are written as ever; they only count as synced later."""
    release = threading.Event()
    begun = threading.Event()
    sync = os.fdatasync

    def slow(descriptor: int) -> None:
        begun.set()
        assert release.wait(60)
        sync(descriptor)

    monkeypatch.setattr(journal.os, "fdatasync", slow)
    run = Journal(tmp_path)
    run.append(report(0))
    run.write()
    assert begun.wait(30)
    for step in range(1, 500):
        run.append(report(step))
        run.write()
    assert len(read(tmp_path).events) == 500 and run.synced == 0
    release.set()
    eventually(lambda: run.synced == 500)
    run.close()
