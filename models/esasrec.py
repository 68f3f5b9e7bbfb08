"""eSASRec: SASRec with LiGR blocks and sampled softmax (Tikhonovich et al., RecSys 2025, arXiv 2508.06450).

Its three choices: SASRec's objective, the next item at every position; blocks of LiGR (arXiv 2502.03417), whose halves
are normed first and gated by a sigmoid of what they are added to; cross-entropy of the next item among itself and
`negatives` items drawn evenly, for each position anew and without a correction. Of its code there are, besides, places
counted from the newest item, SwiGLU in the feed-forward halves, no scale or norm around the blocks, Xavier weights,
Adam with betas .9 and .98, and dropout on the table of items, one mask a step for what is read and what is scored.
Sizes are its code's for Beauty, but for the width, which is its table's: on Beauty_2014 256 is behind 64 on validation.
`esasrec-no-ligr` has SASRec's blocks instead, its table's SASRec+SS. There a batch's losses are averaged over its own
positions, here all positions of an epoch weigh alike, and gradients are clipped to length 1. Its evaluation
leaves out the items that a user has had, and Recall@10 of the others chooses the epoch; here NDCG@10 of all does.

Published (its repository; R@10 / N@10): Beauty_2014 .0928 / .0523, Sports_2014 .0560 / .0323, Toys_2014 .0939 / .0538;
SASRec+SS .0921 / .0531, .0569 / .0314, .0970 / .0580.

    make bench MODELS=esasrec CORPUS=beauty_2014
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from models.api import Batch, Budget, Corpus, Count, Fit, Ranking, Rate, Recommender, Share, Weight, divisible, tuned
from models.parts.dropout import Dropout
from models.parts.losses import sampled_cross_entropy
from models.parts.next_item import last, mean_prefixes, prefixes
from models.parts.optim import adamw
from models.parts.processes import processes
from models.parts.ragged import trimmed
from models.parts.ranking import rank_scores

OPEN = "the width: the paper's table of sizes says 64, taken here, the configurations of its repository say 256"


@dataclass(frozen=True)
class Config:
    width: Count = tuned(64, choices=[64, 128, 256])
    """Item embedding and hidden size D."""
    layers: Count = tuned(1, low=1, high=4)
    heads: Count = 1
    inner: Count = tuned(4, choices=[1, 2, 4])
    """Feed-forward size of LiGR blocks, in widths. The paper has 4 on Beauty, 2 on Sports, 1 on Toys."""
    block: Literal["ligr", "sasrec"] = "ligr"
    """`sasrec`: the blocks of SASRec's authors. Unlike there, no item looks at padding."""
    dropout: Share = tuned(0.2, low=0.1, high=0.5)
    """On the table of items, embeddings, attention weights, and within and behind the halves of a block."""
    history: Count = 50
    """Longest history, in items; longer ones keep their last items."""
    negatives: Count = tuned(256, choices=[128, 256])
    """Items that a next item competes with; one that is itself the next item counts as another."""
    lr: Rate = tuned(1e-3, low=1e-4, high=1e-2, log=True)
    weight_decay: Weight = 0.0
    batch_size: Count = 128
    """Users."""
    epochs: Count = 200
    patience: Count = 50
    valid_users: Count | None = None
    """Users that grade an epoch; None: all."""

    def __post_init__(self) -> None:
        divisible(self.width, self.heads)

    @property
    def unread(self) -> tuple[str, ...]:
        """Fields that nothing reads beside the others."""
        return ("inner",) if self.block == "sasrec" else ()


# By validation on planted.
SMALL = Config(lr=3e-3, batch_size=64, patience=20)


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    budget = Budget(config.epochs, config.batch_size, config.patience, valid_users=config.valid_users)
    # A user's longest training example holds all its training positions.
    users = corpus.examples("train").longest_per_user()
    mean = mean_prefixes(users, config.history, config.batch_size)
    return fit("recommender", lambda: ESasRec(config, corpus.items, mean), budget, users)


@final
class ESasRec(Recommender):
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
        self.place = nn.Embedding(config.history, config.width)
        self.dropout = Dropout(config.dropout)
        block = LigrBlock if config.block == "ligr" else SasRecBlock
        self.blocks = nn.ModuleList(block(config) for _ in range(config.layers))
        self.norm = nn.Identity() if config.block == "ligr" else nn.LayerNorm(config.width, eps=1e-8)
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.xavier_normal_(weight)
        with torch.no_grad():
            self.item.weight[0].zero_()

    def states(self, history: Int[Tensor, "B T"], items: Float[Tensor, "I D"]) -> Float[Tensor, "B T D"]:
        """State after each item, whose embedding is its row of `items`; at padding it has no meaning."""
        return trimmed(lambda rows: self._states(rows, items), (history > 0).sum(1), history)

    def _states(self, history: Int[Tensor, "B T"], items: Float[Tensor, "I D"]) -> Float[Tensor, "B T D"]:
        """Causal, so right padding needs no mask of its own."""
        length, width = (history > 0).sum(1, keepdim=True), history.shape[1]
        place = (length - 1 - torch.arange(width, device=history.device)).clamp(min=0)
        x = self.dropout(F.embedding(history, items) + self.place(place))
        mask = nn.Transformer.generate_square_subsequent_mask(width, device=x.device, dtype=x.dtype)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        place, target = prefixes(batch)
        items = self.dropout(self.item.weight)
        states = self.states(batch.history, items).flatten(0, 1)[place]
        loss = sampled_cross_entropy(states, items[1:], target - 1, self.config.negatives)
        # Each process sees its share of the batch, and their gradients are averaged.
        return loss * (processes() / self.positions)

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        items = self.item.weight
        states = last(self.states(history, items), history)
        return rank_scores((states @ items[1:].T).float(), k)

    def configure_optimizers(self) -> Any:
        return adamw(self, self.config.lr, self.config.weight_decay, betas=(0.9, 0.98))


class LigrBlock(nn.Module):
    """x + sigmoid(gate(x)) * half(norm(x)), for attention and then for a SwiGLU."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, inner = config.width, config.inner * config.width
        self.attention = nn.MultiheadAttention(width, config.heads, config.dropout, batch_first=True)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.gates = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.rise, self.way = (nn.Linear(width, inner, bias=False) for _ in range(2))
        self.fall = nn.Linear(inner, width, bias=False)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "B T D"], mask: Float[Tensor, "T T"]) -> Float[Tensor, "B T D"]:
        normed = self.norms[0](x)
        read, _ = self.attention(normed, normed, normed, attn_mask=mask, is_causal=True, need_weights=False)
        x = x + self.gates[0](x).sigmoid() * self.dropout(read)
        normed = self.norms[1](x)
        thought = self.fall(self.dropout(F.silu(self.rise(normed)) * self.way(normed)))
        return x + self.gates[1](x).sigmoid() * self.dropout(thought)


class SasRecBlock(nn.Module):
    """That of SASRec's authors: what is normed is the query, and what each half is added to."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(config.width, config.heads, config.dropout, batch_first=True)
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(2))
        self.rise, self.fall = (nn.Linear(config.width, config.width) for _ in range(2))
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "B T D"], mask: Float[Tensor, "T T"]) -> Float[Tensor, "B T D"]:
        query = self.norms[0](x)
        read, _ = self.attention(query, x, x, attn_mask=mask, is_causal=True, need_weights=False)
        x = self.norms[1](query + read)
        return x + self.dropout(self.fall(self.dropout(F.relu(self.rise(x)))))
