"""Several goals, limits and noise: what is told, what counts as best, and that the search goes after it."""

import json
import math
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation import simulate

import mpibo
from mpibo.acquisition.feasible import Feasibility
from mpibo.front import front_of, hypervolume
from mpibo.goals import Aims, Goal, Limit, aims_of, goals_of, limits_of
from mpibo.merit import behind
from mpibo.outcome import outcome_of
from mpibo.replaying import replay
from mpibo.search import Search
from mpibo.settings import settings_from
from mpibo.store.journal import read
from mpibo.trial import Ledger, Proposal, State, end_event, start_event, trial_of, trials_of

GOALS = ["min cost", "max gain"]
SPACE = {"x": (0.0, 1.0), "u": (0.0, 1.0), "v": (0.0, 1.0), "c": ["a", "b", "c"]}


def both(config):
    """Cost x against a gain whose best is sqrt(x) - 1, at u = 0.4, v = 0.7, c = 'b' (the shape of ZDT1)."""
    away = 1 + 3 * (abs(config["u"] - 0.4) + abs(config["v"] - 0.7)) + (config["c"] != "b")
    return {"cost": config["x"], "gain": -away * (1 - math.sqrt(config["x"] / away)), "more": "text"}


def driven(search, objective, rounds, n=4):
    for _ in range(rounds):
        for trial in search.ask(n):
            search.tell(trial, objective(trial.config))
    return search


# --- what a person writes ---------------------------------------------------------------------------------------------

NAMES = st.text(st.characters(categories=("L", "N"), include_characters="_-.:/"), min_size=1, max_size=12)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.builds(Goal, NAMES, st.booleans()), unique_by=lambda goal: goal.name),
       st.lists(st.builds(Limit, NAMES, NUMBERS, st.booleans())))  # fmt: skip
@settings(deadline=None)
def test_goals_and_limits_read_what_they_write(goals, limits):
    for wanted, parse in ((goals, goals_of), (limits, limits_of)):
        assert parse(", ".join(map(str, wanted))) == parse(list(map(str, wanted))) == parse(wanted) == tuple(wanted)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"goals": "error"}, "'min NAME' or 'max NAME', got 'error'"),
        ({"goals": ["min a", "max a"]}, "'a' is given twice"),
        ({"goals": 3}, "text or a list"),
        ({"limits": "size < 3"}, "'NAME <= NUMBER' or 'NAME >= NUMBER', got 'size < 3'"),
        ({"limits": ["size <= much"]}, "got 'size <= much'"),
        ({"limits": ["size <= inf"]}, "got 'size <= inf'"),
        ({"goals": "min a", "maximize": True}, "write 'max a'"),
        ({"goals": "min a, min b", "target": 3.0}, "target is for one value"),
    ],
)
def test_what_can_not_be_meant_is_refused_in_one_line(given, told):
    with pytest.raises(ValueError, match=told) as error:
        settings_from(given)
    assert "\n" not in str(error.value)


def test_settings_keep_goals_as_text_and_read_them_again():
    made = settings_from({"goals": "min a,max b", "limits": "c<=20, d >= -1e-3", "noise": True})
    plain = json.loads(json.dumps(made.plain()))
    assert plain["goals"] == ["min a", "max b"] and plain["limits"] == ["c <= 20", "d >= -0.001"]
    assert settings_from(plain) == made and made.aims.several
    assert settings_from({"goals": "max b"}).aims == Aims(True, (Goal("b", True),))


# --- what an objective returns ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "reason", "told"),
    [
        ({"cost": 1.0}, "value", "no key 'gain', 'size'; it has cost"),
        ({}, "value", "no key 'cost', 'gain', 'size'; it has nothing"),
        (0.5, "value", "a dict with 'cost', 'gain', 'size', got float"),
        (None, "value", "a dict with 'cost', 'gain', 'size', got NoneType"),
        ({"cost": "low", "gain": 1, "size": 1}, "value", "a number for 'cost', got str"),
        ({"cost": 1, "gain": True, "size": 1}, "value", "a number for 'gain', got bool"),
        ({"cost": 1, "gain": math.inf, "size": 1}, "nonfinite", "'gain' is inf"),
        ({"cost": 1, "gain": 1, "size": math.nan}, "nonfinite", "'size' is nan"),
    ],
)
def test_a_dict_without_its_numbers_is_a_failure_that_names_them(returned, reason, told):
    outcome = outcome_of(returned, reported=0.1, aims=aims_of(goals=GOALS, limits="size <= 3"))
    assert outcome.state is State.FAILED and outcome.reason == reason
    assert told in outcome.error and "\n" not in outcome.error


