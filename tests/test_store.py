"""Results files: what went in comes out, and a reader never sees half a file."""

from __future__ import annotations

import csv as standard_csv
import errno
import json
import os
import string
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mpibo.store import atomic, csv, hdf5
from mpibo.trial import State, Trial

TRICKY = ["1", "1.0", "true", "null", "NaN", "-Infinity", "", " ", " 1", '"', '"a"', "[1]", "{}", "[" * 2000, "a,b",
          'say "x"', "a\nb", "a\r\nb", "\r", "\0", "\ud800", "\ufeff", "1e5", "-", "é", "=1+1", "\x85",
          "\u2028"]  # fmt: skip
texts = st.sampled_from(TRICKY) | st.text(max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)
plain = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | numbers | texts
choices = plain | st.lists(plain | st.lists(plain, max_size=2).map(tuple), max_size=3).map(tuple)
names = st.text(string.ascii_letters + ":/.%,é", min_size=1, max_size=5)
metrics = st.dictionaries(st.text(max_size=4), plain | st.lists(plain, max_size=3), max_size=3)
seconds = st.floats(0, 1e6).map(lambda value: round(value, 6))


@st.composite
def tables(draw: st.DrawFn) -> list[Trial]:
    """Some trials of one space, some of its parameters inactive."""
    space = draw(st.lists(names, unique=True, max_size=4))
    kinds = [draw(st.sampled_from([choices, st.integers(-9, 9), numbers, st.booleans(), texts])) for _ in space]
    made = []
    for number in range(draw(st.integers(0, 4))):
        config = {name: draw(kind) for name, kind in zip(space, kinds, strict=True) if draw(st.integers(0, 4))}
        made.append(Trial(
            id=number, config=config, state=draw(st.sampled_from(State)), value=draw(st.none() | numbers),
            reason=draw(st.none() | st.just("exception")), error=draw(st.none() | texts), metrics=draw(metrics),
            budget=draw(st.integers(1, 81)), parent=draw(st.none() | st.integers(0, 9)),
            retry_of=draw(st.none() | st.integers(0, 9)), worker=draw(st.none() | st.integers(1, 4096)),
            seed=draw(st.integers(0, 2**32 - 1)), host=draw(st.none() | st.sampled_from(["node1", "10", "true"])),
            started=draw(st.none() | seconds), finished=draw(st.none() | seconds),
        ))  # fmt: skip
    return made


@given(choices)
@example("\ud800")
def test_a_cell_tells_apart_what_is_different(value: object) -> None:
    """The string "1" and the number 1, None and the empty string, 1 and 1.0 and true: each comes back as it was."""
    cell = csv.to_cell(value)
    assert cell
    assert repr(csv.from_cell(cell)) == repr(json.loads(json.dumps(value)))


@settings(max_examples=150, deadline=None)
@given(tables())
def test_csv_round_trip(trials: list[Trial]) -> None:
    """Reading a results file gives the trials that were written: types, commas, quotes and line ends too."""
    with TemporaryDirectory() as folder:
        csv.write(Path(folder) / "results.csv", trials)
        again = csv.read(Path(folder) / "results.csv")
    assert again == trials
    assert [repr(trial.config) for trial in again] == [repr(dict(sorted_like(trial, trials))) for trial in trials]


def sorted_like(trial: Trial, trials: list[Trial]) -> list[tuple[str, object]]:
    """A config in the order of the file's columns."""
    order = list(dict.fromkeys(name for each in trials for name in each.config))
    return [(name, trial.config[name]) for name in order if name in trial.config]


def test_csv_columns(tmp_path: Path) -> None:
    """The columns stand in the order of the interface; inactive is empty, None is null, times are seconds."""
    done = Trial(id=0, config={"opt": "sgd", "momentum": None, "sizes": (3, 5)}, state=State.DONE, value=0.1,
                 started=0.0, finished=1.23456789, metrics={"n": 3})  # fmt: skip
    failed = Trial(id=1, config={"opt": "1"}, state=State.FAILED, reason="exception", error='a "b",\nc')
    csv.write(tmp_path / "results.csv", [done, failed], ["opt", "momentum"])
    with open(tmp_path / "results.csv", newline="") as file:
        header, first, second = standard_csv.reader(file)
    assert (
        header[:16]
        == (
            "id state value reason error budget parent retry_of bracket rung origin seed worker host started finished"
        ).split()
    )
    assert header[16:] == ["config.opt", "config.momentum", "config.sizes", "metrics.n"]
    assert first[:3] == ["0", "DONE", "0.1"] and first[14:] == ["0.0", "1.234568", "sgd", "null", "[3, 5]", "3"]
    assert second[3:5] == ["exception", 'a "b",\nc'] and second[16:] == ['"1"', "", "", ""]


