"""Intervals and tests against scipy, hand-computed values, and simulated boards whose truth is known."""

from __future__ import annotations

import itertools
import math
import time
import warnings

import numpy as np
import pytest
from scipy import stats

from leaderboards import statistics
from leaderboards.metrics import ndcg
from leaderboards.statistics import (
    Comparison,
    Interval,
    Sample,
    SeedVariance,
    compare,
    compare_samples,
    differences,
    equivalence,
    family,
    interval,
    sample,
    simultaneous_interval,
    standard_error,
)

BOARDS, USERS, SEEDS = 1_000, 400, 5
# Spread of the logit of a hit over users, over users within a model, and over seeds.
USER, OWN, SEED = 1.0, 0.5, 0.15


def skewed(seeds: int, users: int, seed: int = 7, hits: float = 0.4) -> np.ndarray:
    """`[S, U]` NDCG@10 of sparse hits, as on a real test set."""
    rng = np.random.default_rng(seed)
    return np.stack([ndcg(rng.integers(1, 51, users) * (rng.random(users) < hits), 10) for _ in range(seeds)])


def model(rng: np.random.Generator, users: np.ndarray, seed_spread: float) -> np.ndarray:
    """`[S, U]` NDCG@10 of a model: users differ, it has its own strengths among them, and seeds differ."""
    logit = users + rng.normal(0, OWN, len(users)) + rng.normal(0, seed_spread, (SEEDS, 1)) - 2
    hit = rng.random((SEEDS, len(users))) < 1 / (1 + np.exp(-logit))
    return np.where(hit, 1 / np.log2(1 + rng.integers(1, 11, hit.shape)), 0)


def two_models(rng: np.random.Generator, seed_spread: float) -> tuple[np.ndarray, np.ndarray]:
    users = rng.normal(0, USER, USERS)
    return model(rng, users, seed_spread), model(rng, users, seed_spread)


def true_mean(seed_spread: float) -> float:
    logit = np.random.default_rng(5).normal(-2, math.sqrt(USER**2 + OWN**2 + seed_spread**2), 2_000_000)
    return float((1 / (1 + np.exp(-logit))).mean() * np.mean(1 / np.log2(1 + np.arange(1, 11))))


@pytest.mark.slow
@pytest.mark.parametrize("seed_spread", [0.0, SEED])
def test_simulated_boards(seed_spread: float) -> None:
    """Intervals cover the truth in 93-97% of 1,000 boards; of two equal models 3.5-6% are told apart."""
    truth, rng = true_mean(seed_spread), np.random.default_rng(1)
    covered, told_apart, covered_difference = 0, 0, 0
    for board in range(BOARDS):
        first, second = two_models(rng, seed_spread)
        low, high = interval(first, draws=500, seed=board)
        covered += low <= truth <= high
        found = compare(first, second)
        told_apart += found.p <= 0.05
        covered_difference += found.interval.low <= 0 <= found.interval.high
    assert 0.93 <= covered / BOARDS <= 0.97
    assert 0.93 <= covered_difference / BOARDS <= 0.97
    # Rather too careful than too bold: 4.4% of 3,000 boards.
    assert 0.035 <= told_apart / BOARDS <= 0.06


@pytest.mark.slow
def test_a_detectable_difference_is_detected_four_times_in_five() -> None:
    rng = np.random.default_rng(2)
    shift = np.mean([compare(*two_models(rng, SEED)).detectable for _ in range(100)])
    found = []
    for _ in range(400):
        first, second = two_models(rng, SEED)
        found.append(compare(first + shift, second).p <= 0.05)
    assert 0.73 < np.mean(found) < 0.87


def test_one_seed_agrees_with_scipy_and_the_normal_interval() -> None:
    values = skewed(1, 4000)
    low, high = interval(values, draws=4000)
    half = 1.96 * values.std(ddof=1) / np.sqrt(values.size)
    assert [low, high] == pytest.approx([values.mean() - half, values.mean() + half], abs=0.05 * half)
    by_scipy = stats.bootstrap((values[0],), np.mean, n_resamples=2000, method="percentile", rng=1, batch=200)
    assert [low, high] == pytest.approx(list(by_scipy.confidence_interval), abs=0.1 * half)
    assert standard_error(values).value == pytest.approx(values.std(ddof=1) / np.sqrt(values.size))


