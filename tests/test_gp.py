"""The Gaussian process: its posterior, rows appended and pending, what it does with hopeless data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibo.models.gp import FITTED, GP, KEPT, subset
from mpibo.models.kernel import KINDS, Kernel
from mpibo.models.posterior import Posterior, inverse
from mpibo.models.transforms import TRANSFORMS
from mpibo.space import Space
from mpibo.testing import mixed_space

CUBE = Space({f"x{i}": (0.0, 1.0) for i in range(3)})


def some_posterior(n, seed=0, kind="matern52", additive=True, d=3, noise=0.01):
    """A posterior, its rows' values, new points, and the generator of all of them."""
    rng = np.random.default_rng(seed)
    kernel = Kernel(np.arange(d), kind, additive)
    theta = rng.uniform(-0.7, 0.7, kernel.size)
    theta[1] = math.log(noise)
    return Posterior(kernel, theta, rng.random((n, d))), rng.standard_normal(n), rng.random((20, d)), rng


def told(posterior, z, X):
    """Mean and variance at ``X``."""
    K = posterior.kernel.cross(posterior.theta, posterior.X, X)
    return K.T @ posterior.weights(z), posterior.spread(K)


def directly(posterior, X, z, new):
    """The same by solving, from the covariance alone (Rasmussen & Williams, eq. 2.25, 2.26)."""
    kernel, theta = posterior.kernel, posterior.theta
    K = kernel.cross(theta, X, X) + posterior.noise * np.eye(len(X))
    k = kernel.cross(theta, X, new)
    return k.T @ np.linalg.solve(K, z), kernel.variance(theta) - np.sum(k * np.linalg.solve(K, k), axis=0)


