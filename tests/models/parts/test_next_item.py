"""Every position of a user's longest example is one training prefix, and none is lost or added."""

from __future__ import annotations

import numpy as np
import torch

from data_prep.batches import Batches
from models.api import Batch
from models.parts.next_item import last, mean_prefixes, prefixes
from tests.factories import corpus_of, held_out, random_parts

HISTORY = torch.tensor([[3, 1, 4], [9, 0, 0], [2, 6, 0]])


def test_prefixes_by_hand() -> None:
    place, target = prefixes(Batch(torch.arange(3), HISTORY, torch.tensor([5, 8, 7])))
    assert place.tolist() == [0, 1, 2, 3, 6, 7]
    assert target.tolist() == [1, 4, 5, 8, 6, 7]


def test_an_epoch_holds_every_training_prefix_once() -> None:
    corpus = corpus_of(held_out([[1, 2], *random_parts(0)]), 12)
    pairs = corpus.examples("train")
    expected = sorted((int(user), int(stop)) for user, stop in zip(pairs.user, pairs.stop, strict=True))
    users = pairs.longest_per_user()
    found: list[tuple[int, int]] = []
    start = dict(zip(users.user.tolist(), users.start.tolist(), strict=True))
    for batch in Batches(users, 7, 50, epoch=lambda: 0):
        place, target = prefixes(batch)
        row, column = np.divmod(place.numpy(), batch.history.shape[1])
        user = batch.user[row].tolist()
        stop = [start[one] + int(end) + 1 for one, end in zip(user, column, strict=True)]
        assert corpus.flat[stop].tolist() == target.tolist()
        found += zip(user, stop, strict=True)
    assert sorted(found) == expected
    batches = len(Batches(users, 7, 50, epoch=lambda: 0))
    assert mean_prefixes(users, 50, 7) == len(pairs) / batches
    assert mean_prefixes(users, 3, 7) == np.minimum(users.length, 3).sum() / batches


def test_the_last_state_is_that_of_the_last_item() -> None:
    states = torch.arange(18.0).view(3, 3, 2)
    assert last(states, HISTORY).tolist() == [[4, 5], [6, 7], [14, 15]]
