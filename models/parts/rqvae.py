"""RqVae: an autoencoder of item vectors with a residually quantised bottleneck (TIGER, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.api import Batch
from models.parts.quantize import Quantized, ResidualQuantizer


@dataclass(frozen=True)
class RqVaeConfig:
    """Sizes and optimiser of the tokenizer; defaults are TIGER's."""

    hidden: tuple[int, ...] = (512, 256, 128)
    """Widths between the item vector and the latent; the decoder mirrors them."""
    width: int = 32
    levels: int = 3
    codes: int = 256
    commitment: float = 0.25
    optimizer: Literal["adagrad", "adamw"] = "adagrad"
    lr: float = 0.4
    weight_decay: float = 0.0
    kmeans_items: int = 1024
    """k-means starts from the latents of so many random items: the paper's first training batch."""


class RqVae(pl.LightningModule):
    """Loss: |x - x'|^2 + sum over levels of codebook and commitment terms. A training example is an item."""

    vectors: Tensor

    def __init__(self, config: RqVaeConfig, vectors: Float[Tensor, "I F"]) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("vectors", vectors)
        widths = (vectors.shape[1], *config.hidden, config.width)
        self.encoder, self.decoder = mlp(widths), mlp(widths[::-1])
        self.quantizer = ResidualQuantizer(config.levels, config.codes, config.width, config.commitment)
        with torch.no_grad():
            sample = torch.randperm(len(vectors) - 1)[: config.kmeans_items] + 1
            self.quantizer.start_from_kmeans(self.encoder(vectors[sample]))

    def forward(self, item: Int[Tensor, "B"]) -> tuple[Quantized, Float[Tensor, "B F"]]:
        """The quantised latents of items and their reconstructions."""
        quantized = self.quantizer(self.encoder(self.vectors[item]))
        return quantized, self.decoder(quantized.vector)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        quantized, reconstruction = self(batch.target)
        error = (self.vectors[batch.target] - reconstruction).square().sum(1).mean()
        return error + quantized.loss

    @torch.inference_mode()
    def item_codes(self) -> Int[Tensor, "N L"]:
        """Codes of items 1..N."""
        return self.quantizer(self.encoder(self.vectors[1:])).codes.clone()

    def configure_optimizers(self) -> Any:
        config = self.config
        if config.optimizer == "adagrad":
            return torch.optim.Adagrad(self.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        return torch.optim.AdamW(self.parameters(), lr=config.lr, weight_decay=config.weight_decay)


def mlp(widths: tuple[int, ...]) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
