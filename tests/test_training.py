"""The built-in objectives that train networks: budgets, exact resuming, data, devices."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import math
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from running import Stopped, Trial

from mpibo.engine.keeping import Keeping
from mpibo.engine.running import RunningTrial
from mpibo.objectives import NAMES, resolve
from mpibo.space import Space

torch = pytest.importorskip("torch")

from mpibo.objectives import datasets, training  # noqa: E402

pytestmark = pytest.mark.torch

ROOT = Path(__file__).resolve().parent.parent
TRAINED = ["digits", "mnist", "fashion", "mnist-architecture", "fashion-architecture", "rnn", "cifar10cnn"]
SMALL_BLOCK = {"filters1": 8, "kernel1": 3, "convs1": 1, "pool1": "max", "norm1": True, "skip1": True}
# A cheap config of each; what it does not name is drawn from its space.
CHEAP: dict[str, dict[str, Any]] = {
    "digits": {"channels": 4, "dropout": 0.2},
    "mnist": {"filters": 4, "dropout": 0.2},
    "fashion": {"filters": 4, "dropout": 0.2},
    "mnist-architecture": {"blocks": 1, "dense": 0, "dropout": 0.2, **SMALL_BLOCK},
    "fashion-architecture": {"blocks": 1, "dense": 0, "dropout": 0.2, **SMALL_BLOCK},
    "rnn": {"cell": "lstm", "hidden": 8, "layers": 2, "both": True, "dropout": 0.2},
    "cifar10cnn": {"filters1": 8, "filters2": 16, "kernel": 3, "units": 32, "dropout1": 0.2},
}
COMMON = {"lr": 3e-3, "optimizer": "adam", "batch": 32}


def load(name: str) -> Any:
    module, _, function = resolve(name).partition(":")
    return getattr(importlib.import_module(module), function)


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    """In place of every data set: 200 images of ten classes, each a bright square somewhere, and noise."""

    def data(name: str, train_size: int = 200) -> training.Images:
        side, channels = {"digits": (8, 1), "cifar10": (32, 3)}.get(name, (28, 1))
        made = torch.Generator().manual_seed(0)
        labels = torch.arange(300) % 10
        images = torch.randint(0, 60, (300, channels, side, side), generator=made, dtype=torch.uint8)
        for image, label in zip(images, labels.tolist(), strict=True):
            row, column = divmod(label, 5)
            image[:, row * side // 2 :, column * side // 5 :][:, : side // 2, : side // 5] += 180
        parts = (images[:200], labels[:200], images[200:250], labels[200:250])
        test = () if name == "digits" else (images[250:], labels[250:])
        return training.Images(*parts, *test)

    monkeypatch.setattr(datasets, "data", data)
    monkeypatch.setattr(datasets, "digits", lambda: data("digits"))


def config(name: str, **more: Any) -> dict[str, Any]:
    function = load(name)
    space = Space.from_toml(function.space)
    drawn = space.decode(space.sample(1, np.random.default_rng(0)))[0]
    chosen = drawn | COMMON | CHEAP[name] | more
    if chosen["optimizer"] == "sgd":
        chosen["momentum"] = 0.9
    else:
        chosen.pop("momentum", None)
    used = "config" in inspect.signature(function).parameters
    return {"config": chosen} if used else chosen


@pytest.mark.parametrize("name", TRAINED)
def test_a_unit_of_budget_is_an_epoch(name):
    """One report an epoch, the last one's value is the result; the test error is a metric of the end alone."""
    trial = Trial(budget=2)
    result = load(name)(**config(name), trial=trial)
    assert [step for _, step, _ in trial.reports] == [1, 2] and result["epochs"] == 2
    assert result["value"] == trial.reports[-1][0]
    assert all("test_error" not in metrics for _, _, metrics in trial.reports)
    assert ("test_error" in result) == (name not in ("digits", "rnn"))
    assert math.isfinite(result["train_loss"]) and result["parameters"] > 100
    json.dumps([result, trial.reports], allow_nan=False)
    assert load(name).budget >= 3


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("name", TRAINED)
def test_two_parts_are_the_same_as_one(name, optimizer):
    """A training that goes on from a checkpoint gives the curve and the result of an unbroken one, to the bit."""
    chosen, function = config(name, optimizer=optimizer), load(name)
    whole = Trial(budget=3)
    expected = function(**chosen, trial=whole)
    kept: dict[int, Any] = {}
    first = Trial(budget=1, kept=kept)
    function(**chosen, trial=first)
    torch.rand(7)  # something else happens in that child
    second = Trial(budget=3, kept=kept, seed=first.seed)
    result = function(**chosen, trial=second)
    assert first.reports + second.reports == whole.reports
    for clock in (expected, result):
        clock.pop("seconds_per_epoch")
    assert result == expected
    assert function(**chosen, trial=Trial(budget=3, kept=kept))["value"] == expected["value"]  # nothing left to do


