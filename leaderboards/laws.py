"""Laws of means whose users are redrawn, or have their signs flipped: computed, so that no digit is left to draws.

A sum of many independent parts has the product of their transforms, and the law comes of that product by a Fourier
series (Davies 1973). Of a few parts all sums are counted instead: their law has steps, which no short series has.

Shape letters: `G` groups of users with equal values, `K` frequencies, `J` values of a law.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

# A law is held within so many standard deviations of its mean either way; beyond, less than 1e-30 is left of it.
REACH = 12.0
# Frequencies at a time, and at most: where a transform has not vanished by then, steps below 1/40 deviation are lost.
BLOCK, MOST = 16, 512
VANISHED = 1e-14
# Most sums of either half of the parts that are counted one by one.
COUNTED = 1 << 12

Values = NDArray[np.float64]
Sizes = NDArray[np.int64]


class Law(NamedTuple):
    """Attributes: values, `[J]` equidistant and rising; chances, `[J]`, of lying nearest to each."""

    values: Values
    chances: Values

    @property
    def step(self) -> float:
        return float(self.values[1] - self.values[0])


def points(freedom: float, away: float) -> int:
    """As many values as make a sum over them exact whose terms are a chi-square's chances.

    Args:
        freedom: degrees of freedom.
        away: standard deviations between 0 and where the chances rise.
    """
    return 1 << math.ceil(math.log2(64 + 32 * math.sqrt(2 * freedom) / max(away, 0.5)))


def redrawn(groups: Values, sizes: Sizes, count: int) -> Law:
    """How far the mean over users lies from theirs where they are drawn with replacement.

    Args:
        groups: `[G]` distinct values, at least two.
        sizes: `[G]` how many users have each.
        count: of values to have the law at.
    """
    users = int(sizes.sum())
    off = (groups - sizes @ groups / users) / users

    def transform(frequencies: Values) -> NDArray[np.complex128]:
        return np.asarray((np.exp(1j * np.outer(frequencies, off)) @ (sizes / users)) ** users)

    return _law(transform, 0.0, math.sqrt(float(sizes @ off**2)), count)


def flipped(x: Values, sizes: Sizes, tilt: float, count: int) -> Law:
    """Of the sum of `x` where each user's gets a plus with the chance e^(tilt x) / (e^(tilt x) + e^(-tilt x)).

    Args:
        x: `[G]` distinct values above 0.
        sizes: `[G]` how many users have each.
        tilt: above 0.
        count: of values to have the law at.
    """
    lean = np.tanh(tilt * x)
    mean, variance = float(sizes @ (x * lean)), float(sizes @ (x**2 * (1 - lean**2)))

    def transform(frequencies: Values) -> NDArray[np.complex128]:
        turn = np.outer(frequencies, x)
        return np.asarray(np.exp(np.log(np.cos(turn) + 1j * lean * np.sin(turn)) @ sizes - 1j * frequencies * mean))

    return _law(transform, mean, math.sqrt(variance), count)


def counted(x: Values, sizes: Sizes, reached: float) -> float | None:
    """Chance that the sum of `x`, each user's with either sign, is at least `reached`; None where sums are too many.

    Every sum is one of half the parts and one of the other half. A sum that equals `reached` up to 1e-9 reaches it.
    """
    halves = [(np.zeros(1), np.ones(1)), (np.zeros(1), np.ones(1))]
    for value, size in zip(x, sizes.tolist(), strict=True):
        halves.sort(key=lambda half: len(half[0]))
        if len(halves[0][0]) * (size + 1) > 16 * COUNTED:
            return None
        halves[0] = _joined(*halves[0], float(value), size)
        if len(halves[0][0]) > COUNTED:
            return None
    (one, chances), (other, others) = halves
    tails = np.append(np.cumsum(others[::-1])[::-1], 0.0)
    return float(chances @ tails[np.searchsorted(other, reached - 1e-9 - one)])


def _joined(sums: Values, chances: Values, value: float, size: int) -> tuple[Values, Values]:
    """Sums, rising, and their chances, with `size` more parts of `value`."""
    pluses = np.arange(size + 1)
    every = np.add.outer(sums, (2 * pluses - size) * value).ravel()
    distinct, place = np.unique(every.round(12), return_inverse=True)
    joint = np.outer(chances, stats.binom.pmf(pluses, size, 0.5)).ravel()
    return distinct, np.bincount(place, weights=joint).astype(np.float64)


def _law(transform: Callable[[Values], NDArray[Any]], centre: float, deviation: float, count: int) -> Law:
    """The law of a variable whose difference from `centre` has the `transform`."""
    unit, found = math.pi / (REACH * deviation), list[NDArray[Any]]()
    for start in range(0, MOST, BLOCK):
        found.append(transform(unit * np.arange(start, start + BLOCK, dtype=np.float64)))
        if np.abs(found[-1]).max() < VANISHED:
            break
    series = np.concatenate(found)
    # The first value lies half a period below the centre.
    series[1::2] *= -1
    count = max(count, 2 * len(series))
    values = centre + (np.arange(count, dtype=np.float64) - count // 2) * (2 * REACH * deviation / count)
    return Law(values, np.fft.irfft(series.conj(), count))
