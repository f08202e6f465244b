"""A forecast is a run of the real engine in virtual time, in which the engine's own time counts."""

import csv
import json
import random
import statistics
from dataclasses import replace

import numpy as np
import pytest
from simulation import SPACE, simulate, value

from mpibo.forecast import Charges, duration_of, forecast
from mpibo.forecast.command import simulate as command
from mpibo.forecast.durations import DISTRIBUTIONS
from mpibo.forecast.known import Values, durations_of, known
from mpibo.goals import Aims

FREE = Charges(message=0.0, latency=0.0, manager=0.0, answer=(0.0, 0.0))
FIXED = Charges(manager=7.5e-5, answer=(0.02, 1.5e-4))


def told(run):
    return value(run["config"])


def test_an_engine_that_costs_nothing_keeps_every_worker_busy():
    found = forecast(SPACE, "random", 16, "constant:10s", value=told, max_trials=160, charges=FREE)
    assert found.utilisation == pytest.approx(1.0) and found.steady == pytest.approx(1.0)
    assert found.elapsed == pytest.approx(100.0) and found.evaluations == 160 and found.why == "max_trials"


def test_the_manager_serves_one_message_after_another():
    """With 0.1 s for each of a trial's two messages no more than 5 trials a second pass, however many workers."""
    slow = Charges(message=0.05, latency=0.0, manager=0.05, answer=(0.0, 0.0))
    found = forecast(SPACE, "random", 100, "constant:1s", max_trials=300, charges=slow)
    assert found.evaluations / found.elapsed <= 5.0
    assert found.manager_busy > 0.95 and found.utilisation < 0.06


def test_the_proposer_answers_one_request_after_another():
    """At a tenth of a second a proposal there are ten a second at most."""
    slow = replace(FREE, answer=(0.0, 0.1))
    found = forecast(SPACE, "ts", 64, "constant:1s", max_trials=200, charges=slow)
    assert 8 < found.evaluations / found.elapsed <= 10.5 and found.proposer_busy > 0.9


def test_the_same_costs_give_the_same_forecast():
    runs = [forecast(SPACE, "auto", 16, "lognormal:1s", value=told, max_trials=60, seed=5, charges=FIXED)
            for _ in range(2)]  # fmt: skip
    assert replace(runs[0], simulated=0.0) == replace(runs[1], simulated=0.0)
    other = forecast(SPACE, "auto", 16, "lognormal:1s", value=told, max_trials=60, seed=6, charges=FIXED)
    assert other.elapsed != runs[0].elapsed


def test_under_a_schedule_a_trial_takes_its_part_of_the_budget():
    """Nine units take 9 s: 27 configs of one, 9 of two more, 3 of six more; one worker does one after the other."""
    found = forecast(
        SPACE, "random", 1, "constant:9s", value=told, max_trials=27, charges=FREE, schedule="sha", budget=(1, 9)
    )
    assert found.evaluations == 27 + 9 + 3
    assert found.elapsed == pytest.approx(27 * 1 + 9 * 2 + 3 * 6)


def test_measured_costs_are_seen():
    found = forecast(SPACE, "ts", 8, "constant:1s", value=told, max_trials=40)
    assert found.manager > 0 and found.proposal > 0 and 0 < found.proposer_busy < 1
    assert found.elapsed > 5.0


def test_the_best_value_is_the_runs_own(tmp_path):
    """The curve ends at the best value, which is that of the journal's trials."""
    found = forecast(SPACE, "ts", 8, "uniform:2s", value=told, max_trials=50, charges=FIXED, folder=tmp_path)
    lines = (tmp_path / "journal.jsonl").read_text().splitlines()
    ends = [json.loads(line) for line in lines if '"kind": "end"' in line]
    assert found.best == min(end["value"] for end in ends) == found.curve[-1][1]
    assert [best for _, best in found.curve] == sorted({best for _, best in found.curve}, reverse=True)
    assert forecast(SPACE, "ts", 8, "uniform:2s", value=told, max_trials=50, charges=FIXED).best == found.best


