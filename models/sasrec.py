"""SASRec: self-attentive sequential recommendation (Kang & McAuley, ICDM 2018, arXiv 1808.09781).

A causal transformer over item embeddings; the state at a position scores every item by its dot product with the item's
embedding. All positions of a user train in one pass. Losses: full-softmax cross-entropy, as RecBole has it; the
paper's binary cross-entropy with one uniform negative per position, as in the tables of TIGER and LETTER; BPR with
one; and softmax over the next item and a sample. Sizes are RecBole's defaults, but for the width. RecBole trains every
prefix as a sample of its own; here all prefixes weigh alike, too, but of a history beyond `history` only the last so
many positions train. Its layer norms have torch's 1e-5, RecBole's 1e-12.

Published on Musical_Instruments (ETEGRec, table 3): R@5 .0341, R@10 .0530, N@5 .0217, N@10 .0277.

    make bench MODELS=sasrec CORPUS=musical_instruments
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.api import Batch, Budget, Corpus, Count, Fit, Ranking, Rate, Recommender, Share, Weight, divisible, tuned
from models.parts.dropout import Dropout
from models.parts.encoder import causal, encoder, initialise
from models.parts.losses import Loss
from models.parts.next_item import last, mean_prefixes, prefix_loss
from models.parts.optim import adamw
from models.parts.ragged import trimmed
from models.parts.ranking import rank_scores


@dataclass(frozen=True)
class Config:
    width: Count = tuned(128, choices=[64, 128, 256])
    """Item embedding and hidden size D. ETEGRec, whose row is the published one, has 128 for all models; RecBole 64."""
    inner: Count = 256
    """Feed-forward size."""
    layers: Count = tuned(2, low=1, high=4)
    heads: Count = 2
    dropout: Share = tuned(0.5, low=0.1, high=0.7)
    """On embeddings, attention weights and the output of each half of a block."""
    history: Count = 50
    """Longest history, in items; longer ones keep their last items."""
    loss: Loss = "ce"
    """`bce` is the paper's."""
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


# Learning rate and patience: by validation on planted and All_Beauty.
SMALL = Config(width=64, batch_size=64, lr=5e-4, patience=20)


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    budget = Budget(config.epochs, config.batch_size, config.patience, valid_users=config.valid_users)
    # A user's longest training example holds all its training positions.
    users = corpus.examples("train").longest_per_user()
    mean = mean_prefixes(users, config.history, config.batch_size)
    return fit("recommender", lambda: SasRec(config, corpus.items, mean), budget, users)


@final
class SasRec(Recommender):
    def __init__(self, config: Config, items: int, positions: float) -> None:
        """
        Args:
            positions: training positions of a batch, on average, which the sum of its losses is divided by.
        """
        super().__init__()
        self.config = config
        self.history_length = config.history
        self.positions = positions
        self.item = nn.Embedding(items + 1, config.width, padding_idx=0)
        self.position = nn.Embedding(config.history, config.width)
        self.norm = nn.LayerNorm(config.width)
        self.dropout = Dropout(config.dropout)
        self.blocks = encoder(config.width, config.heads, config.inner, config.layers, config.dropout)
        self.apply(initialise)

    def states(self, history: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """State after each item; at padding it has no meaning."""
        return trimmed(self._states, (history > 0).sum(1), history)

    def _states(self, history: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        positions = torch.arange(history.shape[1], device=history.device)
        return causal(self.blocks, self.dropout(self.norm(self.item(history) + self.position(positions))))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        states = self.states(batch.history)
        return prefix_loss(self.config.loss, states, batch, self.item.weight[1:], self.positions)

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        states = last(self.states(history), history)
        return rank_scores((states @ self.item.weight[1:].T).float(), k)

    def item_vectors(self) -> Float[Tensor, "I D"]:
        return self.item.weight.detach().clone()

    def configure_optimizers(self) -> Any:
        return adamw(self, self.config.lr, self.config.weight_decay)
