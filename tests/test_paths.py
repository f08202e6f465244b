"""Sample paths: their features give the kernel, their mean and covariance are the posterior's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mpibo.models.kernel import KINDS, Kernel
from mpibo.models.paths import JOINT, Features, Paths, frequencies
from mpibo.models.posterior import Posterior


def some_posterior(n=12, noise=0.05, kind="matern52", additive=True):
    """A posterior over points of two parameters (the second has two columns), and their values."""
    rng = np.random.default_rng(0)
    kernel = Kernel(np.array([0, 1, 1]), kind, additive)
    theta = np.array([math.log(1.5), math.log(noise), math.log(0.6), math.log(0.9), 0.3, 0.0, 0.0])
    X = rng.random((n, 3))
    return Posterior(kernel, theta[: kernel.size], X), np.sin(5 * X[:, 0]) + X[:, 1]


def m(kind, r):
    return np.exp(-(r**2) / 2) if kind == "rbf" else (1 + 5**0.5 * r + 5 / 3 * r**2) * np.exp(-(5**0.5) * r)


@pytest.mark.parametrize("kind", KINDS)
def test_frequencies_give_the_kernel(kind):
    """The mean of cos(w (x - x')) is k(|x - x'|), along an axis and across, within 4 standard errors."""
    omega = frequencies(kind, 200_000, 2, np.random.default_rng(0))
    for direction in ([1.0, 0.0], [2**-0.5, 2**-0.5]):
        for r in (0.3, 0.8, 1.5):
            waves = np.cos(omega @ np.array(direction) * r)
            assert waves.mean() == pytest.approx(m(kind, r), abs=4 * waves.std() / 200_000**0.5)


def test_a_gamma_draw_for_each_coordinate_is_another_kernel():
    """Where the kernel is .707, one draw for the whole vector gives that; one a coordinate gives a product, .681."""
    d, n = 4, 300_000
    where = np.full(d, 0.7 / d**0.5)  # 0.7 away along the diagonal
    rng = np.random.default_rng(0)
    right = np.cos(frequencies("matern52", n, d, rng) @ where)
    wrong = np.cos(rng.standard_normal((n, d)) / np.sqrt(rng.gamma(2.5, 1 / 2.5, size=(n, d))) @ where)
    error = right.std() / n**0.5
    assert m("matern52", 0.7) == pytest.approx(0.707, abs=5e-4)
    assert right.mean() == pytest.approx(m("matern52", 0.7), abs=4 * error)
    assert wrong.mean() == pytest.approx(0.681, abs=4 * error + 5e-4)
    assert 15 * error < 0.707 - 0.681


@pytest.mark.parametrize("additive", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_inner_products_of_features_are_the_kernel(kind, additive):
    """On average over draws of the features, each part by its own; float32 gives the same to its precision."""
    posterior, _ = some_posterior(kind=kind, additive=additive)
    kernel, theta, X = posterior.kernel, posterior.theta, posterior.X
    rng = np.random.default_rng(1)
    products = []
    for _ in range(60):
        phi = Features(kernel, theta, rng)(X)
        products.append(phi @ phi.T)
    error = np.std(products, axis=0) / 60**0.5
    assert (np.abs(np.mean(products, axis=0) - kernel.cross(theta, X, X)) < 5 * error + 1e-12).all()
    features = Features(kernel, theta, rng)
    single = features(X.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, features(X), atol=1e-4)
    assert features.size == JOINT + (2 * 64 if additive else 0)


@pytest.mark.parametrize("pending", [False, True])
def test_mean_and_covariance_of_paths_are_the_posteriors(pending):
    """3,000 paths, 30 with features in common: within 5 standard errors, pending rows as believed in the posterior."""
    posterior, z = some_posterior()
    z = z.copy()
    if pending:
        z[[2, 7]] = np.nan
    rng = np.random.default_rng(2)
    new = np.concatenate([rng.random((5, 3)), posterior.X[[2]]])
    kernel, theta = posterior.kernel, posterior.theta
    K = kernel.cross(theta, posterior.X, new)
    mean = K.T @ posterior.weights(z)
    covariance = kernel.cross(theta, new, new) - K.T @ posterior.Q @ K
    groups = np.stack([Paths(posterior, z, 30, rng)(new) for _ in range(100)])  # (100, 30, m)
    means = groups.mean(axis=1)
    assert (np.abs(means.mean(axis=0) - mean) < 5 * means.std(axis=0) / 10).all()
    off = groups - mean
    products = np.einsum("gpi,gpj->gij", off, off) / 30
    assert (np.abs(products.mean(axis=0) - covariance) < 5 * products.std(axis=0) / 10).all()
    assert (5 * products.std(axis=0) / 10 < 0.15).all()  # so that the line above says something


def test_a_path_is_a_function():
    """The same at any time, alone and among others, by ``at`` and by ``point``; other paths are other functions."""
    posterior, z = some_posterior()
    paths = Paths(posterior, z, 4, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    X = rng.random((9, 3))
    first = paths(X)
    assert first.shape == (4, 9) and (paths(X) == first).all()
    np.testing.assert_allclose(paths(X[3:5]), first[:, 3:5], atol=1e-12)
    assert (Paths(posterior, z, 4, np.random.default_rng(0))(X) == first).all()
    again = paths.again(rng)
    assert again.features is paths.features and np.ptp(np.concatenate([first, again(X)]), axis=0).min() > 0
    K = [posterior.kernel.cross(posterior.theta, posterior.X, part) for part in (X[:4], X[4:])]
    for path in range(4):
        np.testing.assert_allclose(paths.at(path, paths.features(X), K), first[path], atol=1e-12)
        np.testing.assert_allclose([paths.point(path, x)[0] for x in X], first[path], atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("additive", [False, True])
def test_gradient_of_a_path(kind, additive):
    posterior, z = some_posterior(kind=kind, additive=additive)
    paths = Paths(posterior, z, 2, np.random.default_rng(0))
    for x in np.random.default_rng(1).random((4, 3)):
        _, gradient = paths.point(1, x)
        for i, step in enumerate(1e-6 * np.eye(3)):
            numeric = (paths.point(1, x + step)[0] - paths.point(1, x - step)[0]) / 2e-6
            assert gradient[i] == pytest.approx(numeric, abs=1e-5)


def test_a_noiseless_path_interpolates():
    """With next to no noise every path goes through the data, and between them paths differ."""
    posterior, z = some_posterior(noise=1e-6)
    paths = Paths(posterior, z, 20, np.random.default_rng(0))
    assert np.abs(paths(posterior.X) - z).max() < 5e-3
    assert paths(np.random.default_rng(1).random((10, 3))).std(axis=0).min() > 0.02


def test_paths_are_free_of_observation_noise():
    """With much noise, close points of a path have close values: noise is in the data, not in the function."""
    posterior, z = some_posterior(noise=1.0)
    paths = Paths(posterior, z, 50, np.random.default_rng(0))
    x = np.array([0.4, 0.5, 0.6])
    line = paths(x + 1e-4 * np.arange(10)[:, None])
    assert np.abs(np.diff(line)).max() < 0.01 < 0.3 < line.std(axis=0).min()
    at_rows = paths(posterior.X) - posterior.kernel_mean(z)
    K = posterior.kernel.cross(posterior.theta, posterior.X, posterior.X)
    np.testing.assert_allclose((at_rows**2).mean(axis=0), posterior.spread(K), rtol=0.9)  # not that plus 1
    assert (at_rows**2).mean() < 1.5 * posterior.spread(K).mean()
