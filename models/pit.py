"""PIT: a dynamic personalized item tokenizer (Wang et al., arXiv 2602.08530).

Items are named by a small decoder that learns with the recommender, each by several code sequences.
- CSA (eq. 2, 5): y = DIN(sg(H), X) predicts behaviours; item vectors X and DIN alone learn from its loss L_xtr.
- I2T (eq. 3, 6): P_phi(c | sg(X)), a decoder-only transformer whose BOS vector is the item's.
- U2T (eq. 4, 7): P_theta(c | H), a T5.

Warm-up (eq. 8), on the codes c0 of a static tokenizer: L_user(c0) + lambda 1 L_item(c0) + lambda 2 L_xtr.
Then (eq. 9-11), for each target: S = beam of width B of I2T; c* = the sequence of S that U2T finds easiest to generate
for this history (minimum-loss selection); L_user(c*) + alpha L_item(c*) + beta L_xtr. Offline (`pit`) I2T is frozen
here, alpha = 0; online (`pit-coevolving`) it learns on, held back by a reference tokenizer (eq. 14-16).
The beam index (A.1, `parts/beam_index.py`) takes in what I2T proposes, in every step: a sequence names one item, an
item has up to B, by weight W = 100 - sum of I2T's cross-entropies (eq. 12). Here S is what it then holds for the
target; to the letter of eq. 9 (`pit-all-proposals`) a target also learns sequences of other items, half of all on
`planted`.

The score of an item is the log-sum-exp of log P_theta over its sequences. The target chooses its sequence in training
alone: what ranks is the index as it was saved, and a hit is the item. The paper serves the index of the last epoch;
here it comes from the epoch whose weights are kept, the best on validation.

[open] in the paper, so ours: what `OPEN` names, the width of X, how c0 is told apart (`index.distinct`), ties between
items (`beam_index`), what a history's items are read as (their heaviest sequence when the epoch began), what a code
competes with (U2T's: all tokens; I2T's: its level), gradients clipped at norm 1, and dropout: I2T and its reference
have masks of their own, and candidates are decoded without, from states with it. The scale of content vectors is left
as it is, beside an id vector of norm .16 (width 64): vectors of norm 50 drown it.

Published (Amazon 2014, Llama3-8B vectors), R@5/R@10/N@5/N@10: Beauty .0479/.0783/.0305/.0403, Sports .0284/.0462/
.0186/.0243, Toys .0516/.0839/.0328/.0432.

    make bench MODELS="pit pit-best-sequence" CORPUS=beauty_2014 SET="vectors=npz"
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

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
    Share,
    Weight,
    Whole,
    tuned,
    whole_epochs,
)
from models.parts.beam_index import BeamIndex, Proposals, one_to_one, updated
from models.parts.construction import remembered
from models.parts.din import Din, ItemVectors, alignment
from models.parts.generator import CodeGenerator, Read
from models.parts.index import ItemIndex, distinct
from models.parts.item_to_item import ItemToItem, ItemToItemConfig, nearness, rq_kmeans
from models.parts.item_to_token import ItemToToken, ItemToTokenConfig
from models.parts.optim import Schedule, adamw
from models.parts.processes import all_gather_rows
from models.parts.rqvae import OF_RQVAE, RqVae, RqVaeConfig
from models.parts.seq2seq import T5Sizes
from models.parts.tokenizer import faithfulness

OPEN = (
    "B offline, gamma, lambdas, Delta t, length of the warm-up, batch, schedules, negatives, and by which sequences "
    "a target is learned"
)
HIGHEST = 100.0  # W of a sequence that I2T is certain of (eq. 12)
SEQUENCES = 1 << 63  # what an index can number


@dataclass(frozen=True)
class Config:
    vectors: Literal[VectorKind, TrainedKind] = "tfidf"
    """Item vectors of `data_prep.embed` (the paper: Llama3-8B)."""
    start: Literal["rq-vae", "rq-kmeans"] = "rq-vae"
    """Static tokenizer. `rq-kmeans`: the online system's, of vectors pre-trained on item-to-item pairs."""
    tokenizer: RqVaeConfig = field(
        default_factory=lambda: RqVaeConfig(
            hidden=(512, 256, 128), width=32, levels=4, codes=256, reduction="mean", optimizer="adamw", lr=1e-3
        )
    )
    """4 x 256 codes of width 32; the rest, which the text leaves to LETTER's code base, is TIGER's, but for the means
    of its loss, which are LETTER's. RQ-k-means takes levels and codes from it."""
    tokenizer_epochs: Count = 20_000
    tokenizer_batch: Count = 1024
    tokenizer_check: Count = 500
    """Epochs between two looks at what the codes reconstruct; the best look is kept."""
    i2i: ItemToItemConfig = field(default_factory=ItemToItemConfig)
    pretraining_epochs: Count = 30
    pretraining_batch: Count = 2_048
    balanced: bool = False
    """Clusters of equal sizes in RQ-k-means."""
    t5: T5Sizes = field(default_factory=T5Sizes)
    """U2T; the paper's sizes are TIGER's."""
    i2t: ItemToTokenConfig = field(default_factory=ItemToTokenConfig)
    history: Count = 50
    """Longest history, in items."""
    beam: Count = tuned(4, choices=[2, 4, 8])
    """B: sequences that I2T proposes for an item, and that an item may have. Online 8."""
    selection: Literal["minimum-loss", "random"] = "minimum-loss"
    """Of the sequence that a target is learned by."""
    candidates: Literal["owned", "proposed"] = "owned"
    """From what: what the index holds for the target, or all that I2T proposes, to the letter of eq. 9."""
    beam_index: bool = True
    """False: an item has one sequence, the heaviest."""
    served: Literal["all", "best"] = "all"
    """Sequences by which an item can be found (`best`: A.2.2, index reuse)."""
    coevolving: bool = False
    """Whether I2T learns on after the warm-up, under the reference regulariser."""
    momentum: Share = 0.9
    """gamma of eq. 13."""
    lease: Whole = 1
    """Delta t, in epochs: how long a sequence stays with an item that no longer proposes it."""
    i2t_weight: Weight = 1.0
    """lambda 1, and alpha where I2T learns on."""
    csa_weight: Weight = tuned(0.1, choices=[0.01, 0.1, 1.0])
    """lambda 2 and beta; 0: no collaborative signal alignment."""
    kl_weight: Weight = 0.1
    """eta of eq. 14."""
    sure: Weight = 90.0
    """W above which a selected sequence teaches I2T (A.2)."""
    negatives: Count = 4
    """Uniform ones of a target in collaborative signal alignment."""
    lr: Rate = tuned(5e-4, choices=[5e-4, 3e-4, 1e-4])
    i2t_lr: Rate = tuned(1e-3, choices=[1e-3, 5e-4, 1e-4])
    """Of I2T, and of item vectors and DIN."""
    weight_decay: Weight = 0.01
    warmup: Share = 0.05
    """Share of a stage's steps in which the rates rise; constant after it in the warm-up, a cosine in the second."""
    batch_size: Count = 256
    warm_epochs: Count = 50
    epochs: Count = 200
    warm_steps: Count | None = None
    """Instead of `warm_epochs`, as `steps` instead of `epochs`, rounded up to whole ones: where epochs are short."""
    steps: Count | None = None
    patience: Count = 20
    """Epochs, of either stage."""
    valid_users: Count | None = 5_000
    """Users that grade an epoch; None: all, which takes two fifths of a training's time on Beauty_2014."""

    def __post_init__(self) -> None:
        levels, codes = self.tokenizer.levels, self.tokenizer.codes
        if levels > 63 or codes**levels > SEQUENCES:
            raise ValueError(f"{levels} levels of {codes} codes have more sequences than an index can number, 2^63")
        if self.start == "rq-vae":
            self.tokenizer.check_start()

    @property
    def unread(self) -> tuple[str, ...]:
        """Fields that nothing reads beside the others."""
        of_rqvae = ("tokenizer_epochs", "tokenizer_batch", "tokenizer_check", *(f"tokenizer.{n}" for n in OF_RQVAE))
        of_clusters = ("i2i", "pretraining_epochs", "pretraining_batch", "balanced")
        of_other_start = of_clusters if self.start == "rq-vae" else of_rqvae
        one_sequence = not self.beam_index or self.beam == 1
        nothing_of = {
            "epochs": self.steps,
            "warm_epochs": self.warm_steps,
            "kl_weight": not self.coevolving,
            "sure": not self.coevolving,
            "negatives": not self.csa_weight,
            "lease": one_sequence,
            "served": one_sequence,
            "selection": self.beam == 1 or (not self.beam_index and self.candidates == "owned"),
        }
        return (*of_other_start, *(field for field, holds in nothing_of.items() if holds))


