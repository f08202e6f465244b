"""Each example, run as a person runs it but with --quick: what it prints holds, and it leaves a small picture."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.timeout(300)  # on a busy machine; alone each takes seconds
ROOT = Path(__file__).resolve().parent.parent


def example(name, folder, **environment):
    """What the example prints; its pictures are in ``folder``."""
    paths = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py"), "--quick", "--out", str(folder)], cwd=folder,
        env=os.environ | {"PYTHONPATH": paths} | environment, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pictures = list(folder.glob("*.png"))
    assert len(pictures) == 1 and pictures[0].read_bytes()[:4] == b"\x89PNG"
    assert 4_000 < pictures[0].stat().st_size < 80_000
    return done.stdout


def rows(text, length):
    """The lines of ``length`` numbers, as an array."""
    lines = [re.findall(r"-?\d+\.?\d*", line) for line in text.splitlines() if not re.search("[a-z]", line)]
    return np.array([line for line in lines if len(line) == length], float)


def test_figure_1_has_a_plateau_between_two_bad_ends(tmp_path):
    """The grid holds both ends exactly; the best rate is inside, and better than the ends by far."""
    text = example("worksheet_figure1", tmp_path)
    assert "14 learning rates from 1e-08 to 1e+05" in text
    best, rate = re.search(r"best test accuracy (\S+) at a rate of (\S+)", text).groups()
    assert float(best) > 0.78 and 1e-5 < float(rate) < 100


def test_table_1_counts_its_seeds(tmp_path):
    """A row for the picture's seed and for each other one; nothing is worse than a coin."""
    text = example("worksheet_table1", tmp_path)
    seeds = re.findall(r"^ *(\d+) +(0\.\d+) ", text, re.MULTILINE)
    assert [int(seed) for seed, _ in seeds] == [42, 0, 1]
    assert min(float(best) for _, best in seeds) > 0.6
    assert re.search(r"0.81 or more within 15 evaluations: [012] of 2 seeds", text)


@pytest.mark.torch
def test_figure_2_shows_both_losses_of_each_epoch(tmp_path):
    """On images that are easy to tell apart both losses fall, and the error below that of guessing."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 7_000, dtype=np.uint8)
    images = rng.integers(0, 60, (len(labels), 28, 28), dtype=np.uint8)
    images[np.arange(len(labels)), 2 * labels + 4] = 255  # a bright row says which
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(bytes(16) + images.tobytes())
    (raw / "train-labels-idx1-ubyte").write_bytes(bytes(8) + labels.tobytes())
    text = example("worksheet_figure2", tmp_path, MPIBO_DATA=str(tmp_path))
    assert "2,000 training and 5,000 validation images, 3 epochs" in text
    curve = rows(text.replace("%", ""), 4)
    assert curve[:, 0].tolist() == [1, 2, 3]
    assert (np.diff(curve[:, 1:3], axis=0) < 0).all() and curve[-1, 3] < 45


def test_figure_3_draws_from_the_posterior(tmp_path):
    """The draws scatter about the mean as a normal variable does."""
    text = example("worksheet_figure3", tmp_path)
    assert 88 < float(re.search(r"draws (\S+) % of the values lie within", text).group(1)) <= 100
    assert 0 <= float(re.search(r"first draw's minimum lies at (\d\.\d+)", text).group(1)) <= 1


def test_asynchronous_thompson_evaluates_more_in_the_same_time(tmp_path):
    """Nobody waits: at least 1.5 times the evaluations of rounds, of either durations."""
    text = example("worksheet_thompson", tmp_path)
    ratios = [float(each) for each in re.findall(r"does (\S+) times as many", text)]
    assert len(ratios) == 2 and min(ratios) > 1.5


def test_svm_grid_is_the_slides(tmp_path):
    """Twelve points, its best among them; the others find about as good a config with as many."""
    text = example("workshop_svm", tmp_path)
    errors = re.search(r"^ +12 +(\S+) +(\S+) \(.*?\) +(\S+) \(.*?\) +(\S+) \(", text, re.MULTILINE).groups()
    grid, *others = map(float, errors)
    best = re.search(r"the grid's best: \{'C': (\d+), 'gamma': (\S+)\}", text).groups()
    assert int(best[0]) in (10, 100, 1000) and float(best[1]) in (0.1, 0.2, 0.5, 1.0)
    assert 0.5 < grid < 4 and max(others) < grid + 1.5


def test_cross_validation_finds_the_turn_that_training_error_hides(tmp_path):
    """Training error only falls with the degree; cross-validation has its lowest point inside."""
    text = example("workshop_polynomial", tmp_path)
    degree, train, validated, new = rows(text, 4).T
    assert degree.tolist() == list(range(1, 9))
    assert (np.diff(train) <= 1e-4).all()
    chosen = int(re.search(r"chooses degree (\d+)", text).group(1))
    assert chosen == degree[validated.argmin()] and 1 < chosen < 8 and new[chosen - 1] < 1.2 * new.min()


def test_guessing_games_model_is_the_slides_formulas(tmp_path):
    """Conditioning by hand gives our mean and spread; the answer is where expected improvement is highest."""
    text = example("workshop_guess", tmp_path)
    assert max(float(each) for each in re.findall(r"the model is the same to (\S+)", text)) < 1e-9
    said = [float(each) for each in re.findall(r": next (\S+)", text)]
    highest = [float(each) for each in re.findall(r"highest at (\S+):", text)]
    assert len(said) == 2 and said == pytest.approx(highest, rel=0.1)
