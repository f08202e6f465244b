"""Forecasts of runs whose schedule stops trials: by the objective's own reports, or by those of a run."""

import csv
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import simulation

from mpibo.engine.cancelling import Cancel
from mpibo.engine.played import Playing, training_of
from mpibo.forecast import Charges, forecast
from mpibo.forecast.command import simulate as command
from mpibo.forecast.curves import Curve, completed
from mpibo.forecast.known import known
from mpibo.forecast.told import Told, evaluated
from mpibo.forecast.trainings import Trainings, missing
from mpibo.store.journal import read
from mpibo.trial import Outcome, State, trials_of

SPACE = {"x": (0.0, 1.0), "y": (0.0, 1.0)}
FREE = Charges(message=0.0, latency=0.0, manager=0.0, answer=(0.0, 0.0))
STOPPING = ["median", "asha:stop=true", "curve"]
FIDELITY = {"kind": "module", "module": "mpibo.objectives.synthetic", "function": "hartmann6_fidelity"}


def curve(config, step):
    """Falls with the step, from a height and at a rate that depend on the config."""
    return (config["y"] - 0.4) ** 2 + (0.2 + config["x"]) * step ** -(0.2 + config["x"])


def trained(run):
    """What a training of ``curve`` tells."""
    steps = range(1, run["budget"] + 1)
    return Told(curve(run["config"], run["budget"]), [(step, curve(run["config"], step)) for step in steps])


def seconds(run, rng):
    """A whole training takes longer with x."""
    return 18.0 * (1 + run["config"]["x"])


def run_in(folder, **more):
    """A simulated run in which an epoch takes two seconds."""
    told = {"space": SPACE, "curve": curve, "duration": lambda run, rng: 2.0, "workers": 4} | more
    return simulation.simulate(folder, "random", **told)


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
    """Full trainings of 60 random configs."""
    folder = tmp_path_factory.mktemp("run")
    run_in(folder, max_trials=60, budget=9)
    return folder


# What a worker says


def playing(steps, **more):
    """Ten seconds of a trial with a budget of ten that reports at these steps."""
    points = [{"step": step, "value": float(step), "metrics": {}} for step in steps]
    run = {"id": 7, "budget": 10, "config": {}} | more
    return Playing(7, training_of(run, Outcome(State.DONE, 0.5, duration=10.0), points), began=100.0)


def story(trial):
    """When each message comes, and the steps that it reports or the state at its end."""
    told = []
    while trial is not None:
        at, said, trial = trial.next()
        for message in said:
            steps = [point["step"] for point in message.get("points", ())]
            told.append((round(at, 6), steps or message["outcome"]["state"]))
    return told


def test_reports_come_as_late_as_their_steps_and_merge_to_one_a_second():
    assert story(playing([2, 5, 10])) == [(102, [2]), (105, [5]), (110, [10]), (110, "DONE")]
    assert story(playing([2, 2.2, 2.9, 3.5])) == [(102, [2]), (103, [2.2, 2.9]), (104, [3.5]), (110, "DONE")]
    saved = playing([9, 9.5], rung=True, checkpoints=[{"step": 8}])
    assert story(saved) == [(105, [9]), (107.5, [9.5]), (110, [10]), (110, "DONE")]


def test_a_trial_that_is_told_to_stop_ends_at_its_next_report():
    """With that report's value; what is merged is sent first. One without another report goes on to its end."""
    trial = playing([2, 2.2, 2.9, 3.5])
    _, _, trial = trial.next()
    trial.cancel(Cancel("stop"), 102.5)
    at, said, ended = trial.next()
    assert at == pytest.approx(102.9) and ended is None
    assert [point["step"] for point in said[0]["points"]] == [2.2, 2.9]
    assert said[1]["outcome"] == {"state": "STOPPED", "value": 2.9, "duration": pytest.approx(2.9), "metrics": {}}
    late = playing([2])
    late.cancel(Cancel("stop"), 103.0)
    assert story(late) == [(102, [2]), (110, "DONE")]


def test_a_trial_that_does_not_report_in_time_is_killed():
    trial = playing([2, 9])
    trial.cancel(Cancel("timeout", "too long", 1.0, 104.0), 103.0)
    assert story(trial) == [(102, [2]), (104, "FAILED")]


