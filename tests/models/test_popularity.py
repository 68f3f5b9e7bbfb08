"""Popularity counts training parts only, and breaks ties by item id."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.api import Corpus, Fit, Ranking
from models.popularity import SMALL, train

# The last two items of each user are held out.
USERS = [[3, 1, 3, 4, 5], [3, 2, 5, 5], [2, 4, 5, 5], [4, 1, 1]]


def corpus_of(users: list[list[int]], items: int) -> Corpus:
    return Corpus(
        "hand",
        np.array([item for user in users for item in user], dtype=np.int32),
        np.cumsum([0, *map(len, users)]),
        [f"u{number}" for number in range(len(users))],
        [f"i{number}" for number in range(items)],
    )


@pytest.fixture
def no_fit() -> Fit:
    def fit(*args: object, **kwargs: object) -> None:
        raise AssertionError("popularity has nothing to train")

    return fit  # type: ignore[return-value]


def ranking(users: list[list[int]], fit: Fit, k: int = 6) -> Ranking:
    return train(SMALL, corpus_of(users, items=5), fit).rank(torch.tensor([[1], [2], [5]]), k)


def test_counts_of_training_parts_by_hand(no_fit: Fit) -> None:
    # Training parts: 3 1 3, 3 2, 2 4, 4. Items 2 and 4 tie at two, so 2 comes first; a sixth item does not exist.
    found = ranking(USERS, no_fit)
    assert found.items.tolist() == [[3, 2, 4, 1, 5, 0]] * 3
    assert found.scores.tolist() == [[3.0, 2.0, 2.0, 1.0, 0.0, -np.inf]] * 3
    assert found.certified.tolist() == [True] * 3


def test_held_out_items_do_not_count(no_fit: Fit) -> None:
    expected = ranking(USERS, no_fit)
    poisoned = [[*user[:-2], 1, 1] for user in USERS]
    assert torch.equal(ranking(poisoned, no_fit).items, expected.items)
    assert torch.equal(ranking(poisoned, no_fit).scores, expected.scores)
    # The same change one place earlier is seen.
    assert not torch.equal(ranking([[*user[:-3], 1, 1, 1] for user in USERS], no_fit).scores, expected.scores)