def test_several_goals_have_metrics_and_no_value_one_goal_is_the_value():
    told = {"cost": np.float32(0.5), "gain": 2, "value": 7, "more": [1]}
    outcome = outcome_of(told, aims=aims_of(goals=GOALS))
    assert (outcome.state, outcome.value) == (State.DONE, None)
    assert outcome.metrics == {"cost": 0.5, "gain": 2.0, "value": 7, "more": [1]} and "value" not in end_event(
        0, outcome
    )
    assert outcome_of(told, aims=aims_of(goals="max gain")).value == 2.0
    limited = outcome_of(told, aims=aims_of(limits="gain <= 3"))
    assert limited.value == 7.0 and limited.metrics == {"cost": 0.5, "gain": 2.0, "more": [1]}
    assert outcome_of({"gain": 1}, aims=aims_of(limits="gain <= 3")).error == (
        "the returned dict has no key 'value'; it has gain"
    )


# --- what counts as best ---------------------------------------------------------------------------------------------


@st.composite
def told_runs(draw):
    """Aims, and the events of trials that end in many ways."""
    goals = draw(st.sampled_from([(), ("max a",), ("min a", "max b"), ("min a", "min b", "max c")]))
    aims = aims_of(draw(st.booleans()) if not goals else False, goals, draw(st.sampled_from([(), ("l <= 2",)])))
    events = []
    number = st.integers(0, 4).map(float)
    for row in range(draw(st.integers(0, 25))):
        events.append(start_event(trial_of(Proposal({"x": row / 100}, budget=draw(st.integers(1, 2))), row, 0)))
        told = {name: draw(number) for name in ("value", "a", "b", "c", "l")}
        told.pop(draw(st.sampled_from(["value", "a", "b", "l", "no"])), None)
        events.append(end_event(row, outcome_of(told, aims=aims)))
    return aims, events


@given(told_runs())
@settings(max_examples=150, deadline=None)
def test_the_best_is_feasible_and_everyone_agrees_on_it(run):
    """The manager's account, the table and the result's front name the same trials, all within the limits."""
    aims, events = run
    ledger, search = Ledger(*aims), Search({"x": (0.0, 1.0)}, "random", maximize=not aims.goals and aims.maximize,
                                           goals=aims.goals, limits=aims.limits)  # fmt: skip
    for event in events:
        ledger.apply(event)
        search.apply(event)
    front = front_of(trials_of(events), aims)
    assert sorted(trial.id for trial in ledger.front) == sorted(trial.id for trial in front)
    assert all(search.table.feasible[trial.id] for trial in front)
    if aims.several:
        assert ledger.best is None
    else:
        assert [ledger.best] == (front or [None])
        assert search.table.incumbent == (front[0].id if front else None)
    for trial in trials_of(events):
        costs = aims.costs(trial.value, trial.metrics)
        assert search.table.goals[trial.id].tolist() == pytest.approx(costs or [np.nan] * search.table.goals.shape[1],
                                                                      nan_ok=True)  # fmt: skip


# --- limits -----------------------------------------------------------------------------------------------------------


def test_merit_without_limits_is_the_value_and_unknown_excess_is_unknown():
    search = Search({"x": (0.0, 1.0)}, "random")
    driven(search, lambda config: config["x"], 2)
    assert search.table.merit is not None and search.table.merit.tolist() == search.table.y.tolist()
    assert search.table.feasible.all() and search.table.excess.shape == (8, 0)
    assert np.isnan(behind(np.array([1.0, 2.0]), np.array([[np.nan], [0.0]]))).tolist() == [True, False]


