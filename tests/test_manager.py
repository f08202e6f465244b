"""The manager on simulated and flaky workers: nothing is lost, nothing twice, nobody waits."""

import json
from collections import Counter

import pytest
import simulation
from simulation import simulate, value

from mpibo.engine.transport import Flaky
from mpibo.replaying import replay
from mpibo.store import journal
from mpibo.store.journal import read
from mpibo.strategies import METHODS
from mpibo.trial import Proposal, State, trials_of

STRATEGIES = [*METHODS, "ambs:model=et,pending=lie-best", "ambs:pending=lie-worst,n_initial=5", "ts:model=rf"]


def rows(folder):
    return trials_of(read(folder).events)


def busy_share(folder, workers):
    """Of the time until the last start: after it there is nothing left to give out."""
    done = rows(folder)
    first, last = min(trial.started for trial in done), max(trial.started for trial in done)
    return sum(min(trial.finished, last) - trial.started for trial in done) / (workers * (last - first))


def test_a_run_ends_with_every_config_evaluated_once(tmp_path):
    manager, ended, _ = simulate(tmp_path, "ts")
    assert ended.why == "max_trials" and ended.exit_code == 0
    found = rows(tmp_path)
    assert len(found) == 40 and all(trial.state is State.DONE for trial in found)
    assert len({json.dumps(trial.config) for trial in found}) == 40
    assert all(trial.value == value(trial.config) for trial in found)
    assert manager.ledger.best.value == min(trial.value for trial in found)


@pytest.mark.parametrize("method", STRATEGIES)
def test_every_strategy_replays_from_its_journal(tmp_path, method):
    """The journal alone gives the same proposals bit for bit, in whatever order results came, across a resume."""
    simulate(tmp_path, method, max_trials=20, cost=lambda event: 0.3, seed=3)
    simulate(tmp_path, method, max_trials=45, cost=lambda event: 0.02, seed=3)
    events = read(tmp_path).events
    assert sum("ask" in event and event["kind"] == "start" for event in events) >= 45 - 8
    assert replay(events) == []


def test_replay_finds_a_changed_config(tmp_path):
    simulate(tmp_path, "ts")
    events = read(tmp_path).events
    changed = next(event for event in events if event["kind"] == "start" and event["id"] == 30)
    changed["config"]["x"] += 1e-12
    assert "expected trial 30" in replay(events)[0]


def test_no_worker_waits_for_a_slow_model(tmp_path):
    """A fit takes a third of an evaluation; workers get the last finished model's proposals meanwhile."""
    simulate(tmp_path, "ts", workers=16, max_trials=600, cost=lambda event: 0.33 if event["fit"] else 0.004)
    assert busy_share(tmp_path, 16) > 0.97


def test_long_evaluations_see_every_result(tmp_path):
    """Evaluations of a minute, answers of 50 ms: each model start follows an ask that saw all that had ended."""
    simulate(tmp_path, "ts", workers=4, max_trials=60, duration=lambda run, rng: rng.uniform(40, 80),
             cost=lambda event: 0.05)  # fmt: skip
    ends, last_ask, stale = 0, 0, 0
    for event in read(tmp_path).events:
        ends += event["kind"] == "end"
        if event["kind"] == "ask":
            last_ask = ends
        if event["kind"] == "start" and event["origin"] == "model":
            stale += last_ask < ends
    assert stale <= 2  # two that end within one answer of each other


def test_a_failed_objective_costs_only_its_trial(tmp_path):
    def fails(config):
        if config["c"] == "a":
            raise RuntimeError("no")
        return value(config)

    manager, ended, _ = simulate(tmp_path, "ambs", objective=fails)
    assert ended.why == "max_trials" and manager.ledger.counts[State.FAILED] > 0
    assert manager.ledger.counts[State.FAILED] + manager.ledger.counts[State.DONE] == 40


def test_a_run_whose_first_trials_all_fail_alike_stops(tmp_path):
    def fails(config):
        raise RuntimeError("no module named torch")

    _, ended, _ = simulate(tmp_path, workers=3, objective=fails, max_trials=100)
    assert ended.why == "failing" and ended.exit_code == 1 and "no module named torch" in ended.line
    assert len(rows(tmp_path)) < 20


