"""``mpibo resume FOLDER``: a run goes on by its own settings, wherever its objective's file is by now."""

import os
import subprocess
import sys

import pytest

import mpibo
from mpibo.store.journal import read

TRAIN = "space = {'x': (0.0, 1.0)}\nmaximize = True\ndef train(x, power=1): return x ** power\n"


def mpibo_(*arguments, folder):
    return subprocess.run(
        [sys.executable, "-m", "mpibo", *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=90
    )


@pytest.fixture
def begun(tmp_path):
    """A run of a file's function that has ended."""
    (tmp_path / "train.py").write_text(TRAIN)
    flags = ["--max-trials", 3, "--fix", "power=2", "--seed", 4, "--method", "sobol", "--maximize", "--out", "run"]
    done = mpibo_("run", "train.py:train", *flags, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_a_run_goes_on_by_its_own_settings(begun):
    done = mpibo_("resume", "run", folder=begun)
    assert done.returncode == 2 and "raise --max-trials" in done.stderr
    done = mpibo_("resume", "run", "--max-trials", 5, folder=begun)
    assert done.returncode == 0, done.stderr
    trials = mpibo.load(begun / "run").trials
    assert [trial.value for trial in trials] == [trial.config["x"] ** 2 for trial in trials] and len(trials) == 5
    first, second = [event["settings"] for event in read(begun / "run").events if event["kind"] == "open"]
    assert second | {"max_trials": 3, "out": "run"} == first


def test_an_objective_that_moved_is_found_in_this_directory_or_told(begun):
    (begun / "elsewhere").mkdir()
    os.rename(begun / "train.py", begun / "elsewhere" / "train.py")
    done = mpibo_("resume", "run", "--max-trials", 5, folder=begun)
    assert done.returncode == 2 and "train.py:train is neither at" in done.stderr
    done = mpibo_("resume", "../run", "--max-trials", 5, folder=begun / "elsewhere")
    assert done.returncode == 0 and "is loaded from train.py" in done.stderr


def test_what_is_no_run_or_has_no_name_is_told(tmp_path):
    assert "is no run folder" in mpibo_("resume", "nothing", folder=tmp_path).stderr
    mpibo.minimize(lambda x: x, {"x": (0.0, 1.0)}, max_trials=2, out=tmp_path / "run", progress="none")
    done = mpibo_("resume", "run", "--max-trials", 3, folder=tmp_path)
    assert done.returncode == 2 and "start its script again" in done.stderr