# The forecast


@pytest.mark.parametrize("schedule", STOPPING)
def test_a_forecast_stops_as_a_run_does(tmp_path, schedule):
    """With the true curves it is the run: the same trials end, at the same reports."""
    (tmp_path / "run").mkdir()
    told = {"max_trials": 40, "schedule": schedule, "budget": (1, 9)}
    _, _, transport = run_in(tmp_path / "run", duration=lambda run, rng: seconds(run, rng) / 9, **told)
    found = forecast(SPACE, "random", 4, seconds, value=trained, reports=True, folder=tmp_path,
                     charges=replace(FREE, latency=1e-4), **told)  # fmt: skip
    ran, forecasted = (trials_of(read(folder).events) for folder in (tmp_path / "run", tmp_path))
    assert Counter(trial.state for trial in ran) == Counter(trial.state for trial in forecasted)
    assert found.stopped == sum(trial.state is State.STOPPED for trial in ran) > 10
    assert found.elapsed == pytest.approx(transport.now(), rel=0.01)
    whole = sum(seconds({"config": trial.config}, None) for trial in ran)
    assert found.saved == pytest.approx(1 - sum(trial.duration for trial in ran) / whole, abs=1e-6)
    assert found.curve[-1][1] == found.best


@pytest.mark.parametrize("schedule", STOPPING)
def test_a_run_says_what_stopping_would_have_saved(a_run, tmp_path, schedule):
    """From full trainings alone: within a few parts in a hundred what a run with the schedule saves."""
    told = {"max_trials": 80, "charges": FREE, "schedule": schedule, "budget": (1, 9), "reports": True}
    guess = forecast(SPACE, "random", 4, "constant:18s", value=Trainings(known(a_run)), **told)
    truth = forecast(SPACE, "random", 4, "constant:18s", value=trained, **told)
    assert truth.saved > 0.2 and guess.saved == pytest.approx(truth.saved, abs=0.12)


def test_the_same_costs_give_the_same_forecast(a_run):
    fixed = Charges(manager=7.5e-5, answer=(0.02, 1.5e-4))
    told = {"max_trials": 40, "charges": fixed, "schedule": "median", "budget": (1, 9), "reports": True, "seed": 3}
    runs = [forecast(SPACE, "ts", 8, "lognormal:9s", value=Trainings(known(a_run)), **told) for _ in range(2)]
    assert replace(runs[0], simulated=0.0) == replace(runs[1], simulated=0.0)
    assert runs[0].stopped


def test_reports_cost_the_manager_their_messages():
    told = {"max_trials": 20, "charges": replace(FREE, message=0.01), "budget": 9}
    quiet = forecast(SPACE, "random", 4, "constant:18s", value=lambda run: trained(run).value, **told)
    heard = forecast(SPACE, "random", 4, "constant:18s", value=trained, **told)
    assert heard.manager_busy * heard.elapsed - quiet.manager_busy * quiet.elapsed == pytest.approx(20 * 9 * 0.01)


def test_the_proposer_judges_between_its_answers():
    """Judging takes its time: a trial is stopped later, and less is saved."""
    told = {"value": trained, "max_trials": 40, "schedule": "median", "budget": (1, 9), "reports": True}
    quick, slow = (
        forecast(SPACE, "random", 4, "constant:18s", charges=replace(FREE, answer=(0.0, cost)), **told)
        for cost in (0.0, 3.0)
    )
    assert slow.proposer_busy > 0.5 and slow.saved < quick.saved


# The curves of a run


def test_a_new_config_trains_as_the_nearest_one(a_run):
    """Its reports end at the value that is forecast; going on from a step, or to a smaller budget, tells that part."""
    run = known(a_run)
    trainings = Trainings(run)
    config = run.curves[5].config
    whole = trainings({"id": 0, "config": config, "budget": 9})
    assert [step for step, _ in whole.reports] == list(range(1, 10))
    assert whole.reports[-1][1] == pytest.approx(whole.value)
    way = [value - whole.value for _, value in whole.reports]
    assert way == pytest.approx([curve(config, step) - curve(config, 9) for step in range(1, 10)])
    rest = trainings({"id": 0, "config": config, "budget": 3, "checkpoints": [{"id": 1, "step": 1, "sha256": ""}]})
    assert rest == Told(whole.reports[2][1], whole.reports[1:3])


