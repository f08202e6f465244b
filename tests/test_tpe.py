"""TPE: its densities are densities, its split is the paper's, and it goes where good results are."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibo import testing
from mpibo.models.parzen import Parzen, axes_of, features
from mpibo.space import Choice, Float, Int, Space
from mpibo.strategies.tpe import TPE, among_best, fading
from mpibo.testing import Run, mixed_space, small_space


def maker(**options):
    return lambda: TPE(**options)


MAKERS = {"default": maker(), "few": maker(n_initial=3, initial="lhs", candidates=2, good=0.5)}


@pytest.mark.parametrize("check", testing.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("method", MAKERS)
def test_contract(method, check):
    check(MAKERS[method])


def test_a_small_space_is_used_up_and_a_batch_is_distinct():
    """All legal configs once, then nothing; a batch of model points has no two alike (``Run`` would tell)."""
    run = Run(maker(n_initial=2), small_space())
    for n in (2, 2, 40):
        run.ask(n)
        for trial in run.start():
            run.end(trial, run.value(trial))
    assert run.trials.n == len(run.space.enumerate(20_000)) and run.ask(3) == []
    run = Run(maker(), mixed_space())
    run.results(12)
    answer = run.ask(128)
    assert len(answer) == 128 and all(p.origin == "model" for p in answer)


def test_it_pickles_and_needs_no_fit():
    run = Run(maker(), mixed_space())
    run.results(15)
    twin = copy.deepcopy(run)
    twin.strategy = pickle.loads(pickle.dumps(run.strategy))
    assert twin.ask(4, fit=False) == run.ask(4)


# --- the split ---


@given(st.lists(st.one_of(st.integers(-5, 5).map(float), st.just(float("nan"))), min_size=1, max_size=400))
@settings(max_examples=50, deadline=None)
def test_split_is_the_best_tenth_at_most_25_and_no_failure(values):
    """The good are min(ceil(n/10), 25), none worse than any bad one; what failed is never good."""
    y = np.array(values)
    good = among_best(y, 0.1)
    assert good.sum() == min(-(-len(y) // 10), 25, (~np.isnan(y)).sum())
    if good.any() and not np.isnan(y[~good]).all():
        assert y[good].max() <= np.nanmin(y[~good])


def test_old_results_fade():
    assert (fading(20) == 1).all() and len(fading(0)) == 0
    weights = fading(125)
    assert (weights[-25:] == 1).all() and weights[0] == 1 / 125 and (np.diff(weights) >= 0).all()


def test_pending_and_failed_points_count_as_bad():
    """What runs, waits or failed raises the bad density where it lies, and the good one nowhere."""
    run = Run(maker(initial="random"), Space({"x": (0.0, 1.0), "y": (0.0, 1.0)}))
    run.results(20)
    good, bad = run.strategy.densities(run.trials)
    assert (len(good.X), len(bad.X)) == (2, 18)
    run.ask(6)
    failed, _, running = run.start(3)
    run.end(failed, None)
    run.ask(1)
    assert len(run.trials.pending) == 5
    good_now, bad_now = run.strategy.densities(run.trials)
    assert len(good_now.X) == 3 and len(bad_now.X) == 23  # of 21 results three are good
    there = run.trials.X[[failed, running]]
    assert all(any((x == row).all() for row in bad_now.X) for x in there)
    assert not any((x == row).all() for row in good_now.X for x in there)
    F = features(bad.axes, there)
    assert (bad_now.log_density(F) > bad.log_density(F)).all()


# --- the densities ---


def branches() -> Space:
    """84 configs in two branches."""
    return Space(
        {
            "model": ["tree", "network"],
            "depth": Int(1, 6, when="model == 'tree'"),
            "rate": Float(1, 4, step=1, log=True, when="model == 'network'"),
            "kind": Choice(["a", "b", "c"], when="model == 'network'"),
            "scaled": [False, True],
            "size": Choice([1, 2, 3], ordered=True),
        },
    )


def density(space: Space, n: int = 7) -> Parzen:
    X = space.snap(space.sample(n, np.random.default_rng(0)))
    return Parzen(axes_of(space), X, fading(n))


@pytest.mark.parametrize("n", [0, 1, 30])
def test_density_sums_to_one_over_all_configs(n):
    """In a space with branches, whichever of them the points lie in."""
    model, X = density(branches(), n), branches().enumerate()
    assert np.exp(model.log_density(features(model.axes, X))).sum() == pytest.approx(model.weights.sum())


@pytest.mark.parametrize("parameter", [(0.0, 1.0), (1e-6, 1.0, "log"), (1, 100)])
def test_density_integrates_to_one_over_a_number(parameter):
    """Normals are truncated to the range: none of their mass lies outside."""
    model = density(Space({"x": parameter}))
    (axis,) = model.axes
    middles = axis.low + axis.width * (np.arange(4000) + 0.5) / 4000
    total = np.exp(model.log_density(features(model.axes, middles[:, None]))).mean() * axis.width
    assert total == pytest.approx(model.weights.sum(), rel=1e-4)


def test_draws_follow_the_density():
    """Frequencies of 84 configs in 20,000 draws against their probabilities."""
    space = branches()
    model, X, rng = density(space), space.enumerate(), np.random.default_rng(0)
    chances = np.exp(model.log_density(features(model.axes, X))) / model.weights.sum()
    numbers = {x.tobytes(): i for i, x in enumerate(X)}
    drawn = space.snap(model.draw(20_000, rng))
    counts = np.bincount([numbers[x.tobytes()] for x in drawn], minlength=len(X))
    squared = ((counts - 20_000 * chances) ** 2 / (20_000 * chances)).sum()
    assert squared < len(X) - 1 + 5 * np.sqrt(2 * (len(X) - 1))  # chi-squared, mean and five standard deviations


def test_only_points_with_a_parameter_active_shape_its_density():
    """Moving what is inactive changes nothing; results of one branch say nothing about the numbers of the other."""
    space = branches()
    trees = space.encode([{"model": "tree", "depth": 2, "scaled": True, "size": 1} for _ in range(9)])
    model = Parzen(axes_of(space), trees, fading(9))
    config = {"model": "network", "rate": 1.0, "kind": "a", "scaled": True, "size": 1}
    rates = space.encode([config | {"rate": rate} for rate in (1.0, 2.0, 4.0)])
    kinds = space.encode([config | {"kind": kind} for kind in "abc"])
    depths = space.encode([{"model": "tree", "depth": d, "scaled": True, "size": 1} for d in (1, 2, 3, 6)])
    logs = [model.log_density(features(model.axes, X)) for X in (kinds, depths)]
    assert np.ptp(logs[0]) < 1e-12
    assert np.argmax(logs[1]) == 1 and logs[1][3] < logs[1][0]
    alone = Parzen(axes_of(space), trees[:0], fading(0)).log_density(features(model.axes, rates))
    shape = model.log_density(features(model.axes, rates))
    np.testing.assert_allclose(shape - shape[0], alone - alone[0])


# --- where it goes ---


def test_it_prefers_the_good_region_and_avoids_what_is_pending():
    """With good results at 0.2 it proposes there; with many trials running there it goes elsewhere."""
    run = Run(maker(initial="random"), Space({"x": (0.0, 1.0), "y": (0.0, 1.0)}))
    run.ask(60)
    for trial in run.start():
        run.end(trial, float(np.sum((run.trials.X[trial] - 0.2) ** 2)))

    def distance(X):
        return np.linalg.norm(X - 0.2, axis=1).mean()

    first = distance(run.space.encode([p.config for p in run.ask(8)]))
    assert first < 0.5 * distance(run.trials.X)
    run.ask(120)
    run.start()
    assert distance(run.space.encode([p.config for p in run.ask(8)])) > first


def test_it_beats_chance():
    """On a bowl of ten numbers its 50 points after the design find lower values than as many random ones."""

    def best(method):
        found = []
        for seed in range(3):
            run = Run(method, Space({f"x{i}": (0.0, 1.0) for i in range(10)}), seed)
            run.results(60)
            found.append(run.trials.y.min())
        return np.mean(found)

    assert best(maker()) < 0.7 * best(testing.maker_of("random"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"n_initial": 0}, "n_initial >= 1"),
        ({"candidates": 0}, "candidates >= 1"),
        ({"good": 1.0}, "good < 1"),
        ({"prior_weight": 0.0}, "prior_weight > 0"),
        ({"bandwidth": 0.0}, "bandwidth > 0"),
        ({"initial": "grid"}, "expected one of random, lhs, sobol"),
    ],
)
def test_what_is_wrong_is_told(options, told):
    with pytest.raises(ValueError, match=told):
        TPE(**options)
