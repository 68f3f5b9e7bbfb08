"""S3-Rec: self-supervised learning for sequential recommendation with mutual information maximisation (Zhou et al.,
CIKM 2020, arXiv 2008.07873).

SASRec's transformer, pre-trained in both directions by four tasks (section 4.3), each with a bilinear form W of its
own. Items of a sequence are masked at random; F is the state at a position, with e of an item and a of a category:

- associated attributes: sigmoid(F W a) says whether an item that is not masked has the category;
- masked item: sigmoid(F W e) is to be larger for the masked item than for a random one;
- masked attribute: sigmoid(F W a) says whether the masked item has the category;
- segment: of a sequence with a run of masked items the last state is to agree, likewise, with that of the run alone,
  more than with that of another run of the batch in its place.

Then it is fine-tuned as SASRec is trained, looking at earlier items alone (section 4.4).

Sizes, weights of the tasks and losses are RecBole's, but for the width: in fine-tuning a softmax over all items, where
the authors' code has binary cross-entropy (`loss=bce`). Attributes are the items' categories; brands are left out. A
user's whole training part is one sequence of pre-training, and any item is masked; the authors' code has a sequence
for each prefix (as RecBole) and masks its last item besides. `prefixes` leaves out those of one item (15%), and goes on
beyond the last 50; `last_masked` is theirs. Sequences stand at the first positions, RecBole's at the last. The
last epoch counts, or one before with a smaller loss; they choose among some by validation. A random item is any; theirs
is none of the sequence. Gradients of pre-training are not clipped.

Published on Musical_Instruments (ETEGRec, table 3): R@5 .0340, R@10 .0538, N@5 .0218, N@10 .0282.

    make bench MODELS=s3rec CORPUS=beauty_2014
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import pytorch_lightning as pl
import torch
from jaxtyping import Bool, Float, Int
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
from models.parts.encoder import ItemEncoder, initialise
from models.parts.losses import Loss
from models.parts.next_item import followed, last, mean_prefixes, prefix_loss
from models.parts.optim import adamw
from models.parts.ranking import rank_scores
from models.parts.segments import Segments, masks, segments


@dataclass(frozen=True)
class Config:
    width: Count = tuned(128, choices=[64, 128, 256])
    """Embedding and hidden size D. ETEGRec, whose row is the published one, has 128 for all models; RecBole 64."""
    inner: Count = 256
    """Feed-forward size."""
    layers: Count = tuned(2, low=1, high=4)
    heads: Count = 2
    dropout: Share = tuned(0.5, low=0.1, high=0.7)
    """On embeddings, attention weights and the output of each half of a block."""
    history: Count = 50
    """Longest history, in items; longer ones keep their last items."""
    masked: Share = tuned(0.2, low=0.1, high=0.6)
    """Share of the items that are masked."""
    associated_attribute: Weight = 0.2
    """Weight of a task in the loss of pre-training, like the next three."""
    masked_item: Weight = 1.0
    masked_attribute: Weight = 1.0
    segment: Weight = 0.5
    pretraining_epochs: Count = 150
    """Of the authors' weights for Beauty."""
    prefixes: bool = later(False)
    last_masked: bool = later(False)
    loss: Loss = later("ce")
    lr: Rate = tuned(1e-3, low=1e-4, high=1e-2, log=True)
    weight_decay: Weight = 0.0
    batch_size: Count = 256
    """Users; about 1,500 training positions on Amazon corpora (RecBole: 2,048 prefixes)."""
    epochs: Count = 200
    patience: Count = 10
    valid_users: Count | None = None
    """Users that grade an epoch; None: all."""

    def __post_init__(self) -> None:
        divisible(self.width, self.heads)


SMALL = Config(width=64, batch_size=64, dropout=0.2, pretraining_epochs=20)


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    categories = torch.from_numpy(corpus.categories())
    # A user's longest training example holds all of the training part.
    users = corpus.examples("train").longest_per_user()
    budget = Budget(config.pretraining_epochs, config.batch_size, patience=config.pretraining_epochs, clip=0.0)
    sequences = corpus.examples("train") if config.prefixes else users
    pretrained = fit("pretraining", lambda: Pretraining(config, categories), budget, sequences).encoder

    budget = Budget(config.epochs, config.batch_size, config.patience, valid_users=config.valid_users)
    mean = mean_prefixes(users, config.history, config.batch_size)
    return fit("recommender", lambda: S3Rec(config, pretrained, mean), budget, users)


