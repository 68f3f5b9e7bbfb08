"""Distributions of a mean whose users are redrawn (bootstrap) or whose signs are flipped (randomisation test), computed
rather than drawn: no digit is left to chance.

The characteristic function of a sum of independent parts is the product of theirs, and a Fourier series of that
product gives the distribution (Davies 1973). Of a few parts all sums are enumerated instead: their distribution has
steps, which no short series has.

Shape letters: `G` groups of users with equal values, `K` frequencies, `J` points of a distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

# Standard deviations of a distribution that its grid covers on either side; less than 1e-30 lies beyond.
HALF_WIDTH = 12.0
# Frequencies at a time, and at most: where a characteristic function has not vanished by then, steps below 1/40
# deviation are lost.
BLOCK, MOST = 16, 512
VANISHED = 1e-14
# Most sums of either half of the parts that are enumerated.
MOST_SUMS = 1 << 12

Values = NDArray[np.float64]
Sizes = NDArray[np.int64]


class Distribution(NamedTuple):
    """Attributes: values, `[J]` equidistant and rising; probabilities, `[J]`, of lying nearest to each."""

    values: Values
    probabilities: Values

    @property
    def step(self) -> float:
        return float(self.values[1] - self.values[0])


def grid_size(dof: float, away: float) -> int:
    """Points that make a sum over a grid exact whose terms are values of a chi-square's distribution function.

    Args:
        dof: degrees of freedom.
        away: standard deviations between 0 and where that function rises.
    """
    return 1 << math.ceil(math.log2(64 + 32 * math.sqrt(2 * dof) / max(away, 0.5)))


def bootstrap_mean(groups: Values, sizes: Sizes, count: int) -> Distribution:
    """Of the mean over users who are drawn with replacement, less the mean of all.

    Args:
        groups: `[G]` distinct values, at least two.
        sizes: `[G]` how many users have each.
        count: of points, at least.
    """
    users = int(sizes.sum())
    off, share = (groups - sizes @ groups / users) / users, sizes / users

    def characteristic(frequencies: Values) -> NDArray[np.complex128]:
        turn = np.outer(frequencies, off)
        return np.asarray((np.cos(turn) @ share + 1j * (np.sin(turn) @ share)) ** users)

    return _distribution(characteristic, 0.0, math.sqrt(float(sizes @ off**2)), count)


def sign_flip_sum(x: Values, sizes: Sizes, tilt: float, count: int) -> Distribution:
    """Of the sum of `x` with random signs, plus with the probability e^(tilt x) / (e^(tilt x) + e^(-tilt x)).

    Args:
        x: `[G]` distinct values above 0.
        sizes: `[G]` how many users have each.
        tilt: above 0.
        count: of points, at least.
    """
    lean = np.tanh(tilt * x)
    mean, variance = float(sizes @ (x * lean)), float(sizes @ (x**2 * (1 - lean**2)))

    def characteristic(frequencies: Values) -> NDArray[np.complex128]:
        turn = np.outer(frequencies, x)
        real, imaginary = np.cos(turn), lean * np.sin(turn)
        # The logarithm of each factor in two parts: numpy's own of complex numbers takes five times as long.
        size, angle = np.log(real**2 + imaginary**2) / 2, np.arctan2(imaginary, real)
        return np.asarray(np.exp(size @ sizes + 1j * (angle @ sizes - frequencies * mean)))

    return _distribution(characteristic, mean, math.sqrt(variance), count)


def exact_tail(x: Values, sizes: Sizes, threshold: float) -> float | None:
    """Probability that the sum of `x` with random signs is at least `threshold`; None where sums are too many.

    Every sum is one of half the parts and one of the other half. A sum that equals `threshold` up to 1e-9 reaches it.
    """
    halves = [(np.zeros(1), np.ones(1)), (np.zeros(1), np.ones(1))]
    for value, size in zip(x, sizes.tolist(), strict=True):
        halves.sort(key=lambda half: len(half[0]))
        if len(halves[0][0]) * (size + 1) > 16 * MOST_SUMS:
            return None
        halves[0] = _joined(*halves[0], float(value), size)
        if len(halves[0][0]) > MOST_SUMS:
            return None
    (one, probabilities), (other, others) = halves
    tails = np.append(np.cumsum(others[::-1])[::-1], 0.0)
    return float(probabilities @ tails[np.searchsorted(other, threshold - 1e-9 - one)])


def _joined(sums: Values, probabilities: Values, value: float, size: int) -> tuple[Values, Values]:
    """Sums, rising, and their probabilities, with `size` more parts of `value`."""
    pluses = np.arange(size + 1)
    every = np.add.outer(sums, (2 * pluses - size) * value).ravel()
    distinct, place = np.unique(every.round(12), return_inverse=True)
    joint = np.outer(probabilities, stats.binom.pmf(pluses, size, 0.5)).ravel()
    return distinct, np.bincount(place, weights=joint).astype(np.float64)


def _distribution(
    characteristic: Callable[[Values], NDArray[Any]], centre: float, deviation: float, count: int
) -> Distribution:
    """Of a variable whose difference from `centre` has this characteristic function."""
    unit, found = math.pi / (HALF_WIDTH * deviation), list[NDArray[Any]]()
    for start in range(0, MOST, BLOCK):
        found.append(characteristic(unit * np.arange(start, start + BLOCK, dtype=np.float64)))
        if np.abs(found[-1]).max() < VANISHED:
            break
    series = np.concatenate(found)
    # The first value lies half a period below the centre.
    series[1::2] *= -1
    count = max(count, 2 * len(series))
    values = centre + (np.arange(count, dtype=np.float64) - count // 2) * (2 * HALF_WIDTH * deviation / count)
    return Distribution(values, np.fft.irfft(series.conj(), count))