@pytest.mark.parametrize("kind", KINDS)
def test_posterior_is_scikit_learns(kind):
    """Mean and deviation of their regressor with the same kernel and noise."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern

    posterior, z, new, _ = some_posterior(25, kind=kind, additive=False)
    s2, noise, ell, _, _ = posterior.kernel.split(posterior.theta)
    form = ConstantKernel(s2) * (RBF(ell) if kind == "rbf" else Matern(ell, nu=2.5))
    theirs = GaussianProcessRegressor(form, alpha=noise, optimizer=None).fit(posterior.X, z)
    mean, std = theirs.predict(new, return_std=True)
    ours = told(posterior, z, new)
    np.testing.assert_allclose(ours[0], mean, atol=1e-9)
    np.testing.assert_allclose(np.sqrt(ours[1]), std, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 30))
def test_posterior_is_the_conditional_normal(kind, seed, n):
    """With the additive part too; a row at a time or all at once; and at single points."""
    posterior, z, new, _ = some_posterior(n, seed, kind)
    mean, variance = directly(posterior, posterior.X, z, new)
    grown = Posterior(posterior.kernel, posterior.theta, posterior.X[:1])
    for x in posterior.X[1:]:
        grown.append(x)
    for each in (posterior, grown):
        np.testing.assert_allclose(told(each, z, new)[0], mean, atol=1e-9)
        np.testing.assert_allclose(told(each, z, new)[1], variance, atol=1e-9)
        value, spread, _, _ = each.point(each.weights(z), new[0])
        assert value == pytest.approx(mean[0], abs=1e-9) and spread == pytest.approx(variance[0], abs=1e-9)
    np.testing.assert_array_equal(grown.X, posterior.X)
    np.testing.assert_allclose(grown.Q, posterior.Q, rtol=1e-6, atol=1e-6)


def test_rows_appended_one_by_one_stay_exact():
    """A hundred rows close together with hardly any noise, where updates of an inverse run away without refinement."""
    rng = np.random.default_rng(0)
    for s2 in (1.0, 100.0):
        kernel = Kernel(np.arange(6))
        theta = kernel.theta_of(s2, 3.0, 1e-6)
        X = np.concatenate([rng.random((100, 6)), 0.4 + 0.02 * rng.standard_normal((100, 6))])
        grown, whole = Posterior(kernel, theta, X[:100]), Posterior(kernel, theta, X)
        for x in X[100:]:
            grown.append(x)
        z = np.sin(3 * X).sum(axis=1)
        z = (z - z.mean()) / z.std()
        new = np.concatenate([rng.random((50, 6)), 0.4 + 0.02 * rng.standard_normal((50, 6))])
        (mean, variance), (true, spread) = told(grown, z, new), told(whole, z, new)
        np.testing.assert_allclose(mean, true, atol=1e-5)
        np.testing.assert_allclose(variance, spread, atol=1e-6 * s2)


def test_an_append_tells_how_variances_shrink():
    """What ``append`` returns is the change of the variance anywhere: (k - u K)^2 / own."""
    posterior, _, new, rng = some_posterior(10)
    x = rng.random(3)
    K = posterior.kernel.cross(posterior.theta, posterior.X, new)
    before = posterior.spread(K)
    k, u, own = posterior.append(x)
    at = posterior.kernel.cross(posterior.theta, x[None], new)[0]
    after = posterior.spread(np.vstack([K, at]))
    np.testing.assert_allclose(before - (at - u @ K) ** 2 / own, after, atol=1e-12)
    assert k == pytest.approx(posterior.kernel.cross(posterior.theta, posterior.X[:10], x[None])[:, 0])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 15), pending=st.integers(1, 8))
def test_believed_rows_leave_the_mean_and_take_the_variance(seed, n, pending):
    """NaN rows: the mean is that of the observed rows alone, the variance that with all rows. In any order."""
    posterior, z, new, rng = some_posterior(n + pending, seed)
    known = np.sort(rng.permutation(n + pending)[:n])
    believed = np.full(n + pending, np.nan)
    believed[known] = z[known]
    mean, variance = told(posterior, believed, new)
    np.testing.assert_allclose(mean, directly(posterior, posterior.X[known], z[known], new)[0], atol=1e-8)
    np.testing.assert_allclose(variance, directly(posterior, posterior.X, z, new)[1], atol=1e-8)
    filled = believed.copy()
    filled[np.isnan(believed)] = posterior.kernel_mean(believed)[np.isnan(believed)]
    np.testing.assert_allclose(told(posterior, filled, new)[0], mean, atol=1e-8)  # as its name says: a believer


def test_a_hopeless_matrix_gets_jitter():
    """The inverse is exact where there is one; of a singular, indefinite or zero matrix it is at least finite."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((6, 6))
    good = A @ A.T + np.eye(6)
    Q, logdet = inverse(good)
    np.testing.assert_allclose(Q, np.linalg.inv(good), atol=1e-10)
    assert logdet == pytest.approx(np.linalg.slogdet(good)[1])
    for hopeless in (np.ones((4, 4)), np.zeros((3, 3)), A + A.T, np.array([[1e308]]), 1e-300 * good):
        Q, logdet = inverse(hopeless)
        assert np.isfinite(Q).all() and np.isfinite(logdet) and (Q == Q.T).all()


HOPELESS = {
    "one": [1.0], "two": [1.0, 2.0], "equal": [3.0] * 8, "zeros": [0.0] * 8, "huge": [1e300, -1e300, 1e299, 0.0, 1.0],
    "one huge": [1e300, *np.linspace(0, 1, 7)], "offset": [1e12 + i for i in range(6)],
    "tiny": [1e-14 * i for i in range(9)], "subnormal": [5e-324 * i for i in range(4)],
}  # fmt: skip


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("y", HOPELESS.values(), ids=HOPELESS)
def test_hopeless_data_give_finite_answers(y, transform):
    """Few rows, equal ones, values without spread or beyond measure; then values far outside before a new fit."""
    rng = np.random.default_rng(0)
    y = np.array(y)
    for space in (CUBE, mixed_space()):
        for X in (space.sample(len(y), rng), np.tile(space.sample(1, rng), (len(y), 1))):
            gp = GP(space, transform=transform)
            gp.fit(X, y, rng)
            new = np.concatenate([X, space.sample(5, rng)])
            assert all(np.isfinite(each).all() for each in gp.predict(new))
            assert np.isfinite(gp.sample(new, 2, rng)).all()
            assert np.isfinite(gp.values(np.array([1e300, -1e300, 0.0]))).all()
            if not gp.due(len(y) + 2):
                fits = gp.fits
                gp.fit(np.concatenate([X, new[:2]]), np.append(y, [1e300, -1e300]), rng)
                assert gp.fits == fits and all(np.isfinite(each).all() for each in gp.predict(new))


