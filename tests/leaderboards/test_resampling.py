"""Computed distributions against enumeration and scipy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from leaderboards import resampling
from leaderboards.resampling import bootstrap_mean, exact_tail, grid_size, sign_flip_sum


def below(distribution: resampling.Distribution, value: float) -> float:
    return float(distribution.probabilities[distribution.values < value].sum())


def test_redrawn_users_are_all_their_draws() -> None:
    """All 3,125 of five users."""
    groups, sizes = np.array([0.0, 0.5, 1.0]), np.array([2, 2, 1])
    each = np.repeat(groups, sizes)
    means = np.array([np.mean(drawn) for drawn in itertools.product(each, repeat=5)]) - each.mean()
    distribution = bootstrap_mean(groups, sizes, 256)
    assert distribution.probabilities.sum() == pytest.approx(1)
    for value in np.arange(-0.45, 0.6, 0.1):
        # Between the values that means take.
        assert below(distribution, value) == pytest.approx((means < value).mean(), abs=5e-3)


def test_many_redrawn_users_have_a_normal_mean() -> None:
    values = np.random.default_rng(0).random(40_000).round(2)
    groups, sizes = np.unique(values, return_counts=True)
    distribution = bootstrap_mean(groups, sizes, 512)
    for z in (-3, -1, 0, 2):
        value = z * values.std() / 200 + distribution.step / 2
        place = distribution.values[np.searchsorted(distribution.values, value)] - distribution.step / 2
        assert below(distribution, value) == pytest.approx(stats.norm.cdf(place, scale=values.std() / 200), abs=1e-4)


@pytest.mark.parametrize("tilt", [0.01, 0.3, 1.0])
def test_leaning_signs_are_binomial(tilt: float) -> None:
    """Of 40 users of value 1 and 30 of 2.5: both binomial counts, and their distribution is held even far out."""
    x, sizes = np.array([1.0, 2.5]), np.array([40, 30])
    distribution = sign_flip_sum(x, sizes, tilt, 2048)
    chance = 1 / (1 + np.exp(-2 * tilt * x))
    ones, twos = (stats.binom.pmf(np.arange(n + 1), n, p) for n, p in zip(sizes, chance, strict=True))
    sums = np.add.outer(2 * np.arange(41) - 40, 2.5 * (2 * np.arange(31) - 30))
    joint = np.outer(ones, twos)
    for value in (float((sums * joint).sum()) + shift for shift in (-20.25, 0.25, 15.25)):
        assert below(distribution, value) == pytest.approx(joint[sums < value].sum(), abs=0.01)
    assert float(distribution.probabilities @ distribution.values) == pytest.approx(
        float((sums * joint).sum()), abs=0.02
    )


def test_many_leaning_signs_are_normal() -> None:
    x = np.random.default_rng(1).random(3_000)
    distribution = sign_flip_sum(x, np.ones(3_000, dtype=np.int64), 0.02, 2048)
    mean, variance = x @ np.tanh(0.02 * x), (x**2 / np.cosh(0.02 * x) ** 2).sum()
    density = stats.norm.pdf(distribution.values, mean, np.sqrt(variance)) * distribution.step
    assert np.abs(distribution.probabilities - density).max() < 1e-3 * density.max()


def test_every_sum_is_counted() -> None:
    x, sizes = np.array([0.1, 0.2, 0.35, 0.7]), np.array([3, 2, 4, 5])
    signs = 1 - 2 * (np.arange(1 << 14)[:, None] >> np.arange(14) & 1)
    sums = signs @ np.repeat(x, sizes)
    for reached in np.unique(sums[sums > 0].round(9))[::7]:
        assert exact_tail(x, sizes, float(reached)) == pytest.approx((sums > reached - 1e-9).mean(), rel=1e-12)


def test_sums_that_are_too_many_are_not_counted() -> None:
    assert exact_tail(np.sqrt(np.arange(2, 60)), np.ones(58, dtype=np.int64), 9.0) is None
    # Of users with a few commensurable differences they are not.
    known = exact_tail(np.array([0.2, 0.4, 0.6, 0.8, 1.0]), np.full(5, 80), 30.0)
    assert known == pytest.approx(stats.norm.sf(29.9, scale=np.sqrt(80 * 2.2)), rel=0.02)


@pytest.mark.parametrize("dof", [1.0, 30.0, 57_438.0])
def test_points_hold_the_chances_of_a_chi_square(dof: float) -> None:
    """A sum over them is the integral over a normal deviate, that is Student's t."""
    x, sizes = np.ones(1), np.array([100_000])
    distribution = sign_flip_sum(x, sizes, 2 / np.sqrt(100_000), grid_size(dof, 2))
    z = distribution.values / np.sqrt(100_000)
    weights = distribution.probabilities * np.exp(2.0 - 2 * z)
    reached = stats.chi2.cdf(dof * (z / 2) ** 2, dof)
    assert 2 * float((weights * reached)[z > 0].sum()) == pytest.approx(2 * stats.t.sf(2, dof), rel=2e-3)
