"""How a run ends in time: deadlines, signals, time limits, stragglers; in virtual time."""

import signal
from datetime import UTC, datetime, timedelta

import pytest
from simulation import simulate, value

from mpibo.engine.deadline import noticed, seconds_left
from mpibo.engine.ends import GRACES, Deadline, grace_after
from mpibo.engine.managing.manager import ANSWER
from mpibo.engine.signals import GRACE, Signals
from mpibo.engine.transport import Flaky
from mpibo.settings import date
from mpibo.store.journal import read
from mpibo.trial import State, trials_of


def rows(folder):
    return trials_of(read(folder).events)


def close_line(folder):
    return [event for event in read(folder).events if event["kind"] == "close"][-1]


def constant(seconds):
    return lambda run, rng: seconds


def test_no_trial_starts_that_can_not_end_before_the_deadline(tmp_path):
    """Trials of 40 s in an allocation of 600 s: none is cut off, none starts too late, and the next start goes on."""
    _, ended, _ = simulate(tmp_path, workers=4, max_trials=400, duration=constant(40.0), deadline=600.0)
    assert (ended.why, ended.exit_code) == ("deadline", 75)
    found = rows(tmp_path)
    assert {trial.state for trial in found} == {State.DONE}
    assert max(trial.started for trial in found) + 40 <= 600 and len(found) > 4 * 12
    assert close_line(tmp_path)["t"] < 600
    before = len(found)
    _, ended, _ = simulate(tmp_path, workers=4, max_trials=before + 8, duration=constant(40.0), deadline=600.0)
    assert ended.why == "max_trials" and len(rows(tmp_path)) == before + 8


def test_a_trial_that_runs_into_the_deadline_is_lost_without_a_death(tmp_path):
    """Longer than the median promised: told to end before the deadline, LOST, and asked again first next time."""
    duration = lambda run, rng: 500.0 if run["id"] == 30 else 10.0  # noqa: E731
    manager, ended, _ = simulate(tmp_path, workers=4, max_trials=400, duration=duration, deadline=300.0)
    assert ended.why == "deadline" and close_line(tmp_path)["t"] <= 300
    (lost,) = [trial for trial in rows(tmp_path) if trial.state is State.LOST]
    assert lost.id == 30 and not manager.ledger.deaths
    simulate(tmp_path, workers=4, max_trials=len(rows(tmp_path)), duration=constant(1.0))
    assert [trial.state for trial in rows(tmp_path) if trial.retry_of == 30] == [State.DONE]


def test_a_deadline_that_is_not_reached_changes_nothing(tmp_path):
    _, ended, _ = simulate(tmp_path, max_trials=20, deadline=10_000.0)
    assert (ended.why, ended.exit_code) == ("max_trials", 0)


@pytest.mark.parametrize("seconds", [5.0, 60.0, 3600.0, 86400.0])
def test_a_deadline_leaves_time_to_close(seconds):
    deadline = Deadline.after(seconds, now=100.0)
    assert 100.0 < deadline.last_end - deadline.grace < deadline.last_end < 100.0 + seconds
    assert deadline.allows(100.0, None) and not deadline.allows(100.0, seconds)
    assert not deadline.is_near(100.0) and deadline.is_near(deadline.last_end)


class Signal:
    """A signal that comes at a virtual time."""

    def __init__(self, name, at):
        self.name, self.at, self.transport = name, at, None

    def wrap(self, transport):
        self.transport = transport
        return transport

    def __call__(self):
        return self.name if self.transport and self.transport.now() >= self.at else None


@pytest.mark.parametrize(("name", "code"), [("SIGUSR1", 75), ("SIGTERM", 75), ("SIGINT", 130)])
def test_after_a_signal_what_can_end_ends_and_nothing_starts(tmp_path, name, code):
    """A trial that ends within the grace is DONE; the others are LOST without a death."""
    signal = Signal(name, 7.0)
    duration = lambda run, rng: 6.0 if run["id"] % 2 else 200.0  # noqa: E731
    manager, ended, _ = simulate(
        tmp_path, workers=8, max_trials=400, duration=duration, interrupted=signal, wrap=signal.wrap
    )
    assert (ended.why, ended.exit_code) == (name, code)
    found = rows(tmp_path)
    assert max(trial.started for trial in found) <= 8 and not manager.ledger.deaths
    assert {trial.state for trial in found} == {State.DONE, State.LOST}
    last = close_line(tmp_path)["t"]
    assert last < (9 if name == "SIGINT" else 31)
    late = [trial for trial in found if trial.state is State.DONE and trial.finished > 8]
    assert bool(late) == (name == "SIGUSR1")  # SIGTERM leaves 3 s, less than they need


