"""Schedules: rung arithmetic, who goes on and who is stopped, that nobody idles, and that all of it replays."""

import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation import simulate

import mpibo
from mpibo.engine.transport import Flaky
from mpibo.replaying import replay
from mpibo.schedules import SCHEDULES, asha, make
from mpibo.schedules.curve import chance_below
from mpibo.schedules.rungs import brackets, budgets, deepest
from mpibo.schedules.seen import at_one_budget, lifted
from mpibo.settings import settings_from
from mpibo.space import Space
from mpibo.store.journal import read
from mpibo.table import Trials
from mpibo.trial import Outcome, State, end_event

ALL = [*SCHEDULES, "asha:stop=true"]
SPACE = {"x": (0.0, 1.0), "y": (0.0, 1.0)}


def curve(config, step):
    """Falls with the step; curves cross: a large x begins worse and ends better."""
    return (config["y"] - 0.4) ** 2 + (0.2 + config["x"]) * step ** -(0.2 + config["x"])


def per_step(run, rng):
    return rng.lognormvariate(0.0, 0.5)


def run(folder, schedule, method="random", *, budget=(1, 27), **more):
    told = {"space": SPACE, "curve": curve, "duration": per_step, "workers": 4, "max_trials": 40} | more
    return simulate(folder, method, schedule=schedule, budget=budget, **told)


# Rung arithmetic


def test_brackets_are_those_of_the_formula():
    assert [[tuple(rung) for rung in bracket] for bracket in brackets(1, 81, 3)] == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]


@pytest.mark.parametrize(("high", "eta", "s"), [(243, 3, 5), (1000, 10, 3), (59049, 3, 10), (10**6, 10, 6)])
def test_no_bracket_is_lost_to_the_logarithm_of_a_float(high, eta, s):
    assert deepest(1, high, eta) == s
    assert math.floor(math.log(high) / math.log(eta)) <= s


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(2, 20))
def test_budgets_grow_by_eta_within_the_range(low, more, eta):
    high = low + more
    found = budgets(low, high, eta)
    assert low <= found[0] < eta * low and found[-1] == high
    assert all(a < b for a, b in itertools.pairwise(found))
    s = len(found) - 1
    assert eta**s <= high // low < eta ** (s + 1)


@given(st.integers(1, 500), st.integers(2, 6))
def test_each_rung_of_a_bracket_keeps_one_in_eta(high, eta):
    for rungs in brackets(1, high, eta):
        for a, b in itertools.pairwise(rungs):
            assert b.size == a.size // eta or b.size == rungs[0].size // eta ** rungs.index(b)
            assert b.size >= 1


# Who goes on


def at_rungs(trials):
    rungs = defaultdict(list)
    for trial in trials:
        rungs[trial.bracket, trial.rung].append(trial)
    return rungs


@pytest.mark.parametrize("schedule", ["sha", "hyperband", "bohb"])
def test_the_best_of_each_complete_rung_go_on_and_nobody_else(tmp_path, schedule):
    run(tmp_path, schedule, max_trials=63, budget=(1, 9))  # three rounds of 17 + ... configs, the last one incomplete
    rungs = at_rungs(mpibo.load(tmp_path).trials)
    shapes = [[tuple(rung) for rung in bracket] for bracket in brackets(1, 9, 3)]
    shapes = [[(9, 1), (3, 3), (1, 9)]] if schedule == "sha" else shapes
    numbers = sorted({bracket for bracket, _ in rungs})
    assert numbers == list(range(len(numbers))) and len(numbers) > 5
    for bracket in numbers[:-1]:
        shape = shapes[bracket % len(shapes)]
        assert [(len(rungs[bracket, k]), rungs[bracket, k][0].budget) for k in range(len(shape))] == shape
        for k in range(len(shape) - 1):
            best = sorted(rungs[bracket, k], key=lambda trial: (trial.value, trial.id))[: shape[k + 1][0]]
            assert {trial.parent for trial in rungs[bracket, k + 1]} == {trial.id for trial in best}


