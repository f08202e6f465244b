"""An outcome whose manager is gone waits in the run folder."""

import json
import select
import time

import pytest

from mpibo.engine import messages
from mpibo.engine.working import orphans
from mpibo.engine.working.worker import Worker
from mpibo.trial import Outcome, State, Trial

GOOD = Outcome(State.DONE, 0.5, metrics={"size": 2}, duration=1.5)


def test_what_is_kept_is_taken_until_it_is_cleared(tmp_path):
    assert orphans.take(tmp_path) == {} and orphans.take(tmp_path / "no such run") == {}
    kept = {number: messages.finished(number, GOOD) for number in (3, 12)}
    for message in kept.values():
        orphans.keep(tmp_path, message)
    assert orphans.take(tmp_path) == orphans.take(tmp_path) == kept
    assert messages.outcome(orphans.take(tmp_path)[12]) == GOOD
    orphans.clear(tmp_path, [3, 99])
    assert list(orphans.take(tmp_path)) == [12]
    orphans.clear(tmp_path, [12])
    assert not (tmp_path / "orphans").exists()


def test_the_latest_outcome_of_a_trial_counts(tmp_path):
    orphans.keep(tmp_path, messages.finished(3, Outcome(State.LOST)))
    orphans.keep(tmp_path, messages.finished(3, GOOD))
    assert orphans.take(tmp_path) == {3: messages.finished(3, GOOD)}


def test_bad_files_are_named_and_left_out(tmp_path):
    orphans.keep(tmp_path, good := messages.finished(3, GOOD))
    whole = json.dumps(good)
    bad = {
        "1.json": "", "2.json": whole[:40], "4.json": whole, "5.json": "[]", "6.json": '{"kind": "finished", "id": 6}',
        "7.json": whole.replace("DONE", "RUNNING").replace('"id": 3', '"id": 7'),
        "8.json": whole.replace("0.5", "NaN").replace('"id": 3', '"id": 8'),
        "9.json": whole.replace('"id": 3', '"id": "9"'), "10.json": "[" * 100_000,
        "11.json": whole.replace("DONE", "FINE").replace('"id": 3', '"id": 11'),
    }  # fmt: skip
    for name, text in bad.items():
        (tmp_path / "orphans" / name).write_text(text)
    (tmp_path / "orphans" / ".13.json.abc.tmp").write_text("a writer was killed")
    (tmp_path / "orphans" / "14.json").mkdir()
    lines = []
    assert orphans.take(tmp_path, lines.append) == {3: good}
    assert len(lines) == len(bad) + 1
    assert all(any(f"/{name} " in line for line in lines) for name in bad)


@pytest.fixture
def hired(tmp_path):
    """A worker with an objective that doubles ``x``; gives it with what it sent."""
    (tmp_path / "objective.py").write_text("def objective(x):\n    return 2.0 * x\n")
    setup = {
        "objective": {"kind": "file", "path": str(tmp_path / "objective.py"), "function": "objective"}, "fix": {},
        "argv": ["x"], "folder": str(tmp_path), "isolation": "process", "threads": 1,
    }  # fmt: skip
    sent = []
    worker = Worker(1, setup, sent.append)
    worker.start()
    yield worker, sent
    worker.close()


def begin(worker, number):
    worker.handle(messages.run(Trial(id=number, config={"x": 4.0})))


def wait(worker, what):
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        select.select(worker.descriptors, [], [], 0.02)
        worker.step()


def test_a_worker_leaves_what_the_manager_may_not_have(hired, tmp_path):
    worker, sent = hired
    begin(worker, 0)
    wait(worker, lambda: not worker.busy)
    worker.abandon()
    assert worker.done and worker._child is None
    assert orphans.take(tmp_path) == {0: sent[-1] | {"config": {"x": 4.0}}} and messages.outcome(sent[-1]).value == 8.0


def test_an_answer_that_is_just_coming_is_left_too(hired, tmp_path):
    """The worker has not read it yet when it gives the manager up; of two trials only the last is unacknowledged."""
    worker, sent = hired
    begin(worker, 0)
    wait(worker, lambda: not worker.busy)
    begin(worker, 1)
    deadline = time.monotonic() + 60
    while not select.select(worker.descriptors, [], [], 0.1)[0]:
        assert time.monotonic() < deadline
    worker.abandon()
    assert list(orphans.take(tmp_path)) == [1] and sent[-1]["id"] == 0  # a dead manager is told nothing


@pytest.mark.parametrize("word", ["run", "quit"])
def test_the_managers_next_word_is_a_receipt(hired, tmp_path, word):
    worker, _ = hired
    begin(worker, 0)
    wait(worker, lambda: not worker.busy)
    worker.handle({"kind": "beat"})  # says nothing about the outcome
    if word == "run":
        worker.handle(messages.run(Trial(id=1, config={"x": "no number, and slow to say so" * 1000})))
    else:
        worker.handle({"kind": "quit"})
    worker.abandon()
    assert 0 not in orphans.take(tmp_path)


def test_a_run_folder_that_is_gone_costs_the_outcome_only(hired, tmp_path, capfd):
    worker, _ = hired
    begin(worker, 0)
    wait(worker, lambda: not worker.busy)
    (tmp_path / "orphans").write_text("in the way")
    worker.abandon()
    assert "worker 1 can't keep an outcome" in capfd.readouterr().err
