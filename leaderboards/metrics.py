"""Recall, NDCG and their intervals from per-user ranks: the only numbers a board may show.

Shape letters: `U` users, `S` seeds, `D` bootstrap draws, `G` groups of users with equal values.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CUTOFFS = (5, 10, 20, 50)
# Ranks beyond this are stored as 0; no cut-off may be larger.
MAX_RANK = 50
NAMES = tuple(f"{name}@{k}" for k in CUTOFFS for name in ("recall", "ndcg"))

# Cells of one block of user weights: 32 MiB of int64, however many users and draws there are.
BLOCK_CELLS = 1 << 22

Ranks = NDArray[np.integer[Any]]
Values = NDArray[np.float64]


class Interval(NamedTuple):
    low: float
    high: float


def recall(ranks: Ranks, k: int) -> Values:
    """`[U]` 1 where the one relevant item is among the first `k`, else 0.

    Args:
        ranks: `[U]` rank of each user's target, 1..50, or 0 where it is beyond 50.
        k: cut-off, 1..50.

    Raises:
        ValueError: `k` or a rank is out of range.
    """
    if not 1 <= k <= MAX_RANK:
        raise ValueError(f"cut-off k={k} is not among 1..{MAX_RANK}, the ranks that are stored")
    if ranks.size and not 0 <= int(ranks.min()) <= int(ranks.max()) <= MAX_RANK:
        raise ValueError(
            f"ranks run from {ranks.min()} to {ranks.max()}; expected 1..{MAX_RANK}, or 0 for a target beyond"
        )
    return ((ranks >= 1) & (ranks <= k)).astype(np.float64)


def ndcg(ranks: Ranks, k: int) -> Values:
    """`[U]` 1 / log2(1 + rank) where the one relevant item is among the first `k`, else 0.

    Arguments and errors are those of `recall`. With one relevant item the ideal DCG is 1.
    """
    return recall(ranks, k) / np.log2(1.0 + np.maximum(ranks, 1))


def metrics(ranks: Ranks) -> dict[str, float]:
    """Means over users under the names of a record: `recall@5`, `ndcg@5`, ..., `ndcg@50`.

    Args:
        ranks: `[U]` as for `recall`, at least one user.

    Raises:
        ValueError: there is no user, or a rank is out of range.
    """
    if not ranks.size:
        raise ValueError("there are no ranks to average; expected one per user")
    per_user = {"recall": recall, "ndcg": ndcg}
    return {name: float(per_user[kind](ranks, int(k)).mean()) for name in NAMES for kind, k in [name.split("@")]}


def interval(
    per_seed_values: NDArray[np.floating[Any]], draws: int = 2000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Percentile interval of the mean from a two-level bootstrap: users and seeds are both redrawn.

    Users that have the same values under every seed are interchangeable, so their joint weight is drawn at once. That
    is the same distribution as redrawing the users one by one, at the price of the number of distinct values. With
    one seed only the users are redrawn; with few seeds the interval is a little narrow, as every bootstrap over few
    units is.

    Args:
        per_seed_values: `[S, U]` one metric per seed and user, users aligned over seeds.
        draws: number of bootstrap means.
        level: share of the bootstrap means inside the interval.
        seed: of the draws; the same values give the same interval.

    Raises:
        ValueError: the values have another shape or nothing in them, or `level` is not between 0 and 1.
    """
    values = np.asarray(per_seed_values, dtype=np.float64)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"values of an interval have shape {values.shape}; expected [seeds, users], neither 0")
    if not 0 < level < 1:
        raise ValueError(f"level of an interval is {level}; expected a share between 0 and 1")
    tail = (1 - level) / 2
    low, high = np.quantile(_bootstrap_means(values, draws, np.random.default_rng(seed)), [tail, 1 - tail])
    return Interval(float(low), float(high))


def _bootstrap_means(values: Values, draws: int, rng: np.random.Generator) -> Values:
    """`[D]` means of `values` `[S, U]` under redrawn users and seeds."""
    seeds, users = values.shape
    groups, sizes = np.unique(values, axis=1, return_counts=True)
    block = max(1, BLOCK_CELLS // len(sizes))
    means = []
    for start in range(0, draws, block):
        rows = min(block, draws - start)
        user_weights = rng.multinomial(users, sizes / users, size=rows) / users
        seed_weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=rows) / seeds
        means.append(np.einsum("ds,ds->d", seed_weights, user_weights @ groups.T))
    return np.concatenate(means)
