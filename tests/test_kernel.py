"""The covariance function: against scikit-learn and its formula, and its gradients against finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibo.models.gp import GP, loss
from mpibo.models.kernel import KINDS, Kernel, Pairs
from mpibo.models.posterior import Posterior
from mpibo.testing import mixed_space


def kernel_of(space, kind, additive):
    return GP(space, kind=kind, additive=additive).kernel


def some_theta(kernel, rng):
    """A draw of hyperparameters in the middle of where they may lie."""
    theta = rng.uniform(-0.7, 0.7, kernel.size)
    theta[1] = rng.uniform(-5, -2)
    return theta


def m(kind, t):
    """The formula (Rasmussen & Williams, eq. 4.17, 4.9)."""
    if kind == "rbf":
        return np.exp(-(t**2) / 2)
    return (1 + math.sqrt(5) * t + 5 / 3 * t**2) * np.exp(-math.sqrt(5) * t)


def by_hand(kernel, theta, a, b):
    """Covariance of two points, one number at a time, as the head of kernel.py has it."""
    G = kernel.G
    s2, ell = math.exp(theta[0]), np.exp(theta[2 : 2 + G])
    distance = [math.sqrt(sum((a[kernel.groups == g] - b[kernel.groups == g]) ** 2)) for g in range(G)]
    joint = m(kernel.kind, math.sqrt(sum((distance[g] / ell[g]) ** 2 for g in range(G))))
    if not kernel.additive:
        return s2 * joint
    rho, lam = 1 / (1 + math.exp(-theta[2 + G])), np.exp(theta[3 + G :])
    return s2 * ((1 - rho) * joint + rho / G * sum(m(kernel.kind, distance[g] / lam[g]) for g in range(G)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("additive", [False, True])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_kernel_is_its_formula(kind, additive, seed):
    """All three ways to a covariance (matrix, pairs, one point) agree with the formula, in a space of every kind."""
    rng = np.random.default_rng(seed)
    space = mixed_space()
    kernel = kernel_of(space, kind, additive)
    theta, X, Y = some_theta(kernel, rng), space.sample(6, rng), space.sample(4, rng)
    wanted = [[by_hand(kernel, theta, a, b) for b in Y] for a in X]
    np.testing.assert_allclose(kernel.cross(theta, X, Y), wanted, rtol=1e-12)
    np.testing.assert_allclose(
        kernel.cross(theta, X.astype(np.float32), Y.astype(np.float32)), wanted, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose([kernel.at(theta, X, y)[0] for y in Y], np.transpose(wanted), rtol=1e-12)
    K, _ = Pairs(kernel, X).covariance(theta)
    np.testing.assert_allclose(K, [[by_hand(kernel, theta, a, b) for b in X] for a in X], rtol=1e-9)
    np.testing.assert_allclose(np.diagonal(K), kernel.variance(theta))


@pytest.mark.parametrize("kind", KINDS)
def test_kernel_without_its_additive_part_is_scikit_learns(kind):
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern

    rng = np.random.default_rng(0)
    kernel = Kernel(np.arange(3), kind, additive=False)
    theta, X, Y = some_theta(kernel, rng), rng.random((8, 3)), rng.random((5, 3))
    ell = np.exp(theta[2:])
    theirs = ConstantKernel(math.exp(theta[0])) * (RBF(ell) if kind == "rbf" else Matern(ell, nu=2.5))
    np.testing.assert_allclose(kernel.cross(theta, X, Y), theirs(X, Y), rtol=1e-12)


def test_columns_of_one_parameter_share_a_length_scale():
    """One-hot columns and an activity column belong to their parameter: any two levels are equally far apart."""
    space = mixed_space()
    kernel = kernel_of(space, "matern52", True)
    names = [column.index for column in space.columns]
    assert kernel.G == len(set(names)) == 9 and len(kernel.groups) == space.dimension
    every = range(space.dimension)
    assert all((kernel.groups[i] == kernel.groups[j]) == (names[i] == names[j]) for i in every for j in every)
    config = {"lr": 1e-3, "layers": 2, "batch": 32, "dropout": 0.1, "width": 64, "size": "small", "kernel": True}
    X = space.encode([config | {"optimizer": "adam", "kernel": k, "epochs": 3} for k in ((3, 3), True, 1, 1.0)])
    K = kernel.cross(kernel.prior[0], X, X)
    assert np.ptp(K[~np.eye(4, dtype=bool)]) < 1e-12


def slope_of(function, x, step):
    """Central differences of a function of ``x (d,)``."""
    found = []
    for i in range(len(x)):
        e = np.zeros(len(x))
        e[i] = step
        found.append((function(x + e) - function(x - e)) / (2 * step))
    return np.array(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("additive", [False, True])
@pytest.mark.parametrize("flat", [False, True])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_gradient_of_the_loss(kind, additive, flat, seed):
    """The derivative of the posterior density by every hyperparameter, in a mixed space with repeated rows."""
    rng = np.random.default_rng(seed)
    space = mixed_space()
    kernel = Kernel(kernel_of(space, kind, additive).groups, kind, additive, flat)
    X = space.sample(12, rng)
    X[5] = X[2]
    pairs, z, theta = Pairs(kernel, X), rng.standard_normal(12), some_theta(kernel, rng)
    _, gradient, _ = loss(kernel, pairs, z, theta)
    numeric = slope_of(lambda t: loss(kernel, pairs, z, t)[0], theta, 1e-5)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("additive", [False, True])
def test_loss_is_the_density_of_the_values(additive):
    """Marginal likelihood with the constant mean at its best under N(0, 1), and the priors, up to a constant."""
    from scipy.stats import multivariate_normal, norm

    rng = np.random.default_rng(0)
    kernel = Kernel(np.arange(2), "matern52", additive)
    X, z = rng.random((9, 2)), rng.standard_normal(9)
    pairs, found = Pairs(kernel, X), []
    for _ in range(2):
        theta = some_theta(kernel, rng)
        K = kernel.cross(theta, X, X) + math.exp(theta[1]) * np.eye(9)

        def against(mean, K=K):
            return -multivariate_normal(np.full(9, mean), K).logpdf(z) - norm.logpdf(mean)

        value, _, mean = loss(kernel, pairs, z, theta)
        assert against(mean) < min(against(mean - 1e-3), against(mean + 1e-3))
        found.append(value - against(mean) + norm(*kernel.prior).logpdf(theta).sum())
    assert found[0] == pytest.approx(found[1], abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("additive", [False, True])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_gradients_by_the_point(kind, additive, seed):
    """Covariances, posterior mean and variance by each column, one-hot and activity columns too."""
    rng = np.random.default_rng(seed)
    space = mixed_space()
    kernel = kernel_of(space, kind, additive)
    theta, X, x = some_theta(kernel, rng), space.sample(7, rng), rng.random(space.dimension)
    _, gradient = kernel.at(theta, X, x)
    np.testing.assert_allclose(gradient.T, slope_of(lambda at: kernel.at(theta, X, at)[0], x, 1e-6), atol=1e-7)
    posterior = Posterior(kernel, theta, X)
    alpha = posterior.weights(rng.standard_normal(7))
    _, _, by_mean, by_variance = posterior.point(alpha, x)
    np.testing.assert_allclose(by_mean, slope_of(lambda at: posterior.point(alpha, at)[0], x, 1e-6), atol=1e-6)
    np.testing.assert_allclose(by_variance, slope_of(lambda at: posterior.point(alpha, at)[1], x, 1e-6), atol=1e-6)


@pytest.mark.parametrize("additive", [False, True])
def test_gradient_at_a_row_itself(additive):
    """Where a point is a row of the data the covariance has its top: the gradient is 0, not NaN."""
    kernel = Kernel(np.arange(2), "matern52", additive)
    X = np.array([[0.2, 0.7], [0.2, 0.1]])
    k, gradient = kernel.at(kernel.short, X, X[0])
    assert k[0] == pytest.approx(kernel.variance(kernel.short)) and (gradient[0] == 0).all()
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("kind", KINDS)
def test_extremes_of_the_hyperparameters_are_finite(kind):
    """At every corner of their bounds, for neighbours and for opposite corners of the cube."""
    kernel = Kernel(np.array([0, 1, 1]), kind, True)
    X = np.array([[0.0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1e-9]])
    pairs, bounds = Pairs(kernel, X), np.array(kernel.bounds)
    for bits in range(2**kernel.size):
        theta = np.where(bits >> np.arange(kernel.size) & 1, bounds[:, 1], bounds[:, 0])
        value, gradient, mean = loss(kernel, pairs, np.array([1.0, -1, 3, 1]), theta)
        assert np.isfinite(value) and np.isfinite(gradient).all() and np.isfinite(mean)
