"""The benchmark of schedules: searches in virtual time on curves that are known, and what is made of them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import lecture_heatmaps
from search_curves import make_digits
from search_curves.curves import Curves, from_file, load
from search_curves.drive import drive
from search_curves.pool import Pool
from search_curves.rules import VIEWS, schedule_of, view
from search_curves.runs import overview, reached, read, regrets, row, run_missing, same, table

from mpibo import Float, Search, Space
from mpibo.schedules import asha
from mpibo.trial import State

LINE = Space({"x": Float(0.0, 1.0)})
STEADY = Curves(  # the order of configs is the same at each epoch; an epoch takes a second
    "steady", LINE, 9, lambda config, seed: config["x"] + np.arange(9, 0, -1) / 10, lambda config: 1.0, 0.1,
    np.linspace(0, 1, 1001) + 0.1, 1.0,
)  # fmt: skip
TASK = {"problem": "hartmann", "method": "random", "schedule": "asha", "shown": "lifted", "seed": 0, "workers": 7}


@pytest.mark.parametrize("schedule", ["asha", "quota", "hyperband", "sha", "simple:epochs=3,all=9,few=1"])
def test_a_promotion_costs_its_new_epochs_alone_and_no_worker_waits(schedule):
    run = drive(STEADY, "random", schedule, 0, 7, 60.0)
    assert run.busy == pytest.approx(1.0)
    assert 7 * 60 - 7 <= run.epochs <= 7 * 60
    assert run.trainings == run.rungs[9] > 0
    ended = sum(run.rungs.values())
    assert ended > run.configs - 7  # each config but those that run has ended at one rung at least


@pytest.mark.parametrize("schedule", ["asha:stop=true", "median", "curve"])
def test_a_stopped_trial_frees_its_worker_at_that_epoch(schedule):
    run = drive(STEADY, "random", schedule, 0, 7, 60.0)
    full = drive(STEADY, "random", "full", 0, 7, 60.0)
    assert run.stopped > 0 and run.configs > full.configs
    assert run.busy == full.busy == pytest.approx(1.0)
    assert full.epochs == 7 * 60 and full.trainings == 7 * (60 // 9)


def test_a_search_is_the_same_each_time_and_ends_with_the_best_it_saw():
    first, second = (drive(STEADY, "tpe", "hyperband", 3, 7, 120.0) for _ in range(2))
    assert (first.full, first.seen, first.rungs) == (second.full, second.seen, second.rungs)
    assert [value for _, value in first.full] == sorted((value for _, value in first.full), reverse=True)
    assert first.seen[-1][1] <= first.full[-1][1]


def test_a_quota_holds_the_number_of_promotions():
    """Where each config is better than all before it, ASHA trains nearly all fully; the quota one in nine."""
    counts = {}
    for schedule in ("asha", "quota"):
        search = Search(LINE, "grid:levels=90", schedule=schedule_of(schedule, 1, 9), budget=(1, 9), maximize=True)
        while search.table.configs < 81 and (asked := search.ask()):
            search.tell(asked[0], asked[0].config["x"])
        counts[schedule] = [int((search.table.rung == rung).sum()) for rung in range(3)]
    assert counts["asha"][2] > 70 and counts["quota"][2] <= 9
    assert counts["quota"][1] <= 27


def test_a_view_is_put_in_and_taken_out():
    before = asha.lifted
    for name in VIEWS:
        with view(name):
            assert asha.lifted is VIEWS[name]
    assert asha.lifted is before


@pytest.mark.parametrize("rule", ["asha:stop=true", "median:results=2", "curve:results=2,chance=0.5"])
def test_seen_by_step_a_stopped_trial_is_one_of_a_smaller_budget(rule):
    """All curves fall alike: it is shown with what it would have come to. ``as-told`` shows what it had."""
    search = Search(LINE, "random", schedule=rule, budget=(1, 9))
    come_to, had = [], []
    for _ in range(20):
        (trial,) = search.ask()
        step = 1
        while search.report(trial, trial.config["x"] + 1 / step, step) and step < 9:
            step += 1
        had.append(search.tell(trial).value)
        come_to.append(trial.config["x"] + 1 / 9)
    search.ask()
    stopped = search.table.mask(State.STOPPED)[:20]
    assert stopped.sum() > 5
    assert VIEWS["by-step"](search.table).y[:20] == pytest.approx(come_to)
    assert list(VIEWS["as-told"](search.table).y[:20]) == had
    shown = "by-step" if rule.startswith("asha") else "as-told"
    assert np.array_equal(asha.lifted(search.table).y, VIEWS[shown](search.table).y, equal_nan=True)


def test_lines_are_kept_and_not_made_again(tmp_path):
    file, said = tmp_path / "runs.jsonl", []
    tasks = [TASK | {"trainings_worth": 4.0, "seed": seed} for seed in (0, 1)]
    run_missing(tasks, file, said.append)
    run_missing(tasks, file, said.append)
    assert said == ["1 of 2 searches", "2 of 2 searches"]
    lines = read(file)
    assert [same(line) for line in lines] == [same(task) for task in tasks]
    found = row(lines, [2.0, 4.0])
    assert found["seeds"] == 2 and found["regret"][0][0] >= found["regret"][1][0] > 0
    assert "| `asha` | `random` |" in table(lines, [2.0, 4.0])


def test_regret_is_one_at_the_target_and_nought_at_the_optimum():
    curves = load("hartmann")
    line = TASK | {"full": [[1.0, curves.target], [2.0, curves.optimum]]}
    assert regrets(line, [1.0, 2.0]) == pytest.approx([1.0, 0.0])
    assert regrets(line, [0.5])[0] > 1
    assert reached(line) == 1.0
    assert reached(TASK | {"full": []}) == float("inf")


def test_the_table_of_digits_has_each_config():
    curves = load("digits")
    configs = make_digits.configs()
    assert len(configs) == len(curves.every) == 1944
    finals = [curves.curve(curves.space.check(config), 0)[-1] for config in configs]
    assert finals == list(curves.every)
    assert 0.02 < curves.optimum < curves.target < 0.04
    assert min(map(curves.seconds, configs)) > 0


@pytest.mark.torch
def test_a_curve_of_the_table_is_what_a_training_gives():
    """The networks of a shape are trained side by side: another BLAS may move an image or two."""
    pytest.importorskip("torch")
    shape = {"solver": "adam", "activation": "tanh", "batch": 200, "hidden": 8}
    configs = make_digits.configs()
    rows = [i for i, config in enumerate(configs) if shape.items() <= config.items()]
    shapes = [dict(zip(make_digits.APART, values, strict=True)) for values in _shapes()]
    lr, alpha = ([configs[i][name] for i in rows] for name in ("lr", "alpha"))
    wrong = make_digits.training(shape, lr, alpha, shapes.index(shape), make_digits.images(), 3)
    kept = np.load(make_digits.FILE)["wrong"][rows, :3]
    assert np.abs(wrong - kept).max() <= 25 and np.mean(wrong == kept) > 0.8


def _shapes():
    import itertools

    return itertools.product(*(make_digits.GRID[name] for name in make_digits.APART))


def test_a_pool_is_searched_through_and_no_config_twice(tmp_path):
    """Curves from a file: a method chooses among their configs; its model sees these."""
    mnist = pytest.importorskip("mpibo.objectives.mnist").mnist
    space = Space.from_toml(mnist.space)
    configs = space.decode(space.sample(20, np.random.default_rng(0)))
    lines = [
        {"id": i, "config": config, "values": [0.5, 0.1 + i / 100, i / 100], "cpu_seconds": [1.0, 2.0, 3.0]}
        for i, config in enumerate(configs)
    ]
    lines[3]["values"] = [0.9]
    lines[3]["cpu_seconds"] = [1.0]
    file = tmp_path / "curves.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    curves = from_file(file)
    assert curves.high == 3 and curves.typical == 1.0 and curves.reference == 5
    assert list(curves.curve(configs[3], 0)) == [0.9] * 3
    search = Search(space, Pool("tpe", space, curves.pool), seed=1)
    found = []
    while asked := search.ask():
        found.append(asked[0].config)
        search.tell(asked[0], curves.curve(asked[0].config, 0)[-1])
    assert sorted(map(repr, found)) == sorted(map(repr, curves.pool))
    assert drive(curves, "random", "asha", 0, 7, 100.0).configs == 20


def test_the_curves_of_mnist_are_64_whole_trainings():
    """Recorded from a run's journal: nine epochs each, and a target between the best and the typical."""
    curves = from_file(Path(lecture_heatmaps.__file__).parent / "search_curves" / "mnist.jsonl")
    assert (len(curves.pool), curves.high, curves.name) == (64, 9, "mnist")
    assert curves.optimum < curves.target < np.median(curves.every) and curves.typical > 1.0


