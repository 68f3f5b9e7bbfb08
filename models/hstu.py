"""HSTU: actions speak louder than words, trillion-parameter sequential transducers (Zhai et al., ICML 2024, arXiv
2402.17152). Here as in its section 4.1.1, the next item from the items before it.

A layer makes of X, the embeddings of a history's items and positions at first, eq. 1 to 3:

- U, V, Q, K = split(SiLU(W_1 Norm(X))), in heads;
- A(X) V(X) = SiLU(Q K^T + rab) V / n: attention that is pointwise, not a softmax, so that how often something was in
  the history is not lost; rab is a learned bias by relative position, n the longest history;
- Y(X) = W_2 (Norm(A(X) V(X)) * U(X)), which is added to X. There is no feed-forward layer.

The state at a position scores every item by the cosine with the item's embedding, over a temperature. What the
equations leave open, the first norm, 1/n, residual and cosine, is the authors' code's; sizes are those of its "HSTU"
on Amazon Books. Left out: the bias by time, for sequences have an order alone; the drawing of 512 negatives, in place
of which the softmax goes over all items; and all that is for ranking among actions and for speed at its scale.
Its AdamW averages squares of gradients by .98, here .999, torch's own. Gradients are clipped to length 1; most steps
have longer ones.

Published on Beauty_2014: R@5 .0423, R@10 .0623, N@5 .0282, N@10 .0347 (PIT, table 2); .0469, .0704, .0314, .0389 (RPG,
arXiv 2506.05781).

    make bench MODELS=hstu CORPUS=beauty_2014
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

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
from models.parts.losses import Loss
from models.parts.next_item import last, mean_prefixes, prefix_loss
from models.parts.optim import adamw
from models.parts.ragged import trimmed
from models.parts.ranking import rank_scores


@dataclass(frozen=True)
class Config:
    width: Count = tuned(64, choices=[64, 128, 256])
    """Embedding and hidden size D, shared out among the heads of U, V, Q and K alike."""
    layers: Count = tuned(4, low=1, high=8)
    heads: Count = 4
    dropout: Share = tuned(0.5, low=0.1, high=0.7)
    """On the embeddings and before W_2."""
    temperature: Rate = tuned(0.05, low=0.02, high=0.2, log=True)
    history: Count = 50
    """Longest history, in items; longer ones keep their last items."""
    loss: Loss = later("ce")
    lr: Rate = tuned(1e-3, low=1e-4, high=1e-2, log=True)
    weight_decay: Weight = 0.0
    batch_size: Count = 128
    """Users."""
    epochs: Count = 200
    patience: Count = 10
    valid_users: Count | None = None
    """Users that grade an epoch; None: all."""

    def __post_init__(self) -> None:
        divisible(self.width, self.heads)


SMALL = Config(layers=2, batch_size=64, dropout=0.2, lr=3e-3)


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    budget = Budget(config.epochs, config.batch_size, config.patience, valid_users=config.valid_users)
    # A user's longest training example holds all its training positions.
    users = corpus.examples("train").longest_per_user()
    mean = mean_prefixes(users, config.history, config.batch_size)
    return fit("recommender", lambda: Hstu(config, corpus.items, mean), budget, users)


class Layer(nn.Module):
    """Eq. 1 to 3 and the residual connection."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads, self.longest, self.dropout = config.heads, config.history, Dropout(config.dropout)
        self.norm = nn.LayerNorm(config.width, eps=1e-6, elementwise_affine=False)
        self.project = nn.Linear(config.width, 4 * config.width, bias=False)
        self.merge = nn.Linear(config.width, config.width)
        # By how far back an item lies.
        self.bias = nn.Parameter(torch.empty(config.history))
        nn.init.normal_(self.project.weight, std=0.02)
        nn.init.xavier_uniform_(self.merge.weight)
        nn.init.normal_(self.bias, std=0.02)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        u, *read = F.silu(self.project(self.norm(x))).chunk(4, dim=2)
        value, query, key = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in read)
        place = torch.arange(x.shape[1], device=x.device)
        back = place[:, None] - place
        weights = F.silu(query @ key.mT + self.bias[back.clamp(min=0)]) / self.longest
        attended = (weights.masked_fill(back < 0, 0) @ value).transpose(1, 2).flatten(2)
        return x + self.merge(self.dropout(self.norm(attended) * u))


@final
class Hstu(Recommender):
    def __init__(self, config: Config, items: int, mean: float) -> None:
        """
        Args:
            mean: training prefixes of a batch, on average, which the sum of its losses is divided by.
        """
        super().__init__()
        self.config = config
        self.history_length = config.history
        self.mean = mean
        self.item = nn.Embedding(items + 1, config.width, padding_idx=0)
        self.position = nn.Embedding(config.history, config.width)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.Sequential(*(Layer(config) for _ in range(config.layers)))
        nn.init.trunc_normal_(self.item.weight, std=0.02, a=-0.04, b=0.04)
        # torch's bounds are of -2 and 2, so that nothing is cut here.
        nn.init.trunc_normal_(self.position.weight, std=config.width**-0.5)

    def states(self, history: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """State after each item, of length 1; at padding it has no meaning."""
        return trimmed(self._states, (history > 0).sum(1), history)

    def _states(self, history: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        position = self.position(torch.arange(history.shape[1], device=history.device))
        x = self.dropout(self.item(history) * self.config.width**0.5 + position)
        return F.normalize(self.layers(x), dim=2)

    def directions(self) -> Float[Tensor, "N D"]:
        """What the states are compared with: embeddings of length 1."""
        return F.normalize(self.item.weight[1:], dim=1)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        states = self.states(batch.history) / self.config.temperature
        return prefix_loss(self.config.loss, states, batch, self.directions(), self.mean)

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        states = last(self.states(history), history)
        return rank_scores((states @ self.directions().T).float() / self.config.temperature, k)

    def configure_optimizers(self) -> Any:
        return adamw(self, self.config.lr, self.config.weight_decay)