class Pretraining(pl.LightningModule):
    features: Tensor

    def __init__(self, config: Config, categories: Int[Tensor, "I C"]) -> None:
        """
        Args:
            categories: of each item, 0 where there is none.
        """
        super().__init__()
        self.config = config
        # A sequence is a history with its target.
        self.history_length = config.history - 1
        has = torch.zeros(len(categories), int(categories.max()) + 1).scatter(1, categories, 1.0)[:, 1:]
        self.register_buffer("features", has, persistent=False)
        sizes = (config.width, config.heads, config.inner, config.layers, config.dropout)
        self.encoder = ItemEncoder(len(categories) - 1, config.history, *sizes)
        self.category = nn.Embedding(has.shape[1], config.width)
        tasks = ("associated_attribute", "masked_item", "masked_attribute", "segment")
        self.forms = nn.ModuleDict({task: nn.Linear(config.width, config.width) for task in tasks})
        self.apply(initialise)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        sequence = followed(batch.history, batch.target)
        losses = {
            **self.item_losses(sequence, masks(sequence, self.config.masked, self.config.last_masked)),
            "segment": self.segment_loss(segments(sequence, self.encoder.mask)),
        }
        # Batches are equally large, so that an epoch weighs all sequences alike.
        total: Tensor = sum(getattr(self.config, task) * loss for task, loss in losses.items()) / len(sequence)
        return total

    def item_losses(self, sequence: Int[Tensor, "B T"], hidden: Bool[Tensor, "B T"]) -> dict[str, Tensor]:
        """Of three tasks, each summed over a batch whose `hidden` items are masked."""
        states = self.encoder.both_ways(sequence.masked_fill(hidden, self.encoder.mask))
        seen = (sequence > 0) & ~hidden
        masked, item = states[hidden], sequence[hidden]
        random = torch.randint_like(item, 1, self.encoder.mask)
        return {
            "associated_attribute": self._categories("associated_attribute", states[seen], sequence[seen]),
            "masked_item": self._preferred("masked_item", masked, *map(self.encoder.item, (item, random))),
            "masked_attribute": self._categories("masked_attribute", masked, item),
        }

    def segment_loss(self, drawn: Segments) -> Float[Tensor, ""]:
        """Summed over a batch."""
        context, own, other = (last(self.encoder.both_ways(each), each) for each in drawn)
        return self._preferred("segment", context, own, other)

    def _categories(self, task: str, states: Float[Tensor, "X D"], items: Int[Tensor, "X"]) -> Float[Tensor, ""]:
        logits = self.forms[task](states) @ self.category.weight.T
        return F.binary_cross_entropy_with_logits(logits, self.features[items], reduction="sum")

    def _preferred(
        self, task: str, states: Float[Tensor, "X D"], own: Float[Tensor, "X D"], other: Float[Tensor, "X D"]
    ) -> Float[Tensor, ""]:
        """-log sigmoid(difference of the agreements, which are sigmoids themselves), as in the authors' code."""
        formed = self.forms[task](states)
        agreement, wrong = (torch.sigmoid((formed * each).sum(1)) for each in (own, other))
        return -F.logsigmoid(agreement - wrong).sum()

    def configure_optimizers(self) -> Any:
        return adamw(self, self.config.lr, self.config.weight_decay)


@final
class S3Rec(Recommender):
    def __init__(self, config: Config, pretrained: ItemEncoder, mean: float) -> None:
        """
        Args:
            mean: training prefixes of a batch, on average, which the sum of its losses is divided by.
        """
        super().__init__()
        self.config = config
        self.history_length = config.history
        self.mean = mean
        self.encoder = pretrained.train()

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        return prefix_loss(self.config.loss, self.encoder.one_way(batch.history), batch, self.encoder.items, self.mean)

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        states = last(self.encoder.one_way(history), history)
        return rank_scores((states @ self.encoder.items.T).float(), k)

    def configure_optimizers(self) -> Any:
        return adamw(self, self.config.lr, self.config.weight_decay)