@pytest.mark.parametrize(("deadline", "last"), [(200.0, 190), (9000.0, 60)])
def test_a_notice_of_the_allocations_end_leaves_trials_all_of_its_time(tmp_path, deadline, last):
    """A trial that needs 150 s more has them where the allocation has; far from its end SIGUSR1 is no such notice."""
    signal = Signal("SIGUSR1", 30.0)
    _, ended, _ = simulate(
        tmp_path,
        workers=2,
        max_trials=400,
        duration=constant(160.0),
        deadline=deadline,
        interrupted=signal,
        wrap=signal.wrap,
    )
    assert (ended.why, ended.exit_code) == ("SIGUSR1", 75) and close_line(tmp_path)["t"] < last
    assert {trial.state for trial in rows(tmp_path)} == {State.DONE if deadline == 200.0 else State.LOST}


@pytest.mark.parametrize("deadline", [None, 9000.0, 3000.0])
def test_a_machine_that_is_taken_away_leaves_trials_what_its_notice_leaves(tmp_path, deadline):
    """110 s, whenever the allocation may end: 90 for trials, the rest for what comes after them."""
    signal = Signal("SIGUSR1", 30.0)
    duration = lambda run, rng: 100.0 if run["id"] else 900.0  # noqa: E731
    _, ended, _ = simulate(tmp_path, workers=3, max_trials=400, duration=duration, deadline=deadline,
                           interrupted=signal, wrap=signal.wrap, noticed=lambda: 110.0)  # fmt: skip
    assert ended.why == "SIGUSR1" and 119 < close_line(tmp_path)["t"] < 124
    assert [trial.state for trial in rows(tmp_path)] == [State.LOST, State.DONE, State.DONE]


def test_a_notice_that_comes_while_a_run_ends_shortens_its_end(tmp_path):
    """Far from over by the allocation's time, trials hear of the machine that goes: 50 s later, with 60 s to go."""
    signal = Signal("SIGUSR1", 30.0)
    notice = lambda: None if signal.transport.now() < 80.0 else max(0.0, 140.0 - signal.transport.now())  # noqa: E731
    _, ended, _ = simulate(tmp_path, workers=2, max_trials=400, duration=constant(900.0), deadline=3000.0,
                           interrupted=signal, wrap=signal.wrap, noticed=notice)  # fmt: skip
    assert (ended.why, ended.exit_code) == ("SIGUSR1", 75) and 119 < close_line(tmp_path)["t"] < 124
    assert {trial.state for trial in rows(tmp_path)} == {State.LOST}


@pytest.mark.parametrize(
    ("signal", "noticed", "left", "grace"),
    [
        ("SIGUSR1", None, None, GRACES["SIGUSR1"]),
        ("SIGUSR1", 110.0, None, 90.0),
        ("SIGUSR1", 110.0, 60.0, 50.0),  # of the allocation there is less
        ("SIGUSR1", 5.0, None, 0.0),
        ("SIGTERM", 110.0, None, GRACES["SIGTERM"]),
    ],
)
def test_who_knows_least_time_is_believed(signal, noticed, left, grace):
    deadline = Deadline(1000.0 + left - 10.0, 20.0) if left else None
    assert grace_after(signal, noticed, deadline, 1000.0) == grace


@pytest.mark.parametrize(
    ("text", "known"),
    [("{soon:%Y-%m-%dT%H:%M:%SZ}", True), ("{soon:%Y-%m-%dT%H:%M:%SZ}\n", True), ("{past:%Y-%m-%dT%H:%M:%SZ}", False),
     ("{soon:%Y-%m-%dT%H:%M:%S}", False), ("soon", False), ("", False), (None, False)],
)  # fmt: skip
def test_a_notice_is_a_date_that_is_still_to_come(tmp_path, text, known):
    now = datetime.now(UTC)
    if text is not None:
        (tmp_path / "notice").write_text(
            text.format(soon=now + timedelta(seconds=100), past=now - timedelta(seconds=5))
        )
    found = noticed(tmp_path / "notice")
    assert found is None if not known else 80 < found <= 100


