"""Output transforms: against scipy, monotone, finite wherever a value may fall."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mpibo.models.transforms import TRANSFORMS, fit_transform, yeo_johnson

SOME = {
    "normal": np.random.default_rng(0).standard_normal(60),
    "long bad tail": np.random.default_rng(1).exponential(size=60) ** 3,
    "long good tail": -(np.random.default_rng(2).exponential(size=60) ** 3),
    "two heaps": np.concatenate([np.linspace(0, 1, 30), np.linspace(50, 51, 30)]),
}


@pytest.mark.parametrize("power", [-3.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.5])
def test_yeo_johnson_is_scipys(power):
    from scipy.stats import yeojohnson

    z = np.linspace(-5, 5, 101)
    np.testing.assert_allclose(yeo_johnson(z, power), yeojohnson(z, power), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(yeo_johnson(z, power + 1e-7), yeo_johnson(z, power), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("y", SOME.values(), ids=SOME)
def test_the_power_is_the_most_likely_one(y):
    """The exponent that scipy finds for the clipped, standardised values; the result is standardised."""
    from scipy.stats import yeojohnson_llf, yeojohnson_normmax

    found = fit_transform("yeo-johnson", y)
    z = (np.minimum(y, found.ceiling) - found.centre) / found.scale
    theirs = np.clip(yeojohnson_normmax(z), -4, 6)
    assert yeojohnson_llf(found.power, z) >= yeojohnson_llf(theirs, z) - 1e-3
    told = found(y)
    assert told.mean() == pytest.approx(0, abs=1e-9) and told.std() == pytest.approx(1)


@pytest.mark.parametrize("y", SOME.values(), ids=SOME)
def test_the_bad_tail_is_clipped(y):
    """At median + 5 (median - lower quartile); below it clipping is only standardising; nothing is cut from below."""
    low, middle = np.quantile(y, [0.25, 0.5])
    clip, none = fit_transform("clip", y), fit_transform("none", y)
    assert clip.ceiling == pytest.approx(middle + 5 * (middle - low)) and none.ceiling == np.inf
    cut = np.minimum(y, clip.ceiling)
    np.testing.assert_allclose(clip(y), (cut - cut.mean()) / cut.std())
    np.testing.assert_allclose(none(y), (y - y.mean()) / y.std())
    assert clip(np.array([y.min() - 100.0]))[0] < clip(y).min()
    np.testing.assert_array_equal(clip(np.array([1e9])), clip(np.array([clip.ceiling])))


def test_no_tail_is_cut_where_half_of_the_values_are_equal():
    """The lower quartile may be the median: then there is no width by which to say what is far."""
    y = np.array([1.0] * 10 + [2.0, 3.0, 1000.0])
    assert fit_transform("clip", y).ceiling == np.inf


def test_ranks_are_normal_scores():
    """Of equal values the middle rank; between two values, and beyond all, in order."""
    from scipy.special import ndtri

    y = np.array([5.0, 1.0, 7.0, 7.0, 3.0])
    ranks = fit_transform("ranks", y)
    np.testing.assert_allclose(ranks(y), ndtri(np.array([2.5, 0.5, 4.0, 4.0, 1.5]) / 5))
    assert ranks(np.array([-1e9]))[0] == ndtri(0.1) and ranks(np.array([1e9]))[0] == ndtri(0.9)
    np.testing.assert_allclose(fit_transform("ranks", np.exp(y))(np.exp(y)), ranks(y))


@pytest.mark.parametrize("kind", TRANSFORMS)
@settings(max_examples=40, deadline=None)
@given(
    y=arrays(float, st.integers(1, 30), elements=st.floats(-1e100, 1e100)),
    new=arrays(float, 8, elements=st.floats(-1e100, 1e100)),
)
def test_transforms_are_monotone_and_finite(kind, y, new):
    """For any values, also for those that come after the fit; no value overtakes another."""
    transform = fit_transform(kind, y)
    points = np.sort(np.concatenate([y, new, [-1e100, 0.0, 1e100]]))
    told = transform(points)
    assert np.isfinite(told).all()
    assert (np.diff(told) >= -1e-9 * np.abs(told).max()).all()


@pytest.mark.parametrize("kind", TRANSFORMS)
@pytest.mark.parametrize("unit", [1e-30, 1e-9, 1.0, 1e9, 1e90])
def test_the_unit_of_the_values_does_not_matter(kind, unit):
    """Losses of 1e-14 near an optimum are as good as any."""
    y = SOME["long bad tail"]
    np.testing.assert_allclose(fit_transform(kind, unit * y)(unit * y), fit_transform(kind, y)(y), atol=1e-3)


def test_equal_values_are_zeros():
    for y in ([3.0] * 5, [0.0] * 5, [-1e100] * 5, [1e-300] * 2, [7.0]):
        for kind in TRANSFORMS:
            np.testing.assert_allclose(fit_transform(kind, np.array(y))(np.array(y)), 0.0, atol=1e-9)