@pytest.mark.slow
def test_the_variance_of_seeds_gives_students_t() -> None:
    # Seeds shift every user alike, so the error is that over users plus that over seeds, on 4 degrees of freedom.
    users = np.random.default_rng(3).normal(0, 0.1, 1000)
    shifts = np.array([-0.2, -0.1, 0.0, 0.1, 0.2])
    values = users + shifts[:, None]
    by_seeds = shifts.var(ddof=1) / 5
    assert standard_error(values).value == pytest.approx(np.sqrt(users.var(ddof=1) / 1000 + by_seeds), rel=1e-9)
    low, high = interval(values, draws=40_000)
    # Users hardly matter here.
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 4) * np.sqrt(by_seeds), rel=0.03)


@pytest.mark.parametrize("users", [3, 12, 50])
def test_of_users_who_are_all_alike_the_seeds_alone_are_uncertain(users: int) -> None:
    """Ranks 1, 3 and 5, each of all users: nothing is known but three numbers, of which Student's t is the test."""
    seeds = np.array([1.0, 0.5, 0.3868528])
    values, zeros = np.tile(seeds[:, None], (1, users)), np.zeros((3, users))
    by_scipy = stats.ttest_1samp(seeds, 0)
    low, high = by_scipy.confidence_interval()
    assert standard_error(values).value == pytest.approx(stats.sem(seeds))
    assert list(interval(values)) == pytest.approx([0.3868528, 1])
    found = compare(values, zeros)
    assert [found.p, found.effect, found.dof] == pytest.approx([by_scipy.pvalue, 0, 2])
    assert found.interval == pytest.approx([low, high])
    assert simultaneous_interval(sample(values), sample(zeros), found, 0.05) == pytest.approx([low, high])
    (coarse,) = differences([sample(values), sample(zeros)], draws=100_000)
    assert coarse.interval == pytest.approx([low, high], abs=0.05 * (high - low))
    assert -found.interval == compare(zeros, values).interval


def a_few(users: int, few: int, seeds: int) -> np.ndarray:
    """`[S, U]` .5 of the first users, 0 of the others, the same under every seed."""
    return np.tile(np.where(np.arange(users) < few, 0.5, 0.0), (seeds, 1))


@pytest.mark.parametrize("users", [200, 202, 203, 253])
def test_seeds_that_are_all_alike_are_one(users: int) -> None:
    """The variance of equal means is not 0 to the last digit."""
    one, three = (compare(a_few(users, 5, seeds), np.zeros((1, users))) for seeds in (1, 3))
    assert [three.p, *three.interval] == pytest.approx([one.p, *one.interval])
    assert one.p == pytest.approx(2 / 2**5)


@pytest.mark.parametrize("few", [4, 5, 6, 7])
def test_a_little_noise_of_seeds_makes_no_p_smaller(few: int) -> None:
    values = a_few(1_000, few, 3)
    values[0, 0] = 0.43
    assert compare(values, np.zeros((1, 1_000))).p >= 2 / 2**few


def test_where_so_few_users_differ_that_no_signs_would_tell_it_an_interval_holds_zero() -> None:
    for users, shown in ((1, False), (2, False), (5, False), (6, True), (50, True)):
        ones, zeros = np.ones((1, users)), np.zeros((1, users))
        (coarse,) = differences([sample(ones), sample(zeros)])
        for found in (compare(ones, zeros), coarse):
            assert (found.difference, found.interval.low > 0) == (1.0, shown)


@pytest.mark.parametrize(("users", "seeds"), [(1, 1), (4, 3), (253, 1)])
def test_no_hit_says_no_more_than_how_many_were_asked(users: int, seeds: int) -> None:
    for hits in (0, 1):
        low, high = interval(np.full((seeds, users), float(hits)))
        exact = stats.binomtest(hits * users, users).proportion_ci()
        assert (low, high) == pytest.approx((exact.low, exact.high))


def test_variance_of_users_is_not_counted_as_that_of_seeds() -> None:
    """Each seed draws every user anew: the error is that of `[S * U]` independent values, by hand."""
    errors = [standard_error(np.random.default_rng(seed).normal(0, 1, (5, 400))).value for seed in range(200)]
    assert np.mean(np.square(errors)) == pytest.approx(1 / (5 * 400), rel=0.1)


