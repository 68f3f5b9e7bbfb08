"""Nearest by text: the items whose vectors are nearest, by cosine, to that of the history's last item.

A floor for whoever reads item text: what the vectors know before any model is trained. The last item itself comes last,
for its cosine of 1 says nothing of what comes next. An item with a vector of zeros has the cosine 0 to all.

    make bench MODELS=last_item_vectors CORPUS=beauty_2014
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_prep.corpus import TrainedKind, VectorKind
from models.api import Corpus, Fit, Ranking, Recommender
from models.parts.nearest import cosines, directions
from models.parts.next_item import last_item
from models.parts.ranking import rank_scores


@dataclass(frozen=True)
class Config:
    vectors: Literal[VectorKind, TrainedKind] = "tfidf"
    """Item vectors of `data_prep.embed`, or a SASRec's."""


SMALL = Config()


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    return LastItemVectors(config, torch.from_numpy(corpus.item_vectors()))


@final
class LastItemVectors(Recommender):
    history_length = 1
    directions: Tensor

    def __init__(self, config: Config, vectors: Float[Tensor, "I F"]) -> None:
        super().__init__()
        self.config = config
        # Not in the weights: the corpus has them.
        self.register_buffer("directions", directions(vectors), persistent=False)

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        return rank_scores(cosines(self.directions, last_item(history)), k)
