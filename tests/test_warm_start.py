"""A warm start: what another run knows becomes rows or start configs of ours, once, and never counts as evaluated."""

import json
import logging
import shutil

import numpy as np
import pytest
from simulation import SPACE, simulate, value

import mpibo
from mpibo.commands import show_log
from mpibo.goals import Aims, aims_of
from mpibo.replaying import replay
from mpibo.search import Search
from mpibo.space import Choice, Float, Int, Space
from mpibo.store import csv
from mpibo.store.journal import read
from mpibo.trial import State, trials_of
from mpibo.warm import STARTS, prior


def other_run(folder, trials=30, **more):
    """A run over SPACE with its results.csv, one failure among the trials."""
    folder.mkdir()

    def objective(config):
        if config["k"] == 8 and config["c"] == "a":
            raise RuntimeError("no")
        return value(config)

    simulate(folder, max_trials=trials, objective=objective, **more)
    found = trials_of(read(folder).events)
    csv.write(folder / "results.csv", found, SPACE)
    return [trial for trial in found if trial.state is State.DONE]


# What is read


@pytest.mark.parametrize("name", ["", "journal.jsonl", "results.csv"])
def test_results_of_the_same_space_become_rows(tmp_path, name):
    """All that are done, with their values; they are not asked for again and do not count."""
    done = other_run(tmp_path / "a")
    search = Search(SPACE, warm_start=tmp_path / "a" / name)
    rows = search.trials
    assert [(row.config, row.value) for row in rows] == [(trial.config, trial.value) for trial in done]
    assert all(row.origin == "added" and row.state is State.DONE for row in rows)
    assert search.best.value == min(trial.value for trial in done)
    asked = search.ask(20)
    assert {trial.origin for trial in asked} == {"model"}, "there are results enough for one"
    known = {json.dumps(trial.config) for trial in done}
    assert not known & {json.dumps(trial.config) for trial in asked} and asked[0].id == len(done)


def test_the_same_space_in_another_order_and_with_other_defaults(tmp_path):
    done = other_run(tmp_path / "a")
    same = {"c": Choice(["a", "b", "c"], default="b"), "k": Int(1, 8), "x": Float(0.0, 1.0, default=0.5)}
    found = prior(tmp_path / "a", Space(same))
    assert len(found.results) == len(done) and not found.start
    assert list(found.results[0]["config"]) == ["c", "k", "x"]
    for other in ({**SPACE, "x": (0.0, 2.0)}, {**SPACE, "c": Choice(["a", "b", "c"], ordered=True)}):
        assert not prior(tmp_path / "a", Space(other)).results, "a value there may mean something else"
    assert not prior(tmp_path / "a", Space(SPACE, forbid=["x > 0.9 and k > 7"])).results


def test_of_an_overlapping_space_the_best_configs_come_first(tmp_path):
    """What both know and our space allows; the rest is sampled; the person's own configs come before."""
    done = other_run(tmp_path / "a")
    ours = Space({"x": (0.2, 0.5), "c": ["b", "d"], "depth": (1, 9), "m": Float(0.0, 1.0, when="c == 'd'")})
    found = prior(tmp_path / "a", ours)
    assert not found.results and len(found.start) == STARTS
    best = sorted(done, key=lambda trial: trial.value)[:STARTS]
    for trial, config in zip(best, found.start, strict=True):
        assert ours.check(config) == config
        for name in ("x", "c"):
            legal = 0.2 <= trial.config["x"] <= 0.5 if name == "x" else trial.config["c"] == "b"
            assert (config[name] == trial.config[name]) >= legal
    assert prior(tmp_path / "a", ours) == found, "the sampled part is the seed's"
    mine = {"x": 0.25, "c": "d", "depth": 3, "m": 0.5}
    search = Search(ours, start=[mine], warm_start=tmp_path / "a")
    asked = search.ask(8)
    assert [trial.config for trial in asked[:6]] == [mine, *found.start]
    assert [trial.origin for trial in asked] == ["start"] * 6 + ["design"] * 2


def test_stopped_trials_budgets_and_metrics_go_along(tmp_path):
    search = Search(SPACE, seed=1)
    trials = search.ask(4)
    table = [
        {"state": State.DONE, "value": 0.5, "budget": 27, "metrics": {"loss": 2.0, "note": "good"}},
        {"state": State.STOPPED, "value": 0.7, "budget": 9},
        {"state": State.FAILED, "reason": "exception"},
        {"state": State.LOST},
    ]
    rows = [mpibo.Trial(id=trial.id, config=trial.config, **more) for trial, more in zip(trials, table, strict=True)]
    csv.write(tmp_path / "table.csv", rows)
    warm = Search(SPACE, warm_start=tmp_path / "table.csv")
    assert [(row.value, row.budget) for row in warm.trials] == [(0.5, 27), (0.7, 9)]
    assert warm.trials[0].metrics == {"loss": 2.0, "note": "good"}
    assert np.array_equal(warm.table.metric("loss"), [2.0, np.nan], equal_nan=True)
    assert warm.best.budget == 27


