"""Intervals, paired tests and their power, from per-user values alone.

A row's mean is uncertain twice: its users are a sample, and so are its seeds. Both are random effects of a crossed
table without repetition, `value[s, u] = mean + user[u] + seed[s] + rest[s, u]`, whose variances the analysis of
variance separates, so that the noise of users within a seed is not counted as noise of seeds again. Users are many:
they are resampled, by a bootstrap for intervals, by flipped signs for tests, in so many draws that no verdict is left
to them. Seeds are few, and resampling three or
five gives intervals far too narrow: what is drawn over users is stretched to the variance of both, with the tails of
Student's t for the degrees of freedom that the seeds leave (Welch 1947). Below `SEEDS_FOR_NOISE` seeds nothing
is known of their noise: intervals and tests then speak of these weights, not of the method.

Shape letters: `U` users, `S` seeds, `D` draws, `G` groups of users with equal values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

# A spread over fewer seeds says nothing.
SEEDS_FOR_NOISE = 3
# A difference is said to be one where p, adjusted for being one of several, is below.
SIGNIFICANT = 0.05
# Chance of finding an effect of the size that is called detectable.
POWER = 0.8
# Cells of one block of weights: 32 MiB of int64, however many users and draws there are.
BLOCK_CELLS = 1 << 22
# Most draws of a test; and how many standard errors of the draws its p must be away from what decides a verdict.
MOST_DRAWS, CLEAR = 200_000, 4.0
# Users of equal values, of whom so many are drawn at once: of fewer, each one's sign is drawn faster.
MANY = 8

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


def compare(
    first: NDArray[np.floating[Any]],
    second: NDArray[np.floating[Any]],
    draws: int = 10_000,
    seed: int = 0,
    thresholds: Sequence[float] = (),
) -> Comparison:
    """Compares two rows on the same users; seeds are not paired, and may be of different number.

    The test flips the signs of the users' differences (Fisher's randomisation test, as scipy's `permutation_test` with
    `permutation_type="samples"` does) and adds the noise of seeds to each draw.

    Args:
        first: `[S, U]` one metric per seed and user.
        second: `[S', U]` the same of the other row.
        draws: of the bootstrap, and of the signs at a time.
        seed: of the draws.
        thresholds: values of p that decide a verdict; signs are drawn until p is clear of them, or `MOST_DRAWS` times.

    Raises:
        ValueError: the values have another shape, nothing in them, or different numbers of users.
    """
    tables = [_table(values) for values in (first, second)]
    users = [values.shape[1] for values in tables]
    if users[0] != users[1]:
        raise ValueError(f"the rows to compare have {users[0]} and {users[1]} users; expected the same users")
    rng = np.random.default_rng(seed)
    differences = tables[0].mean(0) - tables[1].mean(0)
    noise = _noise(tables[0]) + _noise(tables[1])
    error, difference = _error(differences, noise), float(differences.mean())
    spread = float(differences.std(ddof=1)) if users[0] > 1 else 0.0
    bounds = _interval(differences, noise, draws, 0.95, rng)
    p = _flipped_p(differences, error, noise.uncertainty > 0, draws, thresholds, rng)
    return Comparison(
        difference=difference,
        interval=bounds,
        p=p,
        effect=difference / spread if spread else 0.0,
        detectable=float(stats.t.ppf(0.975, error.freedom) + stats.t.ppf(POWER, error.freedom)) * error.size,
        error=error.size,
        freedom=error.freedom,
        methods=min(len(values) for values in tables) >= SEEDS_FOR_NOISE,
    )


def equivalence(found: Comparison, margin: float) -> float:
    """p of the hypothesis that the true difference is `margin` or more either way (two one-sided tests, TOST).

    Raises:
        ValueError: the margin is not above 0.
    """
    if not margin > 0:
        raise ValueError(f"margin of equivalence is {margin}; expected more than 0")
    if not found.error:
        return float(abs(found.difference) >= margin)
    return float(stats.t.sf((margin - abs(found.difference)) / found.error, found.freedom))


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


def _flipped_p(
    differences: Values, error: Error, seeds: bool, draws: int, thresholds: Sequence[float], rng: np.random.Generator
) -> float:
    """p of the mean of `differences`: how often one at least as far from 0 comes out where each user's sign is drawn.

    Means so far out are rare, so they are drawn more often than they come and weighed accordingly (importance sampling
    by exponential tilting, Siegmund 1976): with x_u = |d_u| / U, user u gets a plus with the chance e^(t x_u) /
    (e^(t x_u) + e^(-t x_u)). The weight of a sum s of such signs is prod_u cosh(t x_u) / cosh(t s), whichever way it is
    out: the law of |s| is the same under t and -t.
    """
    reached = abs(float(differences.mean()))
    if not reached:
        return 1.0
    groups, sizes = _groups(np.abs(differences[differences != 0]))
    x = groups / len(differences)
    variance = float(sizes @ x**2)
    tilt = _typical(reached, math.sqrt(variance), error, seeds) / variance
    scale, seen = float(sizes @ _log_cosh(tilt * x)), np.empty(0)
    while True:
        for rows in _blocks(draws, int(sizes.sum())):
            sums = np.abs(_signed_sums(x, sizes, special.expit(2 * tilt * x), rows, rng))
            # A sum that equals the difference up to rounding is as far out as it is.
            counts = _reaches(sums, reached, error) if seeds else sums >= reached * (1 - 1e-9)
            seen = np.append(seen, counts * np.exp(scale - _log_cosh(tilt * sums)))
        p, off = float(seen.mean()), CLEAR * float(seen.std()) / math.sqrt(len(seen))
        if len(seen) >= MOST_DRAWS or all(abs(p - threshold) > off for threshold in thresholds):
            return min(p, 1.0)


def _reaches(sums: Values, reached: float, error: Error) -> Values:
    """Chances that means over users, made those of users and seeds, are as far out as `reached`."""
    squares = error.freedom * (error.stretch * sums / reached) ** 2
    return np.asarray(special.gammainc(error.freedom / 2, squares / 2))  # chi-square's distribution function


def _typical(reached: float, deviation: float, error: Error, seeds: bool) -> float:
    """Where the users' part lies when a mean of users and seeds is at `reached`: the seeds have their share in it.

    Of a Student's t of `f` degrees of freedom that is z / sqrt(chi-square / f), the mean of z^2 given t is
    t^2 (f + 1) / (f + t^2).
    """
    if not seeds:
        return reached
    t, freedom = reached / (deviation * error.stretch), error.freedom
    return deviation * t * math.sqrt((freedom + 1) / (freedom + t**2))


def _signed_sums(x: Values, sizes: NDArray[np.int64], plus: Values, rows: int, rng: np.random.Generator) -> Values:
    """`[rows]` sums over users, so many of each value of `x`, which gets a plus by the chance `plus`, else a minus."""
    many = sizes >= MANY
    of_many = rng.binomial(sizes[many], plus[many], (rows, int(many.sum()))) @ x[many]
    each, chance = (np.repeat(of[~many], sizes[~many]) for of in (x, plus))
    of_few = (rng.random((rows, len(each)), dtype=np.float32) < chance) @ each
    return 2 * (of_many + of_few) - float(sizes @ x)


def _log_cosh(x: Values) -> Values:
    return np.logaddexp(x, -x) - math.log(2)


def _groups(values: Values) -> tuple[Values, NDArray[np.int64]]:
    """Distinct values, and how many users have each; sums in another order differ in digits that mean nothing."""
    groups, sizes = np.unique(values.round(12), return_counts=True)
    return groups, sizes.astype(np.int64)


def _blocks(draws: int, groups: int) -> list[int]:
    block = max(1, BLOCK_CELLS // max(1, groups))
    return [min(block, draws - start) for start in range(0, draws, block)]