def test_a_rung_waits_for_all_of_it(tmp_path):
    run(tmp_path, "sha", max_trials=27, workers=5, budget=(1, 27))
    rungs = at_rungs(mpibo.load(tmp_path).trials)
    for k in range(3):
        assert max(trial.finished for trial in rungs[0, k]) <= min(trial.started for trial in rungs[0, k + 1])


@given(st.integers(0, 1000), st.integers(2, 4), st.integers(1, 9))
@settings(max_examples=15, deadline=None)
def test_asha_promotes_only_the_best_of_those_that_have_ended(tmp_path_factory, seed, eta, workers):
    folder = tmp_path_factory.mktemp("asha")
    run(folder, f"asha:eta={eta}", seed=seed, workers=workers, max_trials=30)
    ended, at = defaultdict(dict), {}
    for event in read(folder).events:
        if event["kind"] == "start":
            at[event["id"]] = event
            if (parent := event.get("parent")) is not None:
                values = ended[at[parent]["rung"]]
                better = sum(value < values[parent] for value in values.values())
                assert better < len(values) // eta
                assert event["config"] == at[parent]["config"] and event["seed"] == at[parent]["seed"]
                assert event["rung"] == at[parent]["rung"] + 1
        elif event["kind"] == "end":
            ended[at[event["id"]]["rung"]][event["id"]] = event["value"]
    trials = mpibo.load(folder).trials
    for trial in trials:  # no checkpoint was dropped that was wanted later
        assert trial.metrics["first"] == (0 if trial.parent is None else trials[trial.parent].budget)
    for rung in range(len(budgets(1, 27, eta)) - 1):  # in the end nobody is left who should have gone on
        promoted = {event["parent"] for event in at.values() if event["rung"] == rung + 1}
        best = sorted(ended[rung], key=lambda number: (ended[rung][number], number))[: len(ended[rung]) // eta]
        assert set(best) <= promoted


@pytest.mark.parametrize("schedule", ["asha", "asha:stop=true", "median", "curve", "hyperband", "bohb"])
def test_no_worker_idles_while_there_are_configs_left(tmp_path, schedule):
    run(tmp_path, schedule, workers=7, max_trials=120)
    trials = mpibo.load(tmp_path).trials
    last = max(trial.started for trial in trials if trial.parent is None)
    busy = defaultdict(float)
    for trial in trials:
        busy[trial.worker] += max(0.0, min(trial.finished, last) - trial.started)
    assert len(busy) == 7
    assert sum(busy.values()) / (7 * last) > 0.99


def test_promotions_go_on_from_their_parents_checkpoints(tmp_path):
    run(tmp_path, "asha")
    trials = mpibo.load(tmp_path).trials
    assert Counter(trial.origin for trial in trials)["promotion"] > 10
    for trial in trials:
        assert trial.metrics["first"] == (0 if trial.parent is None else trials[trial.parent].budget)


def test_failed_trials_count_as_the_worst_and_do_not_go_on(tmp_path):
    def failing(config, step):
        return float("nan") if config["x"] > 0.5 else curve(config, step)

    search = mpibo.Search(SPACE, "random", schedule="asha", budget=(1, 9), max_trials=60)
    while asked := search.ask(4):
        for trial in asked:
            search.tell(trial, failing(trial.config, trial.budget))
    rows = search.trials
    failed = {trial.id for trial in rows if trial.state is State.FAILED}
    assert len(failed) > 10
    assert not failed & {trial.parent for trial in rows}
    assert 60 // 3 <= sum(trial.rung == 1 for trial in rows) < 60 // 2  # a third of all, not of those with a value


# Who is stopped


def test_asha_stops_who_is_not_among_the_best_that_came_before(tmp_path):
    run(tmp_path, "asha:stop=true", workers=1, max_trials=30)
    trials = mpibo.load(tmp_path).trials
    assert {trial.budget for trial in trials} == {27} and {trial.state for trial in trials} == {
        State.DONE,
        State.STOPPED,
    }
    reached = Counter()
    for event in read(tmp_path).events:
        if event["kind"] == "report" and event["step"] in (1, 3, 9):
            reached[event["step"]] += 1
    assert reached[1] == 30 > reached[3] > reached[9] >= 30 // 9


def test_median_stops_who_is_worse_than_half(tmp_path):
    search = mpibo.Search(SPACE, "random", schedule="median:results=3", budget=(2, 8))
    levels = [1.0, 2.0, 3.0, 2.5, 1.5]
    told = []
    for level in levels:
        (trial,) = search.ask()
        steps = 0
        for step in range(1, 9):
            steps = step
            if not search.report(trial, level, step):
                break
        told.append((steps, search.tell(trial).state))
    assert told[:3] == [(8, State.DONE)] * 3
    assert told[3] == (2, State.STOPPED)  # worse than 2; not judged before the smallest budget
    assert told[4] == (8, State.DONE)


def test_the_chance_of_a_curve_is_that_of_where_it_leads():
    steps = np.arange(1.0, 9.0)
    values = 0.1 + 0.9 * steps**-1.0
    assert chance_below(0.3, steps, values, 81) > 0.95  # it leads to 0.11
    assert chance_below(0.0, steps, values, 81) < 0.05
    noisy = values + 0.05 * np.random.default_rng(0).standard_normal(8)
    assert 0.05 < chance_below(0.15, steps, noisy, 81) < 0.95  # nobody knows


def test_a_curve_that_was_better_already_is_certain():
    steps = np.arange(1.0, 6.0)
    assert chance_below(0.5, steps, np.array([1.0, 0.4, 0.6, 0.7, 0.8]), 27) == 1.0


# What a method sees


def told(rows, space=None):
    """A table of ``(parent, budget, value)`` rows; None runs."""
    table = Trials(space or Space(SPACE))
    rng = np.random.default_rng(0)
    configs = []
    for number, (parent, budget, value) in enumerate(rows):
        configs.append(configs[parent] if parent is not None else table.space.decode(table.space.sample(1, rng))[0])
        event = {"kind": "start", "id": number, "config": configs[-1], "budget": budget}
        table.apply(event | ({} if parent is None else {"parent": parent}))
        if value is not None:
            table.apply(end_event(number, Outcome(State.DONE, value)))
    return table


def test_values_of_small_budgets_are_lifted_by_what_the_others_gained():
    table = told([(None, 1, 1.0), (None, 1, 2.0), (None, 1, 3.0), (0, 3, 0.5), (1, 3, 1.3), (3, 9, 0.1)])
    seen = lifted(table)
    gained = np.median([0.5, 0.7])
    assert seen.n == 3 and np.allclose(seen.y, [0.1, 1.3 - 0.4, 3.0 - gained - 0.4])
    assert np.array_equal(seen.X, table.X[:3])


def test_a_config_that_goes_on_keeps_its_value_meanwhile():
    seen = lifted(told([(None, 1, 1.0), (None, 1, 2.0), (0, 3, None)]))
    assert np.allclose(seen.y, [1.0, 2.0]) and len(seen.pending) == 0


def test_bohb_sees_the_largest_budget_with_enough_results():
    rows = [(None, 1, float(k)) for k in range(5)] + [(0, 3, 0.1), (1, 3, 0.2), (2, 3, 0.3), (5, 9, 0.0)]
    seen = at_one_budget(told(rows), 3)
    assert np.allclose(seen.y[:3], [0.1, 0.2, 0.3]) and np.isnan(seen.y[3:]).all()
    assert len(seen.observed()[1]) == 3


# Replay, faults, bad input


@pytest.mark.parametrize("schedule", ALL)
@pytest.mark.parametrize("method", ["random", "evolution"])
def test_every_schedule_replays_through_deaths_late_messages_and_a_second_start(tmp_path, schedule, method):
    def flaky(inner):
        return Flaky(inner, 3, kill=0.04, delay=0.3, late=3.0, spare=(1, 2))

    looks = iter(range(10**9))
    more = {"wrap": flaky, "lease": 60.0, "attempts": 6, "workers": 8, "budget": (1, 9), "seed": 3}
    run(tmp_path, schedule, method, max_trials=30, interrupted=lambda: "SIGINT" if next(looks) > 60 else None, **more)
    run(tmp_path, schedule, method, max_trials=50, **more)
    events = read(tmp_path).events
    kinds = Counter(event["kind"] for event in events)
    assert kinds["open"] == 2 and kinds["lost"]
    if schedule in ("asha:stop=true", "median", "curve"):
        assert kinds["stop"]
    else:
        assert kinds["drop"]
    assert replay(events) == []
    trials = mpibo.load(tmp_path).trials
    ends = Counter(trial.state for trial in trials)
    assert ends[State.RUNNING] == 0
    retried = {trial.retry_of for trial in trials}
    assert all(trial.id in retried for trial in trials if trial.state is State.LOST)


@pytest.mark.parametrize("kind", ["stop", "drop"])
def test_a_changed_decision_is_found(tmp_path, kind):
    run(tmp_path, "asha:stop=true" if kind == "stop" else "asha", max_trials=20)
    events = read(tmp_path).events
    at = next(i for i, event in enumerate(events) if event["kind"] == kind)
    changed = [dict(event) for event in events]
    changed[at]["ids"] = changed[at]["ids"][:-1]
    assert replay(changed)
    changed = [dict(event) for event in events]
    changed[at]["ids"] = [*changed[at]["ids"], next(n for n in range(20) if n not in changed[at]["ids"])]
    assert replay(changed)


def test_checkpoints_that_nobody_needs_are_dropped(tmp_path):
    manager, _, _ = run(tmp_path, "asha", max_trials=60, budget=(1, 9))
    best = manager.ledger.best
    assert best.budget == 9
    kept = {int(place.split("/")[1]) for place in manager._account.shelf.files}
    trials = mpibo.load(tmp_path).trials
    assert best.id in kept
    assert len(kept) < 12 < len(trials)
    parents = {trial.parent for trial in trials}
    assert not kept & parents


@pytest.mark.parametrize(
    ("schedule", "budget", "told"),
    [
        ("asha", 9, "needs a smallest and a largest budget"),
        ("nope", (1, 9), "expected one of sha, hyperband"),
        ("asha:eta=1", (1, 9), "eta >= 2"),
        ("asha:low=3", (1, 9), "takes eta=, stop="),
        ("hyperband", (9, 1), "the smallest and the largest"),
        ("hyperband", "1:x", "the smallest and the largest"),
        ("bohb:random=2", (1, 9), "from 0 to 1"),
    ],
)
def test_bad_input_is_told_in_a_line(schedule, budget, told):
    with pytest.raises(ValueError, match=told):
        mpibo.Search(SPACE, schedule=schedule, budget=budget)


def test_a_range_of_budgets_alone_means_asha():
    search = mpibo.Search(SPACE, "random", budget=(1, 9), max_trials=30)
    while asked := search.ask(3):
        for trial in asked:
            search.tell(trial, curve(trial.config, trial.budget))
    assert {trial.budget for trial in search.trials} == {1, 3, 9}
    assert settings_from({"budget": "1:9"}).schedule == "asha" and settings_from({"budget": 9}).schedule is None


def test_several_goals_are_refused():
    with pytest.raises(ValueError, match="not with several goals"):
        mpibo.Search(SPACE, schedule="asha", budget=(1, 9), goals="min a, min b")


def test_a_schedule_of_ones_own_is_an_object():
    class Twice:
        stops, steps = False, frozenset()

        def propose(self, trials, n, rng, new):
            return new(trials, n)

        def stop(self, trials):
            return []

        def live(self, trials):
            return np.zeros(trials.n, bool)

    search = mpibo.Search(SPACE, "random", schedule=Twice(), budget=(1, 9))
    assert len(search.ask(3)) == 3
    with pytest.raises(TypeError, match="expected a schedule's name or an object"):
        make(Twice, 1, 9)


# Real runs


def trains():
    """An objective in which a small class is trained; nested, so that it goes to its child by value."""

    class Weights:
        steps = 0

        def state_dict(self):
            return {"steps": self.steps}

        def load_state_dict(self, state):
            self.steps = state["steps"]

    def objective(x, *, trial):
        weights = Weights()
        first = trial.resume(weights=weights)
        assert weights.steps == first
        for step in range(first, trial.budget):
            weights.steps += 1
            trial.report((x - 0.3) ** 2 + 1 / weights.steps, step=step + 1)
        return {"value": (x - 0.3) ** 2 + 1 / weights.steps, "first": first}

    return objective


def slow():
    def objective(x, *, trial):
        import time

        for step in range(trial.budget):
            time.sleep(0.15)
            trial.report((x - 0.3) ** 2 + 1 / (step + 1), step=step + 1)

    return objective


def test_a_real_run_promotes_from_checkpoints_and_keeps_the_incumbents_alone(tmp_path):
    result = mpibo.minimize(
        trains(), {"x": (0.0, 1.0)}, schedule="asha", budget=(1, 9), max_trials=18, workers=2, method="random",
        out=tmp_path / "run", progress="none",
    )  # fmt: skip
    trials = result.trials
    assert {trial.state for trial in trials} == {State.DONE} and len(trials) >= 18 + 6 + 2
    for trial in trials:
        assert trial.metrics["first"] == (0 if trial.parent is None else trials[trial.parent].budget)
    assert result.best.budget == 9 and result.best_anywhere.id == result.best.id
    kept = {int(folder.name) for folder in (tmp_path / "run/checkpoints").iterdir()}
    assert result.best.id in kept and len(kept) < 6 and not kept & {trial.parent for trial in trials}
    assert replay(read(tmp_path / "run").events) == []


def test_a_real_run_stops_trials_at_their_reports(tmp_path):
    result = mpibo.minimize(
        slow(), {"x": (0.0, 1.0)}, schedule="asha:stop=true", budget=(1, 9), max_trials=12, workers=2, method="random",
        out=tmp_path / "run", progress="none",
    )  # fmt: skip
    states = Counter(trial.state for trial in result.trials)
    assert states[State.STOPPED] >= 3 and states[State.DONE] >= 1 and len(states) == 2
    assert replay(read(tmp_path / "run").events) == []


def blind(x):
    return x


def test_an_objective_that_can_not_see_its_budget_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"blind can't see its budget, which a schedule sets: take `trial`"):
        mpibo.minimize(blind, {"x": (0.0, 1.0)}, schedule="asha", budget=(1, 9), max_trials=3, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Marks:
    """In place of a table: what was reported at each step, as it came."""

    def __init__(self, states, reports):
        self.states, self.reports = np.array(states), reports

    def mask(self, state):
        return self.states == state

    def reported_at(self, step):
        rows, values = zip(*self.reports.get(step, []), strict=True) if self.reports.get(step) else ((), ())
        return np.array(rows, np.int64), np.array(values, float)


states = st.sampled_from([State.RUNNING, State.DONE, State.STOPPED, State.LOST])


@given(st.lists(states, min_size=1, max_size=30), st.integers(2, 4), st.data())
def test_a_trial_is_held_against_those_before_it(rows, eta, data):
    """The rule as its paper has it, one trial after the other; in parts, too, when there are many."""
    schedule = make(f"asha:stop=true,eta={eta}", 1, eta * eta)
    values = st.floats(-3, 3).map(lambda value: round(value, 1)) | st.just(math.nan)
    reports = {
        step: [(row, data.draw(values)) for row in data.draw(st.permutations(range(len(rows))))]
        for step in schedule.steps
    }
    expected = set()
    for told in reports.values():
        before = []
        for row, value in told:
            if rows[row] is State.LOST:
                continue
            better = sum(other < value for other in before)
            before.append(value)
            if rows[row] is State.RUNNING and len(before) >= eta and better >= len(before) // eta:
                expected.add(row)
    whole, parts = asha.CELLS, 7
    for asha.CELLS in (parts, whole):
        assert schedule.stop(Marks(rows, reports)) == sorted(expected)
