"""ETEGRec: end-to-end learnable item tokenization (Liu et al., SIGIR 2025, arXiv 2409.05546).

An RQ-VAE of a SASRec's item vectors names the items; a T5 generates the names. Alternating
optimization: the first epoch of a cycle trains the tokenizer, with the recommender frozen, and then renames all items;
the others train the recommender. Two alignments tie them together: sequence-item (Eq. 15), between the code
distributions of the target and of the encoded history, and preference-semantic (Eq. 16), between the target's
reconstruction and the decoder's first state. When validation gains no more, the tokenizer is frozen for good and the
recommender finished on cross-entropy.

Where paper and official code disagree there is a field, see `Config`. From the code: initial weights N(0, .02), one
embedding table per level for inputs and outputs alike, no user or end token, a learning-rate schedule for each side. A
fourth code tells items with equal codes apart, by item id. Levels after the first train codebooks, not the encoder. The
frozen side has no dropout. Reconstructed: the SASRec of the vectors (layers, heads, batch, epochs; not in paper or
code).

Published on Musical_Instruments (table 3): R@5 .0402, R@10 .0624, N@5 .0260, N@10 .0331; run again by DECOR's authors:
.0387, .0609, .0251, .0323.

    make bench MODELS=etegrec CORPUS=musical_instruments
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from data_prep.corpus import TrainedKind, VectorKind
from models.api import (
    Batch,
    Budget,
    Corpus,
    Count,
    Fit,
    Ranking,
    Rate,
    Recommender,
    Several,
    Weight,
    Whole,
    tuned,
    whole_epochs,
)
from models.parts.construction import remembered
from models.parts.generator import CodeGenerator
from models.parts.index import with_suffix
from models.parts.losses import symmetric_info_nce, symmetric_kl
from models.parts.optim import AlternatingSchedule, adamw
from models.parts.quantize import Quantized
from models.parts.rqvae import RqVae, RqVaeConfig, unique_code_share
from models.parts.seq2seq import T5Sizes
from models.parts.tokenizer import suffixed

PRETRAINED = RqVaeConfig(
    hidden=(512, 256),
    width=128,
    reduction="mean",
    residual_gradient="first",
    start="xavier",
    optimizer="adamw",
    lr=1e-3,
    weight_decay=1e-4,
    schedule="linear",
    warmup=1_250,  # 50 epochs of Musical_Instruments in the published batches; fewer items have more of them
)


@dataclass(frozen=True)
class Config:
    vectors: Literal[VectorKind, TrainedKind] = "sasrec-256"
    """Item vectors, frozen. The paper: a SASRec's; the width is the official code's."""
    tokenizer: RqVaeConfig = PRETRAINED
    tokenizer_epochs: Count = 10_000
    tokenizer_batch: Count = 1024
    tokenizer_check: Count = 50
    """Epochs between two looks at how many items have codes of their own; the best look is kept."""
    t5: T5Sizes = field(default_factory=lambda: T5Sizes(inner=512, heads=4, encoder_layers=6, decoder_layers=6))
    history: Count = 50
    """Longest history, in items."""
    training: Literal["alternating", "joint", "retrained"] = "alternating"
    """`joint`: no alternation, every step trains all weights. `retrained`: after the alternation a fresh recommender
    learns the final codes by cross-entropy alone (the ablation without end-to-end learning)."""
    cycle: Several = tuned(2, choices=[2, 4])
    """Epochs C of a cycle, the first of which is the tokenizer's."""
    sia_weight: Weight = tuned(3e-4, choices=[5e-3, 1e-3, 5e-4, 3e-4, 1e-4])
    """mu, of sequence-item alignment: the paper's best; the released configuration has it and the next one swapped."""
    psa_weight: Weight = tuned(1e-4, choices=[5e-3, 1e-3, 5e-4, 3e-4, 1e-4])
    """lambda, of preference-semantic alignment."""
    sia_sign: Literal["nearest", "farthest"] = "farthest"
    """Which code of a level is the most probable. `nearest`: the paper, softmax of minus the distance. `farthest`: the
    official code, from which the published numbers come, has no minus."""
    sia_levels: Literal["mean", "sum"] = "mean"
    """`sum` over levels: the paper. `mean`: the official code."""
    psa_temperature: Rate = 0.07
    warm_epochs: Whole = 10
    """Epochs of either kind before the alignments begin."""
    lr: Rate = tuned(5e-3, choices=[5e-3, 3e-3, 1e-3])
    tokenizer_lr: Rate = tuned(1e-4, choices=[5e-4, 1e-4, 5e-5])
    warmup: Whole = 2_000
    """Steps of the recommender, then cosine; the tokenizer has a C-th. The released 8,000 count those of four GPUs."""
    weight_decay: Weight = 0.05
    batch_size: Count = 512
    """Its targets are one another's negatives."""
    accumulate: Count = 4
    """Batches to a step: one for each of the official run's four GPUs."""
    epochs: Count = 400
    steps: Count | None = None
    """Instead of `epochs`, rounded up to whole ones: for corpora whose epochs are short."""
    check_every: Count = 2
    """Epochs between two validations."""
    patience: Count = 15
    """Validations."""
    finish_lr: Rate = 5e-4
    finish_epochs: Count = 100
    finish_patience: Count = 10
    """Epochs."""
    valid_users: Count | None = 5_000
    """Users that grade an epoch; None: all, which takes two fifths of a training's time on Beauty_2014."""

    def __post_init__(self) -> None:
        self.tokenizer.check_start()

    @property
    def unread(self) -> tuple[str, ...]:
        """Fields that nothing reads beside the others."""
        nothing_of = {
            "epochs": self.steps,
            "cycle": self.training == "joint",
            "finish_lr": self.training == "retrained",
            "finish_epochs": self.training == "retrained",
            "finish_patience": self.training == "retrained",
            "sia_sign": not self.sia_weight,
            "sia_levels": not self.sia_weight,
            "psa_temperature": not self.psa_weight,
            "warm_epochs": not self.sia_weight and not self.psa_weight,
        }
        return tuple(field for field, holds in nothing_of.items() if holds)