SMALL = Config(
    tokenizer=RqVaeConfig(hidden=(128,), width=32, levels=4, codes=32, reduction="mean", optimizer="adamw", lr=1e-3),
    tokenizer_epochs=200,
    tokenizer_batch=256,
    tokenizer_check=20,
    i2i=ItemToItemConfig(hidden=(128,), width=64),
    pretraining_epochs=20,
    pretraining_batch=512,
    t5=T5Sizes(width=64, inner=256, heads=4, head_width=16, encoder_layers=2, decoder_layers=2),
    i2t=ItemToTokenConfig(layers=2),
    history=10,
    lr=3e-3,
    warmup=0.15,
    batch_size=128,
    warm_steps=700,
    steps=450,
    patience=30,
    valid_users=None,
)


class StaticCodes(NamedTuple):
    """What a static tokenizer gives items 1..N.

    Attributes:
        codes: several items may have equal ones.
        nearness: of each item to the codes of the last level; larger is nearer.
    """

    codes: Int[Tensor, "N L"]
    nearness: Float[Tensor, "N V"]


def tokenize(config: Config, corpus: Corpus, fit: Fit) -> ItemIndex:
    """The static codes c0, one sequence for each item and no other."""
    vectors = torch.from_numpy(corpus.item_vectors())
    if config.start == "rq-vae":
        static = _rq_vae_codes(config, vectors, corpus, fit)
    else:
        static = _rq_kmeans_codes(config, vectors, fit)
    unique_codes = F.pad(distinct(static.codes, static.nearness), (0, 0, 1, 0), value=-1)
    sizes = (config.tokenizer.codes,) * config.tokenizer.levels
    return ItemIndex(unique_codes, sizes, static.codes)


