"""PIT: a dynamic personalized item tokenizer (Wang et al., arXiv 2602.08530). A RECONSTRUCTION.

Of the paper its abstract, its captions and what others write of it could be had. They fix the parts: item vectors that
take the collaborative signal (CSA, a DIN-style head whose user side gets no gradient), an item-to-token generator (I2T,
a causal decoder that starts from the item's vector), a user-to-token generator (U2T, an encoder-decoder), their warm-up
on codes by RQ-k-means of vectors pre-trained on item-to-item pairs (I2I), their co-evolution by user-guided
minimum-loss selection among the sequences that I2T has for the target, and a one-to-many beam index of weighted edges.
Sizes, weights, thresholds and schedules are ours: every field of `Config` but `vectors` is reconstructed.

In the paper's offline experiments I2T is frozen after the warm-up: that is `pit`. `pit-coevolving` trains it on.

An item's score is the log-sum-exp over its sequences of log P(sequence | history) + log(its part of the sequence); the
parts, the edges' weights over those of all items that share the sequence, are fixed when a list is made. The target's
selection is a matter of training alone: history and candidates of an evaluation come from the index as it was saved.
No published number on Amazon-2023.

    make bench MODELS="pit pit-coevolving" CORPUS=musical_instruments SET="vectors=npz"
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import Any, Literal, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from data_prep.corpus import VectorKind
from models.api import Batch, Budget, Corpus, Fit, Ranking, Recommender, tuned, whole_epochs
from models.parts.beam_index import Edges, refreshed, selected
from models.parts.generator import CodeGenerator, Read
from models.parts.index import ItemIndex
from models.parts.item_to_item import ItemToItem, ItemToItemConfig, rq_kmeans
from models.parts.item_to_token import ItemToToken, ItemToTokenConfig, chosen
from models.parts.optim import Schedule, adamw
from models.parts.processes import everywhere
from models.parts.rqvae import mlp
from models.parts.seq2seq import T5Sizes

RECONSTRUCTION = "the paper's parts are built from its abstract and captions; sizes, weights and schedules are ours"
CHUNK = 2_048  # items whose sequences are searched at once


@dataclass(frozen=True)
class Config:
    """Reconstructed, but for `vectors`."""

    vectors: VectorKind = "tfidf"
    """Item vectors of `data_prep.embed`."""
    pretrained: bool = True
    """Vectors of item-to-item pre-training for RQ-k-means; False: the item vectors as they are."""
    i2i: ItemToItemConfig = field(default_factory=ItemToItemConfig)
    pretraining_epochs: int = 30
    pretraining_batch: int = 2_048
    levels: int = 3
    """No further code tells items with equal codes apart: the index is many-to-many."""
    codes: int = 256
    balanced: bool = False
    """Clusters of equal sizes in RQ-k-means."""
    t5: T5Sizes = field(default_factory=T5Sizes)
    """Of the user-to-token generator: TIGER's."""
    i2t: ItemToTokenConfig = field(default_factory=ItemToTokenConfig)
    """The item-to-token generator."""
    history: int = 20
    """Longest history, in items. Its items have their heaviest sequence."""
    candidates: int = tuned(4, choices=[1, 2, 4, 8])
    """Sequences B that an item may have; 1: the warm-up's codes for good."""
    coevolving: bool = False
    """Whether I2T learns on after the warm-up and proposes new candidates every epoch. If not, as in the paper's
    offline experiments, candidates are those it has at that moment, and only their weights change."""
    selection: Literal["minimum-loss", "random"] = "minimum-loss"
    """Of the candidate that a training target is learned by."""
    ranked: Literal["beam", "top-1"] = "beam"
    """Sequences by which an item can be found: all it has, or the heaviest."""
    i2t_weight: float = 1.0
    """lambda 1, of I2T's cross-entropy."""
    csa_weight: float = tuned(0.1, choices=[0.01, 0.1, 1.0])
    """lambda 2, of collaborative signal alignment; 0: none."""
    kl_weight: float = 0.1
    """lambda 3, of the divergence of I2T from what it was after the warm-up."""
    negatives: int = 4
    """Uniform negatives of a target in collaborative signal alignment."""
    decay: float = 0.99
    """Of an edge's weight at each selection of its item."""
    prune: float = 0.05
    """Edges lighter than this part of their item's heaviest go, at the start and at the end of every epoch."""
    capacity: int = 16
    """Items that a sequence may name, heaviest edges of items apart."""
    lr: float = tuned(1e-3, low=3e-4, high=3e-3, log=True)
    i2t_lr: float = tuned(3e-4, choices=[1e-4, 3e-4, 5e-4])
    """Of I2T, item vectors and CSA."""
    weight_decay: float = 0.05
    warmup: float = 0.1
    """Share of a stage's steps; constant after it in the warm-up, cosine in the co-evolution."""
    batch_size: int = 256
    warm_epochs: int = 20
    warm_patience: int = 5
    """Epochs."""
    epochs: int = 200
    warm_steps: int | None = None
    """Instead of `warm_epochs`, as `steps` instead of `epochs`, rounded up to whole ones: where epochs are short."""
    steps: int | None = None
    patience: int = 20
    """Epochs."""
    valid_users: int | None = None
    """Users that grade an epoch; None: all."""


