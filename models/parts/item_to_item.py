"""I2I pre-training and RQ-k-means: codes of items from what follows what, the start of PIT's online system (figure 5).

The paper names both and states no more: sizes, loss and pairs are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from models.api import Batch, Count, Rate, Weight
from models.parts.constrained import constrained_kmeans
from models.parts.optim import adamw
from models.parts.quantize import kmeans, squared_distance
from models.parts.rqvae import mlp


@dataclass(frozen=True)
class ItemToItemConfig:
    """Item-to-item contrastive pre-training."""

    hidden: tuple[Count, ...] = (512, 256)
    width: Count = 128
    window: Count = 3
    """A positive pair is a training target and one of so many items before it."""
    temperature: Rate = 0.07
    lr: Rate = 1e-3
    weight_decay: Weight = 0.0


class ItemToItem(pl.LightningModule):
    """I2I: items that follow one another closely in training get similar vectors."""

    batch_wide_loss = True  # pairs of a batch are one another's negatives

    vectors: Tensor
    seed: Tensor

    def __init__(self, config: ItemToItemConfig, vectors: Float[Tensor, "I F"]) -> None:
        super().__init__()
        self.config = config
        self.history_length = config.window
        self.register_buffer("vectors", vectors, persistent=False)
        # Of what is clustered with these vectors: the harness seeds stages.
        self.register_buffer("seed", torch.randint(2**31 - 1, ()))
        self.encoder = mlp((vectors.shape[1], *config.hidden, config.width))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Symmetric InfoNCE by cosine. What is no true negative is left out: the same user's pairs, equal items,
        an anchor and a target that are the same item."""
        length = (batch.history > 0).sum(1)
        place = (torch.rand(len(length), device=length.device) * length).long()
        anchor = batch.history.gather(1, place[:, None]).squeeze(1)
        one, other = (F.normalize(self.encoder(self.vectors[item]), dim=1) for item in (anchor, batch.target))
        alike = ((batch.user, batch.user), (anchor, anchor), (batch.target, batch.target), (anchor, batch.target))
        related = torch.stack([rows[:, None] == columns for rows, columns in alike]).any(0)
        related.fill_diagonal_(False)
        logits = (one @ other.T / self.config.temperature).float().masked_fill(related, -torch.inf)
        own = torch.arange(len(logits), device=logits.device)
        return F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)

    @torch.inference_mode()
    def item_vectors(self) -> Float[Tensor, "I D"]:
        return self.encoder(self.vectors).clone()

    def configure_optimizers(self) -> Any:
        return adamw(self, self.config.lr, self.config.weight_decay)


def rq_kmeans(x: Float[Tensor, "N D"], levels: int, codes: int, balanced: bool, seed: int) -> Int[Tensor, "N L"]:
    """Residual k-means: the codes of a level are the clusters of what the levels before it left over."""
    found, residual = [], x
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        for _ in range(levels):
            if balanced:
                centres, labels = constrained_kmeans(residual, codes, len(x) // codes, -(-len(x) // codes))
            else:
                centres = kmeans(residual, codes)
                labels = squared_distance(residual, centres).argmin(1)
            found.append(labels)
            residual = residual - centres[labels]
    return torch.stack(found, 1)


def nearness(x: Float[Tensor, "N D"], codes: Int[Tensor, "N L"], size: int) -> Float[Tensor, "N V"]:
    """How near items are to each code of the last level, given the codes that `rq_kmeans` found for them.

    A code's vector is the mean of what is left of its items; a code without items has the zero vector.
    """
    residual = x
    for code in codes.T:
        left, count = residual, code.bincount(minlength=size).clamp(min=1)
        centres = torch.zeros(size, x.shape[1]).to(x).index_add_(0, code, left) / count[:, None]
        residual = left - centres[code]
    return -squared_distance(left, centres)