def test_two_seeds_say_nothing_of_seeds() -> None:
    values = np.random.default_rng(0).normal(0, 1, (2, 300)) + np.array([[0.0], [5.0]])
    assert standard_error(values).value == pytest.approx(values.mean(0).std(ddof=1) / np.sqrt(300))
    assert not compare(values, values).methods
    assert compare(np.vstack([values, values]), np.vstack([values[:1], values])).methods


def test_flipped_signs_agree_with_scipy() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.normal(0.4, 1, 12), rng.normal(0, 1, 12)
    found = compare(first[None], second[None])
    exact = stats.permutation_test(
        (first, second),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
    )
    assert found.p == pytest.approx(exact.pvalue, rel=1e-9)
    assert found.difference == pytest.approx((first - second).mean())
    assert found.effect == pytest.approx((first - second).mean() / (first - second).std(ddof=1))


@pytest.mark.parametrize("plus", [201, 210, 225, 250, 300, 380, 400])
def test_flipped_signs_of_equal_differences_are_a_binomial_test(plus: int) -> None:
    """From p = .96 down to 1e-120."""
    differences = np.where(np.arange(400) < plus, 0.2, -0.2)
    found = compare(differences[None], np.zeros((1, 400)))
    assert found.p == pytest.approx(stats.binomtest(plus, 400).pvalue, rel=1e-6)


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.6, 0.9])
def test_flipped_signs_are_all_sign_patterns(shift: float) -> None:
    """All 65,536 of 16 users, many of whose sums tie with the one that was found."""
    differences = np.round(np.random.default_rng(3).normal(shift, 1, 16), 1)
    found = compare(differences[None], np.zeros((1, 16)))
    signs = 1 - 2 * (np.arange(1 << 16)[:, None] >> np.arange(16) & 1)
    sums = np.abs(signs @ differences)
    assert found.p == pytest.approx((sums > abs(differences.sum()) - 1e-9).mean(), rel=1e-9)


@pytest.mark.parametrize("apart", [0.002, 0.01, 0.02, 0.05])
def test_the_variance_of_seeds_in_the_test_gives_students_t(apart: float) -> None:
    """Of so many users the mean is normal: with the seeds' part it is a Student's t."""
    first, second = skewed(3, 6000, 1), skewed(3, 6000, 2)
    shifts = np.array([[-0.004], [0.0], [0.006]])
    first, second = first + shifts + apart, second - shifts
    found, differences = compare(first, second), first.mean(0) - second.mean(0)
    assert 3 < found.dof < 30
    # Flipped differences spread about 0, not about their mean.
    error = found.standard_error * math.sqrt((differences**2).mean()) / differences.std(ddof=1)
    by_hand = 2 * stats.t.sf(abs(found.difference) / error, found.dof)
    assert found.p == pytest.approx(by_hand, rel=0.05)


@pytest.mark.parametrize("shift", [0.0, 0.2, 0.5])
def test_the_variance_of_seeds_is_added_to_every_sign_pattern(shift: float) -> None:
    """All 16,384 of 14 users, each inflated by the variance of three seeds."""
    rng = np.random.default_rng(6)
    first = rng.normal(shift, 1, 14) + np.array([[-1.2], [0.0], [1.6]])
    found = compare(first, np.zeros((1, 14)))
    differences = first.mean(0)
    signs = 1 - 2 * (np.arange(1 << 14)[:, None] >> np.arange(14) & 1)
    error = statistics._standard_error(differences, statistics._seed_variance(first))
    assert 1 < error.dof < 13
    by_hand = error.tail_probabilities(np.abs(signs @ differences), abs(differences.sum())).mean()
    assert found.p == pytest.approx(by_hand, rel=1e-3)


@pytest.mark.parametrize("seeds", [1, 8])
def test_the_interval_of_a_difference_is_that_of_many_draws(seeds: int) -> None:
    first, second = skewed(seeds, 300), skewed(seeds, 300, 8, 0.3)
    found = compare(first, second)
    variance = statistics._seed_variance(first) + statistics._seed_variance(second)
    apart = statistics.Sample(first.mean(0) - second.mean(0), variance, seeds)
    drawn = statistics.interval_of(apart, draws=100_000)
    assert list(found.interval) == pytest.approx(list(drawn), abs=0.05 * found.standard_error)