@pytest.mark.parametrize("name", ["mnist", "rnn"])
def test_a_checkpoint_file_holds_all_that_a_training_needs(name, tmp_path):
    """As a run has it: saved at a rung's end, read in another trial."""
    chosen, function = config(name), load(name)
    whole, first, second = [], [], []
    function(**chosen, trial=RunningTrial(1, budget=2, seed=5, emit=whole.append))
    keeping = Keeping(str(tmp_path), 1, rung=True)
    function(**chosen, trial=RunningTrial(1, budget=1, seed=5, emit=first.append, keeping=keeping))
    kept = {"id": 1, **first[0].pop("checkpoint")}
    torch.rand(7)
    keeping = Keeping(str(tmp_path), 2, [kept], note=pytest.fail)
    function(**chosen, trial=RunningTrial(2, budget=2, seed=5, emit=second.append, keeping=keeping))
    assert first + second == whole


def test_the_images_are_learned():
    """Averaged weights do not spoil it: a few epochs tell the squares apart."""
    result = load("mnist")(**config("mnist", lr=1e-2, filters=8), trial=Trial(budget=6))
    assert result["value"] <= 0.1 and result["test_error"] <= 0.1


@pytest.mark.parametrize("name", TRAINED)
def test_a_rate_far_too_high_has_a_finite_value(name):
    trial = Trial(budget=3)
    result = load(name)(**config(name, lr=1e30, optimizer="sgd"), trial=trial)
    assert 0.5 < result["value"] <= 1
    json.dumps([result, trial.reports], allow_nan=False)


def test_a_rule_ends_a_training():
    trial = Trial(budget=50, stop_at=1)
    with pytest.raises(Stopped):
        load("mnist")(**config("mnist"), trial=trial)
    assert len(trial.reports) == 1


def test_the_average_is_of_the_last_steps():
    """The first step counts alone; a jump is forgotten when it is long past; all steps of one value give that value."""
    network = torch.nn.Linear(1, 1)
    average = training.Average(network)
    for step in range(1, 201):
        with torch.no_grad():
            network.weight.fill_(1.0 if step <= 20 else 2.0)
            network.bias.fill_(5.0)
        average.update(step)
        if step in (1, 20):
            assert average.network.weight.item() == pytest.approx(1.0)
    assert average.network.weight.item() == pytest.approx(2.0, abs=1e-4)
    assert average.network.bias.item() == pytest.approx(5.0)


def test_a_single_image_left_over_is_left_out():
    assert [len(rows) for rows in training.batches(9, 4)] == [4, 4]
    assert [len(rows) for rows in training.batches(10, 4)] == [4, 4, 2]
    assert [len(rows) for rows in training.batches(1, 4)] == [1]


# The data themselves


def data_root(kind: str) -> Path:
    """Where this data set is; the test is skipped where it is not."""
    root = Path(os.environ.get("MPIBO_DATA") or ROOT / "data")
    if not (root / datasets.KINDS[kind].folder).exists():
        pytest.skip(datasets.KINDS[kind].lack(str(root)))
    return root


@pytest.fixture
def real(monkeypatch):
    monkeypatch.undo()
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")


