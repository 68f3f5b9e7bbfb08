"""Intervals, paired tests and their power, from per-user values alone.

A row's mean is uncertain twice: its users are a sample, and so are its seeds. Both are random effects of a crossed
table without repetition, `value[s, u] = mean + user[u] + seed[s] + rest[s, u]`, whose variances the analysis of
variance separates, so that the variance of users within a seed is not counted among seeds again. Users are many: they
are resampled, by a bootstrap for intervals, by flipped signs for tests. Where a verdict hangs on it, the distribution
of all resamples is computed (`resampling`), so that none is left to draws. Drawn are the intervals of rows and slices,
and how many tests those of one board amount to, for they are correlated (`Family`). Seeds are few, and resampling three
or five gives intervals far too narrow: what comes of users is inflated to the variance of both, with the tails of
Student's t for the degrees of freedom that the seeds leave (Welch 1947). Below `SEEDS_FOR_VARIANCE` seeds nothing is
known of their variance: intervals and tests then speak of these weights, not of the method.

Shape letters: `U` users, `S` seeds, `D` draws, `G` groups of users with equal values.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from leaderboards import resampling

# A variance over fewer seeds says nothing.
SEEDS_FOR_VARIANCE = 3
# A difference is said to be one where p, adjusted for being one of several, is below.
SIGNIFICANT = 0.05
# Draws of the largest of all standardised differences of a board: p = .05 is known to within .0005.
FAMILY_DRAWS = 200_000
# Draws at a time: those of all rows then stay near the processor.
FAMILY_BLOCK = 1 << 10
# Added to the correlation of a row with itself, so that rows of the same ranks have a Cholesky factor.
RIDGE = 1e-9
# Chance of finding an effect of the size that is called detectable.
POWER = 0.8
# Cells of one block of weights: 32 MiB of int64, however many users and draws there are.
BLOCK_CELLS = 1 << 22
# Left outside an interval of a difference at either end; and how many standard deviations off that is, at least.
TAIL, NORMAL = 0.025, 1.95
# Digits that a mean over seeds may lose.
ROUNDING = 1e-12
# Values of a distribution that is cut off at a step.
STEPS = 1 << 12

Values = NDArray[np.float64]


class Interval(NamedTuple):
    low: float
    high: float

    def __neg__(self) -> Interval:
        return Interval(-self.high, -self.low)


class SeedVariance(NamedTuple):
    """The variance component of seeds in a mean over users and seeds, estimated without bias: it may be below 0.

    Attributes:
        estimate: of the mean's variance, beyond what the users' means over the seeds tell.
        sampling_variance: of that estimate; 0 where there are too few seeds for one.
    """

    estimate: float
    sampling_variance: float

    @property
    def varies(self) -> bool:
        """Whether there are seeds enough for an estimate, and their means differ."""
        return self.sampling_variance > 0

    def __add__(self, other: SeedVariance) -> SeedVariance:  # type: ignore[override]
        """Of the difference of two independent means."""
        return SeedVariance(self.estimate + other.estimate, self.sampling_variance + other.sampling_variance)


class StandardError(NamedTuple):
    """Standard error of a mean.

    Attributes:
        value: in the metric's unit.
        dof: degrees of freedom.
        inflation: how much larger it is than the users' part of it; infinite where all users are alike, and seeds not.
    """

    value: float
    dof: float
    inflation: float

    @property
    def is_of_seeds_alone(self) -> bool:
        return math.isinf(self.inflation)

    def half_width(self, level: float) -> float:
        """What Student's t of a two-sided test at `level` amounts to."""
        return -float(special.stdtrit(self.dof, level / 2)) * self.value

    def tail_probabilities(self, deviations: Values, threshold: float) -> Values:
        """Of each deviation over users, that it is beyond `threshold` once inflated to users and seeds."""
        squares = self.dof * (self.inflation * deviations / threshold) ** 2
        return np.asarray(special.gammainc(self.dof / 2, squares / 2))  # chi-square's distribution function

    def inflate(self, drawn: Values, seeds: bool, rng: np.random.Generator) -> Values:
        """Deviations drawn over users alone, `[D]`, inflated to users and seeds; as they are without `seeds`."""
        if not seeds:
            return drawn
        if self.is_of_seeds_alone:
            return self.value * rng.standard_t(self.dof, len(drawn))
        return drawn * self.inflation * np.sqrt(self.dof / rng.chisquare(self.dof, len(drawn)))