def test_differences_of_many_rows_are_those_of_each_pair() -> None:
    rows = [skewed(seeds, 600, 20 + seeds, hits) for seeds, hits in ((3, 0.4), (5, 0.3), (1, 0.2))]
    found = differences([sample(row) for row in rows], draws=4_000)
    for told, (one, other) in zip(found, itertools.combinations(rows, 2), strict=True):
        alone = compare(one, other)
        assert told.difference == pytest.approx(alone.difference)
        assert list(told.interval) == pytest.approx(list(alone.interval), abs=0.2 * alone.standard_error)


def test_differences_of_many_users_cost_what_their_distinct_values_do() -> None:
    rows = [sample(skewed(1, 200_000, seed, 0.05)) for seed in (1, 2)]
    start = time.process_time()
    assert differences(rows[:1]) == []
    ((difference, bounds),) = differences(rows)
    assert bounds.low < difference < bounds.high
    assert time.process_time() - start < 1


def test_a_board_of_real_size_takes_no_time() -> None:
    """A pair of rows of 57,439 users took a second of draws."""
    first, second = (skewed(5, 57_439, seed, 0.05) for seed in (1, 2))
    start = time.process_time()
    compare(first, second)
    assert time.process_time() - start < 0.3


def test_many_users_agree_with_the_paired_t_test() -> None:
    first, second = skewed(1, 5000, 1, 0.4), skewed(1, 5000, 2, 0.38)
    found, by_scipy = compare(first, second), stats.ttest_rel(first[0], second[0])
    assert found.p == pytest.approx(by_scipy.pvalue, abs=0.01)
    assert list(found.interval) == pytest.approx(list(by_scipy.confidence_interval()), abs=0.0005)
    assert found.standard_error == pytest.approx((first - second).std(ddof=1) / np.sqrt(5000))
    assert found.dof == 4999
    assert found.detectable == pytest.approx((1.9604 + 0.8418) * found.standard_error, rel=1e-3)


def test_users_in_another_order_change_nothing() -> None:
    first, second = skewed(3, 500, 1), skewed(3, 500, 2)
    order = np.random.default_rng(0).permutation(500)
    one, other = compare(first, second), compare(first[:, order], second[:, order])
    assert one.p == pytest.approx(other.p)
    assert one.interval == pytest.approx(other.interval)


@pytest.mark.parametrize("users", [2, 3, 7, 40])
def test_few_users_and_few_values_are_compared_all_the_same(users: int) -> None:
    rng = np.random.default_rng(users)
    for seeds in (1, 3, 5) * 20:
        first, second = (rng.choice([0.0, 0.3, 1.0], (seeds, users), p=[0.8, 0.15, 0.05]) for _ in range(2))
        found = compare(first, second)
        assert 0 <= found.p <= 1
        assert found.interval.low <= found.difference <= found.interval.high


def test_a_row_beside_itself_with_its_seeds_in_another_order() -> None:
    values = skewed(5, 300)
    assert compare(values, values[::-1]).p == 1


def test_a_row_beside_itself() -> None:
    values = skewed(5, 300)
    found = compare(values, values)
    assert (found.difference, found.p, found.effect) == (0, 1, 0)


def test_welch_by_hand() -> None:
    """Users differ by 0, 0, 6, 6 and seeds by -1, 0, 1; the table is their sum, so nothing is left beside them."""
    values = np.array([0.0, 0.0, 6.0, 6.0]) + np.array([[-1.0], [0.0], [1.0]])
    # Variance over users 12 of 4; over seeds 1 of 3, with an uncertainty of 2 (1/3)^2 / (3 + 1).
    assert statistics._seed_variance(values) == pytest.approx((1 / 3, 1 / 18))
    size, dof, inflation = statistics._standard_error(values.mean(0), statistics._seed_variance(values))
    assert size == pytest.approx(math.sqrt(3 + 1 / 3))
    assert inflation == pytest.approx(math.sqrt((3 + 1 / 3) / 3))
    # 2 (10/3)^2 / (1/18) - 2 = 398, but no more than the users leave.
    assert dof == 3
    both = statistics.SeedVariance(0.5, 0.1) + statistics.SeedVariance(-0.1, 0.2)
    assert both == pytest.approx((0.4, 0.3))
    assert statistics._standard_error(np.arange(1000.0), both).dof == pytest.approx(999)
    # Of one row whose variance is that of its seeds alone: as many as there are seeds, less one.
    alone = statistics._seed_variance(np.zeros((5, 40)) + np.array([[0.0], [1.0], [2.0], [3.0], [4.0]]))
    assert statistics._standard_error(np.zeros(40), alone).dof == pytest.approx(4)


