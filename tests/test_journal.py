"""The journal is the truth: what was written comes back, a torn tail is told from damage."""

import json
import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibo.store.follower import Follower
from mpibo.store.journal import Damaged, Journal, event_of, line_of, parse, read

EVENTS = [
    {"kind": "start", "id": 0, "config": {"lr": 0.1, "layers": 2, "shape": (1, 2.0), "on": True, "name": None}},
    {"kind": "report", "id": 0, "step": 1, "value": 0.5, "metrics": {}},
    {"kind": "end", "id": 0, "state": "DONE", "value": 1e-300, "error": 'a "quoted"\nline, "crc": "00000000"}'},
]


def write(folder, events=EVENTS):
    journal = Journal(folder)
    for event in events:
        journal.append(event)
        journal.write()
        journal.sync()
    journal.close()
    return journal.path


def test_lines_come_back_as_they_were(tmp_path):
    events = read(write(tmp_path)).events
    assert [event["n"] for event in events] == [1, 2, 3]
    assert events[0]["config"] == EVENTS[0]["config"]
    assert type(events[0]["config"]["shape"]) is tuple and events[0]["config"]["on"] is True
    assert events[2]["error"] == EVENTS[2]["error"] and events[2]["value"] == 1e-300
    assert [event["t"] for event in events] == sorted(event["t"] for event in events)


def test_every_line_is_strict_json(tmp_path):
    for line in write(tmp_path).read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(name))
    with pytest.raises(ValueError, match="JSON compliant"):
        line_of({"kind": "end", "value": float("nan")}, 1, 0)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_one_changed_byte_is_found(data):
    """Damage never passes for an event; before a line known to be synced it is reported with its number."""
    lines = [line_of(event, number, number - 1) for number, event in enumerate(EVENTS, 1)]
    whole = bytearray(b"".join(lines))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= 1 << data.draw(st.integers(0, 7))
    number = 1 + sum(place >= sum(map(len, lines[: i + 1])) for i in range(len(lines)))
    if number == len(EVENTS):  # nobody knew that the last line was on the disk
        assert [event["n"] for event in parse(bytes(whole)).events] == [1, 2]
    else:
        with pytest.raises(Damaged, match=f"line {number}"):
            parse(bytes(whole))


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_torn_tail_is_set_aside(tmp_path, cut):
    """The good lines stay, the tail goes to journal.torn, and the next line is not glued to it."""
    path = write(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[:-cut])
    journal = Journal(tmp_path)
    assert [event["n"] for event in journal.events] == [1, 2]
    journal.append({"kind": "close", "why": "test", "exit_code": 0})
    journal.close()
    assert [event["kind"] for event in read(path).events] == ["start", "report", "close"]
    assert (tmp_path / "journal.torn").read_bytes().startswith(data.splitlines()[2][:-cut])


def test_damage_changes_nothing(tmp_path):
    path = write(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[2])
    before = path.read_bytes()
    with pytest.raises(Damaged, match=r"line 2.*line number 3"):
        Journal(tmp_path)
    assert path.read_bytes() == before and not (tmp_path / "journal.torn").exists()


def test_a_follower_sees_each_whole_line_once(tmp_path):
    data = write(tmp_path).read_bytes()
    growing = tmp_path / "growing.jsonl"
    follower = Follower(growing)
    seen = follower.read()
    for end in range(0, len(data) + 1, 7):
        growing.write_bytes(data[:end])
        seen += follower.read()
    growing.write_bytes(data)
    seen += follower.read()
    assert [event["n"] for event in seen] == [1, 2, 3]
    assert Follower(growing).read(until=data.index(b"\n") + 1) == seen[:1]


def test_a_killed_writer_loses_nothing_that_was_written(tmp_path):
    """SIGKILL at any instant: every line that the writer saw written is there."""
    program = (
        "import sys; from pathlib import Path; from mpibo.store.journal import Journal\n"
        f"journal = Journal(Path({str(tmp_path)!r}))\n"
        "while True:\n"
        "    event = journal.append({'kind': 'report', 'id': 0, 'step': 1, 'value': 1.0, 'metrics': {}})\n"
        "    journal.write(); print(event['n'], flush=True)\n"
    )
    last = 0
    for count in (200, 50, 400):
        writer = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=os.getcwd())
        for _ in range(count):
            last = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        last = max([last, *(int(line) for line in writer.stdout.read().split("\n")[:-1])])
        writer.wait()
        writer.stdout.close()
        assert len(read(tmp_path).events) >= last


def test_a_line_without_newline_is_not_whole():
    line = line_of(EVENTS[0], 1, 0)
    assert event_of(line) is not None and event_of(line[:-1]) is None