def test_walltime_ends_with_code_0(tmp_path):
    _, ended, _ = simulate(tmp_path, max_trials=None, walltime=20.0)
    assert (ended.why, ended.exit_code) == ("walltime", 0)


def test_a_multiple_of_the_median_limits_trials(tmp_path):
    """`3x`: a trial of 100 s among trials of 2 s is told to end, and costs itself alone."""
    duration = lambda run, rng: 100.0 if run["id"] == 12 else 2.0  # noqa: E731
    simulate(tmp_path, workers=4, max_trials=60, duration=duration, multiple=3.0)
    found = rows(tmp_path)
    assert found[12].state is State.FAILED and found[12].reason == "timeout"
    assert "3 times the median of 2 s" in found[12].error and found[12].finished - found[12].started < 9
    assert all(trial.state is State.DONE for trial in found if trial.id != 12)


def test_without_a_median_nothing_is_cut_off(tmp_path):
    duration = lambda run, rng: 100.0 if run["id"] < 4 else 1.0  # noqa: E731
    simulate(tmp_path, workers=4, max_trials=4, duration=duration, multiple=3.0)
    assert {trial.state for trial in rows(tmp_path)} == {State.DONE}


def test_a_straggler_at_the_end_is_given_up(tmp_path):
    """One trial of hours while 39 workers have nothing left to do: ABANDONED, with the reason in its line."""
    duration = lambda run, rng: 20_000.0 if run["id"] == 70 else rng.uniform(5, 15)  # noqa: E731
    _, ended, _ = simulate(tmp_path, workers=40, max_trials=100, duration=duration, lease=1e9)
    assert ended.why == "max_trials"
    found = rows(tmp_path)
    assert found[70].state is State.ABANDONED and "times the median" in found[70].error
    assert "39 of 40 workers had nothing left to do" in found[70].error
    assert sum(trial.state is State.DONE for trial in found) == 99


def test_a_long_trial_in_the_middle_of_a_run_is_left_alone(tmp_path):
    duration = lambda run, rng: 300.0 if run["id"] == 7 else 5.0  # noqa: E731
    simulate(tmp_path, workers=4, max_trials=300, duration=duration, lease=1e9)
    assert {trial.state for trial in rows(tmp_path)} == {State.DONE}


def test_a_time_limit_of_the_persons_own_gives_nobody_up(tmp_path):
    duration = lambda run, rng: 2_000.0 if run["id"] == 70 else 5.0  # noqa: E731
    simulate(tmp_path, workers=40, max_trials=100, duration=duration, lease=1e9, abandon=False)
    assert {trial.state for trial in rows(tmp_path)} == {State.DONE}


def test_the_journal_waits_for_a_disk_that_is_full(tmp_path, caplog):
    """Nothing goes on until what happened is written; then nothing is missing and nobody is taken for dead."""
    failing, tries = [], []

    class Full:
        def __init__(self, journal):
            self.write, self.journal = journal.write, journal

        def __call__(self):
            if 200 < self.journal.number < 260 and len(tries) < 5:
                tries.append(self.journal.number)
                failing.append(True)
                raise OSError(28, "No space left on device")
            self.write()

    def hook(journal):
        journal.write = Full(journal)

    _, ended, _ = simulate(tmp_path, max_trials=150, hook=hook, wait=lambda seconds: None)
    assert ended.why == "max_trials" and len(failing) == 5
    found = rows(tmp_path)
    assert len(found) == 150 and all(t.state is State.DONE and t.value == value(t.config) for t in found)
    assert caplog.text.count("No space left on device") == 1 and "goes on" in caplog.text


def test_a_signal_ends_a_run_whose_disk_is_gone(tmp_path):
    """What was written is all there is; the exit code asks for a new start, which goes on."""
    signal = Signal("SIGTERM", 8.0)

    def hook(journal):
        write = journal.write

        def fail():
            if signal.transport.now() > 5.0:
                raise OSError(5, "Input/output error")
            write()

        journal.write = fail

    def wait(seconds):
        signal.at = 0.0

    _, ended, _ = simulate(tmp_path, interrupted=signal, wrap=signal.wrap, hook=hook, wait=wait, close=False)
    assert (ended.why, ended.exit_code) == ("SIGTERM", 75) and "could not be written" in ended.line
    before = sum(trial.state is State.DONE for trial in rows(tmp_path))
    assert before
    simulate(tmp_path)
    assert sum(trial.state is State.DONE for trial in rows(tmp_path)) == 40