def three_rows(rng: np.random.Generator) -> list[statistics.Sample]:
    """Rows of few or many users, of one seed or several, sparse or not, often far apart."""
    users, shift = int(rng.choice([2, 8, 40, 300])), rng.choice([0.0, 0.02, 0.1])
    rows = []
    for place in range(3):
        seeds, hits = int(rng.choice([1, 3, 5])), rng.choice([0.02, 0.3, 0.9])
        spread = rng.choice([0.0, 0.05]) * rng.normal(size=(seeds, 1))
        gains = rng.choice([0.3, 0.5, 1.0], (seeds, users)) * (rng.random((seeds, users)) < hits)
        rows.append(sample(gains + rng.normal(0, 0.02, users) + spread + place * shift))
    return rows


@pytest.mark.slow
def test_an_interval_holds_no_zero_just_where_p_is_below_five_percent() -> None:
    """Of the 225 pairs of 75 random boards."""
    rng, differing = np.random.default_rng(9), 0
    for _ in range(75):
        rows = three_rows(rng)
        common = family(rows, draws=500)
        for one, other in itertools.combinations(rows, 2):
            found = statistics.compare_samples(one, other)
            low, high = simultaneous_interval(one, other, found, common.level)
            differs = common.adjusted(found.p) < statistics.SIGNIFICANT
            assert differs == (low > 0 or high < 0)
            assert found.p <= common.adjusted(found.p) <= 1
            assert (low + high) / 2 == pytest.approx(found.difference)
            differing += differs
    assert 50 < differing < 175


@pytest.mark.parametrize("seeds", [1, 5])
def test_an_end_of_a_simultaneous_interval_is_where_the_test_is_at_its_level(seeds: int) -> None:
    """The difference is p's own threshold: a sum of signs that far out has just the probability `level`."""
    one, other = sample(skewed(seeds, 300)), sample(skewed(seeds, 300, 8, 0.3))
    found, level = statistics.compare_samples(one, other), 0.01
    low, high = simultaneous_interval(one, other, found, level)
    differences = (one.per_user - other.per_user).round(12)
    rng = np.random.default_rng(0)
    signs = 2 * rng.integers(0, 2, (50_000, 300), dtype=np.int8) - 1
    error = statistics._standard_error(differences, one.seed_variance + other.seed_variance)
    drawn = signs @ differences / 300
    if seeds > 1:
        drawn *= error.inflation * np.sqrt(error.dof / rng.chisquare(error.dof, len(drawn)))
    beyond = (np.abs(drawn) >= (high - low) / 2).mean()
    assert beyond == pytest.approx(level, abs=4 * math.sqrt(level / 50_000))


def test_of_two_rows_p_is_not_adjusted_and_more_rows_are_at_most_bonferroni() -> None:
    rng = np.random.default_rng(3)
    rows = [sample(rng.normal(0, 1, (1, 400))) for _ in range(8)]
    pair = family(rows[:2])
    for p in (0.001, 0.03, 0.049, 0.051, 0.5):
        assert pair.adjusted(p) == pytest.approx(p, abs=0.006)
        assert (pair.adjusted(p) < 0.05) == (p < pair.level)
    assert pair.level == pytest.approx(0.05, abs=0.002)
    # Tukey's studentised range of 8 independent means of one variance, many degrees of freedom.
    eight = family(rows)
    assert eight.level == pytest.approx(2 * stats.norm.sf(4.2863 / math.sqrt(2)), rel=0.04)
    assert eight.adjusted(0.01) == pytest.approx(stats.studentized_range.sf(2.5758 * math.sqrt(2), 8, 1e4), abs=0.005)
    assert eight.adjusted(1e-30) < 1e-4


def test_rows_of_the_same_ranks_are_no_tests() -> None:
    rows = [sample(skewed(1, 300)), sample(skewed(1, 300, 8))]
    assert family([*rows, *rows, *rows]).level == pytest.approx(family(rows).level, rel=0.02)
    alike = family([rows[0], rows[0]])
    assert alike.adjusted(1.0) == 1
    assert alike.level == statistics.SIGNIFICANT