class Comparison(NamedTuple):
    """What sets two rows apart that were graded on the same users.

    Attributes:
        difference: mean of the first less that of the second.
        interval: 95%, of the difference.
        p: of the two-sided test that there is none.
        effect: Cohen's d: the difference over the standard deviation of the users' differences.
        detectable: the smallest true difference that this test finds with a chance of 80%, at 5% significance.
        standard_error: of the difference.
        dof: its degrees of freedom.
        methods: the variance of seeds is counted, so this is about methods; else about these trained weights alone.
    """

    difference: float
    interval: Interval
    p: float
    effect: float
    detectable: float
    standard_error: float
    dof: float
    methods: bool


class Sample(NamedTuple):
    """Attributes: per_user, `[U]` means over the seeds of a row; seed_variance; seeds, how many there are."""

    per_user: Values
    seed_variance: SeedVariance
    seeds: int


class Difference(NamedTuple):
    """Attributes: difference, of the mean of one row less that of another; interval, 95%."""

    difference: float
    interval: Interval


def interval(
    per_seed_values: NDArray[np.floating[Any]], draws: int = 2000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Interval of the mean from a two-level bootstrap: of the users, and of the seeds from `SEEDS_FOR_VARIANCE` on.

    Users whose mean over the seeds is the same are interchangeable, so their joint weight is drawn at once. That is
    the same distribution as redrawing the users one by one, at the price of the number of distinct values.

    Args:
        per_seed_values: `[S, U]` one metric per seed and user, between 0 and 1, users aligned over seeds.
        draws: number of bootstrap means.
        level: share of the bootstrap means inside the interval.
        seed: of the draws; the same values give the same interval.

    Raises:
        ValueError: the values have another shape or nothing in them, or `level` is not between 0 and 1.
    """
    values = _table(per_seed_values)
    if not 0 < level < 1:
        raise ValueError(f"level of an interval is {level}; expected a share between 0 and 1")
    lowest, highest = float(values.min()), float(values.max())
    if lowest == highest:
        return _of_one_value(lowest, values.shape[1], level)
    low, high = interval_of(sample(values), draws, level, seed)
    # Inflation knows no bounds, but no mean of a metric lies outside its values.
    return Interval(max(low, lowest), min(high, highest))


def interval_of(of: Sample, draws: int = 2000, level: float = 0.95, seed: int = 0) -> Interval:
    """`interval` of what a sample tells, which may be below 0 or above 1."""
    tail, mean = (1 - level) / 2, float(of.per_user.mean())
    rng, error = np.random.default_rng(seed), _standard_error(of.per_user, of.seed_variance)
    deviations = _bootstrap_means(of.per_user, draws, rng) - mean
    low, high = np.quantile(mean + error.inflate(deviations, of.seed_variance.varies, rng), [tail, 1 - tail])
    return Interval(float(low), float(high))


def _of_one_value(value: float, users: int, level: float) -> Interval:
    """Where all users have one value, some others may have another one between 0 and 1: so large a share of them that
    there would seldom be none among so many (Clopper & Pearson 1934)."""
    others = 1 - ((1 - level) / 2) ** (1 / users)
    return Interval(value * (1 - others), value + others * (1 - value))


def standard_error(per_seed_values: NDArray[np.floating[Any]]) -> StandardError:
    """Of the mean of `[S, U]` values: from users, and from seeds from `SEEDS_FOR_VARIANCE` on."""
    values = _table(per_seed_values)
    return _standard_error(values.mean(0), _seed_variance(values))


def compare(first: NDArray[np.floating[Any]], second: NDArray[np.floating[Any]]) -> Comparison:
    """Compares two rows on the same users; seeds are not paired, and may be of different number.

    The test flips the signs of the users' differences (Fisher's randomisation test, as scipy's `permutation_test` with
    `permutation_type="samples"` does) and adds the variance of seeds. The distribution is computed, no signs are drawn.

    Args:
        first: `[S, U]` one metric per seed and user.
        second: `[S', U]` the same of the other row.

    Raises:
        ValueError: the values have another shape, nothing in them, or different numbers of users.
    """
    return compare_samples(sample(first), sample(second))


def sample(per_seed_values: NDArray[np.floating[Any]]) -> Sample:
    """What comparisons need of `[S, U]` values of a row.

    Raises:
        ValueError: the values have another shape or nothing in them.
    """
    values = _table(per_seed_values)
    return Sample(values.mean(0), _seed_variance(values), len(values))


def compare_samples(first: Sample, second: Sample) -> Comparison:
    """`compare` of two rows.

    Raises:
        ValueError: they have different numbers of users.
    """
    users = [len(each.per_user) for each in (first, second)]
    if users[0] != users[1]:
        raise ValueError(f"the rows to compare have {users[0]} and {users[1]} users; expected the same users")
    differences = first.per_user - second.per_user
    seed_variance = first.seed_variance + second.seed_variance
    error, difference = _standard_error(differences, seed_variance), float(differences.mean())
    spread = 0.0 if _alike(differences) else float(differences.std(ddof=1))
    bounds = _difference_interval(differences, error, seed_variance.varies)
    return Comparison(
        difference=difference,
        interval=_with_zero(bounds, _differing(differences)),
        p=_sign_flip_p(differences, error, seed_variance.varies),
        effect=difference / spread if spread else 0.0,
        detectable=detectable(error.value, error.dof, SIGNIFICANT),
        standard_error=error.value,
        dof=error.dof,
        methods=min(first.seeds, second.seeds) >= SEEDS_FOR_VARIANCE,
    )


def differences(samples: Sequence[Sample], draws: int = 1_000, seed: int = 0) -> list[Difference]:
    """Of every two rows, in the order of `itertools.combinations`: users are redrawn once for all, by a bootstrap.

    Coarser than `compare`, and many times as fast where rows are many.

    Args:
        samples: of rows on the same users.
        draws: of the bootstrap.
        seed: of the draws.
    """
    if len(samples) < 2:
        return []
    rng, means = np.random.default_rng(seed), np.stack([each.per_user for each in samples])
    users, left_out = means.shape[1], max(1, int(TAIL * draws))
    # Users who are alike in all rows are drawn at once.
    groups, sizes = np.unique(means, axis=1, return_counts=True)
    drawn = np.concatenate(
        [rng.multinomial(users, sizes / users, size=rows) @ groups.T for rows in _blocks(draws, len(sizes))]
    )
    off, found = np.ascontiguousarray((drawn / users - means.mean(1)).T), list[Difference]()
    for (first, one), (second, other) in itertools.combinations(enumerate(samples), 2):
        seed_variance, apart = one.seed_variance + other.seed_variance, one.per_user - other.per_user
        error, mean = _standard_error(apart, seed_variance), float(apart.mean())
        far = error.inflate(off[first] - off[second], seed_variance.varies, rng)
        low, high = np.partition(far, [left_out - 1, draws - left_out])[[left_out - 1, draws - left_out]]
        bounds = Interval(mean + float(low), mean + float(high))
        found.append(Difference(mean, _with_zero(bounds, _differing(apart))))
    return found


def detectable(standard_error: float, dof: float, level: float) -> float:
    """The smallest true difference that a two-sided test finds with a chance of 80%.

    Args:
        standard_error: of the difference.
        dof: its degrees of freedom.
        level: p below which the test says that there is one.
    """
    return float(special.stdtrit(dof, POWER) - special.stdtrit(dof, level / 2)) * standard_error


@dataclass(frozen=True)
class Family:
    """How far chance alone sets the rows of a board apart: what p of one pair, the most extreme of all, amounts to.

    Single-step adjustment of the smallest of correlated p values (Westfall & Young 1993, *Resampling-based multiple
    testing*, 2.3; by a multivariate normal as in Conneely & Boehnke 2007, Am. J. Hum. Genet. 81). Every pair is held
    against one and the same threshold, so that each adjusted p has an interval that is its dual, and all intervals of
    the board hold their true differences at once with a chance of 95%. All pairs are counted, whichever a table shows,
    for the best row and the best floor are chosen by looking at the data.

    Attributes:
        maxima: `[D]` rising: the largest absolute value of all pairs' standardised differences, by draws from a normal
            distribution that has the covariance of the rows' means.
    """

    maxima: Values

    @property
    def level(self) -> float:
        """p below which a pair differs: `adjusted(p) < SIGNIFICANT` for just these."""
        # So many draws, and no more, lie at or above it where the adjusted p is `SIGNIFICANT`.
        beyond = math.ceil(SIGNIFICANT * len(self.maxima))
        return min(SIGNIFICANT, 2 * float(special.ndtr(-self.maxima[-beyond])))

    def adjusted(self, p: float) -> float:
        """p of a pair, adjusted for being one of all pairs of the board."""
        if p < self.level:
            # No rounding of a threshold may contradict `level`.
            return min(max(p, self._share_beyond(p)), math.nextafter(SIGNIFICANT, 0))
        return max(p, self._share_beyond(p), SIGNIFICANT)

    def _share_beyond(self, p: float) -> float:
        beyond = len(self.maxima) - float(np.searchsorted(self.maxima, -special.ndtri(p / 2)))
        # What was found is one more draw (Davison & Hinkley 1997, 4.2): no p is 0.
        return (beyond + 1) / (len(self.maxima) + 1)


def family(samples: Sequence[Sample], draws: int = FAMILY_DRAWS, seed: int = 0) -> Family:
    """Of all pairs of some rows.

    Args:
        samples: of at least two rows on the same users.
        draws, seed: of the draws; the same rows give the same.
    """
    means = np.stack([each.per_user for each in samples])
    rows, users = means.shape
    of_seeds = [max(0.0, each.seed_variance.estimate) for each in samples]
    # Of one user nothing tells how users differ.
    covariance = np.atleast_2d(np.cov(means, ddof=min(1, users - 1))) / users + np.diag(of_seeds)
    variances = covariance.diagonal()
    scale = np.where(variances > 0, np.sqrt(variances), 1)
    # A factor that is unique, where an eigenvector's sign is each processor's own.
    factor = np.linalg.cholesky(covariance / np.outer(scale, scale) + RIDGE * np.eye(rows))
    drawn = np.random.default_rng(seed).standard_normal((draws, rows)) @ factor.T * scale
    of_both = variances[:, None] + variances
    variance = of_both - 2 * covariance
    # Rows of the same ranks are no test.
    deviations = np.sqrt(np.where(variance > RIDGE * of_both, variance, np.inf))
    blocks = (drawn[start : start + FAMILY_BLOCK] for start in range(0, draws, FAMILY_BLOCK))
    maxima = np.concatenate([_furthest_apart(np.ascontiguousarray(block.T), deviations) for block in blocks])
    maxima.sort()
    return Family(maxima)


def _furthest_apart(drawn: Values, deviations: Values) -> Values:
    """`[D]` the largest of all pairs' differences, each in its own standard deviations.

    Args:
        drawn: `[R, D]` of R rows.
        deviations: `[R, R]` of the difference of two of them.
    """
    largest = np.zeros(drawn.shape[1])
    for row in range(len(drawn) - 1):
        apart = np.abs(drawn[row + 1 :] - drawn[row])
        apart /= deviations[row, row + 1 :, None]
        np.maximum(largest, apart.max(0), out=largest)
    return largest


def simultaneous_interval(first: Sample, second: Sample, found: Comparison, level: float) -> Interval:
    """The differences that the test of `compare_samples` does not refute at `level`: 0 is outside where p is below it.

    The threshold is that of the test itself: flipped signs of the differences as they are, so the wider the further
    their mean is from 0, in proportion by half the square of the effect.

    Args:
        first, second: two rows.
        found: `compare_samples` of them.
        level: `Family.level` of their board.
    """
    differences = first.per_user - second.per_user
    seed_variance = first.seed_variance + second.seed_variance
    half = _sign_flip_threshold(differences, _standard_error(differences, seed_variance), seed_variance.varies, level)
    apart = abs(found.difference)
    # Digits lost on two ways to one number do not make them contradict each other.
    half = min(half, apart * (1 - 1e-9)) if found.p < level else max(half, apart)
    return Interval(found.difference - half, found.difference + half)


def equivalence(found: Comparison, margin: float) -> float:
    """p of the hypothesis that the true difference is `margin` or more either way (two one-sided tests, TOST).

    Raises:
        ValueError: the margin is not above 0.
    """
    if not margin > 0:
        raise ValueError(f"margin of equivalence is {margin}; expected more than 0")
    if not found.standard_error:
        return float(abs(found.difference) >= margin)
    return float(special.stdtr(found.dof, (abs(found.difference) - margin) / found.standard_error))


def _table(values: NDArray[np.floating[Any]]) -> Values:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or not table.size:
        raise ValueError(f"values have shape {table.shape}; expected [seeds, users], neither 0")
    return table


def _seed_variance(values: Values) -> SeedVariance:
    """Of `values` `[S, U]`: the mean square of seeds less that of the rest."""
    seeds, users = values.shape
    if seeds < SEEDS_FOR_VARIANCE or users < 2:
        return SeedVariance(0.0, 0.0)
    by_seed, by_user = values.mean(1), values.mean(0)
    rest = values - by_seed[:, None] - by_user + values.mean()
    explained = float((rest**2).sum()) / ((seeds - 1) * (users - 1)) / users
    spread = 0.0 if _alike(by_seed) else float(by_seed.round(12).var(ddof=1))
    # The square of an estimated variance is too large by the factor 1 + 2 / (seeds - 1).
    return SeedVariance((spread - explained) / seeds, 2 * (spread / seeds) ** 2 / (seeds + 1))


def _standard_error(per_user: Values, seed_variance: SeedVariance) -> StandardError:
    """Of the mean of `per_user` `[U]`, means over seeds."""
    users = len(per_user)
    by_users = 0.0 if _alike(per_user) else float(per_user.var(ddof=1)) / users
    # The rest's part of `by_users` is the most that can be too much, and seldom half of it.
    both = max(by_users + seed_variance.estimate, by_users / 2)
    dof = 2 * both**2 / seed_variance.sampling_variance - 2 if seed_variance.varies else math.inf
    dof = max(1.0, min(dof, users - 1.0))
    inflation = math.sqrt(both / by_users) if by_users else math.inf if both else 1.0
    return StandardError(math.sqrt(both), dof, inflation)


def _alike(values: Values) -> bool:
    """Whether all are one value, but for the last digits of a mean."""
    return not np.ptp(values.round(12))


def _bootstrap_means(per_user: Values, draws: int, rng: np.random.Generator) -> Values:
    """`[D]` means over users that are drawn with replacement."""
    groups, sizes = _groups(per_user)
    users = len(per_user)
    return np.concatenate(
        [rng.multinomial(users, sizes / users, size=rows) @ groups / users for rows in _blocks(draws, len(groups))]
    )


def _difference_interval(differences: Values, error: StandardError, seeds: bool) -> Interval:
    """95% of where the mean of `differences` `[U]` lies when users are redrawn, inflated by the variance of seeds."""
    mean, (groups, sizes) = float(differences.mean()), _groups(differences)
    if len(groups) == 1:
        return Interval(mean - error.half_width(2 * TAIL), mean + error.half_width(2 * TAIL))
    resampled = resampling.bootstrap_mean(groups, sizes, resampling.grid_size(error.dof, NORMAL))
    below = np.maximum.accumulate(resampled.probabilities.cumsum())
    if not seeds:
        low, high = np.interp([TAIL, 1 - TAIL], below, resampled.values + resampled.step / 2)
        return Interval(mean + float(low), mean + float(high))
    widest = 4 * float(special.stdtrit(error.dof, 1 - TAIL)) * error.value

    def tail(value: float) -> float:
        """Probability of a deviation as far as `value` or further on its side of 0."""
        side = resampled.values * value > 0
        beyond = error.tail_probabilities(np.abs(resampled.values[side]), abs(value))
        return float(resampled.probabilities[side] @ beyond)

    low, high = (
        optimize.brentq(lambda value: tail(value) - TAIL, end / 1e6, end, xtol=widest / 1e6)
        for end in (-widest, widest)
    )
    return Interval(mean + float(low), mean + float(high))


def _differing(differences: Values) -> int:
    """How many are not 0, but for the last digits of a mean."""
    return int(np.count_nonzero(np.abs(differences) > ROUNDING))


def _with_zero(bounds: Interval, differing: int) -> Interval:
    """Bounds of a difference, wide enough for none where so few users differ that no signs of theirs would tell it."""
    if _least_p(differing) < SIGNIFICANT:
        return bounds
    return Interval(min(bounds.low, 0.0), max(bounds.high, 0.0))


def _sign_flip_p(differences: Values, error: StandardError, seeds: bool) -> float:
    """p of the sum of `differences`: how often one at least as far from 0 comes out where each user's sign is drawn."""
    # Seeds in another order give other last digits.
    exact = differences.round(12)
    observed, differing = abs(float(exact.sum())), np.abs(exact[exact != 0])
    if not observed:
        return 1.0
    if error.is_of_seeds_alone:
        return 2 * float(special.stdtr(error.dof, -observed / len(differences) / error.value))
    p = _sign_flip_tail(*_groups(differing), error, seeds, observed)(observed)
    return max(p, _least_p(len(differing)))