def test_a_curve_that_ended_early_goes_on_as_the_others_did():
    full = [Curve({}, np.array([1.0, 2.0, 3.0]), np.array([9.0, 6.0, low]), low) for low in (2.0, 4.0, 3.0)]
    early = Curve({}, np.array([2.0]), np.array([8.0]), None)
    steps, values, reports, final = completed([*full, early])
    assert steps.tolist() == [1, 2, 3] and values[3, 1:].tolist() == [8.0, 5.0] and final.tolist() == [2, 4, 3, 5]
    assert reports.tolist() == [[True] * 3] * 3 + [[False, True, True]]


@pytest.mark.parametrize("schedule", ["asha", "median"])
def test_promotions_and_stopped_trials_are_parts_of_their_configs_curve(tmp_path, schedule):
    run_in(tmp_path, max_trials=30, schedule=schedule, budget=(1, 9))
    run = known(tmp_path)
    assert len(run.curves) == 30 and 0 < sum(each.final is not None for each in run.curves) < 30
    for each in run.curves:
        assert each.steps.tolist() == list(range(1, len(each.steps) + 1))
        assert each.values == pytest.approx([curve(each.config, step) for step in each.steps])
    assert missing(run, None) == "" and "before 27" in missing(run, 27)


# The command


def test_the_command_forecasts_a_rule_from_a_run(a_run, tmp_path, capsys):
    flags = ["--workers", "4", "--max-trials", "40", "--no-measure", "--out", str(tmp_path / "table.csv")]
    assert command([str(a_run), *flags]) == 0
    (full,) = csv.DictReader((tmp_path / "table.csv").read_text().splitlines())
    assert command([str(a_run), *flags, "--schedule", "median", "--budget", "1:9"]) == 0
    (row,) = csv.DictReader((tmp_path / "table.csv").read_text().splitlines())
    assert float(row["elapsed"]) < 0.9 * float(full["elapsed"])
    assert int(row["stopped"]) > 5 and float(row["saved"]) > 0.1
    out = capsys.readouterr().out
    assert "a model of the run's 60 learning curves" in out and "stopped        saved" in out


def test_an_objective_that_reports_is_stopped_by_its_reports(capsys):
    """Its trials go on from the step where their parent ended."""
    tell = evaluated(FIDELITY, {})
    config = {f"x{i}": 0.3 for i in range(1, 7)}
    whole = tell({"id": 0, "config": config, "budget": 27, "seed": 1})
    rest = tell({"id": 0, "config": config, "budget": 27, "seed": 1, "checkpoints": [{"step": 9}]})
    assert len(whole.reports) == 27 and rest == Told(whole.value, whole.reports[9:])
    flags = ["synthetic:hartmann6-fidelity", "--workers", "8", "--max-trials", "40", "--method", "random"]
    assert command([*flags, "--schedule", "asha:stop=true", "--budget", "1:27", "--no-measure"]) == 0
    row = capsys.readouterr().out.splitlines()[4].split()
    assert int(row[-3]) > 20 and float(row[-2]) > 50


@pytest.mark.parametrize(
    ("subject", "says"),
    [
        ("synthetic:branin", "median stops trials by their learning curves: synthetic:branin reports nothing"),
        ("mlp", "the objective is not evaluated here; simulate a run of it"),
        ("RUN", "no trial of the run has reported"),
    ],
)
def test_without_curves_a_rule_is_refused_in_a_line(tmp_path, subject, says):
    if subject == "RUN":
        simulation.simulate(tmp_path, max_trials=5)
        subject = str(tmp_path)
    with pytest.raises(ValueError, match=says):
        command([subject, "--schedule", "median", "--budget", "1:9"])
    with pytest.raises(ValueError, match="no learning curves, by which median would stop trials"):
        forecast(SPACE, "random", 2, schedule="median", budget=(1, 9))