@pytest.mark.slow
def test_a_board_of_equal_models_is_told_apart_once_in_twenty() -> None:
    """Six equal models on 200 boards: any pair that differs makes a board wrong, any interval without 0 the same."""
    rng, wrong = np.random.default_rng(4), 0
    for _ in range(200):
        users = rng.normal(0, USER, USERS)
        rows = [sample(model(rng, users, SEED)) for _ in range(6)]
        common = family(rows, draws=4_000)
        found = [statistics.compare_samples(one, other).p for one, other in itertools.combinations(rows, 2)]
        wrong += min(found) < common.level
    assert 0.01 <= wrong / 200 <= 0.09


def shown(difference: float, error: float, dof: float) -> Comparison:
    return Comparison(difference, Interval(0, 0), 1, 0, 0, error, dof, True)


def test_equivalence_is_the_larger_of_two_one_sided_tests() -> None:
    values = np.random.default_rng(1).normal(0.1, 1, 200)
    found, margin = compare(values[None], np.zeros((1, 200))), 0.3
    below = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    above = stats.ttest_1samp(values, margin, alternative="less").pvalue
    assert equivalence(found, margin) == pytest.approx(max(below, above))
    assert equivalence(shown(0.0, 1.0, 1e9), 1.645) == pytest.approx(0.05, abs=1e-4)
    assert equivalence(shown(-2.0, 1.0, 1e9), 1.0) > 0.5
    assert (equivalence(shown(0.1, 0.0, 1), 0.2), equivalence(shown(0.2, 0.0, 1), 0.2)) == (0, 1)
    with pytest.raises(ValueError, match="margin of equivalence is 0"):
        equivalence(found, 0)


def test_blocks_give_a_full_set_of_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    first = skewed(2, 200)
    whole = interval(first)
    monkeypatch.setattr(statistics, "BLOCK_CELLS", 100)
    assert interval(first) == pytest.approx(whole, abs=0.1 * (whole.high - whole.low))


def test_interval_is_deterministic_and_grows_with_its_level() -> None:
    values = skewed(3, 500)
    narrow, wide = interval(values, level=0.5), interval(values, level=0.99)
    assert interval(values) == interval(values)
    assert wide.low < narrow.low < values.mean() < narrow.high < wide.high


def test_bad_values() -> None:
    with pytest.raises(ValueError, match=r"shape \(3,\); expected \[seeds, users\]"):
        interval(np.ones(3))
    with pytest.raises(ValueError, match="level of an interval is 95"):
        interval(np.ones((1, 3)), level=95)
    with pytest.raises(ValueError, match="have 3 and 4 users; expected the same users"):
        compare(np.ones((1, 3)), np.ones((1, 4)))


def test_one_user_alone() -> None:
    """Nothing is known of how users differ, and nothing is said of it, not even on the console."""
    rows = [sample(np.array([[value]])) for value in (0.0, 1.0, 0.5)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        common = family(rows)
        found = compare_samples(rows[1], rows[0])
    assert (common.adjusted(found.p), found.p, found.difference) == (1.0, 1.0, 1.0)


def test_the_variance_of_seeds_is_among_what_sets_a_board_apart_by_chance() -> None:
    """One row whose seeds differ much moves both of its pairs alike: of three tests, two are left."""
    rng, sure = np.random.default_rng(3), SeedVariance(0.0, 0.0)
    rows = [Sample(rng.normal(0, 1, 400), sure, 1) for _ in range(2)]
    unsure = Sample(rng.normal(0, 1, 400), SeedVariance(10.0, 1.0), 3)
    assert family([unsure, *rows]).level == pytest.approx(1 - math.sqrt(0.95), rel=0.05)


def test_no_p_is_zero() -> None:
    rows = [sample(np.random.default_rng(seed).normal(0, 1, (1, 400))) for seed in range(3)]
    assert family(rows, draws=999).adjusted(1e-300) == 1 / 1_000


def test_of_the_users_variance_half_is_left_at_least() -> None:
    """0, 1, 2, 3 vary by 5/3, their mean by 5/12; a component of seeds that came out far below 0 takes half of it."""
    found = statistics._standard_error(np.arange(4.0), SeedVariance(-100.0, 0.1))
    assert found.value**2 == pytest.approx(5 / 12 / 2)


def test_of_methods_is_told_only_where_both_rows_have_seeds_enough() -> None:
    values = np.random.default_rng(0).normal(0, 1, (3, 300))
    assert not compare(values, values[:1]).methods
    assert not compare(values[:2], values).methods