def test_maximising_finds_the_largest():
    found = forecast({"x": (0.0, 1.0)}, "random", 4, value=lambda run: run["config"]["x"], max_trials=40,
                     aims=Aims(maximize=True), charges=FIXED)  # fmt: skip
    assert found.best is not None and found.best > 0.8 and found.curve[0][1] < found.curve[-1][1] == found.best


def test_walltime_ends_a_forecast():
    """What runs at the end of the allocation counts as busy, not as evaluated."""
    found = forecast(SPACE, "random", 10, "constant:7s", walltime=60.0, charges=FREE)
    assert found.why == "walltime" and found.evaluations == 80
    assert found.elapsed == pytest.approx(60.0, abs=0.5) and found.utilisation == pytest.approx(1.0, abs=0.01)


def test_long_evaluations_are_not_taken_for_dead_workers():
    found = forecast(SPACE, "random", 4, "constant:2h", max_trials=12, charges=FREE)
    assert found.evaluations == 12 and found.failed == 0 and found.elapsed == pytest.approx(6 * 3600)


def test_no_value_is_made_up():
    """Without a value the strategy runs on random ones, and none is told."""
    found = forecast(SPACE, "ts", 4, max_trials=20, charges=FIXED)
    assert found.best is None and found.curve == () and found.evaluations == 20


def test_a_failing_evaluation_costs_its_time_only():
    def fails(run):
        if run["config"]["c"] == "a":
            raise RuntimeError("no")
        return told(run)

    found = forecast(SPACE, "random", 4, value=fails, max_trials=40, charges=FIXED)
    assert found.evaluations == 40 and 0 < found.failed < 40


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_every_distribution_has_the_mean_that_is_asked_for(name):
    draw, rng = duration_of(f"{name}:2m"), random.Random(1)
    drawn = [draw({}, rng) for _ in range(20_000)]
    assert statistics.fmean(drawn) == pytest.approx(120.0, rel=0.03) and min(drawn) > 0


def test_a_spread_can_be_given():
    rng = random.Random(2)
    narrow, wide = duration_of("lognormal:1s,0.1"), duration_of("lognormal:1s,1.0")
    assert (
        statistics.stdev(narrow({}, rng) for _ in range(999))
        < 0.2
        < statistics.stdev(wide({}, rng) for _ in range(999))
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [("60s", "expected a distribution"), ("normal:60s", "there are constant"), ("constant:", "expected a distribution"),
     ("lognormal:fast", "expected a duration"), ("constant:1s,2", "no spread"), ("pareto:1s,1", "above 1"),
     ("lognormal:1s,wide", "spread")],
)  # fmt: skip
def test_a_wrong_distribution_is_told(text, says):
    with pytest.raises(ValueError, match=says):
        duration_of(text)


def best_of(out):
    """The best value in the table's first row."""
    head, row = out.splitlines()[3:5]
    return row[: head.index("best") + len("best")].split()[-1]


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
    """A run in which c = "b" takes ten times as long, and k more."""
    folder = tmp_path_factory.mktemp("run")

    def duration(run, rng):
        return (10.0 if run["config"]["c"] == "b" else 1.0) * rng.lognormvariate(0.0, 0.1)

    simulate(folder, "random", max_trials=120, duration=duration)
    return folder


def test_durations_of_a_run_depend_on_the_config(a_run):
    draw, rng = durations_of(known(a_run)), random.Random(0)
    long, short = (
        statistics.median(draw({"config": {"x": x / 50, "k": 4, "c": c}}, rng) for x in range(50)) for c in ("b", "a")
    )
    assert long == pytest.approx(10.0, rel=0.2) and short == pytest.approx(1.0, rel=0.2)


