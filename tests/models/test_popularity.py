"""Popularity counts training parts only, and breaks ties by item id."""

from __future__ import annotations

import numpy as np
import torch

from models.api import Ranking
from models.popularity import SMALL, train
from tests.factories import corpus_of, no_fit

# The last two items of each user are held out.
USERS = [[3, 1, 3, 4, 5], [3, 2, 5, 5], [2, 4, 5, 5], [4, 1, 1]]


def ranking(users: list[list[int]], k: int = 6) -> Ranking:
    return train(SMALL, corpus_of(users, items=5), no_fit).rank(torch.tensor([[1], [2], [5]]), k)


def test_counts_of_training_parts_by_hand() -> None:
    # Training parts: 3 1 3, 3 2, 2 4, 4. Items 2 and 4 tie at two, so 2 comes first; a sixth item does not exist.
    found = ranking(USERS)
    assert found.items.tolist() == [[3, 2, 4, 1, 5, 0]] * 3
    assert found.scores.tolist() == [[3.0, 2.0, 2.0, 1.0, 0.0, -np.inf]] * 3
    assert found.certified.tolist() == [True] * 3


def test_held_out_items_do_not_count() -> None:
    expected = ranking(USERS)
    poisoned = [[*user[:-2], 1, 1] for user in USERS]
    assert torch.equal(ranking(poisoned).items, expected.items)
    assert torch.equal(ranking(poisoned).scores, expected.scores)
    # The same change one place earlier is seen.
    assert not torch.equal(ranking([[*user[:-3], 1, 1, 1] for user in USERS]).scores, expected.scores)
