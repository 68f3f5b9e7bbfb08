"""TIGER's recommender, its sizes and its training, for all models that differ from TIGER in their codes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytorch_lightning as pl

from models.api import Budget, Corpus, Count, Examples, Rate, Weight, Whole, tuned, whole_epochs
from models.parts.generator import CodeGenerator, Style
from models.parts.index import ItemIndex
from models.parts.optim import Schedule, adamw
from models.parts.seq2seq import T5Sizes


@dataclass(frozen=True)
class RecommenderConfig:
    """TIGER's recommender (section 3.2); `the paper` is TIGER's."""

    t5: T5Sizes = field(default_factory=T5Sizes)
    tied_head: bool = True
    """Token vectors are output weights too, as in T5."""
    output: Style = "vocabulary"
    """A code competes with all tokens, as in T5; with `level`, as in GRID, with those of its level, and no end token is
    read."""
    history: Count = 20
    """Longest history, in items."""
    starts: Literal["first", "any"] = "first"
    """Training histories begin with a user's first item; with `any`, as in GRID, each begins once with every item."""
    lr: Rate = tuned(1e-3, low=3e-4, high=3e-2, log=True)
    """The paper: .01."""
    schedule: Schedule = "inverse-sqrt"
    """The paper: `hold`."""
    warmup: Whole = 10_000
    """Steps."""
    clip: Weight = 1.0
    """Largest gradient norm; 0: no clipping."""
    weight_decay: Weight = tuned(0.0, choices=[0.0, 0.01, 0.05, 0.1])
    decoupled_decay: bool = True
    """Weight decay is AdamW's; False: Adam's, where it is a part of the gradient."""
    batch_size: Count = 256
    accumulate: Count = 1
    """Batches of a step."""
    steps: Count = 200_000
    """Rounded up to whole epochs."""
    patience: Count = 20
    """Epochs."""
    valid_users: Count | None = 5_000
    """Users that grade an epoch; None: all, which takes two fifths of a training's time on Beauty_2014."""

    @property
    def unread(self) -> tuple[str, ...]:
        """Fields that nothing reads beside the others."""
        return () if self.weight_decay else ("decoupled_decay",)

    def examples(self, corpus: Corpus) -> Examples:
        """What the recommender trains on."""
        examples = corpus.examples("train")
        return examples if self.starts == "first" else examples.from_every_start(self.history)

    def budget(self, corpus: Corpus) -> Budget:
        """How long the recommender may train on a corpus."""
        epochs = whole_epochs(self.steps, corpus, self.batch_size * self.accumulate, self.examples(corpus))
        return Budget(
            epochs,
            self.batch_size,
            self.patience,
            clip=self.clip,
            valid_users=self.valid_users,
            accumulate=self.accumulate,
        )

    def generator(self, index: ItemIndex) -> CodeGenerator:
        """TIGER's encoder-decoder of such codes."""
        return CodeGenerator(self.t5, index, self.output, tied=self.tied_head)

    def optimizer(self, module: pl.LightningModule) -> Any:
        """For `configure_optimizers`."""
        return adamw(module, self.lr, self.weight_decay, self.schedule, self.warmup, decoupled=self.decoupled_decay)


SMALL_RECOMMENDER: Mapping[str, Any] = {
    "t5": T5Sizes(width=64, inner=256, heads=4, head_width=16, encoder_layers=2, decoder_layers=2),
    "history": 10,
    "lr": 3e-3,
    "schedule": "cosine",
    "warmup": 200,
    "weight_decay": 0.01,
    "batch_size": 128,
    "steps": 1_200,
    "patience": 30,
    "valid_users": None,
}
"""The same for corpora of a few thousand users."""
