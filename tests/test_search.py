"""Ask and tell without an engine, and the table behind it."""

import json
import math
import pickle

import numpy as np
import pytest

import mpibo
from mpibo.search import Search
from mpibo.space import Space
from mpibo.table import Trials
from mpibo.trial import Outcome, Proposal, State, end_event, start_event, trial_of

SPACE = {"x": (0.0, 1.0), "k": (1, 8), "c": ["a", "b", "c"]}


def value(config):
    return (config["x"] - 0.3) ** 2 + 0.05 * abs(config["k"] - 4) + (config["c"] != "b")


def driven(search, rounds=30):
    for _ in range(rounds):
        for trial in search.ask():
            search.tell(trial, value(trial.config))
    return search


def test_ask_and_tell_find_the_minimum():
    search = driven(mpibo.Search(SPACE, seed=1), 60)
    assert search.best.value < 0.06 and len(search.trials) == 60
    assert search.best.value == min(trial.value for trial in search.trials)


def test_the_same_seed_asks_and_results_give_the_same_trials():
    first, second, other = (driven(Search(SPACE, "ambs", seed=seed)) for seed in (0, 0, 1))
    assert [trial.config for trial in first.trials] == [trial.config for trial in second.trials]
    assert [trial.config for trial in first.trials] != [trial.config for trial in other.trials]


def test_a_search_pickles_in_mid_run():
    search = driven(Search(SPACE, "ts", seed=2), 15)
    search.ask(3)
    twin = pickle.loads(pickle.dumps(search))
    assert [trial.config for trial in driven(search, 5).trials] == [trial.config for trial in driven(twin, 5).trials]


def test_the_persons_sign_everywhere_but_inside():
    search = Search(SPACE, maximize=True)
    trial = search.ask()[0]
    search.report(trial, 0.5, step=1)
    assert search.tell(trial).value == 0.5 and search.best.value == 0.5
    assert search.table.y[0] == -0.5 and search.table.curves(0)[1].tolist() == [-0.5]
    search.add({"x": 0.1, "k": 2, "c": "a"}, 0.9)
    assert search.best.value == 0.9 and search.table.incumbent == 1


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (math.nan, "nonfinite"),
        (math.inf, "nonfinite"),
        (None, "value"),
        ("0.3", "value"),
        (True, "value"),
        ({"loss": 1}, "value"),
        (np.zeros(2), "value"),
    ],
)
def test_what_is_no_number_is_a_failure(told, reason):
    search = Search(SPACE)
    trial = search.tell(search.ask()[0], told)
    assert trial.state is State.FAILED and trial.reason == reason
    assert search.best is None and search.ask()


@pytest.mark.parametrize("told", [1, 1.0, np.float32(1), np.int64(1), np.array(1.0), {"value": 1, "more": [1, 2]}])
def test_what_is_a_number(told):
    search = Search(SPACE)
    trial = search.tell(search.ask()[0].id, told)
    assert trial.state is State.DONE and type(trial.value) is float and trial.value == 1.0


def test_told_errors_and_wrong_ids():
    search = Search(SPACE)
    trial = search.ask()[0]
    assert search.tell(trial, error="out of disk").error == "out of disk"
    with pytest.raises(ValueError, match="ended already"):
        search.tell(trial, 0.1)
    with pytest.raises(ValueError, match="unknown"):
        search.tell(99, 0.1)
    with pytest.raises(ValueError, match="lr"):
        search.add({"lr": 1}, 0.1)


def test_a_batch_is_distinct_and_pending_is_seen():
    search = Search(SPACE, "ambs", workers=8)
    for _ in range(5):
        batch = search.ask(8)
        assert len(search.table.pending) == 8
        for trial in batch:
            search.tell(trial, value(trial.config))
    configs = [json.dumps(trial.config) for trial in search.trials]
    assert len(set(configs)) == len(configs) == 40


def test_a_space_that_is_used_up_gives_fewer():
    search = Search({"c": ["a", "b", "c"]})
    assert len(search.ask(2)) == 2 and len(search.ask(5)) == 1 and search.ask() == []


def test_start_configs_and_bad_ones():
    search = Search(SPACE, start=[{"x": 0.5, "k": 3, "c": "a"}, {"c": "b"}])
    first, second, third = search.ask(3)
    assert first.config == {"x": 0.5, "k": 3, "c": "a"} and second.config["c"] == "b"
    assert (first.origin, third.origin) == ("start", "design")
    with pytest.raises(ValueError, match="k"):
        Search(SPACE, start=[{"k": 99}])


# --- the table --------------------------------------------------------------------------------------------------------


def filled(values, maximize=False):
    table = Trials(Space({"x": (0.0, 1.0)}), maximize)
    for number, result in enumerate(values):
        table.apply(start_event(trial_of(Proposal({"x": number / 1000}), number, 0)))
        if isinstance(result, float):
            table.apply(end_event(number, Outcome(State.DONE, result, metrics={"m": result})))
        elif result == "failed":
            table.apply(end_event(number, Outcome(State.FAILED, reason="exception")))
        elif result == "lost":
            table.apply({"kind": "lost", "id": number})
    return table


def test_rows_grow_and_keep_their_values():
    values = [float(number) for number in range(1000)]
    table = filled(values)
    assert table.n == 1000 and table.y.tolist() == values and table.metric("m").tolist() == values
    assert np.allclose(table.X[:, 0], np.arange(1000) / 1000)
    assert len(table.taken) == 1000 and np.isnan(table.metric("other")).all()


def test_failed_rows_are_bad_never_missing():
    table = filled([3.0, "failed", 5.0, "running", "lost", 1.0])
    X, y = table.observed()
    assert y.tolist() == [3.0, 5.0, 5.0, 1.0] and np.allclose(X[:, 0], [0.0, 0.001, 0.002, 0.005])
    assert len(table.pending) == 1 and table.incumbent == 5
    assert table.order.tolist() == [0, 1, 2, -1, 3, 4]


def test_all_failed_is_nothing_to_fit():
    X, y = filled(["failed", "failed"]).observed()
    assert len(X) == len(y) == 0


def test_waiting_proposals_are_pending_until_they_start_or_are_forgotten():
    table = filled([1.0])
    table.offer([Proposal({"x": 0.1 * place}, ask=0, place=place) for place in (1, 2, 3)])
    ask = {"kind": "ask", "ask": 1, "count": 1, "fit": True}
    table.apply(ask | {"keep": [[0, 1], [0, 3]]})
    assert np.allclose(table.waiting[:, 0], [0.1, 0.3]) and len(table.pending) == 2
    table.apply(ask | {"keep": [[0, 3]]})
    assert np.allclose(table.waiting[:, 0], [0.3])
    with pytest.raises(KeyError):
        table.apply(ask | {"keep": [[0, 2]]})


def test_curves_are_thinned():
    table = filled(["running"])
    for step in range(10_000):
        table.apply({"kind": "report", "id": 0, "step": step, "value": float(step)})
    steps, _ = table.curves(0)
    assert len(steps) <= 200 and steps[0] == 0 and steps[-1] == 9999 and (np.diff(steps) > 0).all()
