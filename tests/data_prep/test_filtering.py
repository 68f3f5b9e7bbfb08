"""k-core, duplicate rule and order, against brute force on plain Python lists."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.filtering import Interactions, Sequences, k_core_sequences

Row = tuple[str, str, int]


def interactions(rows: list[Row]) -> Interactions:
    """Codes in order of appearance, so that they differ from the ranks of the ids."""
    users, items = (list(dict.fromkeys(row[column] for row in rows)) for column in (0, 1))
    return Interactions(
        np.array([users.index(row[0]) for row in rows], dtype=np.int32),
        np.array([items.index(row[1]) for row in rows], dtype=np.int32),
        np.array([row[2] for row in rows], dtype=np.int64),
        pa.array(users, pa.string()),
        pa.array(items, pa.string()),
    )


def by_user(result: Sequences) -> dict[str, list[str]]:
    items = np.array(result.item_ids.to_pylist())[result.flat - 1]
    parts = np.split(items, result.offsets[1:-1])
    return {user: part.tolist() for user, part in zip(result.user_ids.to_pylist(), parts, strict=True)}


def brute_force(rows: list[Row], k: int) -> dict[str, list[str]]:
    first: dict[tuple[str, str], int] = {}
    for user, item, time in rows:
        first[user, item] = min(time, first.get((user, item), time))
    kept = []
    for row in rows:
        if first.get(row[:2]) == row[2]:
            kept.append(row)
            del first[row[:2]]
    while True:
        users, items = Counter(row[0] for row in kept), Counter(row[1] for row in kept)
        left = [row for row in kept if users[row[0]] >= k and items[row[1]] >= k]
        if len(left) == len(kept):
            break
        kept = left
    kept.sort(key=lambda row: row[2])
    return {user: [row[1] for row in kept if row[0] == user] for user in sorted({row[0] for row in kept})}


ROWS = st.lists(
    st.tuples(st.sampled_from("zyxwvu"), st.sampled_from("gfedcba"), st.integers(0, 5)), min_size=1, max_size=80
)


@given(ROWS, st.integers(1, 4))
@settings(max_examples=300)
def test_equals_brute_force(rows: list[Row], k: int) -> None:
    expected = brute_force(rows, k)
    if not expected:
        with pytest.raises(ValueError, match=f"{k}-core is empty"):
            k_core_sequences(interactions(rows), k, "drawn")
        return
    result = k_core_sequences(interactions(rows), k, "drawn")
    assert by_user(result) == expected
    assert result.steps[-1]["interactions"] == len(result.flat)
    # The fixpoint: the same steps on their own result change nothing.
    again = [(user, item, time) for user, items in expected.items() for time, item in enumerate(items)]
    assert by_user(k_core_sequences(interactions(again), k, "again")) == expected


@given(ROWS, st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_ids_do_not_depend_on_file_order(rows: list[Row], random: Random) -> None:
    # No two rows at one time: ties alone may depend on the order of the file.
    timed = [(user, item, 1000 * time + place) for place, (user, item, time) in enumerate(rows)]
    shuffled = list(timed)
    random.shuffle(shuffled)
    one, other = (k_core_sequences(interactions(order), 1, "drawn") for order in (timed, shuffled))
    assert one.item_ids == other.item_ids
    assert one.user_ids == other.user_ids
    np.testing.assert_array_equal(one.flat, other.flat)
    np.testing.assert_array_equal(one.offsets, other.offsets)


def test_of_a_repeated_pair_the_earliest_row_stays() -> None:
    rows = [("u", "late then early", 9), ("u", "b", 5), ("u", "late then early", 1), ("u", "b", 7)]
    assert by_user(k_core_sequences(interactions(rows), 1, "x")) == {"u": ["late then early", "b"]}


def test_equal_times_keep_the_order_of_the_file() -> None:
    rows = [("u", item, 3) for item in "dbca"] + [("u", "d", 3)]
    assert by_user(k_core_sequences(interactions(rows), 1, "x")) == {"u": list("dbca")}


def test_every_step_is_counted() -> None:
    # User d has one row; without it item 3 has one row; without that user c has one row: three rounds.
    rows = [(pair[0], pair[1], time) for time, pair in enumerate(["a1", "a2", "b1", "b2", "c2", "c3", "d3", "a1"])]
    result = k_core_sequences(interactions(rows), 2, "x")
    assert [(s["step"], s["users"], s["items"], s["interactions"]) for s in result.steps] == [
        ("rows read", 4, 3, 8),
        ("after duplicates", 4, 3, 7),
        ("2-core, round 1", 3, 3, 6),
        ("2-core, round 2", 3, 2, 5),
        ("2-core, round 3", 2, 2, 4),
    ]
    assert by_user(result) == {"a": ["1", "2"], "b": ["1", "2"]}


def test_empty_core_says_what_there_was() -> None:
    with pytest.raises(ValueError, match=r"corpus tiny: the 5-core is empty; .* 1 users and 2 items"):
        k_core_sequences(interactions([("u", "a", 1), ("u", "b", 2)]), 5, "tiny")


def test_who_becomes_too_short_with_an_item_goes_too() -> None:
    """Item 3 has one row; without it user a has two, enough for the 2-core, too few for a sequence of three."""
    rows = [
        (pair[0], pair[1], time) for time, pair in enumerate(["a1", "a2", "a3", "b1", "b2", "b4", "c1", "c2", "c4"])
    ]
    result = k_core_sequences(interactions(rows), 2, "x", shortest=3)
    assert by_user(result) == {"b": ["1", "2", "4"], "c": ["1", "2", "4"]}