def test_it_learns_and_knows_what_it_does_not_know():
    """A smooth function of three numbers, its noise of 0.1: deviations as large as it says; less sure far away."""
    rng = np.random.default_rng(0)
    X, new = rng.random((60, 3)), rng.random((200, 3))

    def f(X):
        return np.sin(4 * X[:, 0]) + X[:, 1] ** 2 + 0.3 * X[:, 0] * X[:, 2]

    gp = GP(CUBE, transform="none")
    gp.fit(X, f(X) + 0.1 * rng.standard_normal(60), rng)
    mean, std = gp.predict(new)
    found = gp.transform(f(new) + 0.1 * rng.standard_normal(200))
    assert np.std(mean - gp.transform(f(new))) < 0.15
    assert 0.75 < np.sqrt(np.mean((mean - found) ** 2 / (std**2 + gp.posterior.noise))) < 1.35
    half = X[X[:, 0] < 0.5]
    gp = GP(CUBE)
    gp.fit(half, f(half), rng)
    assert gp.predict(new[new[:, 0] > 0.8])[1].mean() > 2 * gp.predict(new[new[:, 0] < 0.5])[1].mean()


def test_noise_is_learned():
    """Values of one point that differ are noise, not a function: its variance is found within a factor of two."""
    rng = np.random.default_rng(0)
    X = np.repeat(rng.random((25, 3)), 4, axis=0)
    truth = np.sin(5 * X[:, 0])
    y = truth + 0.5 * rng.standard_normal(100)
    gp = GP(CUBE, transform="none")
    gp.fit(X, y, rng)
    assert 0.5 < math.exp(gp.theta[1]) * y.var() / 0.25 < 2
    assert np.std(gp.transform.centre + gp.transform.scale * gp.predict(X)[0] - truth) < 0.35


def test_refits_come_seldom_and_go_on_from_where_they_stand():
    """Due after max(3, 5 %) more rows, 10 % above 200, 20 % above 500; between, only the posterior changes."""
    rng = np.random.default_rng(0)
    X, y = rng.random((40, 3)), rng.random(40)
    gp = GP(CUBE)
    assert gp.due(1)
    gp.fit(X[:20], y[:20], rng)
    first = gp.theta
    gp.fit(X[:22], y[:22], rng)
    assert gp.theta is first and gp.posterior.n == 22 and not gp.due(22) and gp.due(23) and gp.due(19)
    gp.fit(X, y, rng)
    assert gp.fits == 2 and (gp.theta != first).any()
    for fitted, due in ((60, 63), (100, 105), (190, 200), (240, 264), (450, 495), (600, 720)):
        gp._fitted = fitted
        assert gp.due(due) and not gp.due(due - 1), fitted


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 60), size=st.integers(3, 40))
def test_subset_keeps_the_newest_and_the_best(seed, n, size):
    """All rows while they fit; else the newest third, the best third of the rest and others, in their order."""
    rng = np.random.default_rng(seed)
    y = rng.standard_normal(n)
    rows = subset(y, size, rng)
    assert len(rows) == min(n, size) and (np.diff(rows) > 0).all()
    if n > size:
        newest = set(range(n - size // 3, n))
        best = sorted(set(range(n)) - newest, key=lambda row: y[row])[: size // 3]
        assert newest | set(best) <= set(rows.tolist())


def test_many_rows_are_held_in_bounds():
    """Hyperparameters see at most 256 rows, a posterior 1,000; the best row is one of them."""
    rng = np.random.default_rng(0)
    X, y = rng.random((1200, 3)), rng.random(1200)
    gp = GP(CUBE)
    gp.fit(X[:60], y[:60], rng)
    gp.theta, gp._fitted = gp.theta, 1200  # no refit: only the rows are taken in
    gp.fit(X, y, rng)
    assert FITTED == 256 and gp.posterior.n == KEPT == 1000
    assert (X[np.argmin(y)] == gp.posterior.X).all(axis=1).any()
    assert np.isfinite(gp.predict(X[:10])[0]).all()


@pytest.mark.parametrize("options", [{"kind": "matern12"}, {"transform": "log"}])
def test_bad_options(options):
    with pytest.raises(ValueError, match="expected"):
        GP(CUBE, **options)
