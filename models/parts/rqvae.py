"""RqVae: an autoencoder of item vectors with a residually quantised bottleneck (TIGER, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Literal, Protocol

import pytorch_lightning as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.api import Batch, Count, Rate, Several, Share, Weight, Whole, tuned
from models.parts.construction import remembers_construction
from models.parts.dropout import Dropout
from models.parts.index import shared
from models.parts.optim import Schedule, adamw
from models.parts.precision import in_float32
from models.parts.quantize import Quantized, ResidualGradient, ResidualQuantizer, kmeans


@dataclass(frozen=True)
class RqVaeConfig:
    """Sizes are TIGER's. Its optimiser, Adagrad at .4, is not the default: it gives thousands of items one code (see
    `tiger`)."""

    hidden: tuple[Count, ...] = (512, 256, 128)
    """Widths between the item vector and the latent; the decoder mirrors them."""
    width: Count = 32
    levels: Count = 3
    codes: Several = 256
    commitment: Weight = tuned(0.25, choices=[0.1, 0.25, 0.5, 1.0])
    reduction: Literal["sum", "mean"] = "sum"
    """Of the loss over dimensions and levels. TIGER's paper sums; ETEGRec's code takes means."""
    residual_gradient: ResidualGradient = "all"
    """Levels whose commitment moves the encoder: all in TIGER's formula, the first in ETEGRec's code."""
    start: Literal["torch", "xavier"] = "torch"
    """Initial weights of encoder and decoder: torch's own, or Xavier's normal ones."""
    dropout: Share = 0.0
    """After each ReLU of encoder and decoder."""
    optimizer: Literal["adagrad", "adamw"] = "adamw"
    lr: Rate = 1e-3
    """The paper: Adagrad at .4."""
    weight_decay: Weight = 0.0
    schedule: Schedule = "constant"
    warmup: Whole = 0
    """Steps. Schedule and warm-up are AdamW's."""
    kmeans_items: Count = 1024
    """k-means starts from the latents of so many random items: the paper's first training batch."""

    @property
    def unread(self) -> tuple[str, ...]:
        """Fields that nothing reads beside the others."""
        return ("schedule", "warmup") if self.optimizer == "adagrad" else ()

    def check_start(self) -> None:
        """
        Raises:
            ValueError: k-means would start from fewer items than it is to find codes.
        """
        if self.codes > self.kmeans_items:
            raise ValueError(
                f"tokenizer.codes is {self.codes} and tokenizer.kmeans_items {self.kmeans_items}; expected as many "
                "items for k-means to start from, or more"
            )


# What k-means, where it takes the place of an RQ-VAE, does not read of its fields.
OF_RQVAE = tuple(field.name for field in fields(RqVaeConfig) if field.name not in ("levels", "codes"))


@remembers_construction
class RqVae(pl.LightningModule):
    """Loss: |x - x'|^2 + sum over levels of codebook and commitment terms. A training example is an item."""

    vectors: Tensor

    def __init__(
        self, config: RqVaeConfig, vectors: Float[Tensor, "I F"], items: Int[Tensor, "M"] | None = None
    ) -> None:
        """`items`: those among which k-means draws its sample; all unless given."""
        super().__init__()
        self.config = config
        self.register_buffer("vectors", vectors, persistent=False)
        items = torch.arange(1, len(vectors)) if items is None else items
        widths = (vectors.shape[1], *config.hidden, config.width)
        self.encoder = mlp(widths, config.start, config.dropout)
        self.decoder = mlp(widths[::-1], config.start, config.dropout)
        self.quantizer = ResidualQuantizer(
            config.levels, config.codes, config.width, config.commitment, residual_gradient=config.residual_gradient
        )
        with torch.no_grad():
            sample = items[torch.randperm(len(items))[: config.kmeans_items]]
            self.quantizer.start_from(self.encoder.eval()(vectors[sample]), kmeans)
        self.encoder.train()

    @in_float32
    def forward(self, item: Int[Tensor, "B"]) -> tuple[Quantized, Float[Tensor, "B F"]]:
        """The quantised latents of items and their reconstructions."""
        quantized = self.quantizer(self.encoder(self.vectors[item]))
        return quantized, self.decoder(quantized.vector)

    def loss(
        self, item: Int[Tensor, "B"], quantized: Quantized, reconstruction: Float[Tensor, "B F"], weight: float = 1.0
    ) -> Float[Tensor, ""]:
        """`weight`: of the reconstruction's error beside the terms of codebooks and commitment."""
        error = weight * (self.vectors[item] - reconstruction).square()
        if self.config.reduction == "sum":
            return error.sum(1).mean() + quantized.loss
        return error.mean() + quantized.loss / (self.config.levels * self.config.width)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        return self.loss(batch.target, *self(batch.target))

    def item_codes(self) -> Int[Tensor, "N L"]:
        """Codes of items 1..N."""
        return self.encoded()[0]

    @torch.inference_mode()
    def encoded(self) -> tuple[Int[Tensor, "N L"], Float[Tensor, "N F"]]:
        """Codes of items 1..N and what the decoder makes of them, without dropout."""
        was_training = self.training
        quantized, reconstruction = self.eval()(torch.arange(1, len(self.vectors), device=self.vectors.device))
        self.train(was_training)
        return quantized.codes.clone(), reconstruction.clone()

    def configure_optimizers(self) -> Any:
        config = self.config
        if config.optimizer == "adagrad":
            # JAX's and TensorFlow's accumulators start at .1; from torch's 0 the first step moves every weight by `lr`.
            return torch.optim.Adagrad(
                self.parameters(), config.lr, weight_decay=config.weight_decay, initial_accumulator_value=0.1
            )
        return adamw(self, config.lr, config.weight_decay, config.schedule, config.warmup)


def mlp(widths: tuple[int, ...], start: Literal["torch", "xavier"] = "torch", dropout: float = 0.0) -> nn.Sequential:
    """Linear layers with a ReLU between two of them, followed by dropout where it is above 0."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        linear = nn.Linear(before, after)
        if start == "xavier":
            nn.init.xavier_normal_(linear.weight)
            nn.init.zeros_(linear.bias)
        if layers:
            layers.append(nn.ReLU())
            if dropout:
                layers.append(Dropout(dropout))
        layers.append(linear)
    return nn.Sequential(*layers)


def unique_code_share(tokenizer: Tokenizer) -> float:
    """Share of items whose codes no other item has. LETTER's and ETEGRec's code choose the epoch of a tokenizer by the
    share of distinct sequences, in which items of equal codes count as one."""
    return 1.0 - shared(tokenizer.item_codes())


class Tokenizer(Protocol):
    def item_codes(self) -> Int[Tensor, "N L"]:
        """Codes of items 1..N."""
        ...
