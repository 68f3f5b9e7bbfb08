"""Item-KNN: items that the history's items share their users with (Deshpande & Karypis, TOIS 22(1), 2004).

Section 4: the similarity of two items is the cosine of their columns in the binary user-item matrix of the training
parts, `s_ij = n_ij / (sqrt(n_i n_j) + shrink)`, where `n_ij` users have both items and `n_i` the first; each item keeps
its `k` most similar others. An item's score is the sum of its similarities to those items of the history that have it
among their `k`; items of the history itself score 0, as in algorithm 3.2. So do items that no user shares with the
history, which come in order of their ids.

`k` and `shrink`, which trusts similarities of few users less, have RecBole's defaults and the ranges of Dacrema et al.
(RecSys 2019, arXiv 1907.06902). Left out: columns of unit length. Nothing is learned, so there are no seeds and no
budget.

    make bench MODELS=item_knn CORPUS=beauty_2014
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int64
from torch import Tensor

from models.api import Corpus, Count, Fit, Ranking, Recommender, Weight, tuned
from models.parts.ownership import ownership
from models.parts.ranking import rank_scores


@dataclass(frozen=True)
class Config:
    k: Count = tuned(100, low=5, high=1_000, log=True)
    """Neighbours of an item."""
    shrink: Weight = tuned(0.0, low=0.0, high=1_000.0)


SMALL = Config()


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    owned = ownership(corpus)
    neighbours, similarity = most_similar(owned.T @ owned, config.k, config.shrink)
    return ItemKnn(config, torch.from_numpy(neighbours), torch.from_numpy(similarity))


def most_similar(shared: Any, k: int, shrink: float) -> tuple[Int64[np.ndarray, "I K"], Float32[np.ndarray, "I K"]]:
    """The `k` most similar others of each item, best first, of equals that of smaller id; 0 where there are fewer.

    Args:
        shared: `[I, I]` sparse, symmetric: users that two items share, on the diagonal those of each item.
    """
    users, pairs = shared.diagonal(), shared.tocoo()
    one, other, count = (part[pairs.row != pairs.col] for part in (pairs.row, pairs.col, pairs.data))
    similarity = (count / (np.sqrt(users[one] * users[other]) + shrink)).astype(np.float32)
    order = np.lexsort((other, -similarity, one))
    one, other, similarity = one[order], other[order], similarity[order]
    place = np.arange(len(one)) - np.searchsorted(one, one)
    kept = place < k
    size = (len(users), min(k, len(users)))
    neighbours, values = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.float32)
    neighbours[one[kept], place[kept]], values[one[kept], place[kept]] = other[kept], similarity[kept]
    return neighbours, values


@final
class ItemKnn(Recommender):
    # None is cut: all that is in a history scores 0.
    history_length = 2**31 - 1
    neighbours: Tensor
    similarity: Tensor

    def __init__(self, config: Config, neighbours: Int[Tensor, "I K"], similarity: Float[Tensor, "I K"]) -> None:
        """
        Args:
            neighbours: ids, each once in a row but for 0, which means none.
            similarity: to each of them; 0 for none.
        """
        super().__init__()
        self.config = config
        self.register_buffer("neighbours", neighbours)
        self.register_buffer("similarity", similarity)

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        seen = history.sort(1).values
        seen[:, 1:][seen[:, 1:] == seen[:, :-1]] = 0
        scores = self.similarity.new_zeros(len(history), len(self.neighbours))
        # One item of each history at a time: neighbours of one differ, so the order of sums is the same on a GPU.
        for item in seen.T:
            scores.scatter_add_(1, self.neighbours[item], self.similarity[item])
        return rank_scores(scores.scatter_(1, history, 0.0)[:, 1:], k)