@pytest.mark.usefixtures("real")
def test_mnist_trains_on_a_part_of_the_real_images(monkeypatch):
    monkeypatch.setenv("MPIBO_DATA", str(data_root("mnist")))
    trial = Trial(budget=2)
    result = load("mnist")(**config("mnist", filters=8), train_size=600, trial=trial)
    assert result["value"] < 0.4
    assert result["test_error"] == pytest.approx(result["value"], abs=0.1)
    with pytest.raises(ValueError, match=r"\[1, 55000\], got 60000"):
        load("mnist")(**config("mnist"), train_size=60_000, trial=trial)


@pytest.mark.usefixtures("real")
@pytest.mark.parametrize("kind", ["mnist", "fashion"])
def test_parts_of_a_data_set_do_not_overlap(kind, monkeypatch):
    """The validation images are the same whatever is trained with, and none of them is trained with."""
    monkeypatch.setenv("MPIBO_DATA", str(data_root(kind)))
    small, whole = datasets.data(kind, 100), datasets.data(kind, 55_000)
    assert (len(whole.train), len(whole.valid), len(whole.test)) == (55_000, 5_000, 10_000)
    assert torch.equal(small.valid, whole.valid) and torch.equal(small.train, whole.train[:100])
    every = datasets.load(datasets.KINDS[kind], os.environ["MPIBO_DATA"], train=True)[0]
    assert whole.train.long().sum() + whole.valid.long().sum() == every.long().sum()


def test_cifar_is_read_as_torchvision_gives_it(tmp_path, monkeypatch):
    """Arrays ``(n, 32, 32, 3)`` and lists of labels become channels first; what is held back is not trained with."""
    monkeypatch.undo()
    rng = np.random.default_rng(0)
    made = {train: rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8) for train, n in [(True, 60), (False, 20)]}
    asked = []

    class CIFAR10:
        def __init__(self, root: str, train: bool, download: bool) -> None:
            asked.append((root, train, download))
            self.data, self.targets = made[train], [i % 10 for i in range(len(made[train]))]

    fake = ModuleType("torchvision.datasets")
    fake.CIFAR10 = CIFAR10
    package = ModuleType("torchvision")
    package.datasets = fake
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", fake)
    monkeypatch.setattr(datasets, "VALID", 20)
    monkeypatch.setenv("MPIBO_DATA", str(tmp_path))
    images = datasets.data("cifar10", 30)
    assert asked == [(str(tmp_path), True, False), (str(tmp_path), False, False)]
    assert (images.side, images.channels, images.train.dtype) == (32, 3, torch.uint8)
    known = {made[True][i].tobytes(): i for i in range(60)}
    rows = {}
    for part, labels, count in [(images.train, images.train_labels, 30), (images.valid, images.valid_labels, 20)]:
        assert part.shape == (count, 3, 32, 32)
        rows[count] = [known[image.transpose(1, 2, 0).tobytes()] for image in part.numpy()]
        assert [row % 10 for row in rows[count]] == labels.tolist()
    assert len(set(rows[30]) | set(rows[20])) == 50
    assert (images.test.numpy() == made[False].transpose(0, 3, 1, 2)).all()
    assert images.test_labels.tolist() == [i % 10 for i in range(20)]
    result = load("cifar10cnn")(**config("cifar10cnn"), train_size=40, trial=Trial(budget=1))
    assert 0 <= result["value"] <= 1 and 0 <= result["test_error"] <= 1
    with pytest.raises(ValueError, match=r"\[1, 40\], got 41"):
        datasets.data("cifar10", 41)


@pytest.mark.usefixtures("real")
@pytest.mark.parametrize("name", [name for name in TRAINED if name not in ("digits", "rnn")])
def test_missing_data_say_how_to_get_them_in_one_line(name, tmp_path, monkeypatch):
    monkeypatch.setenv("MPIBO_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no .* in .*: run ") as caught:
        load(name)(**config(name), trial=Trial())
    assert "\n" not in str(caught.value)


def test_all_that_train_are_tried_here():
    """A new one joins by its name in TRAINED and a cheap config."""
    names = [name for name in NAMES if not name.startswith("synthetic:")]
    assert {name for name in names if hasattr(load(name), "budget")} == set(TRAINED)
