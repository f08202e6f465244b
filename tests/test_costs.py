"""Which models keep ahead of the workers: costs learned from answers, and the choices that follow from them."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation import simulate

from mpibo.engine.managing.costs import MODELS, Costs, Times
from mpibo.replaying import replay
from mpibo.search import Search
from mpibo.store.journal import read
from mpibo.strategies.design import Random


def measured(a, b, results=100, answers=40):
    """Costs that have seen a GP's answers of a + b k seconds."""
    costs = Costs()
    rng = random.Random(0)
    for _ in range(answers + 1):  # the first says nothing
        k = rng.randint(1, 16)
        costs.learn("gp", ["gp", "et"], k, a + b * k, results)
    return costs


@settings(deadline=None, max_examples=50)
@given(
    a=st.floats(1e-3, 10.0), b=st.floats(1e-4, 1.0), counts=st.lists(st.integers(1, 512), min_size=20, max_size=40)
)  # fmt: skip
def test_seconds_of_an_answer_are_learned(a, b, counts):
    """The line is that of the answers as far as their sizes differ; neither part is ever negative."""
    times = Times(MODELS["gp"])
    for k in counts:
        times.add(k, a + b * k, results=50)
    found_a, found_b = times.line(50)
    assert found_a >= 0 and found_b >= 0
    low, high = min(counts), max(counts)
    if high >= 8 * low and sorted(counts)[len(counts) // 2] > 4 * low:
        assert found_a + found_b * high == pytest.approx(a + b * high, rel=0.5)


def test_answers_of_one_size_are_split_as_expected():
    """Nothing says which part of 70 ms is the fit's; the guess's shape does."""
    times = Times(MODELS["gp"])
    for _ in range(20):
        times.add(1, 0.14, results=50)
    assert times.line(50) == pytest.approx((0.10, 0.04))


def test_a_model_keeps_ahead_or_not():
    """The fit of a model of 0.1 s and 10 ms a proposal: 16 workers, evaluations of 1 ms to 60 s."""
    costs = measured(0.1, 0.01)
    affordable = {typical: costs.affordable(16, typical, 100) for typical in (0.001, 0.1, 0.25, 0.5, 60.0)}
    assert affordable[0.001] == affordable[0.1] == ["et"]  # more proposals needed than it makes
    assert affordable[0.25] == ["et"]  # it makes them, but two thirds of its time go into that
    assert affordable[0.5] == affordable[60.0] == ["gp", "et"]
    slow = measured(1.0, 0.0005)
    assert slow.affordable(16, 0.5, 100) == ["et"], "its proposals come from a model two evaluations old"
    assert slow.affordable(16, 2.0, 100) == ["gp", "et"]


def test_a_model_in_use_may_be_a_little_dearer():
    costs = measured(0.1, 0.01)
    typical = 16 * 0.01 / 0.6  # a load of 0.6
    assert costs.affordable(16, typical, 100) == ["et"]
    assert costs.affordable(16, typical, 100, used=["gp", "et"]) == ["gp", "et"]
    assert costs.affordable(16, typical / 1.5, 100, used=["gp", "et"]) == ["et"]


def test_what_is_known_grows_with_the_results():
    """A GP measured at 100 results costs ten times as much at 1,000, and then no more."""
    costs = measured(0.05, 0.005)
    assert costs.affordable(8, 0.1, 100) == ["gp", "et"]
    for results in (1000, 100_000):
        assert costs.affordable(8, 0.5, results) == ["et"] and costs.affordable(8, 1.0, results) == ["gp", "et"]


def test_before_it_is_measured_a_model_is_guessed():
    """At its first use a GP is expected to take 0.05 s, and 0.02 s a proposal."""
    assert Costs().affordable(8, 60.0, 20) == ["gp", "et"]
    assert Costs().affordable(8, 0.01, 20) == ["et"]
    assert Costs().affordable(8, None, 20) == ["gp", "et"] and Costs().affordable(512, None, 20) == ["et"]


def test_the_first_fit_and_a_hiccup_say_nothing():
    """The first one loads libraries; one answer that hangs is the machine's."""
    costs = Costs()
    costs.learn("gp", ["gp", "et"], 4, 30.0, 20)
    assert costs.affordable(8, 1.0, 20) == ["gp", "et"]
    costs = measured(0.02, 0.002)
    costs.learn("gp", ["gp", "et"], 8, 300.0, 100)
    assert costs.affordable(8, 1.0, 100) == ["gp", "et"]


def test_a_model_that_was_compared_and_not_chosen_is_charged():
    """The forest predicted better, but the answer took as long as the GP's fit."""
    costs = measured(0.02, 0.002)
    for _ in range(40):
        costs.learn("et", ["gp", "et"], 8, 3.0, 100)
    assert costs.affordable(8, 1.0, 100) == ["et"]
    for _ in range(40):
        costs.learn("et", ["et"], 8, 0.02, 100)
    assert costs.affordable(8, 60.0, 100) == ["gp", "et"]


class Affording(Random):
    """Random proposals by the dearest model that can be afforded; nobody counts in ask/tell."""

    choice = None

    def propose(self, trials, n, rng):
        model = (trials.affordable or ["gp"])[0]
        self.choice = (model, f"dearest of {', '.join(trials.affordable or ['gp'])}")
        return super().propose(trials, n, rng)


def cost(event):
    """A GP of 50 ms and 20 ms a proposal, a forest of 5 ms and 0.2 ms."""
    a, b = (0.05, 0.02) if "gp" in event["affordable"] else (0.005, 0.0002)
    return a + b * event["count"] if event["fit"] else 0.001


def test_the_model_follows_the_durations(tmp_path):
    """Evaluations of 60 s, then of 1 ms, then of 60 s again: the GP, the forest, the GP; and the run replays."""

    def duration(run, rng):
        return (0.001 if 200 <= run["id"] < 1200 else 60.0) * rng.uniform(0.7, 1.3)

    simulate(tmp_path, Affording(), max_trials=1500, duration=duration, cost=cost)
    events = read(tmp_path).events
    choices = [event for event in events if event["kind"] == "choice"]
    assert [event["model"] for event in choices] == ["gp", "et", "gp"], "once each time: it does not flip"
    started, of_ask = 0, {}
    for event in events:
        started += event["kind"] == "start"
        if event["kind"] == "ask":
            of_ask[event["ask"]] = started
    changes = [of_ask[event["ask"]] for event in choices]
    assert 200 <= changes[1] < 300 and 1200 <= changes[2] < 1300
    assert replay(events, method=Affording()) == []
    choices[1]["model"] = "gp"
    assert "expected choice et" in replay(events, method=Affording())[0]


def test_a_choice_is_written_once_over_all_starts(tmp_path):
    """A resume goes on with the model of before; a strategy that never chooses writes no line."""
    (tmp_path / "chooses").mkdir()
    (tmp_path / "does not").mkdir()
    for count in (20, 40):
        simulate(tmp_path / "chooses", Affording(), max_trials=count, duration=lambda run, rng: 60.0, cost=cost)
        simulate(tmp_path / "does not", "random", max_trials=count)
    assert [event["model"] for event in read(tmp_path / "chooses").events if event["kind"] == "choice"] == ["gp"]
    plain = read(tmp_path / "does not").events
    assert not any(event["kind"] == "choice" for event in plain)
    assert all(event["affordable"] for event in plain if event["kind"] == "ask"), "null only where nobody counts"


def test_ask_and_tell_counts_nothing():
    search = Search({"x": (0.0, 1.0)}, Affording())
    search.ask()
    assert search.table.affordable is None and search.choice == ("gp", "dearest of gp")


def test_no_worker_waits_for_a_dear_model(tmp_path):
    """16 workers and evaluations of a tenth of a second: the GP can't keep ahead, and nobody waits for it."""
    simulate(
        tmp_path, Affording(), workers=16, max_trials=2000, duration=lambda run, rng: rng.uniform(0.05, 0.15), cost=cost
    )  # fmt: skip
    events = read(tmp_path).events
    starts = [event["t"] for event in events if event["kind"] == "start"]
    ideal = 2000 * 0.1 / 16
    assert max(starts) - min(starts) < 1.1 * ideal
    assert all("gp" not in event["affordable"] for event in events if event["kind"] == "ask" and event["ask"] > 20)