def test_feasibility_learns_where_a_limit_is_kept():
    search = Search({"x": (0.0, 1.0), "y": (0.0, 1.0)}, "sobol", limits=["size <= 5", "speed >= 0.2"])
    driven(search, lambda c: {"value": c["y"], "size": 10 * c["x"], "speed": c["y"]}, 10)
    search.tell(search.ask()[0], error="no metrics")
    model = Feasibility(2)
    X = search.space.encode([{"x": 0.1, "y": 0.9}, {"x": 0.9, "y": 0.9}, {"x": 0.1, "y": 0.02}, {"x": 0.9, "y": 0.02}])
    assert model.log_probability(X).tolist() == [0.0] * 4
    model.fit(search.table, np.random.default_rng(0))
    kept, large, slow, neither = np.exp(model.log_probability(X))
    assert kept > 0.8 and large < 0.1 and slow < 0.2 and neither < large
    assert (model.log_probability(X) >= 2 * np.log(1e-6)).all()


# --- searches ---------------------------------------------------------------------------------------------------------


def covered(search):
    """Hypervolume of a front of ``both``, of 1.5 by 3."""
    costs = np.array([search.aims.costs(None, trial.metrics) for trial in search.front])
    return hypervolume(costs, np.array([1.5, 3.0]))


def test_two_goals_are_searched_better_than_at_random():
    """Ask and tell in batches of four, three seeds: the front covers more, and it is spread out."""
    ours = [driven(Search(SPACE, "ts:model=gp", goals=GOALS, seed=seed), both, 15) for seed in range(3)]
    chance = [driven(Search(SPACE, "random", goals=GOALS, seed=seed), both, 15) for seed in range(3)]
    assert min(map(covered, ours)) > max(map(covered, chance)) + 0.1
    for search in ours:
        cost = [trial.metrics["cost"] for trial in search.front]
        assert cost == sorted(cost) and cost[0] < 0.1 and cost[-1] > 0.7
        assert all(trial.value is None for trial in search.trials)


def test_an_answer_is_split_over_weights_and_distinct():
    """Each part sees those before it as waiting; afterwards nothing waits that the request did not name."""
    seen = []

    class Watching:
        def propose(self, trials, n, rng):
            seen.append((n, len(trials.pending), trials.weights, trials.y.copy(), trials.done.all()))
            return [Proposal({"k": int(k)}) for k in range(len(trials.pending), len(trials.pending) + n)]

    search = Search({"k": (0, 99)}, Watching(), goals=GOALS)
    for k in range(3):
        search.add({"k": 90 + k}, {"cost": k, "gain": k * k})
    assert len({trial.config["k"] for trial in search.ask(10)}) == 10
    assert [n for n, *_ in seen] == [2, 2, 3, 3] and [pending for _, pending, *_ in seen] == [0, 2, 4, 7]
    assert len({weights.tobytes() for _, _, weights, *_ in seen}) == 4
    assert all(weights.sum() == pytest.approx(1) and done for *_, weights, _, done in seen)
    assert len({y.tobytes() for *_, y, _ in seen}) == 4 and not any(np.isnan(y).any() for *_, y, _ in seen)
    assert len(search.table.waiting) == 0 and len(search.table.pending) == 10


def test_best_names_front_and_the_front_of_one_value_is_the_best():
    search = driven(Search(SPACE, "random", goals=GOALS), both, 5)
    with pytest.raises(ValueError, match="front") as error:
        search.best  # noqa: B018
    assert "\n" not in str(error.value)
    single = driven(Search(SPACE, "random", goals="max gain"), both, 5)
    assert single.best.value == max(trial.metrics["gain"] for trial in single.trials) == single.best.metrics["gain"]
    assert single.front == [single.best] and single.expected == single.best.value


def limited(config):
    """The lowest values lie where the limit is broken; it is kept on a fifth of the cube."""
    return {"value": config["x"] + config["y"], "size": 3 * (1.2 - config["x"]) + abs(config["y"] - 0.5)}


