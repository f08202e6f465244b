"""What a method sees of configs that went on and failed; and stopping rules that remember what they looked at."""

import numpy as np
import pytest

from mpibo import Search
from mpibo.schedules.curve import Curve
from mpibo.schedules.seen import at_one_budget, levels, lifted
from mpibo.schedules.stopping import Median
from mpibo.trial import State

SPACE = {"x": (0.0, 1.0)}


@pytest.mark.parametrize("seen", [lifted, lambda trials: at_one_budget(trials, 2)])
def test_a_config_that_failed_at_a_larger_budget_has_failed(seen):
    """It looked best after an epoch and diverged after: a method must not go on looking there."""
    search = Search(SPACE, "random", schedule="asha", budget=(1, 9))
    first = search.ask(6)
    for trial, value in zip(first, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], strict=True):
        search.tell(trial, value)
    promoted, second = search.ask(2)
    assert (promoted.parent, second.parent) == (first[0].id, first[1].id)
    running = seen(search.table)
    assert running.y[0] == 0.0 and running.mask(State.DONE).sum() == 6
    search.tell(promoted, float("nan"))
    failed = seen(search.table)
    assert failed.mask(State.FAILED).tolist() == [True] + [False] * 5
    assert failed.observed()[1][0] == np.nanmax(failed.y)


def test_who_is_stopped_at_a_rung_has_a_value_there():
    """It hears of the stop at a later report; those that went on past the rung say what its value is worth."""
    search = Search(SPACE, "random", schedule="asha:stop=true", budget=(1, 9))
    curves = [[5.0, 4.0, 3.0, 2.0], [4.0, 4.0, 2.0, 1.0], [9.0, 8.0], [3.0, 4.0, 5.0, 5.0]]  # at steps 1, 2, 3 and 9
    for curve in curves:
        (trial,) = search.ask()
        for step, value in zip([1, 2, 3, 9], curve, strict=False):
            search.report(trial, value, step)
        search.tell(trial)
    search.report(search.ask()[0], 0.0, 1)
    assert [str(trial.state) for trial in search.trials] == ["DONE", "DONE", "STOPPED", "STOPPED", "RUNNING"]
    _, budgets, values, _ = levels(search.table)
    nan = np.nan
    assert budgets.tolist() == [1, 3, 9]
    assert np.array_equal(values, [[5, 3, 2], [4, 2, 1], [8, nan, nan], [3, 5, nan], [nan] * 3], equal_nan=True)
    assert lifted(search.table).y[:4].tolist() == [2.0, 1.0, 8.0 - 2 - 1, 5.0 - 1]


@pytest.mark.parametrize("rule", [Median(1, 8, results=2), Curve(1, 8, results=2)])
def test_a_rule_names_the_same_trials_whatever_it_was_asked_before(rule):
    """What it keeps of ended trials is only faster: one that is asked for the first time says the same."""
    rng = np.random.default_rng(0)
    search = Search(SPACE, "random", schedule="median", budget=(1, 8))
    running, steps, named = [], {}, 0
    for _ in range(300):
        while len(running) < 5:
            (trial,) = search.ask()
            running.append(trial)
            steps[trial.id] = 0
        trial = running[int(rng.integers(5))]
        steps[trial.id] += int(rng.integers(1, 3))
        step = min(steps[trial.id], 8)
        search.report(trial, trial.config["x"] + 1 / step + 0.05 * rng.standard_normal(), step)
        fresh = type(rule)(1, 8, results=2)
        over = rule.stop(search.table)
        assert over == fresh.stop(search.table)
        named += len(over)
        if step == 8 or trial.id in over:
            running.remove(trial)
            search.tell(trial)
    assert named > 5