# Text, not a SASRec's vectors: from so few interactions those know less of an item than its text does.
SMALL = Config(
    vectors="tfidf",
    tokenizer=replace(PRETRAINED, hidden=(128,), width=32, codes=32, weight_decay=0.0, schedule="constant", warmup=0),
    tokenizer_epochs=200,
    tokenizer_batch=256,
    tokenizer_check=20,
    t5=T5Sizes(width=64, inner=256, heads=4, head_width=16, encoder_layers=2, decoder_layers=2),
    history=10,
    warm_epochs=4,
    lr=3e-3,
    warmup=200,
    weight_decay=0.01,
    batch_size=128,
    accumulate=1,
    steps=1_200,
    finish_lr=3e-3,
    finish_epochs=20,
    finish_patience=6,
    valid_users=None,
)


def pretrain(config: Config, corpus: Corpus, fit: Fit) -> RqVae:
    """Trains the RQ-VAE alone, before the alternation."""
    vectors = torch.from_numpy(corpus.item_vectors())
    epochs = config.tokenizer_epochs
    return fit(
        "tokenizer",
        lambda: RqVae(config.tokenizer, vectors),
        Budget(epochs, config.tokenizer_batch, patience=epochs, check_every=config.tokenizer_check),
        corpus.examples("items"),
        quality=unique_code_share,
    )


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    tokenizer = pretrain(config, corpus, fit)
    epochs = config.epochs
    if config.steps:
        epochs = whole_epochs(config.steps, corpus, config.batch_size * config.accumulate)
    together = Budget(
        epochs,
        config.batch_size,
        config.patience,
        config.check_every,
        valid_users=config.valid_users,
        accumulate=config.accumulate,
    )
    model = fit("together", lambda: Etegrec(config, tokenizer), together)
    if config.training == "retrained":
        return fit("retrained", lambda: Etegrec(config, model.tokenizer, "retrained"), together)
    finish = replace(together, epochs=config.finish_epochs, patience=config.finish_patience, check_every=1)
    return fit("finish", model.finish, finish)


