"""Caser: a history as an image that convolutions read (Tang & Wang, WSDM 2018, arXiv 1809.07426).

The embeddings of the last L items are the rows of an image. Horizontal filters of every height slide over its rows,
and each keeps its largest response (eq. 3-5); vertical ones are weighted sums of all rows (eq. 6-8). Two fully
connected layers make of both a state, whose dot product with an item's embedding scores the item (eq. 9-10). As in
RecBole, the loss is full-softmax cross-entropy, output and input embeddings are the same, and every prefix is a sample
with one target.
Left out is the user's embedding, which joins the state in eq. 10 (the paper's Caser-vh): here a model ranks a history,
whoever it is of. Images begin with the oldest item and end in zero rows, as RecBole's.

Sizes are RecBole's, but for the width. The paper has L = 5, RecBole that of its sequences, 50 for ETEGRec.

Published on Musical_Instruments, with user embeddings (ETEGRec, table 3): R@5 .0242, R@10 .0392, N@5 .0154, N@10 .0202.

    make bench MODELS=caser CORPUS=musical_instruments
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from models.api import Batch, Budget, Corpus, Count, Fit, Ranking, Rate, Recommender, Share, Weight, later, tuned
from models.parts.dropout import Dropout
from models.parts.losses import Loss, next_item_loss
from models.parts.optim import adamw
from models.parts.ragged import grouped
from models.parts.ranking import rank_scores


@dataclass(frozen=True)
class Config:
    width: Count = tuned(128, choices=[64, 128, 256])
    """Item embedding and state size D. ETEGRec, whose row is the published one, has 128 for all models; RecBole 64."""
    horizontal: Count = tuned(8, choices=[4, 8, 16])
    """Filters of each height."""
    vertical: Count = tuned(4, choices=[2, 4, 8])
    """Weighted sums of the rows."""
    dropout: Share = tuned(0.4, low=0.1, high=0.7)
    """On what the filters give."""
    history: Count = 50
    """Rows of the image, L: the longest history, in items; longer ones keep their last items."""
    norms: Weight = tuned(1e-4, low=1e-6, high=1e-2, log=True)
    """Weight of the sum of the L2 norms, not squared, of all weights but biases."""
    loss: Loss = later("ce")
    lr: Rate = tuned(1e-3, low=1e-4, high=1e-2, log=True)
    weight_decay: Weight = 0.0
    batch_size: Count = 2048
    """Prefixes."""
    epochs: Count = 200
    patience: Count = 10
    valid_users: Count | None = None
    """Users that grade an epoch; None: all."""


# By validation on planted.
SMALL = Config(width=64, dropout=0.2, history=9, lr=2e-3, batch_size=128, patience=20)


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    budget = Budget(config.epochs, config.batch_size, config.patience, valid_users=config.valid_users)
    return fit("recommender", lambda: Caser(config, corpus.items), budget)


@final
class Caser(Recommender):
    def __init__(self, config: Config, items: int) -> None:
        super().__init__()
        self.config = config
        self.history_length = config.history
        self.item = nn.Embedding(items + 1, config.width, padding_idx=0)
        self.horizontal = nn.ModuleList(
            nn.Conv1d(config.width, config.horizontal, height) for height in range(1, config.history + 1)
        )
        self.vertical = nn.Linear(config.history, config.vertical)
        self.dropout = Dropout(config.dropout)
        read = config.vertical * config.width + config.horizontal * config.history
        self.hidden, self.output = nn.Linear(read, config.width), nn.Linear(config.width, config.width)
        nn.init.normal_(self.item.weight, std=1 / config.width)
        with torch.no_grad():
            self.item.weight[0].zero_()
        for layer in (self.hidden, self.output):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def states(self, history: Int[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        """Images are cut to about their own history: what zero rows give is known."""
        filters = self._filters()
        return grouped(history > 0, lambda rows, width: self._states(history[rows, :width], filters[:width]))

    def _states(self, history: Int[Tensor, "B T"], filters: list[Float[Tensor, "D C"]]) -> Float[Tensor, "B D"]:
        image = self.item(history)
        read = torch.cat([self._vertical(image), self._horizontal(image, filters)], 1)
        return F.relu(self.output(F.relu(self.hidden(self.dropout(read)))))

    def _vertical(self, image: Float[Tensor, "B T D"]) -> Float[Tensor, "B V"]:
        sums = F.linear(image.mT, self.vertical.weight[:, : image.shape[1]], self.vertical.bias)
        return sums.mT.flatten(1)

    def _filters(self) -> list[Float[Tensor, "D C"]]:
        """What the C horizontal filters of all heights weight each row of a window with: 0 below their height."""
        weights = [part.get_parameter("weight") for part in self.horizontal]
        padded = [F.pad(weight, (0, self.history_length - weight.shape[2])) for weight in weights]
        return list(torch.cat(padded).permute(2, 1, 0).contiguous().unbind())

    def _horizontal(self, image: Float[Tensor, "B T D"], filters: list[Float[Tensor, "D C"]]) -> Float[Tensor, "B C"]:
        """Each filter's largest response; one product gives those of all."""
        rows = image.shape[1]
        # A window that begins below the last row sees zeros alone, as do all after it: one stands for them.
        below = F.pad(image, (0, 0, 0, rows))
        windows = torch.cat([below[:, row : row + rows + 1] for row in range(rows)], 2)
        responses = windows @ torch.cat(filters) + torch.cat([part.get_parameter("bias") for part in self.horizontal])
        height = torch.arange(1, self.history_length + 1, device=image.device)
        height = height.repeat_interleave(self.config.horizontal)
        start = torch.arange(rows + 1, device=image.device)[:, None]
        beyond = start + height > self.history_length
        return F.relu(responses.masked_fill(beyond, -torch.inf).amax(1))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        states = self.states(batch.history)
        loss = next_item_loss(self.config.loss, states, self.item.weight[1:], batch.target - 1) / len(states)
        norms = [weight.norm() for name, weight in self.named_parameters() if name.endswith("weight")]
        return loss + self.config.norms * torch.stack(norms).sum()

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        return rank_scores((self.states(history) @ self.item.weight[1:].T).float(), k)

    def configure_optimizers(self) -> Any:
        return adamw(self, self.config.lr, self.config.weight_decay)