def test_the_spread_about_the_model_is_the_runs_own(a_run):
    draw, rng = durations_of(known(a_run)), random.Random(0)
    drawn = [draw({"config": {"x": 0.5, "k": 4, "c": "a"}}, rng) for _ in range(2000)]
    assert 0.05 < float(np.std(np.log(drawn))) < 0.3


def test_a_model_of_the_runs_values_ranks_configs(a_run):
    run = known(a_run)
    model = Values(run)
    good, bad = model({"config": {"x": 0.3, "k": 4, "c": "b"}}), model({"config": {"x": 0.9, "k": 8, "c": "a"}})
    values = [trial.value for trial in run.trials]
    assert min(values) <= good < 0.4 < 1.0 < bad <= max(values)


def test_few_results_are_durations_that_were_measured(tmp_path):
    simulate(tmp_path, "random", max_trials=5, workers=2)
    run = known(tmp_path)
    measured = {trial.duration for trial in run.trials}
    draw, rng = durations_of(run), random.Random(0)
    assert {draw({"config": {}}, rng) for _ in range(100)} == measured


def test_a_run_is_forecast_with_its_own_durations_and_values(a_run, tmp_path, capsys):
    flags = ["--workers", "4,32", "--max-trials", "64", "--no-measure", "--out", str(tmp_path / "table.csv")]
    assert command([str(a_run), *flags]) == 0
    out = capsys.readouterr().out
    assert "a model of the run's 120 results" in out and "method random" in out
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [row["workers"] for row in rows] == ["4", "32"] and all(row["evaluations"] == "64" for row in rows)
    best = min(trial.value for trial in known(a_run).trials)
    assert all(float(row["best"]) >= best - 1e-9 for row in rows)
    assert float(rows[0]["elapsed"]) > 3 * float(rows[1]["elapsed"])


def test_the_command_says_the_same_each_time(capsys):
    flags = ["synthetic:branin", "--workers", "8", "--duration", "pareto:1m", "--max-trials", "40", "--no-measure"]
    assert command(flags) == 0
    first = capsys.readouterr().out
    assert command(flags) == 0
    assert capsys.readouterr().out == first
    assert 0.397 < float(best_of(first)) < 2.0


def test_an_objective_that_must_be_run_gets_no_value(tmp_path, capsys):
    """A user's file is only looked at: its function is not called."""
    file = tmp_path / "mine.py"
    file.write_text('space = {"x": (0.0, 1.0)}\n\ndef train(x):\n    raise SystemExit("called")\n')
    assert command([f"{file}:train", "--workers", "4", "--max-trials", "12", "--no-measure"]) == 0
    out = capsys.readouterr().out
    assert "no value is forecast" in out and best_of(out) == "-"


def test_a_plot(tmp_path):
    pytest.importorskip("matplotlib")
    flags = ["synthetic:branin", "--workers", "2,8", "--max-trials", "20", "--no-measure"]
    assert command([*flags, "--plot", str(tmp_path / "a.png"), "--out", str(tmp_path / "b.svg")]) == 0
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG" and b"<svg" in (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["synthetic:branin", "--workers", "8,x"], "whole numbers"),
        (["synthetic:branin", "--duration", "run"], "wants a run's folder"),
        (["synthetic:branin", "--plot", "table.csv"], "expected a file ending in .png"),
        (["synthetic:branin", "--out", "nowhere/table.csv"], "no folder"),
        (["synthetic:branin", "--answer-cost", "much"], "FIT,EACH"),
        (["synthetic:branin", "--message-cost", "-1"], "at least 0 seconds"),
        (["synthetic:branin", "--method", "magic"], "unknown method"),
        (["synthetic:branin", "--walltime", "soon"], "expected a duration"),
        (["nothing.jsonl"], "no run folder"),
        (["synthetic:nothing"], "can't load nothing"),
    ],
)
def test_bad_input_is_one_line(flags, says):
    with pytest.raises(ValueError, match=says):
        command(flags)
