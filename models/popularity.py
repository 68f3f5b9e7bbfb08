"""Popularity: every user gets the items that occur most often in the training parts.

The floor of every board. Nothing is learned, so it has no seeds and no budget; seconds on any corpus.

    make bench MODELS=popularity
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.api import Corpus, Fit, Ranking, Recommender
from models.parts.ranking import rank_scores


@dataclass(frozen=True)
class Config:
    """Nothing to set."""


SMALL = Config()


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    return Popularity(config, torch.from_numpy(corpus.training_counts()[1:]).float())


@final
class Popularity(Recommender):
    history_length = 1
    counts: Tensor

    def __init__(self, config: Config, counts: Float[Tensor, "N"]) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("counts", counts)

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        items, scores, certified, _ = rank_scores(self.counts[None], k)
        users = len(history)
        return Ranking(items.expand(users, -1), scores.expand(users, -1), certified.expand(users))
