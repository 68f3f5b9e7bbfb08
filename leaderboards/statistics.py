"""Intervals, paired tests and their power, from per-user values alone.

A row's mean is uncertain twice: its users are a sample, and so are its seeds. Both are random effects of a crossed
table without repetition, `value[s, u] = mean + user[u] + seed[s] + rest[s, u]`, whose variances the analysis of
variance separates, so that the noise of users within a seed is not counted as noise of seeds again. Users are many:
they are resampled, by a bootstrap for intervals, by flipped signs for tests. Where a verdict hangs on it, the law of
all resamples is computed (`laws`), so that none is left to draws. Seeds are few, and resampling three or five gives
intervals far too narrow: what comes of users is stretched to the variance of both, with the tails of Student's t for
the degrees of freedom that the seeds leave (Welch 1947). Below `SEEDS_FOR_NOISE` seeds nothing is known of their noise:
intervals and tests then speak of these weights, not of the method.

Shape letters: `U` users, `S` seeds, `D` draws, `G` groups of users with equal values.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from leaderboards import laws

# A spread over fewer seeds says nothing.
SEEDS_FOR_NOISE = 3
# A difference is said to be one where p, adjusted for being one of several, is below.
SIGNIFICANT = 0.05
# Chance of finding an effect of the size that is called detectable.
POWER = 0.8
# Cells of one block of weights: 32 MiB of int64, however many users and draws there are.
BLOCK_CELLS = 1 << 22
# Left outside an interval of a difference at either end; and how many standard deviations off that is, at least.
TAIL, NORMAL = 0.025, 1.95
# Values of a law that is cut off at a step.
STEPS = 1 << 12

Values = NDArray[np.float64]


class Interval(NamedTuple):
    low: float
    high: float


class Noise(NamedTuple):
    """What seeds add to the variance of a mean over users and seeds, estimated without bias: it may be below 0.

    Attributes:
        variance: of the mean, beyond what the users' means over the seeds tell.
        uncertainty: variance of that estimate; 0 where there are too few seeds for one.
    """

    variance: float
    uncertainty: float

    def __add__(self, other: Noise) -> Noise:  # type: ignore[override]
        """Noise of the difference of two independent means."""
        return Noise(self.variance + other.variance, self.uncertainty + other.uncertainty)


class Error(NamedTuple):
    """Standard error of a mean.

    Attributes:
        size: in the metric's unit.
        freedom: degrees of freedom.
        stretch: how much larger it is than the users' part of it.
    """

    size: float
    freedom: float
    stretch: float

    def reaches(self, deviations: Values, reached: float) -> Values:
        """Chances that deviations over users, made those of users and seeds, are as far out as `reached`."""
        squares = self.freedom * (self.stretch * deviations / reached) ** 2
        return np.asarray(special.gammainc(self.freedom / 2, squares / 2))  # chi-square's distribution function

    def stretched(self, drawn: Values, seeds: bool, rng: np.random.Generator) -> Values:
        """Deviations drawn over users alone, `[D]`, made those of users and seeds; as they are without `seeds`."""
        if not seeds:
            return drawn
        return drawn * self.stretch * np.sqrt(self.freedom / rng.chisquare(self.freedom, len(drawn)))


class Comparison(NamedTuple):
    """What sets two rows apart that were graded on the same users.

    Attributes:
        difference: mean of the first less that of the second.
        interval: 95%, of the difference.
        p: of the two-sided test that there is none.
        effect: Cohen's d: the difference over the standard deviation of the users' differences.
        detectable: the smallest true difference that this test finds with a chance of 80%, at 5% significance.
        error: standard error of the difference.
        freedom: its degrees of freedom.
        methods: the noise of seeds is counted, so this is about methods; else about these trained weights alone.
    """

    difference: float
    interval: Interval
    p: float
    effect: float
    detectable: float
    error: float
    freedom: float
    methods: bool


class Sample(NamedTuple):
    """Attributes: per_user, `[U]` means over the seeds of a row; noise, of its seeds; seeds, how many there are."""

    per_user: Values
    noise: Noise
    seeds: int


class Difference(NamedTuple):
    """Attributes: difference, of the mean of one row less that of another; interval, 95%."""

    difference: float
    interval: Interval


def interval(
    per_seed_values: NDArray[np.floating[Any]], draws: int = 2000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Interval of the mean from a two-level bootstrap: of the users, and of the seeds from `SEEDS_FOR_NOISE` on.

    Users whose mean over the seeds is the same are interchangeable, so their joint weight is drawn at once. That is
    the same distribution as redrawing the users one by one, at the price of the number of distinct values.

    Args:
        per_seed_values: `[S, U]` one metric per seed and user, users aligned over seeds.
        draws: number of bootstrap means.
        level: share of the bootstrap means inside the interval.
        seed: of the draws; the same values give the same interval.

    Raises:
        ValueError: the values have another shape or nothing in them, or `level` is not between 0 and 1.
    """
    values = _table(per_seed_values)
    low, high = _interval(values.mean(0), _noise(values), draws, level, np.random.default_rng(seed))
    # Stretching knows no bounds, but no mean of a metric lies outside its values.
    return Interval(max(low, float(values.min())), min(high, float(values.max())))


