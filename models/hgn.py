"""HGN: hierarchical gating networks for sequential recommendation (Ma, Kang & Liu, KDD 2019, arXiv 1906.09217).

Of the embeddings e_1 ... e_t of a history, section 3:

- feature gating: e'_j = e_j * sigmoid(W_1 e_j + W_2 u + b) passes on what of an item matters to the user u;
- instance gating: g_j = sigmoid(w_3 e'_j + (W_4 u)_j) says which items do; pooled = sum g_j e'_j / sum g_j;
- item-item product: the score of item i is q_i (u + pooled + sum e_j), with an embedding q_i of its own.

Sizes and loss are RecBole's, but for the width: a softmax over all items for each prefix of a history, and average
pooling. The paper's ranking loss is `loss=bpr`. Left out: its windows of 5 items that predict the next 3, and its max
pooling.
RecBole gates the padding, too, and divides by it; here a history has none. A ranking is asked for a history, not for a
user, so that u is one vector for all, W_2 u part of b, and W_4 u a number for each place.

Published on Musical_Instruments (ETEGRec, table 3): R@5 .0319, R@10 .0515, N@5 .0202, N@10 .0265.

    make bench MODELS=hgn CORPUS=musical_instruments
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.api import Batch, Budget, Corpus, Count, Fit, Ranking, Rate, Recommender, Weight, later, tuned
from models.parts.losses import Loss, next_item_loss
from models.parts.optim import adamw
from models.parts.ranking import rank_scores

OPEN = "whom a history is of, for which HGN has a vector of each user: a ranking knows none, so all users share one"


@dataclass(frozen=True)
class Config:
    width: Count = tuned(128, choices=[64, 128, 256])
    """Embedding size D. ETEGRec, whose row is the published one, has 128 for all models; RecBole 64."""
    history: Count = 50
    """Longest history, in items; longer ones keep their last items. ETEGRec's; the paper's 5."""
    loss: Loss = later("ce")
    lr: Rate = tuned(1e-3, low=1e-4, high=1e-2, log=True)
    weight_decay: Weight = tuned(0.0, low=0.0, high=0.1)
    batch_size: Count = 2_048
    """Prefixes, as many as RecBole's."""
    epochs: Count = 200
    patience: Count = 10
    valid_users: Count | None = None
    """Users that grade an epoch; None: all."""


SMALL = Config(width=64, batch_size=256, history=5, lr=5e-3)


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    budget = Budget(config.epochs, config.batch_size, config.patience, valid_users=config.valid_users)
    return fit("recommender", lambda: Hgn(config, corpus.items), budget)


@final
class Hgn(Recommender):
    def __init__(self, config: Config, items: int) -> None:
        super().__init__()
        self.config = config
        self.history_length = config.history
        self.item = nn.Embedding(items + 1, config.width, padding_idx=0)
        self.predicted = nn.Embedding(items + 1, config.width)
        self.user = nn.Parameter(torch.empty(config.width))
        self.feature_gate = nn.Linear(config.width, config.width)
        self.instance_gate = nn.Linear(config.width, 1, bias=False)
        self.place = nn.Parameter(torch.zeros(config.history))
        self._initialise()

    def _initialise(self) -> None:
        """Normal(0, 1/D) for embeddings, Xavier's uniform for weights, as RecBole does."""
        for weight in (self.item.weight, self.predicted.weight, self.user):
            nn.init.normal_(weight, std=1 / self.config.width)
        for gate in (self.feature_gate, self.instance_gate):
            nn.init.xavier_uniform_(gate.weight)
        nn.init.zeros_(self.feature_gate.bias)
        with torch.no_grad():
            self.item.weight[0].zero_()

    def states(self, history: Int[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        """State after the whole history."""
        items = self.item(history)
        gated = items * torch.sigmoid(self.feature_gate(items))
        instance = torch.sigmoid(self.instance_gate(gated) + self.place[: history.shape[1], None])
        instance = instance * (history > 0)[:, :, None]
        pooled = (instance * gated).sum(1) / instance.sum(1)
        return self.user + pooled + items.sum(1)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        states = self.states(batch.history)
        # Batches are equally large, so that an epoch weighs all prefixes alike.
        return next_item_loss(self.config.loss, states, self.predicted.weight[1:], batch.target - 1) / len(states)

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        return rank_scores((self.states(history) @ self.predicted.weight[1:].T).float(), k)

    def configure_optimizers(self) -> Any:
        return adamw(self, self.config.lr, self.config.weight_decay)