@pytest.mark.parametrize("seed", range(4))
def test_dead_workers_cost_time_never_a_config(tmp_path, seed):
    """Workers die and messages are late; every config still ends, with one result, and each LOST row has its retry."""
    _, ended, transport = simulate(
        tmp_path, "ts", max_trials=60, lease=20.0, seed=seed, attempts=8,
        wrap=lambda inner: Flaky(inner, seed, kill=0.06, delay=0.1, late=3.0, spare=(1, 2)),
    )  # fmt: skip
    assert ended.why == "max_trials"
    found = rows(tmp_path)
    results = Counter(json.dumps(trial.config) for trial in found if trial.state is State.DONE)
    assert set(results.values()) == {1} and len(results) == 60
    retried = {trial.retry_of for trial in found}
    lost = {trial.id for trial in found if trial.state is State.LOST}
    assert transport.dead and len(lost) >= 1 and lost <= retried
    assert all(trial.seed == found[trial.retry_of].seed for trial in found if trial.retry_of is not None)


def test_attempts_run_out(tmp_path):
    """Only deaths count, and when they run out the config is FAILED, reason lost."""

    class Deadly(Flaky):
        def send(self, worker, message):
            if message["kind"] == "run" and message["config"]["c"] == "a":
                return  # its worker will never be heard of again
            self._inner.send(worker, message)

    simulate(tmp_path, max_trials=10, workers=30, lease=15.0, attempts=2, wrap=lambda inner: Deadly(inner))
    bad = [trial for trial in rows(tmp_path) if trial.state is State.FAILED]
    assert bad and all(trial.reason == "lost" and trial.retry_of is not None for trial in bad)
    assert all(trial.config["c"] == "a" for trial in bad)


def test_late_answer_only_frees_its_worker(tmp_path):
    """A trial given up for lost stays lost, even if its worker answers later."""

    def duration(run, rng):
        return 100.0 if run["id"] == 3 else 1.0

    simulate(tmp_path, workers=4, max_trials=60, lease=20.0, duration=duration)
    found = rows(tmp_path)
    assert found[3].state is State.LOST
    again = [trial for trial in found if trial.retry_of == 3]
    assert len(again) == 1 and again[0].config == found[3].config and again[0].state is State.DONE


def test_target_and_exhaustion(tmp_path):
    (tmp_path / "a").mkdir()
    _, ended, _ = simulate(tmp_path / "a", "ts", max_trials=1000, target=0.1)
    assert ended.why == "target"
    found = rows(tmp_path / "a")
    assert any(trial.value is not None and trial.value <= 0.1 for trial in found)
    assert {trial.state for trial in found} <= {State.DONE, State.ABANDONED}
    (tmp_path / "b").mkdir()
    _, ended, _ = simulate(tmp_path / "b", "ts", max_trials=1000, space={"k": (1, 3), "c": ["a", "b"], "x": 0.5})
    assert ended.why == "exhausted" and len(rows(tmp_path / "b")) == 6


def test_a_strategy_that_repeats_itself_comes_to_an_end(tmp_path):
    """A user's own sampling on a small space: no config twice, and an end when only started ones are proposed."""

    class Careless:
        def propose(self, trials, n, rng):
            return [Proposal({"k": int(rng.integers(1, 5))}) for _ in range(n)]

    method, space = Careless(), {"k": (1, 4)}
    _, ended, _ = simulate(tmp_path, method, workers=2, max_trials=100, space=space, objective=lambda c: c["k"])
    assert ended.why == "exhausted"
    assert sorted(trial.config["k"] for trial in rows(tmp_path)) == [1, 2, 3, 4]


def test_a_child_that_is_ended_again_and_again_runs_out_of_attempts(tmp_path):
    """LOST outcomes count as deaths as long as no signal ends the run."""

    class Ends(Flaky):
        def receive(self, until):
            arrived = self._inner.receive(until)
            if arrived and arrived[1]["kind"] == "finished":
                arrived[1]["outcome"] |= {"state": "LOST", "value": None}
            return arrived

    _, ended, _ = simulate(tmp_path, max_trials=3, attempts=3, wrap=Ends)
    assert ended.exit_code == 1
    assert Counter(trial.state for trial in rows(tmp_path)) == {State.LOST: 6, State.FAILED: 3}


