"""CoST: contrastive quantization based semantic tokenization (Zhu et al., RecSys 2024, arXiv 2404.14774).

The tokenizer is TIGER's RQ-VAE with another loss. Where that asks the decoder for an item's vector x itself, CoST asks
for a vector x' that can be told from those of the other items of the batch:

    L = -alpha log exp(cos(x_i, x'_i) / tau) / sum_j exp(cos(x_i, x'_j) / tau) + codebook and commitment terms

so that codes keep who an item's neighbours are rather than every dimension of its vector. With `reconstruction` above 0
the squared error stays beside it. The look with the most items apart is kept: lengths of x' mean nothing here, and so a
reconstruction's error does not tell a good look. A suffix code and the recommender are TIGER's.

Loss, alpha and tau are those of a third party's summary of the paper, which was not read. Left open: sizes and lengths
on Amazon's sets, here TIGER's (on MIND: latents of width 96, three levels of 64 codes, 20 and 100 epochs).

Published on Musical_Instruments (DECOR, table 1): R@5 .0366, R@10 .0570, N@5 .0242, N@10 .0306.

    make bench MODELS=cost CORPUS=musical_instruments SET="vectors=npz"
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, final

import pytorch_lightning as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from data_prep.corpus import TrainedKind, VectorKind
from models.api import Batch, Budget, Corpus, Count, Fit, Ranking, Rate, Recommender, Weight, tuned
from models.parts.index import ItemIndex
from models.parts.losses import info_nce
from models.parts.quantize import ResidualQuantizer
from models.parts.recommender_config import SMALL_RECOMMENDER, RecommenderConfig
from models.parts.rqvae import RqVae, RqVaeConfig, unique_code_share
from models.parts.tokenizer import suffixed

OPEN = "the sizes of the tokenizer and how long it learns"


@dataclass(frozen=True)
class TokenizerConfig(RqVaeConfig):
    contrast: Weight = tuned(0.1, low=0.01, high=1.0, log=True)
    """Weight alpha of the contrastive loss."""
    temperature: Rate = tuned(0.1, low=0.02, high=1.0, log=True)
    reconstruction: Weight = 0.0
    """Weight of the squared error beside it."""

    def __post_init__(self) -> None:
        self.check_start()


@dataclass(frozen=True)
class Config(RecommenderConfig):
    vectors: Literal[VectorKind, TrainedKind] = "tfidf"
    """Item vectors of `data_prep.embed`."""
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    tokenizer_epochs: Count = 500
    tokenizer_batch: Count = 1024
    """Of its items each is to be told from the others."""
    tokenizer_check: Count = 50
    """Epochs between two looks at how many items have codes of their own; the best look is kept."""


SMALL = Config(
    tokenizer=TokenizerConfig(hidden=(128,), codes=32),
    tokenizer_epochs=200,
    tokenizer_batch=256,
    tokenizer_check=20,
    **SMALL_RECOMMENDER,
)


def tokenize(config: Config, corpus: Corpus, fit: Fit) -> ItemIndex:
    vectors, epochs = torch.from_numpy(corpus.item_vectors()), config.tokenizer_epochs
    tokenizer = fit(
        "tokenizer",
        lambda: CostTokenizer(config.tokenizer, vectors),
        Budget(epochs, config.tokenizer_batch, patience=epochs, check_every=config.tokenizer_check),
        corpus.examples("items"),
        unique_code_share,
    )
    return suffixed(tokenizer.item_codes(), config.tokenizer.codes)


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    index = tokenize(config, corpus, fit)
    return fit("recommender", lambda: Cost(config, index), config.budget(corpus), config.examples(corpus))


class CostTokenizer(pl.LightningModule):
    """An RQ-VAE that learns by contrast. A training example is an item."""

    def __init__(self, config: TokenizerConfig, vectors: Float[Tensor, "I F"]) -> None:
        super().__init__()
        self.config = config
        self.rqvae = RqVae(config, vectors)

    @property
    def quantizer(self) -> ResidualQuantizer:
        return self.rqvae.quantizer

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        quantized, reconstruction = self.rqvae(batch.target)
        config = self.config
        loss = self.rqvae.loss(batch.target, quantized, reconstruction, config.reconstruction)
        told_apart = contrast(self.rqvae.vectors[batch.target], reconstruction, config.temperature)
        return loss + config.contrast * told_apart

    def item_codes(self) -> Int[Tensor, "N L"]:
        """Codes of items 1..N."""
        return self.rqvae.item_codes()

    def configure_optimizers(self) -> Any:
        return self.rqvae.configure_optimizers()


def contrast(
    vectors: Float[Tensor, "B F"], reconstruction: Float[Tensor, "B F"], temperature: float
) -> Float[Tensor, ""]:
    """Each vector is to find its own reconstruction in the batch, by cosine."""
    return info_nce(F.normalize(vectors, dim=1) / temperature, F.normalize(reconstruction, dim=1))


@final
class Cost(Recommender):
    def __init__(self, config: Config, index: ItemIndex) -> None:
        super().__init__()
        self.config = config
        self.history_length = config.history
        self.generator = config.generator(index)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        return self.generator.next_item_loss(batch)

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        return self.generator.rank(history, k)

    def configure_optimizers(self) -> Any:
        return self.config.optimizer(self)
