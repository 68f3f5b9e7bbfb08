"""Transitions: what followed the history's last item in the users' training parts.

A floor without parameters. Three counts order the items; each decides only between items that are equal in those
before it, and of items equal in all three the one with the smaller id comes first:

1. one hop: how often an item came directly after the last item;
2. two hops: how often it came after what came after the last item, a sum of products of one-hop counts;
3. popularity: how often it occurs in the training parts.

All counts are whole numbers, so that the order is exact. Nothing is learned, so there are no seeds and no budget.

By others (R@10, N@10): `transitions-bigram` .0659, .0427 on Beauty_2014, .0384, .0226 on Musical_Instruments, .0711,
.0514 on All_Beauty, each of which it reaches here, too; with two hops of a kind that was not stated, and seen items
skipped, .0690, .0448 on Beauty_2014, .0786, .0509 on Toys_2014, .0385, .0230 on Musical_Instruments.

    make bench MODELS=transitions CORPUS=beauty_2014
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from models.api import Corpus, Fit, Ranking, Recommender
from models.parts.links import counted, starts
from models.parts.next_item import last_item
from models.parts.ragged import members
from models.parts.ranking import rank_scores

# Up to it float64 holds every whole number.
EXACT = 2**53


@dataclass(frozen=True)
class Config:
    two_hops: bool = True
    """Otherwise popularity is directly behind one hop."""
    directed: bool = True
    """Otherwise an item that came directly before another counts as one that came after it, too."""


SMALL = Config()


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    return Transitions(config, *counted(corpus, config.directed), torch.from_numpy(corpus.training_counts()))


class Reached(NamedTuple):
    """Items that steps from the last items of a batch lead to.

    Attributes:
        user: `[X]` row of the batch.
        item: `[X]`; of one user an item can be reached on several ways.
        times: `[X]` product of the counts along the way.
    """

    user: Int[Tensor, "X"]
    item: Int[Tensor, "X"]
    times: Float64[Tensor, "X"]


@final
class Transitions(Recommender):
    history_length = 1
    first: Tensor
    following: Tensor
    counts: Tensor
    places: Tensor

    def __init__(
        self, config: Config, links: Int[Tensor, "2 E"], counts: Int[Tensor, "E"], popularity: Int[Tensor, "I"]
    ) -> None:
        """
        Args:
            links, counts: as `models.parts.links.counted` has them.

        Raises:
            ValueError: float64 would round the scores of so many interactions.
        """
        super().__init__()
        self.config = config
        rows, most = len(popularity), int(counts.max()) if len(counts) else 0
        # Two hops count less than this: from an item so many steps lead on at most, and from there each `most` times.
        above = most * int(torch.bincount(links[0], counts, rows).max()) + 1 if config.two_hops else 1
        if (most + 1) * above * rows > EXACT:
            raise ValueError(f"an item follows another {most:,} times; float64 cannot rank so many counts exactly")
        self.weights = (above * rows, rows)
        self.register_buffer("first", starts(links, rows))
        self.register_buffer("following", links[1])
        self.register_buffer("counts", counts.double())
        # Places, from the least popular item's: unlike counts no two are equal.
        self.register_buffer("places", popularity.flip(0).argsort(stable=True).argsort().flip(0).double())

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        last = last_item(history)
        scores = self.places.repeat(len(last), 1)
        reached = Reached(torch.arange(len(last), device=last.device), last, self.counts.new_ones(len(last)))
        hops = 2 if self.config.two_hops else 1
        for weight in self.weights[:hops]:
            reached = self._step(reached)
            scores.index_put_((reached.user, reached.item), weight * reached.times, accumulate=True)
        return rank_scores(scores[:, 1:], k)

    def _step(self, at: Reached) -> Reached:
        """One hop on, to all items that followed."""
        origin, link = members(self.first, at.item)
        return Reached(at.user[origin], self.following[link], at.times[origin] * self.counts[link])
