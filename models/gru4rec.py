"""GRU4Rec: a recurrent network reads a user's items (Hidasi et al., ICLR 2016, arXiv 1511.06939) and is trained on all
prefixes (Tan et al., DLRS 2016, arXiv 1606.08117).

h_t = GRU(h_{t-1}, e_t) reads the embeddings of the items; a linear layer takes h_t to the items' width, where its dot
product with an item's embedding scores the item. All positions of a user train in one pass, by full-softmax
cross-entropy. Sizes and loss are RecBole's, but for the width; of the papers are left out, as there, session-parallel
batches, whose items are one another's rivals under the ranking losses TOP1 and BPR, an output of its own weights, and
random cuts of the history. Of a history beyond `history` only the last so many positions train.

Published on Musical_Instruments (ETEGRec, table 3): R@5 .0345, R@10 .0537, N@5 .0220, N@10 .0281.

    make bench MODELS=gru4rec CORPUS=musical_instruments
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.api import Batch, Budget, Corpus, Count, Fit, Ranking, Rate, Recommender, Share, Weight, later, tuned
from models.parts.dropout import Dropout
from models.parts.losses import Loss
from models.parts.next_item import last, mean_prefixes, prefix_loss
from models.parts.optim import adamw
from models.parts.ragged import trimmed
from models.parts.ranking import rank_scores


@dataclass(frozen=True)
class Config:
    width: Count = tuned(128, choices=[64, 128, 256])
    """Item embedding size D. ETEGRec, whose row is the published one, has 128 for all models; RecBole 64."""
    hidden: Count = tuned(128, choices=[64, 128, 256])
    """State size of the GRU."""
    layers: Count = tuned(1, low=1, high=3)
    dropout: Share = tuned(0.3, low=0.1, high=0.7)
    """On the embeddings that the GRU reads."""
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


# By validation on planted.
SMALL = Config(width=64, hidden=64, lr=3e-3, batch_size=64, patience=20)


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    budget = Budget(config.epochs, config.batch_size, config.patience, valid_users=config.valid_users)
    # A user's longest training example holds all its training positions.
    users = corpus.examples("train").longest_per_user()
    mean = mean_prefixes(users, config.history, config.batch_size)
    return fit("recommender", lambda: Gru4Rec(config, corpus.items, mean), budget, users)


@final
class Gru4Rec(Recommender):
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
        self.dropout = Dropout(config.dropout)
        self.gru = nn.GRU(config.width, config.hidden, config.layers, bias=False, batch_first=True)
        self.output = nn.Linear(config.hidden, config.width)
        nn.init.xavier_normal_(self.item.weight)
        for weight in self.gru.parameters():
            nn.init.xavier_uniform_(weight)
        with torch.no_grad():
            self.item.weight[0].zero_()

    def states(self, history: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """State after each item, in the items' width; at padding it has no meaning."""
        return trimmed(self._states, (history > 0).sum(1), history)

    def _states(self, history: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        read, _ = self.gru(self.dropout(self.item(history)))
        return self.output(read)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        return prefix_loss(self.config.loss, self.states(batch.history), batch, self.item.weight[1:], self.positions)

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        states = last(self.states(history), history)
        return rank_scores((states @ self.item.weight[1:].T).float(), k)

    def configure_optimizers(self) -> Any:
        return adamw(self, self.config.lr, self.config.weight_decay)
