"""What the adapters of the peers share: from numbers and indices to legal configs, with and without conditions."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from mpibo import Choice, Constant, Float, Int, Space

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from search_quality.peers import environment, points

SPACE = Space(
    {
        "rate": Float(1e-4, 1.0, log=True, when="kernel == 'rbf' and width > 3"),  # before its parents
        "model": Choice(["svm", "knn"]),
        "kernel": Choice(["rbf", "linear"], when="model == 'svm'"),
        "width": Int(1, 10, step=2),
        "near": Choice([1, 2, 4, 8], ordered=True, when="model == 'knn'"),
        "share": Float(0.0, 1.0, step=0.3),
        "version": Constant(3),
    },
    forbid=["model == 'knn' and width == 1"],
)


def number(parameter, rng):
    """What a peer without steps would give: a number in the bounds, or the index of a level."""
    if parameter.levels is not None:
        return rng.integers(len(parameter.levels))
    return rng.uniform(parameter.low, parameter.high)


@pytest.mark.parametrize("seed", range(20))
def test_values_of_all_parameters_make_a_config_of_the_active_ones(seed):
    """Whatever a peer without conditions proposes becomes a config that the space takes, with its values."""
    rng = np.random.default_rng(seed)
    values = {name: points.nearest(p, number(p, rng)) for name, p in SPACE.parameters.items() if name != "version"}
    config = points.assemble(SPACE, values)
    SPACE.encode([config])  # raises if one is missing or inactive
    for name, value in config.items():
        given = values.get(name, 3)  # of the constant
        assert value == (pytest.approx(given, rel=1e-9) if isinstance(given, float) else given)
    assert points.known(SPACE, values | {"version": 3}) == config


@pytest.mark.parametrize("seed", range(20))
def test_define_by_run_asks_for_active_parameters_alone(seed):
    """Each suggestion is in the config, and none is asked for before its parents."""
    rng = np.random.default_rng(seed)
    asked = []

    def suggest(name, parameter):
        asked.append(name)
        return points.nearest(parameter, number(parameter, rng))

    config = points.settle(SPACE, suggest)
    SPACE.encode([config])
    assert {*asked, "version"} == set(config)
    assert "rate" not in asked or asked.index("rate") > max(asked.index("kernel"), asked.index("width"))


def test_inactive_values_of_a_peer_are_left_out():
    """NaN and None for what is inactive, as ConfigSpace and DeepHyper give it."""
    found = {"rate": float("nan"), "model": "knn", "kernel": None, "width": 3, "near": 4, "share": 0.6, "version": 3}
    config = points.known(SPACE, found)
    assert config == {"model": "knn", "width": 3, "near": 4, "share": 0.6, "version": 3}
    assert points.legal(SPACE, config)
    assert not points.legal(SPACE, config | {"width": 1})


def test_the_flat_space_has_every_parameter_always():
    """And the same columns, without those that say what is active."""
    flat = points.flat(SPACE)
    assert not flat.conditions and not flat.forbid
    assert flat.dimension == SPACE.dimension - len(SPACE.conditions)
    assert points.top(flat.parameters["width"]) == 9  # 10 is no level


def test_every_adapter_has_an_environment():
    """One file per adapter, one entry in the table; an unknown name says what there is."""
    folder = Path(environment.__file__).parent
    adapters = {file.stem for file in folder.glob("*.py")} - {"__init__", "environment", "points"}
    assert adapters == set(environment.ENVIRONMENT)
    assert set(environment.ENVIRONMENT.values()) == set(environment.PACKAGES)
    with pytest.raises(ValueError, match="unknown peer 'optuna'"):
        environment.python_of("optuna")