SMALL = Config(
    i2i=ItemToItemConfig(hidden=(128,), width=64),
    pretraining_epochs=20,
    pretraining_batch=512,
    codes=32,
    t5=T5Sizes(width=64, inner=256, heads=4, head_width=16, encoder_layers=2, decoder_layers=2),
    i2t=ItemToTokenConfig(inner=128),
    history=10,
    lr=3e-3,
    i2t_lr=1e-3,
    weight_decay=0.01,
    batch_size=128,
    warm_steps=600,
    warm_patience=30,
    steps=600,
    patience=30,
)


def tokenize(config: Config, corpus: Corpus, fit: Fit) -> ItemIndex:
    """The warm start: RQ-k-means."""
    vectors, seed = torch.from_numpy(corpus.item_vectors()), 0
    if config.pretrained:
        budget = Budget(config.pretraining_epochs, config.pretraining_batch, patience=config.pretraining_epochs)
        pretrained = fit("pretraining", lambda: ItemToItem(config.i2i, vectors), budget)
        vectors, seed = pretrained.item_vectors(), int(pretrained.seed)
    codes = rq_kmeans(F.normalize(vectors[1:], dim=1), config.levels, config.codes, config.balanced, seed)
    return ItemIndex(F.pad(codes, (0, 0, 1, 0), value=-1), (config.codes,) * config.levels)


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    index, vectors, size = tokenize(config, corpus, fit), torch.from_numpy(corpus.item_vectors()), config.batch_size
    warm = whole_epochs(config.warm_steps, corpus, size) if config.warm_steps else config.warm_epochs
    epochs = whole_epochs(config.steps, corpus, size) if config.steps else config.epochs
    first = Budget(warm, size, config.warm_patience, valid_users=config.valid_users)
    model = fit("warm-up", lambda: Pit(config, index, vectors), first)
    second = replace(first, epochs=epochs, patience=config.patience)
    return fit("co-evolution", lambda: model.evolve(epochs), second)