def test_limits_are_learned(tmp_path):
    """Through the manager: the best is feasible, and proposals keep the limit more and more often."""
    space = {"x": (0.0, 1.0), "y": (0.0, 1.0), "z": (0.0, 1.0)}
    shares = []
    for seed in range(2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        manager, ended, _ = simulate(
            folder, "auto", objective=limited, limits=["size <= 1.5"], space=space, seed=seed, max_trials=60
        )
        result = mpibo.load(folder)
        kept = [trial.metrics["size"] <= 1.5 for trial in result.trials]
        feasible = [trial.value for trial, keep in zip(result.trials, kept, strict=True) if keep]
        assert ended.exit_code == 0 and result.best == manager.ledger.best == result.front[0]
        assert result.best.value == min(feasible) < 1.1 and result.best.metrics["size"] <= 1.5
        shares.append((np.mean(kept[:20]), np.mean(kept[-30:])))
    early, late = np.mean(shares, axis=0)
    assert late > early + 0.2


def test_when_no_trial_keeps_the_limits_there_is_no_best(tmp_path):
    manager, ended, _ = simulate(tmp_path, objective=lambda c: {"value": 1.0, "size": 9}, limits=["size <= 1"])
    result = mpibo.load(tmp_path)
    assert ended.exit_code == 0 and result.best is None and result.front == [] and result.expected is None
    assert manager.ledger.best is None and manager.ledger.counts[State.DONE] == 40


def test_two_goals_replay_across_a_resume(tmp_path):
    """The weights come from the seed and the number of the ask; a larger max_trials is a line of the journal, too."""
    told = {"objective": both, "goals": GOALS, "limits": ["cost <= 0.8"], "space": SPACE, "seed": 3}
    simulate(tmp_path, "ts", max_trials=16, cost=lambda event: 0.3, **told)
    simulate(tmp_path, "ts", max_trials=32, cost=lambda event: 0.02, **told)
    assert replay(read(tmp_path).events) == []
    ends = [event for event in read(tmp_path).events if event["kind"] == "end"]
    assert len(ends) == 32 and not any("value" in event for event in ends)


# --- noise ------------------------------------------------------------------------------------------------------------


def noisy(seed, n=100):
    """A search that was told ``n`` values of a bowl, with noise of 0.7."""
    search = Search({"x": (0.0, 1.0)}, "random", noise=True, maximize=True)
    rng = np.random.default_rng(seed)
    for x in rng.integers(0, 31, n) / 30:
        search.add({"x": float(x)}, 1 - 4 * (x - 0.4) ** 2 + rng.normal(0, 0.7))
    return search


def test_with_noise_the_best_is_what_a_model_expects_most_of():
    """It is an evaluated config, better in truth than the luckiest one, and its value is told without the luck."""
    searches = [noisy(seed) for seed in range(10)]
    lucky = [max(search.trials, key=lambda trial: trial.value) for search in searches]
    best = [search.best for search in searches]
    assert all(trial in search.trials for trial, search in zip(best, searches, strict=True))
    regret = [np.mean([4 * (trial.config["x"] - 0.4) ** 2 for trial in trials]) for trials in (best, lucky)]
    assert regret[0] < 0.04 and regret[0] < regret[1] / 2
    assert np.mean([search.expected for search in searches]) == pytest.approx(1.0, abs=0.15)
    assert np.mean([trial.value for trial in lucky]) > 1.3
    assert searches[0].best is searches[0].best and searches[0].front == [searches[0].best]


def test_a_noisy_run_is_judged_when_its_result_is_asked_for(tmp_path):
    def objective(config):
        return 4 * (config["x"] - 0.4) ** 2 + math.sin(1e5 * config["x"]) / 2

    simulate(tmp_path, "random", objective=objective, space={"x": (0.0, 1.0), "c": [(1, 2), None]}, noise=True)
    result = mpibo.load(tmp_path)
    search = Search({"x": (0.0, 1.0), "c": [(1, 2), None]}, "random", noise=True)
    for event in read(tmp_path).events:
        if event["kind"] in ("start", "end"):
            search._take(event)
    assert result.best.id == search.best.id and result.expected == pytest.approx(search.expected)
    assert result.expected > min(trial.value for trial in result.trials) + 0.1
    assert Search(SPACE, noise=True).best is None and Search(SPACE, noise=True).expected is None


# --- whole runs -------------------------------------------------------------------------------------------------------


def test_minimize_with_two_goals_and_a_limit(tmp_path):
    def objective(x, c):
        told = {"error": (x - 0.5) ** 2, "recall": x, "megabytes": 30 * x}
        if c == "b":
            del told["recall"]
        return told

    run = {"max_trials": 20, "out": tmp_path / "run", "progress": "none", "method": "random"}
    run["start"] = [{"x": x, "c": "a"} for x in (0.5, 0.6, 0.7, 0.9)]  # of these the first three are the front at least
    goals = {"goals": ["min error", "max recall"], "limits": ["megabytes <= 24"]}
    result = mpibo.minimize(objective, {"x": (0.0, 1.0), "c": ["a", "b"]}, **run, **goals)
    bad = [trial for trial in result.trials if trial.state is State.FAILED]
    assert bad and {trial.config["c"] for trial in bad} == {"b"} and {trial.reason for trial in bad} == {"value"}
    assert {trial.error for trial in bad} == {"the returned dict has no key 'recall'; it has error, megabytes"}
    assert all(trial.config["c"] == "a" and trial.metrics["megabytes"] <= 24 for trial in result.front)
    assert len(result.front) > 1 and [trial.metrics["recall"] for trial in result.front] == sorted(
        trial.metrics["recall"] for trial in result.front
    )
    with pytest.raises(ValueError, match="front"):
        result.best  # noqa: B018
    frame = result.to_pandas()
    assert frame["metrics.error"].notna().sum() == 20 - len(bad) and frame["value"].isna().all()
    told = json.loads((tmp_path / "run" / "status.json").read_text())
    assert told["best"] is None and told["front"] == len(result.front) and told["exit_code"] == 0
    for other in ({}, {"goals": ["max recall", "min error"]}, goals | {"limits": ["megabytes <= 25"]},
                  {"goals": "min error"}, {"maximize": True}):  # fmt: skip
        with pytest.raises(ValueError, match="is to minimise error, maximise recall with megabytes <= 24, not to"):
            mpibo.minimize(objective, {"x": (0.0, 1.0), "c": ["a", "b"]}, **{**run, "max_trials": 30}, **other)


def test_the_command_line_with_goals(tmp_path):
    """A program that prints its goals as JSON; the summary shows the front, a resume goes on, `log` shows a trial."""
    (tmp_path / "space.toml").write_text("[space]\nx = {float = [0.0, 1.0]}\n")
    (tmp_path / "train.py").write_text(textwrap.dedent("""
        import json, sys
        x = float(sys.argv[1])
        print("training")
        print(json.dumps({"cost": x, "gain": x ** 0.5, "time": 1.5}))
        """))  # fmt: skip

    def run(trials, *flags):
        program = [sys.executable, "-m", "mpibo", "run", "--space", "space.toml", "--out", "run", "--progress", "plain"]
        command = ["--", sys.executable, "train.py", "{x}"]
        return subprocess.run(
            [*program, "--max-trials", str(trials), *flags, *command], cwd=tmp_path, capture_output=True, text=True,
            timeout=60,
        )  # fmt: skip

    flags = ["--goals", "min cost, max gain", "--limits", "time <= 2"]
    done = run(4, *flags)
    assert done.returncode == 0, done.stderr
    assert "minimise cost, maximise gain with time <= 2 over" in done.stdout
    assert "(new in the front of " in done.stdout and "Front    4 trials that no other beats" in done.stdout
    assert run(6, *flags).returncode == 0
    refused = run(8, "--goals", "min cost")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1 and "not to minimise cost" in refused.stderr
    assert len(mpibo.load(tmp_path / "run").front) == 6
    header = (tmp_path / "run" / "results.csv").read_text().splitlines()[0]
    assert header.endswith("metrics.cost,metrics.gain,metrics.time")
    shown = subprocess.run(
        [sys.executable, "-m", "mpibo", "log", "run", "0"], cwd=tmp_path, capture_output=True, text=True
    )
    assert "cost=" in shown.stdout and "gain=" in shown.stdout
