"""BERT4Rec: masked items, found from both sides (Sun et al., CIKM 2019, arXiv 1904.06690).

A transformer that looks both ways reads a sequence in which some items are replaced by a mask; the state at a mask goes
through a layer with GELU and scores every item by its dot product with the item's embedding, plus a bias (eq. 7). It is
trained to find what was masked (eq. 8), by cross-entropy over all items. To rank, a mask is put behind the history.

Sizes and shares are RecBole's, but for the width: each prefix with its target is a sequence; half of the sequences have
their last item masked, as in ranking, of the others each item with a chance of one fifth. All masks of an epoch weigh
alike. RecBole draws that half by batches, here it is drawn by sequences; it leaves a user's last training item out of
all sequences, counts no mask on a sequence's first item, and ranks without the history's first item: not so here.

Published on Musical_Instruments (ETEGRec, table 3): R@5 .0305, R@10 .0483, N@5 .0196, N@10 .0253.

    make bench MODELS=bert4rec CORPUS=musical_instruments
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from models.api import Batch, Budget, Corpus, Count, Fit, Ranking, Rate, Recommender, Share, Weight, divisible, tuned
from models.parts.dropout import Dropout
from models.parts.encoder import EPSILON, encoder, initialise
from models.parts.losses import catalogue_cross_entropy
from models.parts.next_item import followed, last
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
    dropout: Share = tuned(0.2, low=0.1, high=0.7)
    """On embeddings, attention weights and the output of each half of a block."""
    masked: Share = tuned(0.2, low=0.1, high=0.6)
    """Chance of an item to be masked."""
    last_only: Share = 0.5
    """Sequences of which the last item is masked, and it alone."""
    history: Count = 50
    """Longest history, in items, before the mask; longer ones keep their last items."""
    lr: Rate = tuned(1e-3, low=1e-4, high=1e-2, log=True)
    weight_decay: Weight = 0.0
    batch_size: Count = 2048
    """Prefixes."""
    epochs: Count = 200
    patience: Count = 10
    valid_users: Count | None = None
    """Users that grade an epoch; None: all."""

    def __post_init__(self) -> None:
        divisible(self.width, self.heads)
        if not self.masked and not self.last_only:
            raise ValueError("masked and last_only are both 0; expected one above 0, or nothing is trained")


# By validation on planted.
SMALL = Config(width=64, layers=1, dropout=0.1, lr=2e-3, batch_size=64, patience=20)


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    budget = Budget(config.epochs, config.batch_size, config.patience, valid_users=config.valid_users)
    length = np.minimum(corpus.examples("train").length, config.history) + 1
    per_sequence = config.last_only + (1 - config.last_only) * config.masked * float(length.mean())
    return fit("recommender", lambda: Bert4Rec(config, corpus.items, per_sequence), budget)


@final
class Bert4Rec(Recommender):
    def __init__(self, config: Config, items: int, masks: float) -> None:
        """
        Args:
            masks: of a training sequence, on average.
        """
        super().__init__()
        self.config = config
        self.history_length = config.history
        self.masks = masks
        self.mask = items + 1
        self.item = nn.Embedding(items + 2, config.width, padding_idx=0)
        self.position = nn.Embedding(config.history + 1, config.width)
        self.norm = nn.LayerNorm(config.width, EPSILON)
        self.dropout = Dropout(config.dropout)
        self.blocks = encoder(config.width, config.heads, config.inner, config.layers, config.dropout, EPSILON)
        self.output = nn.Sequential(
            nn.Linear(config.width, config.width), nn.GELU(), nn.LayerNorm(config.width, EPSILON)
        )
        self.bias = nn.Parameter(torch.zeros(items))
        self.apply(initialise)

    def states(self, sequence: Int[Tensor, "B S"]) -> Float[Tensor, "B S D"]:
        """State at each item or mask; at padding it has no meaning."""
        return trimmed(self._states, (sequence > 0).sum(1), sequence)

    def _states(self, sequence: Int[Tensor, "B S"]) -> Float[Tensor, "B S D"]:
        positions = torch.arange(sequence.shape[1], device=sequence.device)
        x = self.dropout(self.norm(self.item(sequence) + self.position(positions)))
        return self.output(self.blocks(x, src_key_padding_mask=sequence == 0))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        sequence = followed(batch.history, batch.target)
        masked = self.drawn(sequence)
        place = masked.flatten().nonzero()[:, 0]
        states = self.states(sequence.masked_fill(masked, self.mask)).flatten(0, 1)[place]
        # One more column of the product is the bias.
        states = torch.cat([states, torch.ones_like(states[:, :1])], 1)
        items = torch.cat([self.item.weight[1:-1], self.bias[:, None]], 1)
        losses = catalogue_cross_entropy(states, items, sequence.flatten()[place] - 1)
        return losses / (self.masks * len(sequence))

    def drawn(self, sequence: Int[Tensor, "B S"]) -> Bool[Tensor, "B S"]:
        """Which items of training sequences are masked."""
        rows, width = sequence.shape
        length = (sequence > 0).sum(1, keepdim=True)
        place = torch.arange(width, device=sequence.device)
        # As many numbers whatever the padding, so that it changes no draw.
        chance = torch.rand(rows, self.history_length + 2, device=sequence.device)
        anywhere = (chance[:, 1 : width + 1] < self.config.masked) & (place < length)
        return torch.where(chance[:, :1] < self.config.last_only, place == length - 1, anywhere)

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        sequence = followed(history, history.new_full((len(history),), self.mask))
        states = last(self.states(sequence), sequence)
        return rank_scores((states @ self.item.weight[1:-1].T).float() + self.bias, k)

    def configure_optimizers(self) -> Any:
        return adamw(self, self.config.lr, self.config.weight_decay)
