"""FMLP-Rec: filter-enhanced MLP is all you need for sequential recommendation (Zhou et al., WWW 2022, arXiv
2202.13556).

A transformer whose attention is replaced by a learnable filter in the frequency domain, section 4. X holds the
embeddings of a history's items and of their positions; a block makes of it

- the filter layer: X~ = F^-1(W * F(X)), F the Fourier transform along the positions, W a complex number for each
  frequency and feature; then LayerNorm(X + Dropout(X~));
- the feed-forward layer: two linear ones and GELU, with dropout, residual and norm like the other.

By the convolution theorem a filter is a circular convolution as long as the sequence: every state depends on all items,
and only the last, which follows the whole history, may score the next. So each prefix trains as a sample of its own.
Histories are padded on the left to their full length, and the padding, which has its positions, is filtered, too.

Sizes are the authors' code's, but for the width. Loss: the softmax over all items; the paper's own, with one uniform
negative for each sample, is `loss=bce`.

Published on Musical_Instruments (ETEGRec, table 3): R@5 .0328, R@10 .0529, N@5 .0206, N@10 .0271.

    make bench MODELS=fmlp_rec CORPUS=musical_instruments
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.api import Batch, Budget, Corpus, Count, Fit, Ranking, Rate, Recommender, Share, Weight, later, tuned
from models.parts.dropout import Dropout
from models.parts.encoder import EPSILON, initialise
from models.parts.losses import Loss, next_item_loss
from models.parts.optim import adamw
from models.parts.precision import in_float32
from models.parts.ranking import rank_scores


@dataclass(frozen=True)
class Config:
    width: Count = tuned(128, choices=[64, 128, 256])
    """Item embedding and hidden size D. ETEGRec, whose row is the published one, has 128 for all models; the paper 64.
    """
    inner: Count = 256
    """Feed-forward size; the paper: four times its width."""
    layers: Count = tuned(2, low=1, high=4)
    dropout: Share = tuned(0.5, low=0.1, high=0.7)
    """On embeddings and the output of each half of a block."""
    history: Count = 50
    """Length of all histories, in items: longer ones keep their last items, shorter ones are padded."""
    loss: Loss = later("ce")
    lr: Rate = tuned(1e-3, low=1e-4, high=1e-2, log=True)
    weight_decay: Weight = 0.0
    batch_size: Count = 2_048
    """Prefixes, as many as RecBole's."""
    epochs: Count = 200
    patience: Count = 10
    valid_users: Count | None = None
    """Users that grade an epoch; None: all."""


SMALL = Config(width=64, batch_size=256, history=16, dropout=0.2, lr=3e-3)


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    budget = Budget(config.epochs, config.batch_size, config.patience, valid_users=config.valid_users)
    return fit("recommender", lambda: FmlpRec(config, corpus.items), budget)


class Filter(nn.Module):
    """The transform F and its inverse are products with their matrices: over so few places that takes less time than a
    fast transform, whose gradient is one of complex numbers."""

    transform: Tensor
    inverse: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        frequencies = length // 2 + 1
        self.weight = nn.Parameter(torch.randn(frequencies, width, 2) * 0.02)
        """W, real and imaginary part."""
        spectra = torch.fft.rfft(torch.eye(length), dim=0, norm="ortho")
        self.register_buffer("transform", torch.cat([spectra.real, spectra.imag]), persistent=False)
        waves = torch.fft.irfft(torch.complex(*torch.eye(2 * frequencies).chunk(2, dim=1)), length, norm="ortho")
        self.register_buffer("inverse", waves.T.contiguous(), persistent=False)

    @in_float32
    def forward(self, x: Float[Tensor, "B T D"], first: int = 0) -> Float[Tensor, "B S D"]:
        """What is filtered, from place `first` on; a negative one is counted from the end."""
        real, imaginary = (self.transform @ x).chunk(2, dim=1)
        of_real, of_imaginary = self.weight.unbind(2)
        filtered = torch.cat(
            [of_real * real - of_imaginary * imaginary, of_real * imaginary + of_imaginary * real], dim=1
        )
        return self.inverse[first:] @ filtered


class Block(nn.Module):
    """A filter layer and a feed-forward layer (section 4)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.filter = Filter(config.history, config.width)
        self.feed_forward = nn.Sequential(
            nn.Linear(config.width, config.inner), nn.GELU(), nn.Linear(config.inner, config.width)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(config.width, EPSILON) for _ in range(2))
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "B T D"], first: int = 0) -> Float[Tensor, "B S D"]:
        """States from place `first` on: no others need the feed-forward layer."""
        x = self.norms[0](x[:, first:] + self.dropout(self.filter(x, first)))
        return self.norms[1](x + self.dropout(self.feed_forward(x)))


@final
class FmlpRec(Recommender):
    def __init__(self, config: Config, items: int) -> None:
        super().__init__()
        self.config = config
        self.history_length = config.history
        self.item = nn.Embedding(items + 1, config.width, padding_idx=0)
        self.position = nn.Embedding(config.history, config.width)
        self.norm = nn.LayerNorm(config.width, EPSILON)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.apply(initialise)

    def states(self, history: Int[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        """State after the whole history."""
        x = self.item(padded_left(history, self.config.history)) + self.position.weight
        x = self.dropout(self.norm(x))
        *lower, top = self.blocks
        for block in lower:
            x = block(x)
        return top(x, first=-1)[:, 0]

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        states = self.states(batch.history)
        # Batches are equally large, so that an epoch weighs all prefixes alike.
        return next_item_loss(self.config.loss, states, self.item.weight[1:], batch.target - 1) / len(states)

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        return rank_scores((self.states(history) @ self.item.weight[1:].T).float(), k)

    def configure_optimizers(self) -> Any:
        return adamw(self, self.config.lr, self.config.weight_decay)


def padded_left(history: Int[Tensor, "B T"], length: int) -> Int[Tensor, "B N"]:
    """Histories that are padded with 0 on the right, padded to a length on the left instead."""
    missing = length - (history > 0).sum(1, keepdim=True)
    source = torch.arange(length, device=history.device) - missing
    return history.gather(1, source.clamp(min=0)).masked_fill(source < 0, 0)