def test_a_table_made_by_hand(tmp_path):
    """Plain names, values as other programs write them, something in the cells of inactive parameters."""
    space = Space(
        {"lr": (1e-4, 1.0, "log"), "layers": (1, 6), "bias": [True, False], "act": [None, "relu"], "epochs": 3,
         "momentum": Float(0.0, 0.9, when="bias == True"), "seed": (0, 9)}
    )  # fmt: skip
    (tmp_path / "table.csv").write_text(
        "note,lr,layers,bias,act,momentum,seed,value\n"
        "first,1,3.0,True,None,0.5,1,0.25\n"  # 1 for 1.0, 3.0 for 3
        "second,0.1,2,False,relu,-1,2,0.5\n"  # momentum has no meaning here
        "no value,0.1,2,True,relu,0.7,2,\n"
        "out of range,5,2,True,relu,0.7,2,0.5\n"
        "no layers,0.1,,True,relu,0.7,2,0.5\n"
    )
    found = prior(tmp_path / "table.csv", space, budget=7)
    assert [event["config"] for event in found.results] == [
        {"lr": 1.0, "layers": 3, "bias": True, "act": None, "epochs": 3, "momentum": 0.5, "seed": 1},
        {"lr": 0.1, "layers": 2, "bias": False, "act": "relu", "epochs": 3, "seed": 2},
    ]
    assert [event["value"] for event in found.results] == [0.25, 0.5]
    assert all(event["budget"] == 7 for event in found.results) and "2 rows do not fit" in found.told
    assert type(found.results[0]["config"]["lr"]) is float and type(found.results[0]["config"]["layers"]) is int


def test_with_goals_their_metrics_are_the_results(tmp_path):
    """Values are not needed, nor is the other run's sign; rows without one of the goals are left out."""
    rows = [mpibo.Trial(id=i, config={"x": 0.1 * i, "k": 1, "c": "a"}, state=State.DONE, value=float(i),
                        metrics={"error": 1.0 - i} | ({"size": 2.0} if i < 2 else {})) for i in range(3)]  # fmt: skip
    csv.write(tmp_path / "table.csv", rows)
    found = prior(tmp_path / "table.csv", Space(SPACE), aims_of(goals="min error, min size"))
    assert [event["metrics"] for event in found.results] == [{"error": 1.0, "size": 2.0}, {"error": 0.0, "size": 2.0}]
    assert not any("value" in event for event in found.results)
    search = Search(SPACE, goals="min error, min size", warm_start=tmp_path / "table.csv")
    assert [trial.id for trial in search.front] == [1] and search.ask()
    found = prior(tmp_path / "table.csv", Space(SPACE), aims_of(goals="min error"))
    assert [event["value"] for event in found.results] == [1.0, 0.0, -1.0]


@pytest.mark.parametrize(
    ("name", "space", "aims", "told"),
    [
        ("a", {"y": (0.0, 1.0), "k": (20, 30)}, Aims(), "nothing|in common"),
        ("a", SPACE, Aims(maximize=True), "minimises and this search maximises"),
        ("results.csv", SPACE, Aims(maximize=True), "minimises and this search maximises"),
        ("a", SPACE, aims_of(limits="size <= 3"), "the metrics size"),
        ("missing", SPACE, Aims(), "No such file"),
        (".", SPACE, Aims(), "is no run folder"),
        ("empty", SPACE, Aims(), "no trial that is done"),
        ("bad.csv", SPACE, Aims(), "line 1"),
        ("foreign.csv", SPACE, Aims(), "in common"),
    ],
)
def test_what_is_of_no_use_is_refused_in_one_line(tmp_path, name, space, aims, told):
    other_run(tmp_path / "a", 5)
    (tmp_path / "empty").mkdir()
    simulate(tmp_path / "empty", max_trials=3, objective=lambda config: 1 / 0)
    (tmp_path / "bad.csv").write_text("apples,pears\n1,2\n")
    (tmp_path / "foreign.csv").write_text("apples,value\n1,2\n")
    path = tmp_path / "a" / name if name == "results.csv" else tmp_path / name
    with pytest.raises(ValueError, match=told) as error:
        prior(path, Space(space), aims)
    assert "\n" not in str(error.value)


# What comes of it


