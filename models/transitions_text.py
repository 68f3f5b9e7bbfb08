"""Transitions and text: what followed the history's last item in training, and behind it what is nearest by text.

A floor without parameters. How often an item came directly after the last one decides; between items of one count, most
of which never did, the cosine of their text vectors to the last item's. The last item itself has no cosine: it comes
last among those that followed as often. Nothing is learned, so there are no seeds and no budget.

    make bench MODELS=transitions_text CORPUS=beauty_2014
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_prep.corpus import TrainedKind, VectorKind
from models.api import Corpus, Fit, Ranking, Recommender
from models.parts.links import counted, starts
from models.parts.nearest import cosines, directions
from models.parts.next_item import last_item
from models.parts.ragged import members
from models.parts.ranking import rank_scores

# What one transition counts: more than cosines can be apart.
ONE = 4.0


@dataclass(frozen=True)
class Config:
    vectors: Literal[VectorKind, TrainedKind] = "tfidf"
    """Item vectors of `data_prep.embed`, or a SASRec's."""


SMALL = Config()


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    return TransitionsText(config, *counted(corpus), torch.from_numpy(corpus.item_vectors()))


@final
class TransitionsText(Recommender):
    history_length = 1
    start: Tensor
    following: Tensor
    counts: Tensor
    directions: Tensor

    def __init__(
        self, config: Config, links: Int[Tensor, "2 E"], counts: Int[Tensor, "E"], vectors: Float[Tensor, "I F"]
    ) -> None:
        """
        Args:
            links, counts: as `models.parts.links.counted` has them.
        """
        super().__init__()
        self.config = config
        self.register_buffer("start", starts(links, len(vectors)))
        self.register_buffer("following", links[1])
        self.register_buffer("counts", counts)
        # Not in the weights: the corpus has them.
        self.register_buffer("directions", directions(vectors), persistent=False)

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        last = last_item(history)
        scores = cosines(self.directions, last).double()
        origin, link = members(self.start, last)
        scores.index_put_((origin, self.following[link] - 1), ONE * self.counts[link].double(), accumulate=True)
        return rank_scores(scores, k)
