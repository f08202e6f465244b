"""Points that are being evaluated: believers, lies and penalties, each as it is defined."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibo.acquisition.penalise import FALLBACK, PENALTIES, PROBES, Penalties, log_penalty, steepest
from mpibo.acquisition.pending import LIES, lie
from mpibo.acquisition.scores import SCORES, log_score
from mpibo.models.posterior import Posterior
from mpibo.objectives.synthetic import branin
from mpibo.space import Space
from mpibo.strategies.bayes import Bayesian
from mpibo.strategies.distinct import Distinct
from mpibo.strategies.gaussian import Gaussian
from mpibo.strategies.judge import Judge
from mpibo.strategies.surrogate import ForestBoard, Surrogate
from mpibo.testing import Run, mixed_space

CUBE = Space({f"x{i}": (0.0, 1.0) for i in range(3)})


def begun(space=CUBE, results=14, running=4, seed=0, maker=lambda: Bayesian(n_initial=99)):
    """A run with some results and some points that are being evaluated."""
    run = Run(maker, space, seed)
    run.results(results)
    run.ask(running)
    run.start()
    return run


def board_of(run, pending, **options):
    """The model and its opinion at an ask."""
    model = Gaussian("matern52", True, "yeo-johnson", pending in LIES or pending == "believer", 64, **options)
    rng = np.random.default_rng(0)
    run.trials.apply({"kind": "ask", "ask": run.asks, "count": 1, "fit": True, "keep": []})
    run.asks += 1
    model.update(run.trials, rng)
    return model, model.board(run.trials, Distinct().begin(run.trials), 3, pending, rng)


def posterior_with(model, X, z, new):
    """Mean and deviation at ``new`` of a Gaussian process whose data are ``X`` and ``z``."""
    posterior = Posterior(model.gp.kernel, model.gp.theta, X)
    K = posterior.kernel.cross(posterior.theta, X, new)
    return model.gp.mean + K.T @ posterior.weights(z), np.sqrt(posterior.spread(K))


# --- the Gaussian process ---


@pytest.mark.parametrize("rule", ["none", "believer", *LIES, *PENALTIES])
@pytest.mark.parametrize("space", [CUBE, mixed_space()], ids=["cube", "mixed"])
def test_a_rule_is_a_process_with_that_data(rule, space):
    """Lies: a process fitted with the lies as data. Believer: mean of results alone, deviation of all. None: results.

    For the points that run and for picks of the answer itself; hyperparameters and reference see results only.
    """
    run = begun(space)
    model, board = board_of(run, rule)
    X, y = run.trials.observed()
    z = model.gp.values(y)
    reference = model.gp.mean + (z - posterior_noise(model, X, z)).min()
    assert board.best == pytest.approx(reference, abs=1e-6)
    pending = run.trials.pending
    picks = space.sample(2, np.random.default_rng(5))
    for picked in range(3):
        told = np.concatenate([X, pending, picks[:picked]])
        alone = posterior_with(model, X, z, board.X)
        if rule in LIES:
            wanted = posterior_with(model, told, np.append(z, np.full(len(told) - len(z), lie(rule, z))), board.X)
        elif rule == "believer":
            wanted = alone[0], posterior_with(model, told, np.zeros(len(told)), board.X)[1]
        else:
            wanted = alone
        for mean, std in (board.predict(), board.at(board.X)):
            np.testing.assert_allclose(mean, wanted[0], atol=1e-3)  # candidates are kept in float32
            np.testing.assert_allclose(std**2, wanted[1] ** 2, atol=1e-4)
        mean, std, _, _ = board.point(board.X[0])
        assert mean == pytest.approx(wanted[0][0], abs=1e-7) and std == pytest.approx(wanted[1][0], abs=1e-5)
        assert board.best == pytest.approx(reference, abs=1e-6)
        if picked < 2:
            board.tell(picks[picked])


def posterior_noise(model, X, z):
    """By how much the values differ from the posterior mean at their points."""
    posterior = Posterior(model.gp.kernel, model.gp.theta, X)
    return posterior.noise * posterior.weights(z)


def test_a_model_in_step_is_a_model_built_anew():
    """Over an asynchronous run with failures: rows appended, values coming in, proposals forgotten."""
    run = begun()
    dice = np.random.default_rng(0)
    kept = Gaussian("matern52", True, "yeo-johnson", True, 64)
    built = []
    for k in range(12):
        trial = int(dice.choice(np.flatnonzero(run.trials.order < 0)))
        run.end(trial, None if k == 4 else run.value(trial))
        if k % 5 == 3:
            run.waiting.clear()  # forgotten: rows of theirs go
        run.ask(2, fit=k % 4 != 1)
        kept.update(run.trials, np.random.default_rng(k))
        built.append(kept.gp.fits)
        X, y = run.trials.observed()
        every = np.concatenate([X, run.trials.pending])
        known = np.append(kept.gp.values(y), np.full(len(every) - len(y), np.nan))
        fresh = Posterior(kept.gp.kernel, kept.gp.theta, every)
        new = np.random.default_rng(k).random((30, 3))
        K, wanted = (p.kernel.cross(p.theta, p.X, new) for p in (kept.posterior, fresh))
        assert kept.posterior.n == len(every) > len(X)
        np.testing.assert_allclose(K.T @ kept.posterior.weights(kept.z), wanted.T @ fresh.weights(known), atol=1e-6)
        np.testing.assert_allclose(kept.posterior.spread(K), fresh.spread(wanted), atol=1e-8)
        np.testing.assert_allclose(kept.far.variance, kept.posterior.spread(kept.far.K), atol=1e-6)
        run.start(1)
    assert len(set(built)) > 1 and built[-1] < len(built)  # some asks refitted, some did not


def test_rows_of_one_config_are_results_of_their_own():
    """A repeat: two values at one point, and the point once more pending; the mean is that of both."""
    run = begun(results=12, running=0)
    config = run.space.decode(run.trials.X[:1])[0]
    for value in (0.9, None):
        trial = run.trials.n
        run.trials.apply({"kind": "start", "id": trial, "config": config, "origin": "repeat", "budget": 1})
        if value is not None:
            run.end(trial, value)
    model, _ = board_of(run, "believer")
    at = [k for k, x in enumerate(model.posterior.X) if (x == run.trials.X[0]).all()]
    told = model.z[at]
    assert len(at) == 3 and np.isnan(told).sum() == 1
    assert sorted(told[~np.isnan(told)]) == pytest.approx(sorted(model.gp.values(run.trials.y[[0, 12]])))


def test_weights_of_goals_bring_new_values():
    """Parts of one answer to several goals have the same ask: each sees the values under its own weights."""
    run = begun(results=12, running=0)
    trials = run.trials
    model, _ = board_of(run, "believer")
    before = model.z.copy()
    trials.weights = np.array([0.3, 0.7])
    trials.y[:] = trials.y[::-1].copy()
    model.update(trials, np.random.default_rng(1))
    np.testing.assert_allclose(model.z, before[::-1])


@pytest.mark.parametrize("acquisition", SCORES)
@pytest.mark.parametrize("space", [CUBE, mixed_space()], ids=["cube", "mixed"])
def test_a_climb_sees_the_score_of_the_candidates(acquisition, space):
    """One score by candidates, by points and by slopes; its gradient against differences; refined points have more."""
    _, board = board_of(begun(space), "believer")
    judge = Judge(acquisition, 1.5, board)
    whole, points = judge.worth(*board.predict()), judge._at(board.X)
    if acquisition != "lcb":  # points are scored by the log, which has the same order
        np.testing.assert_allclose(log_score(acquisition, *board.at(board.X), board.best), points)
    row = int(np.argmax(whole))
    assert points[row] >= np.quantile(points, 0.99)
    x = np.clip(board.X[3], 0.1, 0.9)
    value, gradient = judge._slope(x)
    assert value == pytest.approx(judge._at(x[None])[0], rel=1e-6, abs=1e-6)
    for i, step in enumerate(1e-5 * np.eye(space.dimension)):
        numeric = (judge._slope(x + step)[0] - judge._slope(x - step)[0]) / 2e-5
        assert gradient[i] == pytest.approx(numeric, rel=1e-3, abs=1e-3)
    refined = judge.refined(space, board.X[[row]], np.random.default_rng(0))
    assert judge._at(refined[None])[0] >= points[row] - 1e-9


# --- forests ---


@pytest.mark.parametrize("rule", ["none", "believer", *LIES])
def test_a_forest_hears_of_all_that_is_pending(rule):
    """What runs, what waits and what is picked; with rule none nothing changes its mind."""
    run = begun()
    surrogate = Surrogate("et", 100)
    surrogate.fitted(run.trials, np.random.default_rng(0))
    X = CUBE.sample(50, np.random.default_rng(1))
    plain = surrogate.forest.predict(X)
    board = ForestBoard(surrogate, run.trials, X, rule)
    first = board.predict()
    board.tell(X[7], 7)
    second = board.predict()
    y = run.trials.observed()[1]
    assert board.best == y.min() and board.unit == pytest.approx(y.std())
    if rule == "none":
        np.testing.assert_allclose(first, plain)
        np.testing.assert_allclose(second, plain)
        return
    assert (first[1] != plain[1]).any() and second[1][7] < first[1][7]
    if rule == "lie-worst":
        assert (first[0] >= plain[0] - 1e-12).all() and second[0][7] > first[0][7]
    if rule == "lie-best":
        assert (first[0] <= plain[0] + 1e-12).all() and second[0][7] < first[0][7]
    if rule == "believer":  # each tree moves towards what all of them say, those with fewer rows there move more
        assert abs(second[0][7] - first[0][7]) < 0.2 * first[1][7]


# --- penalties ---


@settings(max_examples=50, deadline=None)
@given(distance=st.floats(0, 2), radius=st.floats(0, 2), spread=st.floats(1e-3, 1))
def test_penalties_are_their_formulas(distance, radius, spread):
    """Soft: Phi((d - r) / s). Hard: (z^-5 + 1)^(-1/5), z = d / (r + s): 0 in the middle, 2^-.2 at r + s, 1 far out."""
    told = [math.exp(log_penalty(kind, np.array([distance]), radius, spread)[0]) for kind in PENALTIES]
    assert PENALTIES == ("penalise-soft", "penalise-hard")
    assert told[0] == pytest.approx(math.erfc(-(distance - radius) / spread / math.sqrt(2)) / 2, rel=1e-6, abs=1e-300)
    z = distance / (radius + spread)
    assert told[1] == pytest.approx((z**-5.0 + 1) ** -0.2 if z > 1e-50 else 0.0, rel=1e-6, abs=1e-40)
    at_radius = log_penalty("penalise-hard", np.array([0.0, radius + spread, 1e6]), radius, spread)
    assert np.exp(at_radius) == pytest.approx([0.0, 2**-0.2, 1.0], abs=1e-6)
    for kind in PENALTIES:
        every = log_penalty(kind, np.linspace(0, 3, 50), radius, spread)
        assert np.isfinite(every).all() and (every <= 0).all() and (np.diff(every) >= 0).all()
        assert np.isfinite(log_penalty(kind, np.array([0.0, 1.0]), 0.0, 0.0)).all()


def test_balls_multiply():
    """r = |mean - M| / L and s = std / L for each pending point; their factors multiply; on wish the last ones."""
    balls = Penalties("penalise-soft", lowest=-1.0)
    X = np.random.default_rng(0).random((20, 2))
    assert (balls.log(X) == 0).all()
    balls.add(np.array([0.2, 0.3]), mean=1.0, std=0.5, bound=4.0)
    balls.add(np.array([0.8, 0.3]), mean=-1.5, std=0.2, bound=2.0)
    distance = [np.linalg.norm(X - centre, axis=1) for centre in ([0.2, 0.3], [0.8, 0.3])]
    first = log_penalty("penalise-soft", distance[0], 0.5, 0.125)
    second = log_penalty("penalise-soft", distance[1], 0.25, 0.1)
    np.testing.assert_allclose(balls.log(X), first + second)
    np.testing.assert_allclose(balls.log(X, last=1), second)


def test_steepest_slope():
    """The largest norm of the gradient in the box; a flat function has the slope 10."""
    probes = np.random.default_rng(0).random((PROBES["global"], 2))
    low, high = np.array([0.2, 0.0]), np.array([0.4, 1.0])
    found = steepest(lambda x: np.array([10 * x[0], 0.0]), low, high, probes)
    assert 3.8 < found <= 4.0
    assert steepest(lambda x: np.zeros(2), low, high, probes) == FALLBACK == 10.0


@pytest.mark.parametrize("rule", ["believer", "lie-worst", *PENALTIES])
def test_no_pick_is_close_to_a_pending_point(rule):
    """A batch of eight keeps its distance, from the points that run and among itself; with rule none it does not."""

    def nearest(rule):
        run = begun(maker=lambda: Bayesian(model="gp", pending=rule, candidates=128), running=0)
        X = run.space.encode([p.config for p in run.ask(8)])
        return min(np.linalg.norm(a - b) for i, a in enumerate(X) for b in X[:i])

    assert nearest(rule) > 2 * nearest("none")


# --- Ginsbourger, Le Riche & Carraro 2010: batches on Branin ---


def batch_improvement(mean, covariance, best, draws):
    """``(k,)`` q-EI, the expected improvement of the best of q points, of ``k`` designs by normal ``draws (s, q)``."""
    root = np.linalg.cholesky(covariance + 1e-9 * np.eye(covariance.shape[-1]))
    values = mean[:, None] + draws @ root.transpose(0, 2, 1)
    return np.maximum(best - values.min(axis=2), 0.0).mean(axis=1)


@pytest.mark.parametrize("rule", ["lie-best", "believer"])
def test_constant_liar_designs_on_branin(rule):
    """The q-EI of q points by liar and by believer, q = 1..10, is at least the 95th percentile of 1,000 random designs.

    As in their section 4: a process of 9 points on a 3 x 3 grid, EI maximised in turn; all designs see the same draws.
    """
    space = Space({"x1": (-5.0, 10.0), "x2": (0.0, 15.0)})
    grid = np.stack(np.meshgrid([1 / 6, 0.5, 5 / 6], [1 / 6, 0.5, 5 / 6]), axis=-1).reshape(-1, 2)
    run = Run(lambda: Bayesian(model="gp", acquisition="ei", pending=rule, n_initial=9, candidates=512), space)
    for trial, config in enumerate(space.decode(grid)):
        run.trials.apply({"kind": "start", "id": trial, "config": config, "origin": "start", "budget": 1})
        run.end(trial, branin(**config))
    picked = run.space.encode([p.config for p in run.ask(10)])
    gp = run.strategy.model.gp
    X, y = run.trials.observed()
    posterior, z = gp.at(X), gp.values(y)
    best = (z - posterior.noise * posterior.weights(z)).min()
    rng = np.random.default_rng(0)
    points = np.concatenate([picked, rng.random((600, 2))])  # random designs are of these, uniform themselves
    K = posterior.kernel.cross(posterior.theta, X, points)
    mean = K.T @ posterior.weights(z)
    covariance = posterior.kernel.cross(posterior.theta, points, points) - K.T @ posterior.Q @ K
    draws = rng.standard_normal((300, 10))
    for q in range(1, 11):
        designs = np.stack([np.arange(q), *(10 + rng.choice(600, q, replace=False) for _ in range(1000))])
        parts = covariance[designs[:, :, None], designs[:, None, :]]
        ours, *random = batch_improvement(mean[designs], parts, best, draws[:, :q])
        assert ours >= np.quantile(random, 0.95), (q, ours, np.quantile(random, [0.5, 0.95, 1]))
