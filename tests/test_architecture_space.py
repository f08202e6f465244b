"""The space of architectures: every config is a network, and its plan, module and source agree."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import mpibo  # noqa: E402
from mpibo.objectives import architecture  # noqa: E402
from mpibo.objectives.modules import Rows  # noqa: E402
from mpibo.space import Space  # noqa: E402

pytestmark = pytest.mark.torch

SPACE = Space.from_toml(architecture.mnist.space)
KEYS = ("filters", "kernel", "convs", "pool", "norm", "skip")


def drawn(seed: int) -> dict:
    return SPACE.decode(SPACE.sample(1, np.random.default_rng(seed)))[0]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), side=st.sampled_from([1, 2, 3, 8, 28]), channels=st.sampled_from([1, 3]))
def test_every_config_is_a_network(seed, side, channels):
    """It takes images of any size, has the shapes and parameters of its plan, and every weight gets a gradient."""
    config = drawn(seed)
    groups = architecture.plan(config, side, 7, channels)
    network = architecture.build(config, side, 7, channels)
    count = sum(weight.numel() for weight in network.parameters())
    assert count == sum(group.parameters for group in groups)
    x = torch.rand(2, channels, side, side)
    shapes = []
    with torch.no_grad():
        for module in network:
            x = module(x)
            shapes.append(tuple(x.shape[1:]))
    planned = [[group.shape] if not group.pool else [group.layers[-1].shape, group.shape] for group in groups]
    assert shapes == [shape for pair in planned for shape in pair]
    assert shapes[-1] == (7,)
    network(torch.rand(2, channels, side, side)).sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())


def test_no_pooling_below_a_pixel():
    """Four blocks that pool: 8, 4, 2, 1, and the fourth leaves it out."""
    config = drawn(0) | {"blocks": 4, "dense": 0}
    for i in range(1, 5):
        values = (8, 3, 1, "max", True, False)
        config |= {f"{key}{i}": value for key, value in zip(KEYS, values, strict=True)}
    groups = architecture.plan(config, 8, 10)
    assert [group.shape[-1] for group in groups[:4]] == [4, 2, 1, 1]
    assert [bool(group.pool) for group in groups[:4]] == [True, True, True, False]


def test_a_skip_connection_fits_where_channels_change():
    config = drawn(0) | {"blocks": 2, "dense": 1, "width1": 16}
    for i in (1, 2):
        config |= {f"{key}{i}": value for key, value in zip(KEYS, (8, 5, 2, "none", False, True), strict=True)}
    stem, first, second, head = architecture.plan(config, 28, 10)
    assert stem.shape == (4, 14, 14)
    assert str(first.shortcut) == "Conv2d(4, 8, 1, bias=False)" and str(second.shortcut) == "Identity()"
    assert str(first.layers[0]) == "Conv2d(4, 8, 5, padding=2)"
    assert head.parameters == (8 * 14 * 14 + 1) * 16 + 17 * 10


@pytest.mark.parametrize("seed", range(6))
def test_the_source_makes_the_same_network(seed, tmp_path):
    """The exported file needs torch alone, and takes the weights of the module."""
    config = drawn(seed)
    torch.manual_seed(0)
    network = architecture.build(config, 28, 10).eval()
    code = architecture.source(config, 28, 10)
    assert "mpibo" not in code.split('"""')[2]
    names: dict = {}
    exec(compile(code, "network.py", "exec"), names)
    again = names["network"]().eval()
    again.load_state_dict(network.state_dict())
    images = torch.rand(3, 1, 28, 28)
    assert torch.equal(again(images), network(images))


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_rows_are_read_from_all_ends(cell, both, layers):
    """The classes depend on the first row and on the last."""
    torch.manual_seed(0)
    network = Rows(8, cell, 4, layers, 0.0, both).eval()
    image = torch.rand(1, 1, 8, 8, requires_grad=True)
    network(image).square().sum().backward()
    assert image.grad is not None
    assert (image.grad[0, 0].abs().sum(dim=1) > 0).all()


@pytest.fixture
def example(monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(Path(__file__).resolve().parent.parent / "examples")
    return importlib.import_module("best_architecture")


def test_the_best_network_of_a_run_is_exported_and_drawn(example, tmp_path, monkeypatch, capsys):
    """Its module as a file, and its picture; a run of something else is told so in a line."""

    def size(config):  # a stand-in for a training
        return sum(group.parameters for group in architecture.plan(config, 28, 10))

    mpibo.minimize(size, SPACE, method="random", max_trials=3, isolation="none", out=tmp_path / "run", progress="none")
    monkeypatch.setattr("sys.argv", ["best_architecture.py", str(tmp_path / "run"), "--out", str(tmp_path / "best")])
    assert example.main() == 0
    names: dict = {}
    exec((tmp_path / "best" / "best_network.py").read_text(), names)
    best = mpibo.load(tmp_path / "run").best
    assert sum(weight.numel() for weight in names["network"]().parameters()) == best.value
    assert (tmp_path / "best" / "best_network.png").stat().st_size > 10_000
    assert "no checkpoint" in capsys.readouterr().out
    mpibo.minimize(
        lambda x: x, {"x": (0.0, 1.0)}, max_trials=1, isolation="none", out=tmp_path / "other", progress="none"
    )
    monkeypatch.setattr("sys.argv", ["best_architecture.py", str(tmp_path / "other")])
    assert example.main() == 1
    assert "no best trial" in capsys.readouterr().err
