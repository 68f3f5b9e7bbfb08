"""Transitions: counts of training parts, one hop before two before popularity, exactly."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import data_prep
from benchmarks.evaluate import Grader
from leaderboards.metrics import metrics
from models.api import Ranking
from models.transitions import Config, Transitions, train
from tests.factories import corpus_of, held_out, no_fit, random_parts

# One follows the other twice: 1 2. Once: 2 3, 1 4, 4 5, 5 1. Items by popularity: 1, 2 and 4 alike, 3 and 5, 6 never.
PARTS = [[1, 2, 3], [1, 2], [1, 4], [4, 5, 1]]
ITEMS = 6


def ranking(config: Config, parts: list[list[int]], histories: list[list[int]], items: int = ITEMS) -> Ranking:
    return train(config, corpus_of(held_out(parts), items), no_fit).rank(torch.tensor(histories), items)


@pytest.mark.parametrize(
    ("config", "last", "expected"),
    [
        # 2 twice, 4 once; over 2 comes 3, twice, over 4 comes 5, once; 1 is the most popular.
        (Config(), 1, [2, 4, 3, 5, 1, 6]),
        (Config(two_hops=False), 1, [2, 4, 1, 3, 5, 6]),
        (Config(), 3, [1, 2, 4, 3, 5, 6]),
        (Config(), 5, [1, 2, 4, 3, 5, 6]),
        # 2 once; over 2 comes 1, twice, and 3, once.
        (Config(directed=False), 3, [2, 1, 3, 4, 5, 6]),
    ],
)
def test_order_by_hand(config: Config, last: int, expected: list[int]) -> None:
    found = ranking(config, PARTS, [[last]])
    assert found.items.tolist() == [expected]
    assert found.certified.all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("config", [Config(), Config(two_hops=False), Config(directed=False), Config(False, False)])
def test_order_is_that_of_counting_item_by_item(config: Config, seed: int) -> None:
    parts, items = random_parts(seed), range(1, 13)
    pairs = [pair for part in parts for pair in pairwise(part)]
    one = Counter(pairs + ([(b, a) for a, b in pairs] if not config.directed else []))
    popularity = Counter(item for part in parts for item in part)
    found = ranking(config, parts, [[last] for last in items], len(items))
    for last, row in zip(items, found.items.tolist(), strict=True):
        two = {item: sum(one[last, over] * one[over, item] for over in items) for item in items}
        behind = two if config.two_hops else dict.fromkeys(items, 0)
        assert row == sorted(items, key=lambda item: (-one[last, item], -behind[item], -popularity[item], item))


def test_two_hops_however_often_stay_behind_one() -> None:
    # 2 came after 1 once, 3 after 2 and 4 after 3 fifty times.
    parts = [[1, 2], [1, 3], *[[2, 3, 4]] * 50]
    assert ranking(Config(), parts, [[1]]).items.tolist() == [[3, 2, 4, 1, 5, 6]]


def test_of_a_history_the_last_item_counts() -> None:
    padded = ranking(Config(), PARTS, [[2, 1, 0], [3, 4, 5]])
    alone = ranking(Config(), PARTS, [[1], [5]])
    assert torch.equal(padded.items, alone.items)
    assert torch.equal(padded.scores, alone.scores)


def test_without_pairs_popularity_is_left() -> None:
    assert ranking(Config(), [[3], [3], [2]], [[3]]).items.tolist() == [[3, 2, 1, 4, 5, 6]]


def test_counts_that_float64_would_round_are_refused() -> None:
    links, popularity = torch.tensor([[1], [2]]), torch.tensor([0, 1, 1])
    largest = 2**17  # its cube, times three rows, is below 2^53
    Transitions(Config(), links, torch.tensor([largest]), popularity)
    with pytest.raises(ValueError, match=r"^an item follows another 262,144 times; float64 cannot rank so many counts"):
        Transitions(Config(), links, torch.tensor([2 * largest]), popularity)
    # One hop has no counts of two to stay above.
    one = Transitions(Config(two_hops=False), links, torch.tensor([2 * largest]), popularity)
    assert one.rank(torch.tensor([[1]]), 2).items.tolist() == [[2, 1]]


def test_bigrams_reach_what_others_count(real_data: Path, tmp_path: Path) -> None:
    """On All_Beauty, nothing masked: R@10 .0711, N@10 .0514."""
    corpus = data_prep.load("all_beauty", "local", tmp_path, real_data)
    found = metrics(Grader(corpus, "test", k=10)(train(Config(two_hops=False), corpus.without_test(), no_fit)).ranks)
    assert np.round([found["recall@10"], found["ndcg@10"]], 4).tolist() == [0.0711, 0.0514]
