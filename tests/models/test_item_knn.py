"""Item-KNN: cosine of shared users over training parts, k neighbours, sums over the history."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from models.api import Ranking
from models.item_knn import Config, train
from tests.factories import corpus_of, held_out, no_fit, random_parts

# Users of 1: three, of 2: two, of 3: two, of 4: one. 1 and 2 share two, 1 and 3, 1 and 4, 2 and 3 one.
PARTS = [[1, 2], [2, 3, 1], [3], [1, 4, 1]]
ITEMS = 5


def ranking(config: Config, parts: list[list[int]], histories: list[list[int]], items: int = ITEMS) -> Ranking:
    return train(config, corpus_of(held_out(parts), items), no_fit).rank(torch.tensor(histories), items)


@pytest.mark.parametrize(
    ("config", "history", "items", "scores"),
    [
        # What the history holds scores 0, as what shares no user with it.
        (Config(), [1, 3], [2, 4, 1, 3, 5], [2 / math.sqrt(6) + 1 / 2, 1 / math.sqrt(3), 0, 0, 0]),
        (Config(), [4], [1, 2, 3, 4, 5], [1 / math.sqrt(3), 0, 0, 0, 0]),
        # 4 is nearer to 1 than 3 is; 1 is the one neighbour of 2, 2 that of 3.
        (Config(k=1), [2, 3], [1, 2, 3, 4, 5], [2 / math.sqrt(6), 0, 0, 0, 0]),
        (Config(k=2), [1], [2, 4, 1, 3, 5], [2 / math.sqrt(6), 1 / math.sqrt(3), 0, 0, 0]),
        (Config(shrink=3.0), [4], [1, 2, 3, 4, 5], [1 / (math.sqrt(3) + 3), 0, 0, 0, 0]),
    ],
)
def test_scores_by_hand(config: Config, history: list[int], items: list[int], scores: list[float]) -> None:
    found = ranking(config, PARTS, [history])
    assert found.items.tolist() == [items]
    torch.testing.assert_close(found.scores[0], torch.tensor(scores, dtype=torch.float32))
    assert found.certified.all()


def test_an_item_counts_once_however_often_and_where_it_was() -> None:
    found = ranking(Config(), PARTS, [[1, 3, 0, 0], [3, 1, 0, 0], [1, 3, 1, 3], [1, 1, 3, 0]])
    for row in range(1, 4):
        assert torch.equal(found.items[row], found.items[0])
        assert torch.equal(found.scores[row], found.scores[0])


def test_no_item_is_its_own_neighbour() -> None:
    model = train(Config(), corpus_of(held_out(PARTS), ITEMS), no_fit)
    neighbours = model.get_buffer("neighbours")
    assert (neighbours != torch.arange(ITEMS + 1)[:, None]).logical_or(neighbours == 0).all()
    assert neighbours[1, :4].tolist() == [2, 4, 3, 0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("config", [Config(), Config(k=3), Config(k=2, shrink=1.5)])
def test_scores_are_those_of_counting_pair_by_pair(config: Config, seed: int) -> None:
    parts, items = random_parts(seed), list(range(1, 13))
    users = {item: {user for user, part in enumerate(parts) if item in part} for item in items}
    near = np.zeros((13, 13), dtype=np.float32)
    for one in items:
        for other in set(items) - {one}:
            whole = math.sqrt(len(users[one]) * len(users[other])) + config.shrink
            near[one, other] = len(users[one] & users[other]) / whole if whole else 0
        for other in sorted(items, key=lambda other: (-near[one, other], other))[config.k :]:
            near[one, other] = 0
    histories = [sorted(set(part)) for part in random_parts(seed + 100)]
    expected = np.stack([near[history].sum(0) for history in histories])
    for row, history in zip(expected, histories, strict=True):
        row[history] = 0
    found = ranking(config, parts, [history + [0] * (7 - len(history)) for history in histories], 12)
    scores = torch.zeros(len(histories), 13).scatter(1, found.items, found.scores)
    torch.testing.assert_close(scores, torch.from_numpy(expected))


def test_a_history_longer_than_any_of_the_corpus_is_read_whole() -> None:
    corpus = corpus_of([[1, 2, 3, 4], [2, 3, 1, 4], [3, 4, 1, 2], [5, 1, 2, 3]], 6)
    model = train(Config(), corpus.without_test(), no_fit)
    found = model.rank(torch.tensor([[1, 3, 5, 6, 4][-model.history_length :]]), 6)
    assert found.items[0, 0] == 2
    assert found.scores[0, 1:].tolist() == [0.0] * 5, "all others are in the history"
