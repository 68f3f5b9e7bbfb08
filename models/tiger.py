"""TIGER: recommender systems with generative retrieval (Rajput et al., NeurIPS 2023, arXiv 2305.05065).

Section 3.1: an RQ-VAE turns an item's text vector into three codes; a fourth tells items with equal codes apart.
Section 3.2: a T5-style encoder-decoder reads the codes of the history and generates the codes of the next item.
The score of an item is the log-probability of its four codes under the softmax over the whole vocabulary.

Left out: user tokens, for the harness ranks for histories alone; recipes without them (GRID, LIGER, LETTER) come as
near to the paper as those with them. The end token in the labels (every sequence has four codes, so its probability is
one). Reconstructed: learning rates, weight decay, patience. Gradients of the RQ-VAE are clipped to length 1, which of
the codes that we have read ETEGRec's alone does; without it Adagrad at .4 left no item codes of its own.

The paper's optimisers (`tiger-paper`) hardly train: Adagrad at .4 leaves few codes apart. The defaults are the paper's
sizes under AdamW; `tiger-grid`, `tiger-paischer`, `tiger-genrec` and `tiger-discrec` are recipes of others, with what
they reached. With `codes` the codes come from a file, and no item vector is read: vectors=null.

Published on Musical_Instruments (ETEGRec, table 3): R@5 .0368, R@10 .0574, N@5 .0242, N@10 .0308; hours on one GPU.

    make bench MODELS=tiger CORPUS=musical_instruments SET="vectors=npz"
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, final

import torch
from jaxtyping import Int
from torch import Tensor

from data_prep.corpus import TrainedKind, VectorKind
from models.api import Batch, Budget, Corpus, Count, Fit, Ranking, Recommender
from models.parts.index import ItemIndex
from models.parts.recommender_config import SMALL_RECOMMENDER, RecommenderConfig
from models.parts.tokenizer import TokenizerConfig, suffixed, tokenized


@dataclass(frozen=True)
class Config(RecommenderConfig):
    vectors: Literal[VectorKind, TrainedKind] | None = "tfidf"
    """Item vectors of `data_prep.embed` (the paper: sentence-t5-base), or a SASRec's (ETEGRec's TIGER-SAS)."""
    codes: str | None = None
    """A file of codes in place of a tokenizer, as `data_prep.codes_file` reads it: its path, or its name there."""
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    tokenizer_epochs: Count = 500
    """Of an RQ-VAE. The paper: 20,000."""
    tokenizer_batch: Count = 1024
    tokenizer_check: Count = 50
    """Epochs between two looks at what the codes reconstruct; the best look is kept."""

    def __post_init__(self) -> None:
        if self.codes is not None and self.vectors is not None:
            raise ValueError(f"codes={self.codes} leave nothing that reads vectors; set vectors=null")
        if self.codes is None and self.vectors is None:
            raise ValueError("vectors and codes are null; expected item vectors, or a file of codes")

    @property
    def unread(self) -> tuple[str, ...]:
        """Fields that nothing reads beside the others."""
        of_training = ("tokenizer_epochs", "tokenizer_batch", "tokenizer_check")
        if self.codes:
            return ("tokenizer", *of_training, *super().unread)
        return (*(of_training if self.tokenizer.method == "rq-kmeans" else ()), *super().unread)


SMALL = Config(
    tokenizer=TokenizerConfig(hidden=(128,), codes=32),
    tokenizer_epochs=200,
    tokenizer_batch=256,
    tokenizer_check=20,
    **SMALL_RECOMMENDER,
)


def tokenize(config: Config, corpus: Corpus, fit: Fit) -> ItemIndex:
    if config.codes is None:
        epochs = config.tokenizer_epochs
        budget = Budget(epochs, config.tokenizer_batch, patience=epochs, check_every=config.tokenizer_check)
        return tokenized(config.tokenizer, budget, corpus, fit).indexed()
    given = corpus.item_codes()
    codes = torch.from_numpy(given.values)
    # Items of equal codes may be more than any of its codebooks has codes.
    largest = int(codes.unique(dim=0, return_counts=True)[1].max())
    return suffixed(codes, max(*given.sizes, largest))


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    index = tokenize(config, corpus, fit)
    return fit("recommender", lambda: Tiger(config, index), config.budget(corpus), config.examples(corpus))


@final
class Tiger(Recommender):
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