def test_a_warm_start_saves_evaluations(tmp_path):
    """Until a bowl's bottom is found, over three seeds: with random results of another run not half as many."""

    def needed(search):
        for count in range(1, 101):
            (trial,) = search.ask()
            if search.tell(trial, value(trial.config)).value < 0.002:
                return count
        return 100

    other_run(tmp_path / "a", 40)
    cold = sum(needed(Search(SPACE, "ts:model=gp", seed=seed)) for seed in range(3))
    warm = sum(needed(Search(SPACE, "ts:model=gp", seed=seed, warm_start=tmp_path / "a")) for seed in range(3))
    assert warm < cold / 2


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of ours in ``out``, with its journal's events; ``other`` is there to begin from."""
    monkeypatch.chdir(tmp_path)

    def objective(x, k, c):
        return (x - 0.3) ** 2 + 0.05 * abs(k - 4) + (c != "b")

    def run(**more):
        given = {"max_trials": 6, "out": "out", "progress": "none", "method": "ts:model=et"} | more
        result = mpibo.minimize(objective, given.pop("space", SPACE), **given)
        return result, read(tmp_path / "out").events

    return run


def test_a_run_begins_with_the_results_of_another(run, tmp_path, caplog, capsys):
    """They are lines of its own journal: the other run may go, a resume does not look for it, and both replay."""
    done = other_run(tmp_path / "other")
    with caplog.at_level(logging.INFO, "mpibo"):
        result, events = run(warm_start="other")
    assert f"{len(done)} results of the same space" in caplog.text
    added = [trial for trial in result.trials if trial.origin == "added"]
    assert [(row.config, row.value) for row in added] == [(trial.config, trial.value) for trial in done]
    ours = result.trials[len(added) :]
    assert len(ours) == 6 and {trial.origin for trial in ours} == {"model"}, "the first proposals know them"
    assert len({json.dumps(trial.config) for trial in result.trials}) == len(result.trials)
    kinds = [event["kind"] for event in events]
    assert kinds[: len(done) + 2] == ["open", *["add"] * len(done), "proposer"]

    shutil.rmtree(tmp_path / "other")
    caplog.clear()
    result, events = run(warm_start="other", max_trials=9)
    assert "warm_start is for a run's first start" in caplog.text
    assert len(result.trials) == len(done) + 9
    assert sum(event["kind"] == "add" for event in events) == len(done)
    assert replay(events) == []

    status = json.loads((tmp_path / "out" / "status.json").read_text())
    assert status["counts"]["configs"] == 9 and status["counts"]["added"] == len(done)
    rows = csv.read(tmp_path / "out" / "results.csv")
    assert [row.origin for row in rows].count("added") == len(done) and rows[0].worker is None
    assert [(row.config, row.value) for row in rows] == [(row.config, row.value) for row in result.trials]
    capsys.readouterr()
    assert show_log(["out", "0"]) == 0
    assert "trial 0 was told, not run" in capsys.readouterr().out


def test_a_run_begins_with_the_best_configs_of_an_overlapping_space(run, tmp_path):
    """They are in its open lines: also what a resume has not yet started of them, and what a replay needs."""
    other_run(tmp_path / "other")
    space = {"x": (0.0, 0.9), "k": (1, 8), "c": ["a", "b", "c"]}
    mine = {"x": 0.25, "k": 2, "c": "c"}
    _, events = run(space=space, start=[mine], warm_start="other", max_trials=3)
    shutil.rmtree(tmp_path / "other")
    result, events = run(space=space, start=[mine], max_trials=8)
    opens = [event for event in events if event["kind"] == "open"]
    starts = opens[0]["settings"]["start"]
    assert (
        len(starts) == 1 + STARTS
        and opens[1]["settings"]["start"] == starts
        and starts[1:] == opens[0]["warm"]["start"]
    )
    assert [trial.config for trial in result.trials[:6]] == starts
    assert [trial.origin for trial in result.trials] == ["start"] * 6 + ["design"] * 2
    assert replay(events) == []


def test_a_first_start_that_was_killed_in_its_prior_results_is_told(run, tmp_path, caplog):
    """What was written is what counts; the other run is not read again."""
    other_run(tmp_path / "other")
    run(warm_start="other")
    path = tmp_path / "out" / "journal.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:11]))
    _, events = run(warm_start="other")
    assert "only 10 of the" in caplog.text and sum(event["kind"] == "add" for event in events) == 10


def test_a_bad_warm_start_ends_before_there_is_a_folder(run, tmp_path):
    with pytest.raises(ValueError, match="can't read nowhere"):
        run(warm_start="nowhere")
    assert not (tmp_path / "out").exists()