def _rq_vae_codes(config: Config, vectors: Float[Tensor, "I F"], corpus: Corpus, fit: Fit) -> StaticCodes:
    epochs = config.tokenizer_epochs
    budget = Budget(epochs, config.tokenizer_batch, patience=epochs, check_every=config.tokenizer_check)
    items = corpus.examples("items")
    tokenizer = fit("tokenizer", lambda: RqVae(config.tokenizer, vectors), budget, items, faithfulness)
    with torch.no_grad():
        quantized = tokenizer.quantizer(tokenizer.encoder(tokenizer.vectors[1:]))
    return StaticCodes(quantized.codes, quantized.logits[:, -1])


def _rq_kmeans_codes(config: Config, vectors: Float[Tensor, "I F"], fit: Fit) -> StaticCodes:
    """Residual k-means of item vectors that were pre-trained on item-to-item pairs (figure 5)."""
    epochs = config.pretraining_epochs
    budget = Budget(epochs, config.pretraining_batch, patience=epochs)
    pretrained = fit("pretraining", lambda: ItemToItem(config.i2i, vectors), budget)
    x = F.normalize(pretrained.item_vectors()[1:], dim=1)
    size = config.tokenizer.codes
    codes = rq_kmeans(x, config.tokenizer.levels, size, config.balanced, int(pretrained.seed))
    return StaticCodes(codes, nearness(x, codes, size))


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    start = tokenize(config, corpus, fit)
    vectors = torch.from_numpy(corpus.item_vectors())
    warm_epochs, epochs = config.warm_epochs, config.epochs
    if config.warm_steps:
        warm_epochs = whole_epochs(config.warm_steps, corpus, config.batch_size)
    if config.steps:
        epochs = whole_epochs(config.steps, corpus, config.batch_size)
    budget = Budget(warm_epochs, config.batch_size, config.patience, valid_users=config.valid_users)
    model = fit("warm-up", lambda: Pit(config, start, vectors), budget)
    return fit("dynamic", lambda: model.evolve(epochs), replace(budget, epochs=epochs))


