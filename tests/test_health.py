"""Sick workers and hosts are found by trying their last config elsewhere; unlucky ones are left alone."""

import random
from collections import Counter

import pytest
from simulation import SPACE, simulate, value

from mpibo.engine.managing.health import ROW, Health
from mpibo.engine.transport import Flaky
from mpibo.replaying import replay
from mpibo.search import Search
from mpibo.space import Space
from mpibo.store.journal import read
from mpibo.trial import Outcome, State, Trial, trials_of


def rows(folder):
    return trials_of(read(folder).events)


def lines(folder, kind):
    return [event for event in read(folder).events if event["kind"] == kind]


class Sick(Flaky):
    """On some workers every trial fails at once."""

    def __init__(self, inner, sick, hosts=lambda worker: "node"):
        super().__init__(inner)
        self.sick, self.hosts = sick, hosts

    def receive(self, until):
        arrived = self._inner.receive(until)
        if arrived is None:
            return None
        worker, message = arrived
        if message["kind"] == "ready":
            message["host"] = self.hosts(worker)
        if message["kind"] == "finished" and worker in self.sick:
            message["outcome"] |= {"state": "FAILED", "reason": "exception", "error": "no device", "value": None}
        return worker, message


def test_a_sick_worker_is_retired_and_its_failures_are_asked_again(tmp_path):
    """It costs three failures and one try elsewhere; every config has its value in the end."""
    duration = lambda run, rng: rng.uniform(1, 2)  # noqa: E731
    manager, ended, _ = simulate(tmp_path, workers=6, max_trials=80, duration=duration, wrap=lambda t: Sick(t, {4}))
    assert ended.why == "max_trials"
    (line,) = lines(tmp_path, "retire")
    assert line["worker"] == 4 and len(line["ids"]) >= ROW and "succeeded on worker" in line["why"]
    found = rows(tmp_path)
    assert all(found[number].state is State.LOST for number in line["ids"])
    assert not [trial for trial in found if trial.worker == 4 and trial.id > max(line["ids"]) + 10]
    values = {str(sorted(trial.config.items())) for trial in found if trial.state is State.DONE}
    assert len(values) == 80 and manager.ledger.counts[State.FAILED] == 0
    done = Counter(str(sorted(trial.config.items())) for trial in found if trial.state is State.DONE)
    assert max(done.values()) == 1  # the config that decided is not evaluated a third time


def test_a_sick_host_is_retired_as_a_whole(tmp_path):
    """Eight workers on two nodes, one of which lost its GPU: all four of it go."""
    wrap = lambda t: Sick(t, {5, 6, 7, 8}, lambda worker: "good" if worker < 5 else "bad")  # noqa: E731
    _, ended, _ = simulate(tmp_path, workers=8, max_trials=100, wrap=wrap)
    assert ended.why == "max_trials"
    retired = lines(tmp_path, "retire")
    hosts = [line for line in retired if line["worker"] is None]
    assert [line["host"] for line in hosts] == ["bad"] or {line["worker"] for line in retired} == {5, 6, 7, 8}
    assert sum(trial.state is State.DONE for trial in rows(tmp_path)) == 100


def test_the_journal_of_a_retired_worker_replays_and_resumes(tmp_path):
    wrap = lambda t: Sick(t, {2})  # noqa: E731
    simulate(tmp_path, "ts", workers=4, max_trials=30, wrap=wrap)
    manager, _, _ = simulate(tmp_path, "ts", workers=4, max_trials=40)
    events = read(tmp_path).events
    assert lines(tmp_path, "retire")
    assert replay(events, Search(Space(SPACE), "ts", workers=4)) == []
    assert manager.ledger.counts == Counter(trial.state for trial in rows(tmp_path)) + Counter()


def test_a_space_in_which_half_fails_retires_nobody(tmp_path):
    """Failures that a config causes happen elsewhere, too."""

    def fails(config):
        if config["x"] < 0.5:
            raise RuntimeError("diverged")
        return value(config)

    _, ended, _ = simulate(tmp_path, workers=6, max_trials=200, objective=fails)
    assert ended.why == "max_trials" and not lines(tmp_path, "retire")
    retries = [trial for trial in rows(tmp_path) if trial.retry_of is not None]
    assert len(retries) <= 8 and all(trial.state is State.FAILED for trial in retries)


def test_alone_nobody_is_sick(tmp_path):
    """With one worker there is nowhere else to try: failures stay failures."""
    flip = random.Random(0)

    def fails(config):
        if flip.random() < 0.5:
            raise RuntimeError("no")
        return value(config)

    _, ended, _ = simulate(tmp_path, workers=1, max_trials=60, objective=fails)
    assert ended.why == "max_trials" and not lines(tmp_path, "retire")
    assert len(rows(tmp_path)) == 60


def test_a_row_must_be_long_where_many_fail_anyway():
    health = Health()
    for number in range(40):
        state = State.FAILED if number % 2 else State.DONE
        health.ended(Trial(id=number, config={}, state=state, worker=1 + number % 4, host="a", reason="exception"))
    row = []
    for number in range(40, 60):
        suspect = health.ended(Trial(id=number, config={}, state=State.FAILED, worker=9, host="b", reason="crash"))
        row.append(number)
        if suspect:
            break
    assert suspect.worker == 9 and ROW < len(row) <= 8 and suspect.ids == tuple(row)


