"""Nearest items by cosine: order by hand, and ties of equal vectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32

from data_prep.corpus import ItemVectors
from models.api import Recommender
from models.last_item_vectors import SMALL, train
from tests.factories import corpus_of, no_fit


def made(vectors: Float32[np.ndarray, "N F"]) -> Recommender:
    values = np.concatenate([np.zeros_like(vectors[:1]), vectors])
    corpus = corpus_of([[1, 2, 3]], len(vectors))
    return train(SMALL, replace(corpus, vectors=ItemVectors(values, "npz", "hand", "0" * 64, True)), no_fit)


def test_order_by_hand() -> None:
    vectors = np.array([[1, 0], [1, 1], [0, 2], [-3, 0], [0, 0], [2, 2]], dtype=np.float32)
    found = made(vectors).rank(torch.tensor([[3, 1, 0], [2, 0, 0], [3, 1, 5]]), 7)
    # The last item itself comes last, whether others have its direction, the opposite one or none.
    assert found.items.tolist() == [[2, 6, 3, 5, 4, 1, 0], [6, 1, 3, 5, 4, 2, 0], [1, 2, 3, 4, 6, 5, 0]]
    root = 0.5**0.5
    expected = [[root, root, 0, 0, -1, -2], [1, root, root, 0, -root, -2], [0, 0, 0, 0, 0, -2]]
    torch.testing.assert_close(found.scores[:, :6], torch.tensor(expected))
    assert found.certified.all()


def test_equal_vectors_tie_in_every_batch() -> None:
    # Products of large matrices sum some columns in another order than others.
    different = np.random.default_rng(0).normal(size=(97, 256)).astype(np.float32)
    recommender = made(np.tile(different, (5, 1)))
    for users in (1, 7, 64):
        last = torch.arange(1, users + 1)[:, None]
        items, scores, _, _ = recommender.rank(last, 485)
        twins = ((items - last) % 97 == 0)[:, :4]
        assert twins.all()
        assert torch.equal(items[:, :4], last + 97 * torch.arange(1, 5))
        groups = scores[:, 4:-1].unflatten(1, (96, 5))
        assert torch.equal(groups, groups[:, :, :1].expand_as(groups))


def test_the_weights_hold_no_vectors_of_the_corpus() -> None:
    assert made(np.ones((3, 2), dtype=np.float32)).state_dict() == {}