def test_the_lectures_halving_keeps_its_best_to_the_last():
    """16 points at 1 epoch, 4 at 4, 1 at 16: numbered as they were discarded."""
    errors = np.random.default_rng(0).random((24, 24, 1)) * np.ones(16)  # the order is the same at each epoch
    found = lecture_heatmaps.search(errors, "random", "sha:eta=4", 0)
    assert found.epochs == [1] * 12 + [4] * 3 + [16]
    assert found.best == 15 and found.cost == 16 + 4 * 3 + 12
    values = [lecture_heatmaps.at(errors, config, 16) for config in found.configs]
    assert values == sorted(values, reverse=True)
    assert len(lecture_heatmaps.search(errors, "random", "hyperband:eta=4", 0).configs) == 16 + 6 + 3


def test_the_overview_has_a_row_for_each_schedule_the_fastest_first():
    curves = load("hartmann")
    kinds = [("full", 32.0), ("asha", 4.0), ("asha", 16.0)]
    lines = [
        TASK | {"schedule": schedule, "seed": seed, "name": "hartmann", "trainings_worth": 32.0, "configs": 1}
        | {"trainings": 1, "busy": 1.0, "cpu": 0.1, "full": [[t, curves.target]], "seen": [[t, curves.target]]}
        for seed, (schedule, t) in enumerate(kinds)
    ]  # fmt: skip
    rows = overview(lines).splitlines()[2:]
    assert rows == ["| `asha` | 8.0 (2) | 8.0 |", "| `full` | 32.0 (1) | 32.0 |"]
    late = overview([line | {"full": []} for line in lines[:1]]).splitlines()[2:]
    assert late == ["| `full` | 64.0 (1) | 64.0 |"]