def _least_p(differing: int) -> float:
    """All signs of the users that differ may be those that were found, or all others; seeds make no p smaller."""
    return 2.0 ** (1 - differing)


def _sign_flip_threshold(differences: Values, error: StandardError, seeds: bool, level: float) -> float:
    """How far from 0 the mean of `differences` is to be for a p of `level`."""
    exact = differences.round(12)
    differing = np.abs(exact[exact != 0])
    if not len(differing):
        return 0.0
    if error.is_of_seeds_alone:
        return error.half_width(level)
    near = -float(special.stdtrit(error.dof, level / 2)) * error.inflation * math.sqrt(float((differing**2).sum()))
    tail = _sign_flip_tail(*_groups(differing), error, seeds, near)
    # No sum is further off, but for the seeds' part of it.
    furthest = 8 * near if seeds else min(8 * near, float(differing.sum()))
    # So few users differ that no signs of theirs would do: what would of many.
    if tail(furthest) > level:
        return max(near, furthest) / len(differences)
    return float(optimize.brentq(lambda sum_: tail(sum_) - level, near / 8, furthest, rtol=1e-9)) / len(differences)


def _sign_flip_tail(
    x: Values, sizes: NDArray[np.int64], error: StandardError, seeds: bool, near: float
) -> Callable[[float], float]:
    """Probability that the sum of `x` with random signs is so far from 0 or further; exact of sums not far from `near`.

    Sums so far out are rare; where signs lean to one side they are not (exponential tilting, Siegmund 1976), and each
    is weighed by how much more often it comes then: by prod_u cosh(t x_u) / e^(t s), with x_u = |d_u| and s their sum.
    The distribution of a sum is that of its negative.

    Args:
        x: `[G]` distinct values above 0.
        sizes: `[G]` how many users have each.
    """
    if not seeds and resampling.exact_tail(x, sizes, near) is not None:
        return lambda threshold: min(2 * (resampling.exact_tail(x, sizes, threshold) or 0.0), 1.0)
    variance = float(sizes @ x**2)
    tilt = _tilt_target(near, math.sqrt(variance), error, seeds) / variance
    away = near / math.sqrt(variance) / error.inflation
    tilted = resampling.sign_flip_sum(x, sizes, tilt, resampling.grid_size(error.dof, away) if seeds else STEPS)
    above = tilted.values > 0
    sums, probabilities = tilted.values[above], tilted.probabilities[above]
    weight = float(sizes @ _log_cosh(tilt * x)) - tilt * sums

    def tail(threshold: float) -> float:
        cut = ((sums - threshold) / tilted.step + 0.5).clip(0, 1)
        counts = error.tail_probabilities(sums, threshold) if seeds else cut
        with np.errstate(divide="ignore"):
            return min(2 * float(probabilities @ np.exp(weight + np.log(counts))), 1.0)

    return tail


def _tilt_target(observed: float, deviation: float, error: StandardError, seeds: bool) -> float:
    """Where the users' part of a sum lies whose users and seeds together gave `observed`.

    Of a Student's t of `f` degrees of freedom that is z / sqrt(chi-square / f), the mean of z^2 given t is
    t^2 (f + 1) / (f + t^2).
    """
    if not seeds:
        return observed
    t, dof = observed / (deviation * error.inflation), error.dof
    return deviation * t * math.sqrt((dof + 1) / (dof + t**2))


def _log_cosh(x: Values) -> Values:
    return np.logaddexp(x, -x) - math.log(2)


def _groups(values: Values) -> tuple[Values, NDArray[np.int64]]:
    """Distinct values, and how many users have each; sums in another order differ in digits that mean nothing."""
    groups, sizes = np.unique(values.round(12), return_counts=True)
    return groups, sizes.astype(np.int64)


def _blocks(draws: int, groups: int) -> list[int]:
    block = max(1, BLOCK_CELLS // max(1, groups))
    return [min(block, draws - start) for start in range(0, draws, block)]