def test_an_orphaned_outcome_is_taken_in(tmp_path):
    """What a worker finished after its manager was gone counts; it is not evaluated again."""
    looks = iter(range(10**9))
    simulate(tmp_path, max_trials=40, interrupted=lambda: "SIGINT" if next(looks) > 60 else None)
    path = tmp_path / "journal.jsonl"
    kept = [line for line in path.read_bytes().splitlines(keepends=True) if b'"kind": "lost"' not in line]
    last = next(i for i, line in enumerate(kept) if b'"kind": "close"' in line)
    path.write_bytes(b"".join(kept[:last]))  # as if the manager had been killed
    running = [trial for trial in rows(tmp_path) if trial.state is State.RUNNING]
    assert len(running) > 3
    held = running[1]
    outcome = Outcome(State.DONE, value(held.config), duration=3.0)
    from mpibo.engine import messages

    wrong = running[2]  # of another run in this folder
    orphans = {
        held.id: messages.finished(held.id, outcome) | {"config": held.config},
        wrong.id: messages.finished(wrong.id, outcome) | {"config": held.config},
        10**6: messages.finished(10**6, outcome) | {"config": {}},
    }
    simulate(tmp_path, max_trials=40, orphans=orphans)
    found = rows(tmp_path)
    assert found[held.id].state is State.DONE and found[held.id].value == value(held.config)
    assert not [trial for trial in found if trial.retry_of == held.id]
    assert found[wrong.id].state is State.LOST and [trial for trial in found if trial.retry_of == wrong.id]
    assert sum(trial.state is State.DONE for trial in found) == 40


@pytest.mark.parametrize("seed", range(3))
def test_a_suspect_is_no_judge(tmp_path, seed):
    """Two sick workers of eight do not clear each other: no healthy config stays FAILED."""
    duration = lambda run, rng: rng.uniform(1, 2)  # noqa: E731
    manager, _, _ = simulate(
        tmp_path, workers=8, max_trials=200, duration=duration, wrap=lambda t: Sick(t, {3, 6}), seed=seed
    )
    assert {line["worker"] for line in lines(tmp_path, "retire")} == {3, 6}
    assert manager.ledger.counts[State.FAILED] == 0 and manager.ledger.counts[State.DONE] == 200


class Stalled(Flaky):
    """The network is away for a while; the workers' trials are long, and they beat."""

    def __init__(self, inner, begin, end):
        super().__init__(inner)
        self.begin, self.end, self.told = begin, end, []

    def send(self, worker, message):
        self.told.append((worker, message))
        super().send(worker, message)

    def receive(self, until):
        if self.begin <= self.now() < self.end:
            self._inner._now = min(until, self.end)
            return None
        return super().receive(until)


def test_a_stall_of_the_network_ends_no_run(tmp_path):
    """All workers are silent for longer than a lease: their trials are LOST, and the run goes on when they are back."""
    _, ended, _ = simulate(
        tmp_path, workers=8, max_trials=24, lease=60.0, duration=lambda run, rng: 50.0,
        wrap=lambda t: Stalled(t, 60.0, 135.0),
    )  # fmt: skip
    assert ended.why == "max_trials"
    found = rows(tmp_path)
    assert sum(trial.state is State.DONE for trial in found) == 24
    assert sum(trial.state is State.LOST for trial in found) == 8


def test_without_any_word_for_long_the_run_ends(tmp_path):
    """Ten leases of silence: nobody is left."""
    _, ended, _ = simulate(
        tmp_path, workers=4, max_trials=24, lease=60.0, duration=lambda run, rng: 50.0,
        wrap=lambda t: Stalled(t, 60.0, 1e9),
    )  # fmt: skip
    assert (ended.why, ended.exit_code) == ("no workers", 1)


class Mute(Flaky):
    """Workers that never come up."""

    def receive(self, until):
        arrived = self._inner.receive(until)
        return None if arrived and arrived[0] in (2, 3) else arrived


def test_workers_that_never_come_up_are_given_up(tmp_path):
    """Two ranks died while MPI started: the others do it all, and nobody waits for ever."""
    manager, ended, _ = simulate(tmp_path, workers=3, max_trials=900, wrap=Mute)
    assert ended.why == "max_trials" and manager.gone == {2, 3}


class Dies(Flaky):
    """A worker whose rank is dead for sure, though a member of its group still speaks."""

    said = False

    def receive(self, until):
        if self.now() > 5.0 and not self.said:
            self.said = True
            return 2, {"kind": "gone", "why": "rank 3 has died (ULFM)"}
        return super().receive(until)


def test_the_dead_get_nothing_more(tmp_path):
    _, ended, _ = simulate(tmp_path, workers=4, max_trials=80, wrap=Dies)
    assert ended.why == "max_trials"
    assert not [trial for trial in rows(tmp_path) if trial.worker == 2 and trial.started > 5.1]


class Forgetful(Flaky):
    """A worker that can't load the objective for a while: its file system is away."""

    def receive(self, until):
        arrived = self._inner.receive(until)
        if arrived and arrived[1]["kind"] == "finished" and 10.0 < self.now() < 14.0:
            return arrived[0], {"kind": "broken", "line": "FileNotFoundError: train.py", "error": "..."}
        return arrived


def test_a_file_system_that_is_away_for_a_while_breaks_nobody_for_good(tmp_path):
    _, ended, _ = simulate(tmp_path, workers=4, max_trials=80, wrap=Forgetful, attempts=8)
    assert ended.why == "max_trials"
    found = rows(tmp_path)
    assert sum(trial.state is State.DONE for trial in found) == 80
    assert {trial.worker for trial in found if trial.started > 21} == {1, 2, 3, 4}