class Affinity(nn.Module):
    """CSA's head, as in DIN: attention of a candidate over the history, then an MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = mlp((4 * width, 64, 1))
        self.head = mlp((3 * width, 128, 64, 1))

    def forward(
        self, history: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"], x: Float[Tensor, "B M D"]
    ) -> Float[Tensor, "B M"]:
        """Logits of M candidates. As in DIN, attention is not normalised: a longer interest weighs more."""
        past, now = torch.broadcast_tensors(history[:, None], x[:, :, None])
        weights = self.attention(torch.cat([past, now, past - now, past * now], 3)).squeeze(3)
        pooled = weights.masked_fill(~mask[:, None], 0) @ history
        return self.head(torch.cat([pooled, x, pooled * x], 2)).squeeze(2)


@final
class Pit(Recommender):
    codes: Tensor
    weights: Tensor
    churn: Tensor
    reference_token: Tensor

    def __init__(self, config: Config, index: ItemIndex, vectors: Float[Tensor, "I F"]) -> None:
        """In the warm-up. The edges of the beam index and, where I2T learns on, its reference come with `evolve`."""
        super().__init__()
        self.config = config
        self.history_length = config.history
        self.evolving = False
        self.generator = CodeGenerator(config.t5, index, "vocabulary")
        self.tokenizer = ItemToToken(config.i2t, config.t5.width, config.levels, vectors)
        self.affinity = Affinity(config.t5.width) if config.csa_weight else None
        self.reference: ItemToToken | None = None

    def evolve(self, epochs: int) -> Pit:
        """The same model at the start of its second stage.

        An item has the sequences that I2T finds best, the warm-up's among them, with I2T's probabilities as weights;
        those that are too light go at once.
        """
        self.evolving, learns = True, self.config.coevolving
        codes, scores = self._proposed(warm=self.generator.index.codes[1:, 0])
        self.register_buffer("codes", F.pad(codes, (0, 0, 0, 0, 1, 0), value=-1))
        self.register_buffer("weights", F.pad(scores.softmax(1), (0, 0, 1, 0)))
        # Of each epoch, the share of items whose heaviest sequence is another than before; -1 where none has ended.
        self.register_buffer("churn", torch.full((epochs,), -1.0))
        if learns:
            self.reference = copy.deepcopy(self.tokenizer).requires_grad_(False)
            self.register_buffer("reference_token", self.generator.token.weight.detach().clone())
        for part in filter(None, (self.tokenizer, self.affinity)):
            part.requires_grad_(learns)
        self._reindex(None)
        return self.train()

    def on_train_epoch_end(self) -> None:
        """The beam index as this epoch's selections, and what I2T has learned, make it."""
        if self.evolving:
            before = self.codes[1:, 0]
            self._reindex(self._proposed()[0] if self.config.coevolving else None)
            self.churn[self.current_epoch] = (self.codes[1:, 0] != before).any(1).float().mean()

    def _reindex(self, fresh: Int[Tensor, "N A L"] | None) -> None:
        padded = None if fresh is None else F.pad(fresh, (0, 0, 0, 0, 1, 0), value=-1)
        config, edges = self.config, Edges(self.codes, self.weights)
        self.codes, self.weights = refreshed(edges, padded, config.prune, config.capacity)
        ranked = config.candidates if config.ranked == "beam" else 1
        self.generator.index.assign(self.codes[:, :ranked], weights=self.weights[:, :ranked])

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Warm-up: CE of U2T + lambda 1 CE of I2T + lambda 2 CSA. Co-evolution: the same on the selected sequences,
        and lambda 3 KL; where I2T is frozen, CE of U2T alone."""
        config, item, read = self.config, batch.target, self.generator.read(batch.history)
        codes = self._selected(item, read) if self.evolving else self.generator.index.codes[item, 0]
        labels = self.generator.sequence_tokens(codes)
        loss = self.generator.loss(self.generator.states(labels, read), labels)
        if self.evolving and not config.coevolving:
            return loss
        log_probs = self.tokenizer(self.tokenizer.items(item), codes[:, :-1], self.generator.vectors())
        loss = loss - config.i2t_weight * chosen(log_probs, codes).mean()
        if self.affinity is not None:
            loss = loss + config.csa_weight * self._alignment(self.affinity, batch)
        if self.reference is not None:
            with torch.no_grad():
                levels = self.generator.vectors(self.reference_token)
                before = self.reference.eval()(self.reference.items(item), codes[:, :-1], levels)
            pairs = zip(log_probs, before, strict=True)
            kl = torch.stack([(now.exp() * (now - then)).sum(1).mean() for now, then in pairs])
            loss = loss + config.kl_weight * kl.mean()
        return loss

    def _alignment(self, affinity: Affinity, batch: Batch) -> Float[Tensor, ""]:
        """CSA: the target against uniform negatives. No gradient reaches the user's side."""
        items = len(self.tokenizer.vectors)
        negative = torch.randint(1, items, (len(batch.target), self.config.negatives), device=batch.target.device)
        candidates = torch.cat([batch.target[:, None], negative], 1)
        past = self.tokenizer.items(batch.history).detach()
        logits = affinity(past, batch.history > 0, self.tokenizer.items(candidates)).float()
        truth = (candidates == batch.target[:, None]).float()
        return F.binary_cross_entropy_with_logits(logits, truth)

    @torch.no_grad()
    def _selected(self, item: Int[Tensor, "B"], read: Read) -> Int[Tensor, "B L"]:
        """Codes of each target's candidate that its history makes the most of; their edges gain weight."""
        codes, was_training = self.codes[item], self.training
        held = codes[..., 0] >= 0
        if self.config.selection == "random":
            choice = held.float().multinomial(1).squeeze(1)
        else:
            self.generator.eval()  # the same for all candidates
            labels = self.generator.sequence_tokens(codes.clamp(min=0)).flatten(0, 1)
            states = self.generator.states(labels, read.repeat(codes.shape[1]))
            losses = -self.generator.chosen(states, labels).sum(1).view(held.shape)
            self.generator.train(was_training)
            choice = minimum_loss(losses.masked_fill(~held, torch.inf), self.weights[item])
        self.weights = selected(self.weights, everywhere(item), everywhere(choice), self.config.decay)
        return codes[torch.arange(len(item), device=item.device), choice]

    @torch.no_grad()
    def _proposed(self, warm: Int[Tensor, "N L"] | None = None) -> tuple[Int[Tensor, "N B L"], Float[Tensor, "N B"]]:
        """I2T's best sequences of all items and their log-probabilities; `warm` takes the last place where it is not
        among them."""
        was_training = self.training
        levels, width = self.eval().generator.vectors(), self.config.candidates
        every = torch.arange(1, len(self.tokenizer.vectors), device=self.device)
        found = [self.tokenizer.best(some, levels, width) for some in every.split(CHUNK)]
        codes, scores = torch.cat([codes for codes, _ in found]), torch.cat([scores for _, scores in found])
        if warm is not None:
            missing = ~(codes == warm[:, None]).all(2).any(1)
            codes[missing, -1] = warm[missing]
            scores[missing, -1] = self.tokenizer.log_prob(every[missing], warm[missing], levels)
        self.train(was_training)
        return codes, scores

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        return self.generator.rank(history, k)

    def configure_optimizers(self) -> Any:
        config = self.config
        schedule: Schedule = "cosine" if self.evolving else "constant"
        warmup = int(config.warmup * self.trainer.estimated_stepping_batches)
        slower = filter(None, (self.tokenizer, self.affinity))
        return adamw(self, config.lr, config.weight_decay, schedule, warmup, dict.fromkeys(slower, config.i2t_lr))


def minimum_loss(losses: Float[Tensor, "B A"], weights: Float[Tensor, "B A"]) -> Int[Tensor, "B"]:
    """The candidate of the smallest loss; among equals the heaviest, then the first."""
    best = losses == losses.amin(1, keepdim=True)
    return weights.masked_fill(~best, -1).argmax(1)
