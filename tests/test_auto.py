"""``auto``: which model it takes, what it says of that, and that its way of comparing them is what it claims."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibo.models.gp import GP
from mpibo.replaying import replay
from mpibo.search import Search
from mpibo.space import Space
from mpibo.strategies import auto
from mpibo.strategies.auto import KEPT, TAKEN, Auto, lead, log_density
from mpibo.testing import Run, mixed_space

SPACE = Space({f"x{i}": (0.0, 1.0) for i in range(3)})


def smooth(x, dice):
    return float(np.sum((x - 0.3) ** 2) + np.sin(3 * x[0] * x[1]))


def jagged(x, dice):
    """Steps of a decade, and noise of 30 %."""
    return 10.0 ** int(4 * x[0]) * (1 + 0.3 * dice.standard_normal())


def begun(function=smooth, results=24, seed=0, space=SPACE):
    """A run of ``auto`` whose design has ended, all results in."""
    run = Run(Auto, space, seed)
    dice = np.random.default_rng(seed)
    run.ask(results)
    for trial in run.start():
        run.end(trial, function(run.trials.X[trial], dice))
    return run


def chosen(run, affordable=None, fit=True):
    """The choice at the next ask, where the manager says which models are affordable."""
    keep = [[p.ask, p.place] for p in run.waiting]
    run.trials.apply({"kind": "ask", "ask": run.asks, "count": 1, "fit": fit, "keep": keep, "affordable": affordable})
    assert run.strategy.propose(run.trials, 1, np.random.default_rng(run.asks))
    run.asks += 1
    return run.strategy.choice


def test_there_is_no_choice_while_the_design_lasts():
    run = Run(Auto, SPACE)
    run.results(10)
    assert run.strategy.choice is None and {p.origin for p in run.ask(1)} == {"model"}
    assert run.strategy.choice is not None


@pytest.mark.parametrize("seed", range(3))
def test_the_better_predictor_is_taken(seed):
    """A smooth function is the Gaussian process's; steps over decades with noise are the forest's."""
    model, why = chosen(begun(smooth, 40, seed))
    assert model == "gp" and why.startswith("predicts better by ") and why.endswith("nats a result, of 40")
    assert float(why.split()[3]) > 1
    model, why = chosen(begun(jagged, 80, seed))
    assert model == "et" and why.startswith("predicts better by ") and why.endswith("nats a result, of 80")


def test_a_model_that_falls_behind_is_not_taken():
    """Affordable says who keeps ahead of the workers: the forest takes over, and gives back when it may."""
    run = begun()
    assert chosen(run, ["gp", "et"])[0] == "gp"
    for affordable in (["et"], ["et"], []):
        assert chosen(run, affordable) == ("et", "gp can't keep ahead of the workers")
    assert chosen(run, ["gp", "et"])[0] == "gp"


def test_without_a_clock_the_number_of_results_decides(monkeypatch):
    """In ask and tell everything counts as affordable up to many results; with a clock the clock decides."""
    run = begun()
    assert auto.MANY >= 1000
    monkeypatch.setattr(auto, "MANY", 23)
    assert chosen(run) == ("et", "more than 23 results")
    assert chosen(run, ["gp", "et"])[0] == "gp"


def test_without_a_fit_a_kept_model_answers():
    """No fit wanted: no comparison is made; where the model due is not fitted yet the other answers, and says so."""
    run = begun()
    assert chosen(run, ["et"])[0] == "et"
    assert chosen(run, ["gp", "et"], fit=False) == ("et", "not compared yet")
    assert run.strategy._compared == 0
    assert chosen(run, ["gp", "et"])[0] == "gp"
    other = begun()
    assert chosen(other)[0] == "gp"
    assert chosen(other, ["et"], fit=False) == ("gp", "et is not fitted yet")
    for trial in range(6):  # enough for another comparison and another fit, if they were wanted
        run.ask(1, fit=False)
        run.end(run.start()[0], 0.1 * trial)
        assert chosen(run, ["gp", "et"], fit=False)[0] == "gp"
    assert run.strategy._compared == 24 and run.strategy._gp.model.gp.fits == 1


def test_a_model_of_a_single_result():
    """With next to nothing known there is nothing to compare: the Gaussian process begins."""
    run = Run(lambda: Auto(n_initial=1), mixed_space())
    told = []
    for value in (3.0, 1.0, 2.0, 5.0, 4.0):
        run.ask(1)
        told.append(run.strategy.choice)
        run.end(run.start()[0], value)
    assert told[0] is None and told[1:4] == [("gp", "not compared yet")] * 3 and told[4][1].endswith("of 4")


def test_the_first_ask_without_a_fit_goes_on_with_the_design():
    run = begun()
    assert {p.origin for p in run.ask(2, fit=False)} == {"design"} and run.strategy.choice is None


def test_a_small_lead_does_not_change_the_model(monkeypatch):
    """The forest must be clearly better to be taken; the reason says what is so, also when the model used is behind."""
    monkeypatch.setattr(Auto, "_compare", lambda self, trials, rng: None)
    run, found = begun(), []
    assert 0 < KEPT < 0.4 < TAKEN < 0.6
    for ahead in (0.2, -0.4, -0.6, -0.4, -0.2):
        run.strategy._ahead = ahead
        found.append(chosen(run))
    assert [model for model, _ in found] == ["gp", "gp", "et", "et", "gp"]
    assert [why.rpartition(" nats")[0] for _, why in found] == [
        "predicts better by 0.20", "predicts worse by only 0.40", "predicts better by 0.60", "predicts better by 0.40",
        "predicts worse by only 0.20",
    ]  # fmt: skip


def test_models_are_compared_as_results_grow_by_a_fifth(monkeypatch):
    counts = []

    def compare(self, trials, rng):
        counts.append(len(trials.observed()[1]))

    monkeypatch.setattr(Auto, "_compare", compare)
    run = begun(results=10)
    for _ in range(20):
        chosen(run)
        run.ask(1)
        run.end(run.start()[0], 0.5)
    assert counts == [10, 12, 15, 18, 22, 27]


def test_choices_replay():
    """A run with failures, asks without a fit and a change of what is affordable is made again choice by choice."""

    def run(events):
        search = Search(mixed_space(), "auto", seed=3)
        dice, choices = np.random.default_rng(0), []
        for ask in range(20):
            affordable = ["et"] if 13 <= ask < 17 else ["gp", "et"]
            fit = ask % 3 != 1
            event = {"kind": "ask", "ask": ask, "count": 2, "fit": fit, "keep": [], "affordable": affordable}
            events.append(event)
            answer = search.answer(event)
            if search.choice and (not choices or choices[-1][0] != search.choice[0]):
                choices.append(search.choice)
                events.append({"kind": "choice", "ask": ask, "model": search.choice[0], "why": search.choice[1]})
            for place, p in enumerate(answer):
                number = search.table.n
                start = {"kind": "start", "id": number, "config": p.config, "origin": p.origin, "ask": ask}
                value = float(np.log10(p.config["lr"]) ** 2 + p.config["layers"] + 0.1 * dice.standard_normal())
                end = {"kind": "end", "id": number, "state": "DONE", "value": value}
                if number == 3:
                    end = {"kind": "end", "id": number, "state": "FAILED", "reason": "exception"}
                for each in (start | {"place": place, "budget": 1}, end):
                    events.append(each)
                    search.apply(each)
        return choices

    events = []
    choices = run(events)
    assert [model for model, _ in choices] == ["gp", "et", "gp"]
    assert choices[1] == ("et", "gp can't keep ahead of the workers")
    told = next(event for event in events if event["kind"] == "choice")
    told["why"] = "because"
    (difference,) = replay(events, Search(mixed_space(), "auto", seed=3))  # this one and no other
    assert "the journal says gp (because)" in difference and choices[0][1] in difference


# --- how well each predicts ---


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(2, 20))
def test_log_density_is_that_of_the_best_common_factor(seed, n):
    """The mean log density of normal predictions, their variances scaled by the factor that makes it largest."""
    from scipy.stats import norm

    rng = np.random.default_rng(seed)
    z, mean, variance = rng.standard_normal(n), rng.standard_normal(n), rng.uniform(0.1, 2, n)
    told = log_density(z, mean, variance)
    factors = np.logspace(-6, 6, 3001)[:, None]
    every = norm.logpdf(z, mean, np.sqrt(factors * variance)).mean(axis=1)
    assert told == pytest.approx(every.max(), abs=1e-4)
    assert log_density(z, mean, 7 * variance) == pytest.approx(told)


@pytest.mark.parametrize("seed", range(4))
def test_neither_is_ahead_where_there_is_nothing_to_predict(seed):
    """On noise alone, also with ties, although the hyperparameters of the process have seen all rows."""
    rng = np.random.default_rng(seed)
    X, y = rng.random((60, 3)), rng.standard_normal(60)
    if seed % 2:
        y = np.minimum(y, 0.5)
    gp = GP(SPACE)
    gp.fit(X, y, rng)
    assert abs(lead(gp, X, gp.z, rng)) < KEPT


@pytest.mark.parametrize("y", [[0.0, 1.0, 2.0, 3.0], [2.0] * 9, [0.0, 1e50, -1e50, 0.0, 1.0]])
def test_a_comparison_on_hopeless_data(y):
    rng = np.random.default_rng(0)
    X = rng.random((len(y), 3))
    gp = GP(SPACE)
    gp.fit(X, np.array(y), rng)
    assert np.isfinite(lead(gp, X, gp.z, rng))