def test_the_scheduler_tells_the_deadline(tmp_path, monkeypatch):
    assert seconds_left({}) is None
    assert seconds_left({"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "99999999999"}) >= 0.0
    fake = tmp_path / "squeue"
    cases = {"59:30": 3570.0, "0:58": 58.0, "3:07": 187.0, "2:00:01": 7201.0, "1-01:00:00": 90000.0, "UNLIMITED": None}
    for told, left in cases.items():
        fake.write_text(f"#!/bin/sh\necho {told}\n")
        fake.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        assert seconds_left({"SLURM_JOB_ID": "7"}) == left


def test_a_deadline_is_a_date_or_a_time_from_now():
    now = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
    assert date("90m", now) == "2026-01-31T13:30:00.000+00:00"
    assert date("2026-01-31T14:00+02:00", datetime(2026, 1, 31, 11, 0, tzinfo=UTC)) == "2026-01-31T12:00:00.000+00:00"
    assert date(date("1h", now), now) == date("1h", now)  # what was read once is read again
    for wrong in ("2026-01-30T10:00Z", "soon", "2026-13-01", -5):
        with pytest.raises(ValueError, match=r"passed|expected"):
            date(wrong, now)


def test_an_allocation_in_which_nothing_can_end_is_not_asked_for_again(tmp_path):
    """The median is known to be longer than the whole allocation: code 1 and a line, else it would requeue for ever."""
    simulate(tmp_path, workers=2, max_trials=8, duration=constant(40.0))
    _, ended, _ = simulate(tmp_path, workers=2, max_trials=20, duration=constant(40.0), deadline=30.0)
    assert (ended.why, ended.exit_code) == ("deadline", 1) and "the median takes 40" in ended.line
    assert len(rows(tmp_path)) == 8


class Loading(Flaky):
    """Workers with fresh children: an objective is loaded for 10 s, and evaluated in a tenth of a second."""

    def send(self, worker, message):
        if message["kind"] == "run":
            self._inner._at(0.01, worker, {"kind": "loading", "id": message["id"]})
            self._inner._at(10.0, worker, {"kind": "began", "id": message["id"]})
        super().send(worker, message)

    def receive(self, until):
        arrived = super().receive(until)
        if arrived and arrived[1]["kind"] == "finished":
            arrived[1]["outcome"]["duration"] = 0.1
        return arrived


@pytest.mark.parametrize("more", [{"multiple": 3.0}, {}])
def test_loading_is_no_part_of_a_trials_time(tmp_path, more):
    """Neither `3x` nor the end of the run takes a trial that is still loading for a straggler."""
    _, ended, _ = simulate(
        tmp_path, workers=40, max_trials=121, duration=lambda run, rng: 10.1 + 0.01 * rng.random(), wrap=Loading, **more
    )
    assert ended.why == "max_trials" and {trial.state for trial in rows(tmp_path)} == {State.DONE}


def test_loading_counts_towards_the_deadline(tmp_path):
    """A trial takes 10 s from its start line to its end, whatever the evaluation itself takes."""
    _, ended, _ = simulate(
        tmp_path, workers=4, max_trials=900, duration=lambda run, rng: 10.1, wrap=Loading, deadline=100.0
    )
    assert ended.why == "deadline" and {trial.state for trial in rows(tmp_path)} == {State.DONE}


def test_the_most_urgent_signal_counts():
    """Ctrl-C after the scheduler's warning ends the run at once; a rank still leaves when nobody follows up."""
    with Signals(impatient=True) as noted:
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.raise_signal(number)
        assert noted.ended() == "SIGINT" and not noted.overdue()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        noted.since -= 2 * GRACE
        assert noted.overdue()


def test_a_rank_waits_longer_for_the_manager_than_the_manager_for_trials():
    assert max(GRACES.values()) + ANSWER + 5.0 < GRACE
