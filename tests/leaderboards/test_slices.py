"""Slices: who is in which, by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from leaderboards.record import RANKS_SCHEMA
from leaderboards.slices import LENGTH_PARTS, POPULARITY_PARTS, slices
from tests.leaderboards.test_record import ranks_of


def facts(counts: list[int], lengths: list[int], seen: list[bool]) -> pa.Table:
    users = len(counts)
    zero = np.zeros(users, dtype=np.uint8)
    columns = [
        np.arange(users, dtype=np.int32),
        *[zero] * 4,
        *(np.array(values, np.int32) for values in (counts, lengths)),
        np.array(seen),
    ]
    return pa.table(dict(zip(RANKS_SCHEMA.names, columns, strict=True)), schema=RANKS_SCHEMA)


def test_by_hand() -> None:
    counts = [0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    found = slices(facts(counts, [4] * 6 + [5] * 5, [True] + [False] * 10))
    named = {(part.family, part.name): np.flatnonzero(part.users).tolist() for part in found}
    assert named["target", "unseen in training"] == [0]
    assert named["target", "seen in training"] == list(range(1, 11))
    popularity = {name: users for (family, name), users in named.items() if "interactions" in family}
    # The first two tenths share a count, so they are one.
    assert popularity == {"1": [1, 2], **{str(count): [count + 1] for count in range(2, 10)}}
    assert named["items in the history", "4"] == list(range(6))
    assert named["items in the history", "5"] == list(range(6, 11))
    assert named["last item to target", "a transition seen in training"] == [0]
    assert named["last item to target", "new"] == list(range(1, 11))


def test_each_family_holds_its_users_once() -> None:
    ranks = ranks_of(5_000, 3)
    seen = int((ranks["target_count"].to_numpy() > 0).sum())
    by_family: dict[str, list[np.ndarray]] = {}
    for part in slices(ranks):
        by_family.setdefault(part.family, []).append(part.users)
    sizes = {family: np.sum(masks, 0) for family, masks in by_family.items()}
    assert all(size.max() == 1 for size in sizes.values())
    assert {family: int(size.sum()) for family, size in sizes.items()} == {
        "target": 5_000,
        "target's interactions in training": seen,
        "items in the history": 5_000,
        "last item to target": 5_000,
    }


def test_deciles_and_quarters_where_values_allow() -> None:
    rng = np.random.default_rng(0)
    counts, lengths = rng.permutation(1_000) + 1, rng.permutation(1_000) + 4
    found = slices(facts(counts.tolist(), lengths.tolist(), [False] * 1_000))
    for family, parts in [
        ("target's interactions in training", POPULARITY_PARTS),
        ("items in the history", LENGTH_PARTS),
    ]:
        assert [int(part.users.sum()) for part in found if part.family == family] == [1_000 // parts] * parts
    assert "4-253" in [part.name for part in found if part.family == "items in the history"]


@pytest.mark.parametrize("count", [0, 7])
def test_slices_that_nobody_is_in_are_left_out(count: int) -> None:
    names = [part.name for part in slices(facts([count] * 5, [4] * 5, [False] * 5))]
    assert names == [*(["unseen in training"] if count == 0 else ["seen in training", "7"]), "4", "new"]
