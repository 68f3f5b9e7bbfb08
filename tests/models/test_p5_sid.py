"""P5-SID: numbers by first appearance in training, and their digits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from models.p5_sid import SMALL, digits, first_appearance, tokenize
from tests.factories import corpus_of, held_out, no_fit

# Item 7 is in validation and test parts alone, 4 in none.
PARTS = [[5, 2], [2, 8, 5, 3], [6], [3, 1]]


def test_numbers_by_hand() -> None:
    users = [[*part, 7, 7] for part in PARTS]
    for corpus in (corpus_of(users, 8), corpus_of(users, 8).without_test()):
        assert first_appearance(corpus).tolist() == [5, 1, 3, 6, 0, 4, 7, 2]


def test_an_item_of_held_out_parts_alone_comes_last_however_early_it_is() -> None:
    first, other = (first_appearance(corpus_of([[*part, item, item] for part in PARTS], 8)) for item in (7, 4))
    assert first.tolist() == other.tolist()


@pytest.mark.parametrize(
    ("items", "base", "expected"),
    [
        (5, 2, [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1], [1, 0, 0]]),
        (4, 2, [[0, 0], [0, 1], [1, 0], [1, 1]]),
        (3, 8, [[0], [1], [2]]),
        (1, 2, [[0]]),
    ],
)
def test_digits_by_hand(items: int, base: int, expected: list[list[int]]) -> None:
    assert digits(np.arange(items), base).tolist() == expected


def test_digits_are_a_number() -> None:
    numbers = np.random.default_rng(0).permutation(1_001)
    found = digits(numbers, 10)
    assert found.shape == (1_001, 4)
    assert (found @ [1_000, 100, 10, 1] == numbers).all()


def test_neighbours_in_a_sequence_share_their_first_code() -> None:
    corpus = corpus_of(held_out([[9, 4, 7, 2], [8, 1, 3, 6], [5]]), 9)
    index = tokenize(dataclasses.replace(SMALL, base=4), corpus, no_fit)
    assert index.sizes == (3, 4)
    assert index.codes[[9, 4, 7, 2], 0].tolist() == [[0, 0], [0, 1], [0, 2], [0, 3]]
    assert index.codes[[8, 1, 3, 6, 5], 0].tolist() == [[1, 0], [1, 1], [1, 2], [1, 3], [2, 0]]
    card = index.card()
    assert (card["duplicates_after"], card["sequences_per_item"], card["utilisation"]) == (0, 1, [1, 1])