class TrainableParts(NamedTuple):
    """What an epoch trains: the parts that are not frozen, and whether the two alignments are in the loss."""

    tokenizer: bool
    recommender: bool
    aligned: bool


class ProjectedHistory(NamedTuple):
    """Histories projected into the tokenizer's spaces.

    Attributes:
        latent: of the mean encoder state, in the RQ-VAE's latent space.
        semantic: of the first decoder state, in the space of item vectors.
    """

    latent: Float[Tensor, "B D"]
    semantic: Float[Tensor, "B F"]


@final
class Etegrec(Recommender):
    # Alignments compare the different targets of a batch, of which processes have unequal numbers.
    batch_wide_loss = True

    def __init__(
        self, config: Config, tokenizer: RqVae, stage: Literal["together", "retrained", "finish"] = "together"
    ) -> None:
        """Stage `together` trains tokenizer and recommender; the other stages the recommender, by cross-entropy."""
        super().__init__()
        self.config = config
        self.history_length = config.history
        self.stage = stage
        self.tokenizer = tokenizer
        index = suffixed(tokenizer.item_codes(), tokenizer.config.codes)
        self.generator = CodeGenerator(config.t5, index, "level")
        self.to_latent = nn.Linear(config.t5.width, tokenizer.config.width)
        self.to_semantic = nn.Linear(config.t5.width, tokenizer.vectors.shape[1])
        for part in (self.generator, self.to_latent, self.to_semantic):
            part.apply(_initialise)
        self.set_trainable(TrainableParts(tokenizer=True, recommender=True, aligned=True))

    def set_trainable(self, parts: TrainableParts) -> None:
        """Freezes all but `parts`; in the stages after `together` all but the generator."""
        together = self.stage == "together"
        self.trainable = parts if together else TrainableParts(tokenizer=False, recommender=True, aligned=False)
        self.tokenizer.requires_grad_(self.trainable.tokenizer)
        self.generator.requires_grad_(self.trainable.recommender)
        for projection in (self.to_latent, self.to_semantic):
            projection.requires_grad_(self.trainable.recommender and together)
        self.train(self.training)

    def train(self, mode: bool = True) -> Etegrec:
        """Frozen parts stay in evaluation mode, without dropout."""
        super().train(mode)
        self.tokenizer.train(mode and self.trainable.tokenizer)
        self.generator.train(mode and self.trainable.recommender)
        return self

    @remembered
    def finish(self) -> Etegrec:
        """The same model in its last stage."""
        self.stage = "finish"
        self.set_trainable(self.trainable)
        return self.train()

    def on_train_epoch_start(self) -> None:
        """Alternates: freezes tokenizer or recommender."""
        joint = self.config.training == "joint"
        tokenizer_epoch = self.current_epoch % self.config.cycle == 0
        aligned = self.current_epoch >= self.config.warm_epochs
        self.set_trainable(TrainableParts(joint or tokenizer_epoch, joint or not tokenizer_epoch, aligned))

    def on_train_epoch_end(self) -> None:
        """Renames all items, if the epoch trained the tokenizer."""
        if self.trainable.tokenizer:
            codes = self.tokenizer.item_codes()
            self.generator.index.assign(with_suffix(codes, self.tokenizer.config.codes), codes)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """L_GR = L_REC + alignments, or L_IT = L_SQ + alignments, or the sum of all."""
        trainable = self.trainable
        loss = torch.zeros((), device=batch.target.device)
        projected = None
        if trainable.recommender or trainable.aligned:
            labels = self.generator.item_tokens(batch.target)
            read = self.generator.read(batch.history)
            # The alignments read the decoder's first state alone.
            states = self.generator.states(labels if trainable.recommender else labels[:, :1], read)
            projected = ProjectedHistory(self.to_latent(read.encoded.mean()), self.to_semantic(states[:, 0]))
            if trainable.recommender:
                loss = loss + self.generator.loss(states, labels)
        if trainable.tokenizer or trainable.aligned:
            rows = _first_of_each(batch.target)
            loss = loss + self._target_loss(batch.target[rows], rows, projected)
        return loss

    def _target_loss(
        self, item: Int[Tensor, "X"], rows: Int[Tensor, "X"], projected: ProjectedHistory | None
    ) -> Float[Tensor, ""]:
        """L_SQ and the alignments, of the distinct targets `item` and the histories in the batch's `rows`."""
        config = self.config
        quantized, reconstruction = self.tokenizer(item)
        loss = torch.zeros((), device=item.device)
        if self.trainable.tokenizer:
            loss = loss + self.tokenizer.loss(item, quantized, reconstruction)
        if self.trainable.aligned and projected is not None:
            history = self.tokenizer.quantizer(projected.latent[rows])
            sia = sequence_item(quantized, history, config.sia_sign, config.sia_levels)  # Eq. 15
            loss = loss + config.sia_weight * sia
            psa = symmetric_info_nce(reconstruction, projected.semantic[rows], config.psa_temperature)  # Eq. 16
            loss = loss + config.psa_weight * psa
        return loss

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        return self.generator.rank(history, k)

    def configure_optimizers(self) -> Any:
        config = self.config
        if self.stage == "finish":
            return adamw(self, config.finish_lr, config.weight_decay, "cosine")
        if self.stage == "retrained":
            return adamw(self, config.lr, config.weight_decay, "cosine", config.warmup)
        return self._alternating_adamw()

    def _alternating_adamw(self) -> Any:
        """AdamW over both sides: a step leaves alone the weights that have no gradient, those of the frozen side."""
        config = self.config
        recommender = [*self.generator.parameters(), *self.to_latent.parameters(), *self.to_semantic.parameters()]
        groups = [
            {"params": list(self.tokenizer.parameters()), "lr": config.tokenizer_lr},
            {"params": recommender, "lr": config.lr},
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)
        total = int(self.trainer.estimated_stepping_batches)
        steps_per_epoch = total // int(self.trainer.max_epochs or 1)
        cycle = 1 if config.training == "joint" else config.cycle
        schedule = AlternatingSchedule(cycle, config.warmup, total, steps_per_epoch)
        # Lambdas, not methods: a scheduler's state would hold a method's attributes.
        factors = [lambda step: schedule.first(step), lambda step: schedule.second(step)]
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def sequence_item(
    target: Quantized, history: Quantized, sign: Literal["nearest", "farthest"], levels: Literal["mean", "sum"]
) -> Float[Tensor, ""]:
    """Eq. 15: symmetric KL between the code distributions of targets and of the histories before them."""
    p, q = target.logits.flatten(0, 1), history.logits.flatten(0, 1)
    # A quantizer's logits are minus the distances.
    if sign == "farthest":
        p, q = -p, -q
    mean_over_levels = symmetric_kl(p, q)
    return mean_over_levels * target.logits.shape[1] if levels == "sum" else mean_over_levels


def _first_of_each(item: Int[Tensor, "B"]) -> Int[Tensor, "X"]:
    """The first row of each distinct item, in order of item."""
    distinct, which = item.unique(return_inverse=True)
    rows = torch.arange(len(item), device=item.device)
    beyond = rows.new_full(distinct.shape, len(item))
    return beyond.scatter_reduce(0, which, rows, "amin")


def _initialise(module: nn.Module) -> None:
    """N(0, .02) for all weights, T5's own included; zero for biases. Norms stay at one."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
