"""Interactions with times -> ordered sequences: duplicate rule, stable sort, k-core to the fixpoint.

String ids become int32 codes once, when a file is read; everything here is arithmetic on those codes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int, Int32, Int64

Step = dict[str, Any]
# The step that leaves users of so many interactions.
USERS_OF = "users of {} or more"


@dataclass(frozen=True)
class Interactions:
    """What a file with times says, in file order.

    Attributes:
        user: `[M]` index into `user_ids`.
        item: `[M]` index into `item_ids`.
        timestamp: `[M]` milliseconds since 1970.
        user_ids: raw user ids, each once, in any order.
        item_ids: raw item ids (parent_asin), each once, in any order.
        malformed_lines: how many lines of the file were left out.
        order_only: the file has no times; `timestamp` is then a place in it.
    """

    user: Int32[np.ndarray, "M"]
    item: Int32[np.ndarray, "M"]
    timestamp: Int64[np.ndarray, "M"]
    user_ids: pa.Array
    item_ids: pa.Array
    malformed_lines: int = 0
    order_only: bool = False


@dataclass(frozen=True)
class Sequences:
    """Ordered sequences with ids that do not depend on the order of the file.

    Attributes:
        flat: `[M]` item ids 1..N, one user after the other, oldest first.
        offsets: `[U+1]`; user `u` owns `flat[offsets[u]:offsets[u+1]]`.
        user_ids: `[U]` raw user ids, ascending.
        item_ids: `[N]` raw item ids of items 1..N, ascending.
        steps: users, items and interactions left after each step.
        malformed_lines: how many lines were left out before the first step.
        times: `[M]` of the interactions, in the source's unit; None where the source has an order only.
    """

    flat: Int32[np.ndarray, "M"]
    offsets: Int64[np.ndarray, "U1"]
    user_ids: pa.Array
    item_ids: pa.Array
    steps: list[Step] = field(default_factory=list)
    malformed_lines: int = 0
    times: Int64[np.ndarray, "M"] | None = None


class Rows(NamedTuple):
    """Interactions in the order that users are to have them in. Attributes: time, None where there is an order only."""

    user: Int32[np.ndarray, "M"]
    item: Int32[np.ndarray, "M"]
    time: Int64[np.ndarray, "M"] | None

    def where(self, kept: Bool[np.ndarray, "M"]) -> Rows:
        return Rows(self.user[kept], self.item[kept], None if self.time is None else self.time[kept])


def k_core_sequences(data: Interactions, k: int, name: str, shortest: int = 1, once: bool = True) -> Sequences:
    """Protocol v1: of a repeated (user, item) the earliest is kept, at equal times the earlier row; users' sequences
    are sorted by time, ties in file order; users and items with fewer than `k` interactions go, to the fixpoint.

    The rule is that of the official benchmark files (hyp1231/AmazonReviews2023, `benchmark_scripts`).

    Args:
        shortest: users with fewer interactions go, too, whatever `k` is; a step of its own tells how many.
        once: apply the rule of the repeated pair; else all interactions stay.

    Raises:
        ValueError: nothing is left; the sentence names `name` and the counts before.
    """
    steps = [_step("rows read", data.user, data.item)]
    by_time = np.argsort(data.timestamp, kind="stable")
    times = None if data.order_only else data.timestamp[by_time]
    rows = Rows(data.user[by_time], data.item[by_time], times)
    del by_time
    if once:
        rows = rows.where(first_of_pair(rows.user, rows.item, len(data.item_ids)))
        steps.append(_step("after duplicates", rows.user, rows.item))
    before = steps[-1]
    if shortest > 1:
        rows = rows.where((np.bincount(rows.user) >= shortest)[rows.user])
        steps.append(_step(USERS_OF.format(shortest), rows.user, rows.item))
    rows = _peel(rows, k, shortest, steps)
    if not len(rows.user):
        raise ValueError(
            f"corpus {name}: the {k}-core is empty; expected some of its {before['users']:,} users and "
            f"{before['items']:,} items to have {k} interactions with one another"
        )
    return replace(in_order(rows, data.user_ids, data.item_ids, steps), malformed_lines=data.malformed_lines)


def in_order(rows: Rows, user_ids: pa.Array, item_ids: pa.Array, steps: list[Step]) -> Sequences:
    """Give users and items their final ids (by ascending raw id) and lay the users one after the other; within a user
    the order of the rows stays."""
    user, user_ids = _ranked(rows.user, user_ids)
    item, item_ids = _ranked(rows.item, item_ids)
    by_user = np.argsort(user, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=len(user_ids)))]).astype(np.int64)
    times = None if rows.time is None else rows.time[by_user]
    return Sequences(item[by_user] + np.int32(1), offsets, user_ids, item_ids, steps, times=times)


def first_of_pair(user: Int[np.ndarray, "M"], item: Int32[np.ndarray, "M"], items: int) -> Bool[np.ndarray, "M"]:
    """True for the first row of each (user, item); `items`: more than any number of an item."""
    pair = user.astype(np.int64) * items + item
    order = np.argsort(pair, kind="stable")
    pair = pair[order]
    first = np.ones(len(pair), dtype=bool)
    first[order[1:][pair[1:] == pair[:-1]]] = False
    return first


def _peel(rows: Rows, k: int, shortest: int, steps: list[Step]) -> Rows:
    """Drop users and items with fewer than `k` rows, users with fewer than `shortest`, too, until none is left to drop;
    the fixpoint is unique."""
    before = len(steps) - 1
    while True:
        user, item = rows.user, rows.item
        keep = (np.bincount(user) >= max(k, shortest))[user] & (np.bincount(item) >= k)[item]
        if keep.all():
            return rows
        rows = rows.where(keep)
        steps.append(_step(f"{k}-core, round {len(steps) - before}", rows.user, rows.item))


def _ranked(code: Int32[np.ndarray, "M"], ids: pa.Array) -> tuple[Int32[np.ndarray, "M"], pa.Array]:
    """Codes as ranks of their raw ids among those that occur, and these ids, ascending."""
    used = np.flatnonzero(np.bincount(code, minlength=len(ids)))
    kept = ids.take(pa.array(used))
    ascending = pc.sort_indices(kept).to_numpy()
    rank = np.zeros(len(ids), dtype=np.int32)
    rank[used[ascending]] = np.arange(len(used), dtype=np.int32)
    return rank[code], kept.take(pa.array(ascending))


def _step(name: str, user: Int32[np.ndarray, "M"], item: Int32[np.ndarray, "M"]) -> Step:
    users, items = (int(np.count_nonzero(np.bincount(code))) for code in (user, item))
    return {"step": name, "users": users, "items": items, "interactions": len(user)}
