"""What followed the last item, before what is near it by text: by hand, and against sorting item by item."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from data_prep.corpus import ItemVectors
from models.api import Ranking
from models.transitions_text import SMALL, train
from tests.factories import corpus_of, held_out, no_fit, random_parts


def ranking(parts: list[list[int]], vectors: np.ndarray, histories: list[list[int]]) -> Ranking:
    values = np.concatenate([np.zeros_like(vectors[:1]), vectors]).astype(np.float32)
    corpus = corpus_of(held_out(parts), len(vectors))
    given = replace(corpus, vectors=ItemVectors(values, "npz", "hand", "0" * 64, True))
    return train(SMALL, given, no_fit).rank(torch.tensor(histories), len(vectors))


def test_order_by_hand() -> None:
    # After 1 came 2 twice and 4 once; after 3 nothing, after 5 itself.
    parts = [[1, 2], [1, 2, 3], [1, 4], [5, 5]]
    vectors = np.array([[1, 0], [0, 1], [1, 1], [-1, 0], [2, 1], [3, 0]])
    found = ranking(parts, vectors, [[3, 1], [1, 3], [5, 0]])
    # To 1 the nearest are 6, 5 and 3, and 1 itself is last; to 3 they are 5, then 1, 2 and 6, which are alike.
    assert found.items.tolist() == [[2, 4, 6, 5, 3, 1], [5, 1, 2, 6, 4, 3], [5, 3, 1, 6, 2, 4]]
    assert found.scores[0].tolist() == pytest.approx([8, 4 - 1, 1, 0.8**0.5, 0.5**0.5, -2])
    assert found.certified.all()


@pytest.mark.parametrize("seed", range(4))
def test_order_is_that_of_sorting_item_by_item(seed: int) -> None:
    parts, items = random_parts(seed), range(1, 13)
    vectors = np.random.default_rng(seed).normal(size=(12, 4))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    count = Counter(pair for part in parts for pair in pairwise(part))
    found = ranking(parts, vectors, [[last] for last in items])
    for last, row in zip(items, found.items.tolist(), strict=True):
        near = {item: float(unit[last - 1] @ unit[item - 1]) if item != last else -2 for item in items}
        assert row == sorted(items, key=lambda item: (-count[last, item], -near[item], item))