def test_csv_made_by_hand(tmp_path: Path) -> None:
    """A few columns suffice; what a spreadsheet adds (a byte order mark, \\r\\n, other columns) does no harm."""
    (tmp_path / "old.csv").write_bytes("\ufeffvalue,config.lr,note,host\r\n0.5,1e-3,mine,12\r\n\r\n,0.1,,\r\n".encode())
    good, bad = csv.read(tmp_path / "old.csv")
    assert (good.id, good.state, good.value, good.config, good.host) == (0, State.DONE, 0.5, {"lr": 1e-3}, "12")
    assert (bad.id, bad.state, bad.value) == (1, State.FAILED, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "line 1: expected distinct columns"),
        (b"a,b\n1,2\n", "line 1: expected distinct columns"),
        (b"id,id\n", "line 1: expected distinct columns"),
        (b"id,value\n1\n", "line 2: expected 2 cells, got 1"),
        (b"id,state\n1,DNE\n", "line 2: state must be one of RUNNING, DONE"),
        (b"id,value\n1,2\nx,2\n", "line 3: id must be a whole number, got 'x'"),
        (b"id,value\n1,good\n", "line 2: value must be a number, got 'good'"),
        (b'id,host\n1,"a\n', "not a CSV file"),
        (b"id,host\n1,\xff\n", "expected UTF-8"),
    ],
)
def test_csv_errors_name_the_line(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "bad.csv").write_bytes(text)
    with pytest.raises(ValueError, match=r"bad\.csv") as error:
        csv.read(tmp_path / "bad.csv")
    assert message in str(error.value) and "\n" not in str(error.value)


@settings(max_examples=60, deadline=None)
@given(tables(), st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99), numbers), max_size=5))
def test_hdf5_round_trip(trials: list[Trial], reports: list[tuple[int, int, float]]) -> None:
    """The file gives back trials, curves and attributes (a None among a metric's numbers is missing)."""
    curves = hdf5.Curves(*([report[part] for report in reports] for part in range(3)))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "results.h5"
        hdf5.write(path, trials, ["lr"], curves, {"space": {"é": [1, None]}})
        again = hdf5.read(path)
    assert again.attributes == {"format": 1, "space": {"é": [1, None]}}
    assert again.curves == curves
    assert [without_metrics(trial) for trial in again.trials] == [without_metrics(trial) for trial in trials]
    for new, old in zip(again.trials, trials, strict=True):
        assert {name: value for name, value in old.metrics.items() if value is not None} == {
            name: value for name, value in new.metrics.items() if value is not None
        }
        assert {name: type(value) is bool for name, value in old.config.items()} == {
            name: type(value) is bool for name, value in new.config.items()
        }


def without_metrics(trial: Trial) -> dict[str, object]:
    """What is compared exactly."""
    return {name: getattr(trial, name) for name in (*hdf5.COLUMNS, "config")}


def test_hdf5_is_plain(tmp_path: Path) -> None:
    """Columns are what NumPy users expect, a large space fits, and the oldest readers can open the file."""
    trials = [Trial(id=number, config={"n": number, "a/b": 0.5, "x": 1.0} if number else {"n": 0, "a/b": 2},
                    state=State.DONE, metrics={"loss": 0.1 if number else None}) for number in range(3)]  # fmt: skip
    hdf5.write(tmp_path / "r.h5", trials, ["n", "a/b", "x", "never"], None, {"space": "x" * 200_000})
    assert (tmp_path / "r.h5").read_bytes()[8] == 0  # superblock version 0: never libver="latest"
    with h5py.File(tmp_path / "r.h5", "r", locking=False) as file:
        assert list(file["config"]) == ["n", "a%2Fb", "x", "never"]
        assert file["config/n"].dtype == int and file["config/a%2Fb"].dtype == float
        assert file["parent"][()].tolist() == [-1] * 3
        assert file["state"].asstr()[0] == "DONE"
        assert file["metrics/loss"][1:].tolist() == [0.1, 0.1]
        assert len(json.loads(file.attrs["space"])) == 200_000
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match=r"other\.h5: expected results of format 1"):
        hdf5.read(tmp_path / "other.h5")


def test_a_failed_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full the old file is still whole, and nothing is left lying about."""
    path = tmp_path / "results.csv"
    atomic.write(path, "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        for write in (lambda: atomic.write(path, "new"), lambda: csv.write(path, []), lambda: hdf5.write(path, [])):
            with pytest.raises(OSError, match="No space"):
                write()
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["results.csv"]
    atomic.write(path, b"new")
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask() -> int:
    """The process's umask."""
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_sweep_takes_only_what_killed_writers_left(tmp_path: Path) -> None:
    for name in (".results.csv.123.tmp", ".results.h5.9.tmp", "results.csv", ".results.csv.bak"):
        (tmp_path / name).touch()
    atomic.sweep(tmp_path / "results.csv")
    assert sorted(os.listdir(tmp_path)) == [".results.csv.bak", ".results.h5.9.tmp", "results.csv"]
