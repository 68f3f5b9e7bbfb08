"""FDSA: feature-level deeper self-attention network for sequential recommendation (Zhang et al., IJCAI 2019).

Section 3: two transformers read a history side by side, one the items, the other their features, so that transitions
between features are learned as such. The outputs of both at a position, one behind the other, go through a linear
layer, and the state that it gives scores every item by its dot product with the item's embedding.

Sizes and loss are RecBole's, but for the width: it trains with a softmax over all items, and has one layer norm for
both inputs and the output. Of the paper's features (category, brand, topics of the text) the categories alone are
read. As in RecBole an item's feature is the mean of its categories' embeddings; the paper's vanilla attention over
several features, which would give the only one the weight 1, is left out. Its binary cross-entropy with negatives is
`loss=bce`.

Published on Musical_Instruments (ETEGRec, table 3): R@5 .0364, R@10 .0557, N@5 .0233, N@10 .0295.

    make bench MODELS=fdsa CORPUS=beauty_2014
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.api import (
    Batch,
    Budget,
    Corpus,
    Count,
    Fit,
    Ranking,
    Rate,
    Recommender,
    Share,
    Weight,
    divisible,
    later,
    tuned,
)
from models.parts.dropout import Dropout
from models.parts.encoder import EPSILON, causal, encoder, initialise
from models.parts.losses import Loss
from models.parts.next_item import last, mean_prefixes, prefix_loss
from models.parts.optim import adamw
from models.parts.ragged import trimmed
from models.parts.ranking import rank_scores


@dataclass(frozen=True)
class Config:
    width: Count = tuned(128, choices=[64, 128, 256])
    """Embedding and hidden size D. ETEGRec, whose row is the published one, has 128 for all models; RecBole 64."""
    inner: Count = 256
    """Feed-forward size."""
    layers: Count = tuned(2, low=1, high=4)
    """Of each transformer."""
    heads: Count = 2
    dropout: Share = tuned(0.5, low=0.1, high=0.7)
    """On embeddings, attention weights, the output of each half of a block, and the states."""
    history: Count = 50
    """Longest history, in items; longer ones keep their last items."""
    loss: Loss = later("ce")
    lr: Rate = tuned(1e-3, low=1e-4, high=1e-2, log=True)
    weight_decay: Weight = 0.0
    batch_size: Count = 256
    """Users; about 1,500 training positions on Amazon corpora (RecBole: 2,048 prefixes)."""
    epochs: Count = 200
    patience: Count = 10
    valid_users: Count | None = None
    """Users that grade an epoch; None: all."""

    def __post_init__(self) -> None:
        divisible(self.width, self.heads)


SMALL = Config(width=64, batch_size=64, dropout=0.2)


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    categories = torch.from_numpy(corpus.categories())
    budget = Budget(config.epochs, config.batch_size, config.patience, valid_users=config.valid_users)
    # A user's longest training example holds all its training positions.
    users = corpus.examples("train").longest_per_user()
    mean = mean_prefixes(users, config.history, config.batch_size)
    return fit("recommender", lambda: Fdsa(config, categories, mean), budget, users)


@final
class Fdsa(Recommender):
    categories: Tensor

    def __init__(self, config: Config, categories: Int[Tensor, "I C"], mean: float) -> None:
        """
        Args:
            categories: of each item, 0 where there is none.
            mean: training prefixes of a batch, on average, which the sum of its losses is divided by.
        """
        super().__init__()
        self.config = config
        self.history_length = config.history
        self.mean = mean
        # Not in the weights: the corpus has them.
        self.register_buffer("categories", categories, persistent=False)
        self.item = nn.Embedding(len(categories), config.width, padding_idx=0)
        self.feature = nn.EmbeddingBag(int(categories.max()) + 1, config.width, mode="mean", padding_idx=0)
        self.position = nn.Embedding(config.history, config.width)
        self.norm = nn.LayerNorm(config.width, EPSILON)
        self.dropout = Dropout(config.dropout)
        sizes = (config.width, config.heads, config.inner, config.layers, config.dropout, EPSILON)
        self.item_blocks, self.feature_blocks = encoder(*sizes), encoder(*sizes)
        self.merge = nn.Linear(2 * config.width, config.width)
        self.apply(initialise)

    def states(self, history: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """State after each item; at padding it has no meaning."""
        return trimmed(self._states, (history > 0).sum(1), history)

    def _states(self, history: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        position = self.position(torch.arange(history.shape[1], device=history.device))
        features = self.feature(self.categories[history].flatten(0, 1)).unflatten(0, history.shape)
        item_states = causal(self.item_blocks, self.dropout(self.norm(self.item(history) + position)))
        feature_states = causal(self.feature_blocks, self.dropout(self.norm(features + position)))
        merged = self.merge(torch.cat([item_states, feature_states], dim=2))
        return self.dropout(self.norm(merged))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        states = self.states(batch.history)
        return prefix_loss(self.config.loss, states, batch, self.item.weight[1:], self.mean)

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        states = last(self.states(history), history)
        return rank_scores((states @ self.item.weight[1:].T).float(), k)

    def configure_optimizers(self) -> Any:
        return adamw(self, self.config.lr, self.config.weight_decay)
