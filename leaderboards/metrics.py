"""Recall and NDCG from per-user ranks: the only numbers a board may show.

A metric whose name ends in `_unseen` is of the rank among the items that are not in the user's history.

Shape letter: `U` users.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

CUTOFFS = (5, 10, 20, 50)
# Ranks beyond this are stored as 0; no cut-off may be larger.
MAX_RANK = 50
NAMES = tuple(f"{name}@{k}" for k in CUTOFFS for name in ("recall", "ndcg"))
# Ranks among the items that a history does not hold are known this far: a list of so many and the history's items.
MAX_UNSEEN_RANK = 10
UNSEEN = "_unseen"
UNSEEN_NAMES = tuple(f"{name}{UNSEEN}" for name in NAMES if int(name.partition("@")[2]) <= MAX_UNSEEN_RANK)

Ranks = NDArray[np.integer[Any]]
Values = NDArray[np.float64]


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


def per_user(name: str, ranks: Ranks) -> Values:
    """`[U]` the metric of a record's name, as `ndcg@10` or, of ranks among unseen items, `ndcg@10_unseen`; arguments
    and errors are those of `recall`."""
    kind, _, k = name.removesuffix(UNSEEN).partition("@")
    return {"recall": recall, "ndcg": ndcg}[kind](ranks, int(k))


def metrics(ranks: Ranks, unseen_ranks: Ranks | None = None) -> dict[str, float]:
    """Means over users under the names of a record: `recall@5`, `ndcg@5`, ..., `ndcg@50`, then `recall@5_unseen`, ...

    Args:
        ranks: `[U]` as for `recall`, at least one user.
        unseen_ranks: `[U]` ranks among the items that are not in the history, 1..10, or 0 beyond; None under protocol
            v1, which knows none.

    Raises:
        ValueError: there is no user, or a rank is out of range.
    """
    if not ranks.size:
        raise ValueError("there are no ranks to average; expected one per user")
    found = {name: float(per_user(name, ranks).mean()) for name in NAMES}
    if unseen_ranks is not None:
        found |= {name: float(per_user(name, unseen_ranks).mean()) for name in UNSEEN_NAMES}
    return found