def test_walltime_counts_over_all_starts(tmp_path):
    simulate(tmp_path, max_trials=None, walltime=20.0)
    first = len(rows(tmp_path))
    assert {trial.state for trial in rows(tmp_path)} == {State.DONE, State.LOST}
    _, ended, _ = simulate(tmp_path, max_trials=None, walltime=30.0)
    assert ended.why == "walltime"
    assert first < len(rows(tmp_path)) < 2 * first


def test_maximising_keeps_the_persons_sign(tmp_path):
    manager, _, _ = simulate(tmp_path, "ts", maximize=True, objective=lambda config: -value(config), max_trials=60)
    assert manager.ledger.best.value == max(trial.value for trial in rows(tmp_path)) > -0.3


def test_going_on_asks_what_ran_again_first(tmp_path):
    """Interrupted in mid-run: RUNNING rows become LOST, are asked again first, and no result is evaluated twice."""
    calls = Counter()

    def counted(config):
        calls[json.dumps(config)] += 1
        return value(config)

    looks = iter(range(10**9))
    simulate(tmp_path, "ts", objective=counted, interrupted=lambda: "SIGTERM" if next(looks) > 30 else None,
             duration=lambda run, rng: rng.uniform(10, 20))  # fmt: skip
    before = rows(tmp_path)
    lost = [trial for trial in before if trial.state is State.LOST]
    done = {json.dumps(trial.config) for trial in before if trial.state is State.DONE}
    assert lost and len(before) < 40
    calls.clear()
    simulate(tmp_path, "ts", objective=counted)
    after = rows(tmp_path)
    assert [trial.retry_of for trial in after[len(before) : len(before) + len(lost)]] == [trial.id for trial in lost]
    assert not done & set(calls) and len(after) == 40 + len(lost)
    assert Counter(trial.state for trial in after) == {State.DONE: 40, State.LOST: len(lost)}


def test_start_configs_come_first_and_once(tmp_path):
    start = [{"x": 0.25, "c": "b"}, {"k": 7}]
    simulate(tmp_path, "ambs", start=start)
    found = rows(tmp_path)
    assert [trial.origin for trial in found[:3]] == ["start", "start", "design"]
    assert found[0].config["x"] == 0.25 and found[0].config["c"] == "b" and found[1].config["k"] == 7
    assert sum(trial.origin == "start" for trial in found) == 2
    assert replay(read(tmp_path).events) == []


def test_a_proposer_that_hangs_is_replaced(tmp_path, monkeypatch):
    """It takes a quarter of an hour to be noticed; then another one starts, with cold caches, and all replays."""

    class Hangs(simulation.Inline):
        def ask(self, event, journal, until):
            if event["ask"] != 4:
                super().ask(event, journal, until)

    monkeypatch.setattr(simulation, "Inline", Hangs)
    _, ended, _ = simulate(tmp_path, "ts", workers=4, max_trials=40)
    assert ended.why == "max_trials" and len(rows(tmp_path)) == 40
    kinds = [event["kind"] for event in read(tmp_path).events]
    assert kinds.count("proposer") == 2 and replay(read(tmp_path).events) == []


def test_results_that_come_together_are_written_together(tmp_path, monkeypatch):
    """One write before any of them has an effect; a failure among them keeps its place."""
    writes = []
    write_all = journal._write_all
    monkeypatch.setattr(journal, "_write_all", lambda file, data: (writes.append(data), write_all(file, data)))

    def fails(config):
        if config["k"] == 8:
            raise RuntimeError("no")
        return value(config)

    _, ended, _ = simulate(tmp_path, workers=64, max_trials=640, duration=lambda run, rng: 1.0, objective=fails)
    assert ended.why == "max_trials" and replay(read(tmp_path).events) == []
    ends = [data.count(b'"kind": "end"') for data in writes if b'"kind": "end"' in data]
    assert sum(ends) == len(rows(tmp_path)) >= 640 and len(ends) < 320 and max(ends) <= 32
    states = Counter(trial.state for trial in rows(tmp_path))
    assert states[State.FAILED] > 20 and states[State.DONE] > 400 and not states[State.RUNNING]