@final
class Pit(Recommender):
    """
    Attributes:
        start_codes: `[I, L]` the static tokenizer's codes c0; -1 in row 0.
        codes, weights, renewed: the beam index (`BeamIndex`), from the second stage on; time is counted in epochs.
        churn: of each epoch, the share of items whose heaviest sequence is another than before; -1 where none ended.
    """

    start_codes: Tensor
    codes: Tensor
    weights: Tensor
    renewed: Tensor
    churn: Tensor

    def __init__(self, config: Config, start: ItemIndex, vectors: Float[Tensor, "I F"]) -> None:
        """In the warm-up; the beam index and, where I2T learns on, its reference come with `evolve`."""
        super().__init__()
        if start.leaves < len(start.codes) - 1:
            raise ValueError(
                f"{len(start.codes) - 1} items start with {start.leaves} different code sequences; "
                "expected one for each"
            )
        self.config = config
        self.history_length = config.history
        self.evolving = False
        self.items = ItemVectors(vectors, config.i2t.width).requires_grad_(config.csa_weight > 0)
        self.din = Din(config.i2t.width) if config.csa_weight else None
        self.tokenizer = ItemToToken(config.i2t, start.sizes)
        self.generator = CodeGenerator(config.t5, start, "vocabulary")
        self.reference: ItemToToken | None = None
        self.register_buffer("start_codes", start.codes[:, 0].clone())

    @remembered
    @torch.no_grad()
    def evolve(self, epochs: int) -> Pit:
        """The same model at the start of its second stage: the index holds c0 alone."""
        config = self.config
        self.evolving = True
        items = torch.arange(len(self.start_codes), device=self.device)
        log_prob = self.eval().tokenizer.log_prob(self.items(items), self.start_codes.clamp(min=0)).sum(1)
        sequences = config.beam if config.beam_index else 1
        index = one_to_one(self.start_codes, HIGHEST + log_prob, sequences)  # Eq. 12
        for name, column in index._asdict().items():
            self.register_buffer(name, column)
        self.register_buffer("churn", torch.full((epochs,), -1.0))
        self.reference = copy.deepcopy(self.tokenizer) if config.coevolving else None
        self.tokenizer.requires_grad_(config.coevolving)
        self._publish()
        return self.train()

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Eq. 8 in the warm-up, eq. 11 after it."""
        config, item = self.config, batch.target
        read = self.generator.read(batch.history)
        if self.evolving:
            codes = self._select(item, read)
            item_loss = self._regularised_item_loss(item, codes)
        else:
            codes = self.start_codes[item]
            item_loss = -self.tokenizer.log_prob(self.items(item), codes).sum(1).mean()
        labels = self.generator.sequence_tokens(codes)
        states = self.generator.states(labels, read)
        user_loss = -self.generator.chosen(states, labels).sum(1).mean()
        loss = user_loss + config.i2t_weight * item_loss
        if self.din is None:
            return loss
        return loss + config.csa_weight * alignment(self.din, self.items, batch.history, item, config.negatives)

    def _regularised_item_loss(self, item: Int[Tensor, "B"], codes: Int[Tensor, "B L"]) -> Float[Tensor, ""]:
        """Eq. 14-16: I2T's loss on the selected sequences, the reference's on c0, and the KL between the two; 0 where
        I2T is frozen.
        """
        if self.reference is None:
            return self.weights.new_zeros(())
        x = self.items(item)
        log_prob = self.tokenizer.log_prob(x, codes)
        start_loss = -self.reference.log_prob(x, self.start_codes[item]).sum(1).mean()
        sequence_log_prob = log_prob.sum(1)
        sure = HIGHEST + sequence_log_prob > self.config.sure
        selected_loss = -(sure * sequence_log_prob).mean()
        log_ratio = self.reference.log_prob(x, codes).detach() - log_prob
        divergence = (log_ratio.exp() - log_ratio - 1).mean()  # the k3 estimator
        return selected_loss + start_loss + self.config.kl_weight * divergence

    @torch.no_grad()
    def _select(self, item: Int[Tensor, "B"], read: Read) -> Int[Tensor, "B L"]:
        """c* of each target, after the beam index has taken in what I2T proposes (algorithm 1)."""
        proposed, log_prob = self.tokenizer.eval().best(self.items(item), self.config.beam)
        self.tokenizer.train(self.training)
        self._take_in(item, proposed, HIGHEST + log_prob)
        candidates = self.codes[item] if self.config.candidates == "owned" else proposed
        rows = torch.arange(len(item), device=item.device)
        return candidates[rows, self._chosen(candidates, read)]

    def _take_in(self, item: Int[Tensor, "B"], codes: Int[Tensor, "B W L"], weights: Float[Tensor, "B W"]) -> None:
        """Takes in what the processes propose for their targets, from all of them, so that all keep one index."""
        item, codes, weights = (all_gather_rows(rows) for rows in (item, codes, weights))
        order = item.argsort(stable=True)
        # A batch may have an item several times.
        first = order[item[order].diff(prepend=item.new_zeros(1)) > 0]
        proposals = Proposals(item[first], codes[first], weights[first])
        index = BeamIndex(self.codes, self.weights, self.renewed)
        index = updated(index, proposals, self.current_epoch, self.config.momentum, self.config.lease)
        self.codes, self.weights, self.renewed = index

    def _chosen(self, candidates: Int[Tensor, "B C L"], read: Read) -> Int[Tensor, "B"]:
        """Which candidate each target is learned by. Eq. 10: the one of the least cross-entropy, decoded without
        dropout.
        """
        exists = candidates[..., 0] >= 0
        if self.config.selection == "random":
            return exists.float().multinomial(1).squeeze(1)
        self.generator.eval()
        labels = self.generator.sequence_tokens(candidates.clamp(min=0)).flatten(0, 1)
        states = self.generator.states(labels, read.repeat(candidates.shape[1]))
        losses = -self.generator.chosen(states, labels).mean(1)
        self.generator.train(self.training)
        return losses.view(exists.shape).masked_fill(~exists, torch.inf).argmin(1)

    def on_train_epoch_end(self) -> None:
        if self.evolving:
            before, now = self.generator.index.codes[1:, 0], self.codes[1:, 0]
            self.churn[self.current_epoch] = (now != before).any(1).float().mean()
            self._publish()

    def _publish(self) -> None:
        """Gives the generator, which reads histories and ranks, the sequences that the beam index has now."""
        index, heaviest_alone = self.generator.index, self.config.served == "best"
        # Collisions are the static tokenizer's, and were repaired in c0: the code card goes on to tell of them.
        before_repair = index.duplicates_before, index.distinct_before
        index.assign(self.codes[:, :1] if heaviest_alone else self.codes)
        index.duplicates_before, index.distinct_before = before_repair

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        return self.generator.rank(history, k)

    def configure_optimizers(self) -> Any:
        config = self.config
        schedule: Schedule = "cosine" if self.evolving else "constant"
        warmup = int(config.warmup * self.trainer.estimated_stepping_batches)
        parts = (self.items, self.din, self.tokenizer, self.reference)
        part_lr: dict[nn.Module, float] = {part: config.i2t_lr for part in parts if part is not None}
        return adamw(self, config.lr, config.weight_decay, schedule, warmup, part_lr)