def standard_error(per_seed_values: NDArray[np.floating[Any]]) -> float:
    """Of the mean of `[S, U]` values: from users, and from seeds from `SEEDS_FOR_NOISE` on."""
    values = _table(per_seed_values)
    return _error(values.mean(0), _noise(values)).size


def compare(first: NDArray[np.floating[Any]], second: NDArray[np.floating[Any]]) -> Comparison:
    """Compares two rows on the same users; seeds are not paired, and may be of different number.

    The test flips the signs of the users' differences (Fisher's randomisation test, as scipy's `permutation_test` with
    `permutation_type="samples"` does) and adds the noise of seeds. No signs are drawn: their law is computed.

    Args:
        first: `[S, U]` one metric per seed and user.
        second: `[S', U]` the same of the other row.

    Raises:
        ValueError: the values have another shape, nothing in them, or different numbers of users.
    """
    return between(sample(first), sample(second))


def sample(per_seed_values: NDArray[np.floating[Any]]) -> Sample:
    """What comparisons need of `[S, U]` values of a row.

    Raises:
        ValueError: the values have another shape or nothing in them.
    """
    values = _table(per_seed_values)
    return Sample(values.mean(0), _noise(values), len(values))


def between(first: Sample, second: Sample) -> Comparison:
    """`compare` of two rows.

    Raises:
        ValueError: they have different numbers of users.
    """
    users = [len(each.per_user) for each in (first, second)]
    if users[0] != users[1]:
        raise ValueError(f"the rows to compare have {users[0]} and {users[1]} users; expected the same users")
    differences, noise = first.per_user - second.per_user, first.noise + second.noise
    error, difference = _error(differences, noise), float(differences.mean())
    spread = float(differences.std(ddof=1)) if users[0] > 1 else 0.0
    return Comparison(
        difference=difference,
        interval=_between(differences, error, noise.uncertainty > 0),
        p=_flipped_p(differences, error, noise.uncertainty > 0),
        effect=difference / spread if spread else 0.0,
        detectable=float(special.stdtrit(error.freedom, 0.975) + special.stdtrit(error.freedom, POWER)) * error.size,
        error=error.size,
        freedom=error.freedom,
        methods=min(first.seeds, second.seeds) >= SEEDS_FOR_NOISE,
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
        noise, apart = one.noise + other.noise, one.per_user - other.per_user
        error, mean = _error(apart, noise), float(apart.mean())
        far = error.stretched(off[first] - off[second], noise.uncertainty > 0, rng)
        low, high = np.partition(far, [left_out - 1, draws - left_out])[[left_out - 1, draws - left_out]]
        found.append(Difference(mean, Interval(mean + float(low), mean + float(high))))
    return found


def equivalence(found: Comparison, margin: float) -> float:
    """p of the hypothesis that the true difference is `margin` or more either way (two one-sided tests, TOST).

    Raises:
        ValueError: the margin is not above 0.
    """
    if not margin > 0:
        raise ValueError(f"margin of equivalence is {margin}; expected more than 0")
    if not found.error:
        return float(abs(found.difference) >= margin)
    return float(special.stdtr(found.freedom, (abs(found.difference) - margin) / found.error))


def holm(p: Sequence[float]) -> list[float]:
    """p values adjusted for being several (Holm 1979), in the order given."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted.tolist()


def _table(values: NDArray[np.floating[Any]]) -> Values:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or not table.size:
        raise ValueError(f"values have shape {table.shape}; expected [seeds, users], neither 0")
    return table


def _noise(values: Values) -> Noise:
    """Noise of the seeds of `values` `[S, U]`: their mean square less that of the rest."""
    seeds, users = values.shape
    if seeds < SEEDS_FOR_NOISE or users < 2:
        return Noise(0.0, 0.0)
    by_seed, by_user = values.mean(1), values.mean(0)
    rest = values - by_seed[:, None] - by_user + values.mean()
    explained = float((rest**2).sum()) / ((seeds - 1) * (users - 1)) / users
    spread = float(by_seed.round(12).var(ddof=1))
    # The square of an estimated variance is too large by the factor 1 + 2 / (seeds - 1).
    return Noise((spread - explained) / seeds, 2 * (spread / seeds) ** 2 / (seeds + 1))


def _error(per_user: Values, noise: Noise) -> Error:
    """Error of the mean of `per_user` `[U]`, means over seeds whose noise is `noise`."""
    users = len(per_user)
    by_users = float(per_user.var(ddof=1)) / users if users > 1 else 0.0
    # The rest's part of `by_users` is the most that can be too much, and seldom half of it.
    both = max(by_users + noise.variance, by_users / 2)
    freedom = 2 * both**2 / noise.uncertainty - 2 if noise.uncertainty else math.inf
    freedom = max(1.0, min(freedom, users - 1.0))
    return Error(math.sqrt(both), freedom, math.sqrt(both / by_users) if by_users else 1.0)


def _interval(per_user: Values, noise: Noise, draws: int, level: float, rng: np.random.Generator) -> Interval:
    if not 0 < level < 1:
        raise ValueError(f"level of an interval is {level}; expected a share between 0 and 1")
    tail, mean = (1 - level) / 2, float(per_user.mean())
    deviations = _redrawn_means(per_user, draws, rng) - mean
    drawn = mean + _error(per_user, noise).stretched(deviations, noise.uncertainty > 0, rng)
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(float(low), float(high))


def _redrawn_means(per_user: Values, draws: int, rng: np.random.Generator) -> Values:
    """`[D]` means over users that are drawn with replacement."""
    groups, sizes = _groups(per_user)
    users = len(per_user)
    return np.concatenate(
        [rng.multinomial(users, sizes / users, size=rows) @ groups / users for rows in _blocks(draws, len(groups))]
    )


def _between(differences: Values, error: Error, seeds: bool) -> Interval:
    """95% of where the mean of `differences` `[U]` lies when users are redrawn, stretched to the noise of seeds."""
    mean, (groups, sizes) = float(differences.mean()), _groups(differences)
    if len(groups) == 1:
        return Interval(mean, mean)
    law = laws.redrawn(groups, sizes, laws.points(error.freedom, NORMAL))
    below = np.maximum.accumulate(law.chances.cumsum())
    if not seeds:
        low, high = np.interp([TAIL, 1 - TAIL], below, law.values + law.step / 2)
        return Interval(mean + float(low), mean + float(high))
    widest = 4 * float(special.stdtrit(error.freedom, 1 - TAIL)) * error.size

    def chance(value: float) -> float:
        """Of a deviation as far as `value` or further on its side of 0."""
        side = law.values * value > 0
        return float(law.chances[side] @ error.reaches(np.abs(law.values[side]), abs(value)))

    low, high = (
        optimize.brentq(lambda value: chance(value) - TAIL, end / 1e6, end, xtol=widest / 1e6)
        for end in (-widest, widest)
    )
    return Interval(mean + float(low), mean + float(high))


def _flipped_p(differences: Values, error: Error, seeds: bool) -> float:
    """p of the sum of `differences`: how often one at least as far from 0 comes out where each user's sign is drawn.

    Sums so far out are rare; where signs lean to one side they are not (exponential tilting, Siegmund 1976), and each
    is weighed by how much more often it comes then: by prod_u cosh(t x_u) / e^(t s), with x_u = |d_u| and s their sum.
    """
    # Seeds in another order give other last digits.
    exact = differences.round(12)
    reached, differing = abs(float(exact.sum())), np.abs(exact[exact != 0])
    if not reached:
        return 1.0
    x, sizes = _groups(differing)
    known = None if seeds else laws.counted(x, sizes, reached)
    if known is not None:
        return min(2 * known, 1.0)
    variance = float(sizes @ x**2)
    tilt = _typical(reached, math.sqrt(variance), error, seeds) / variance
    away = reached / math.sqrt(variance) / error.stretch
    law = laws.flipped(x, sizes, tilt, laws.points(error.freedom, away) if seeds else STEPS)
    sums, chances = law.values[law.values > 0], law.chances[law.values > 0]
    counts = error.reaches(sums, reached) if seeds else ((sums - reached) / law.step + 0.5).clip(0, 1)
    with np.errstate(divide="ignore"):
        weights = np.exp(float(sizes @ _log_cosh(tilt * x)) - tilt * sums + np.log(counts))
    # The law of a sum is that of its negative; and all signs may be those that were found, or all others.
    return min(max(2 * float(chances @ weights), 0.0 if seeds else 2.0 ** (1 - len(differing))), 1.0)


def _typical(reached: float, deviation: float, error: Error, seeds: bool) -> float:
    """Where the users' part lies when a mean of users and seeds is at `reached`: the seeds have their share in it.

    Of a Student's t of `f` degrees of freedom that is z / sqrt(chi-square / f), the mean of z^2 given t is
    t^2 (f + 1) / (f + t^2).
    """
    if not seeds:
        return reached
    t, freedom = reached / (deviation * error.stretch), error.freedom
    return deviation * t * math.sqrt((freedom + 1) / (freedom + t**2))


def _log_cosh(x: Values) -> Values:
    return np.logaddexp(x, -x) - math.log(2)


def _groups(values: Values) -> tuple[Values, NDArray[np.int64]]:
    """Distinct values, and how many users have each; sums in another order differ in digits that mean nothing."""
    groups, sizes = np.unique(values.round(12), return_counts=True)
    return groups, sizes.astype(np.int64)


def _blocks(draws: int, groups: int) -> list[int]:
    block = max(1, BLOCK_CELLS // max(1, groups))
    return [min(block, draws - start) for start in range(0, draws, block)]
