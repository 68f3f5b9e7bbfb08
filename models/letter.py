"""LETTER: learnable item tokenization for generative recommendation (Wang et al., CIKM 2024, arXiv 2405.07314).

The tokenizer is an RQ-VAE of item vectors with two more terms in its loss: collaborative alignment pulls the quantised
latent of an item to its vector of a trained recommender, diversity spreads the code vectors of a codebook evenly. The
recommender is TIGER's, trained by ranking-guided generation loss: cross-entropy with a temperature, which below 1 is
harder on the strongest wrong codes. Ranking is by the plain softmax, as in the official code.

Items may share all their codes (there is no suffix code): they then share a score and rank by item id, each once.

Left out: the unused tokens of T5's vocabulary of 32,100 in the softmax, the end token in the labels (every sequence has
four codes). From the official code: means over levels and elements, commitment that moves the encoder at the first
level alone, assignment by Sinkhorn at the last, the re-assignment of colliding items, gradients clipped while the
recommender learns (as transformers' Trainer does) and not while the tokenizer does. Different: the epoch is chosen by
NDCG@10 on validation (the code: validation loss); weight decay is on layer norms, too; the tokenizer trains for the
code's default of 20,000 epochs on Beauty, too (its script there: 10,000).

Published on Musical_Instruments (ETEGRec, table 3): R@5 .0372, R@10 .0581, N@5 .0243, N@10 .0310.

    make bench MODELS=letter CORPUS=musical_instruments SET="vectors=npz"
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, final

import pytorch_lightning as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor
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
    Several,
    Share,
    Weight,
    tuned,
    whole_epochs,
)
from models.parts.constrained import constrained_kmeans
from models.parts.generator import CodeGenerator
from models.parts.index import ItemIndex
from models.parts.losses import info_nce
from models.parts.optim import adamw
from models.parts.processes import processes
from models.parts.quantize import SMALLEST_EPSILON, ResidualGradient, ResidualQuantizer, sinkhorn
from models.parts.rqvae import mlp, unique_code_share
from models.parts.seq2seq import T5Sizes

# Items whose codes are shared out at a time, so that a repair of a large corpus fits into memory.
AT_ONCE = 16_384
# Of the repair where training had none: as in the official code.
REPAIR_EPSILON = 0.003


@dataclass(frozen=True)
class TokenizerConfig:
    """Defaults are those of the official code; its paper finds 4 levels of 256 codes best."""

    hidden: tuple[Count, ...] = (2048, 1024, 512, 256, 128, 64)
    width: Count = 32
    """Also the width of the collaborative vectors: nothing projects them."""
    levels: Count = 4
    codes: Several = 256
    commitment: Weight = 0.25
    residual_gradient: ResidualGradient = "first"
    """Levels whose commitment moves the encoder; `all` is the paper's formula."""
    alignment: Weight = tuned(0.02, choices=[0.1, 0.02, 0.01, 0.001])
    """Weight alpha of collaborative alignment: the paper's best; the released scripts have .01 and .1."""
    diversity: Weight = tuned(1e-4, choices=[1e-2, 1e-3, 1e-4, 1e-5])
    """Weight beta of diversity."""
    clusters: Count = 10
    """Clusters K of each codebook, grouped anew before each epoch."""
    epsilon: Weight = 0.003
    """Entropy of the Sinkhorn assignment at the last level; 0: the nearest code, and that of the repair is .003."""
    cluster_restarts: Count = 1
    """Of the constrained k-means that groups them. The official code has 10: a second more for every epoch."""
    restarts: Count = 10
    """Of the constrained k-means from which the codebooks start."""
    lr: Rate = 1e-3
    weight_decay: Weight = 1e-4

    def __post_init__(self) -> None:
        if 0 < self.epsilon < SMALLEST_EPSILON:
            raise ValueError(f"epsilon is {self.epsilon}; expected 0 or at least {SMALLEST_EPSILON}")

    @property
    def unread(self) -> tuple[str, ...]:
        """Fields that nothing reads beside the others."""
        return () if self.diversity else ("clusters", "cluster_restarts")


@dataclass(frozen=True)
class Config:
    vectors: Literal[VectorKind, TrainedKind] | None = "tfidf"
    """Item vectors of `data_prep.embed` (the paper: LLaMA-7B). None: with codes from a file."""
    collaborative: TrainedKind | None = "sasrec-32"
    """Item vectors of a SASRec, as wide as the latent; None: no collaborative alignment."""
    codes: str | None = None
    """Codes from a file instead of a tokenizer: the table or JSON index that another training has published."""
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    tokenizer_epochs: Count = 20_000
    tokenizer_batch: Count = 1024
    tokenizer_check: Count = 2_000
    """Epochs between two looks at how many items have codes of their own; the best look is kept."""
    t5: T5Sizes = field(default_factory=T5Sizes)
    history: Count = 20
    """Longest history, in items."""
    temperature: Rate = tuned(0.7, low=0.5, high=1.2)
    """Of the ranking-guided loss: about the paper's best; the released script has 1, which is plain cross-entropy."""
    lr: Rate = tuned(5e-4, low=1e-4, high=1e-2, log=True)
    warmup: Share = 0.01
    """Share of all steps; cosine after it."""
    weight_decay: Weight = 0.01
    batch_size: Count = 1024
    epochs: Count = 200
    steps: Count | None = None
    """Instead of `epochs`, rounded up to whole ones: for corpora whose epochs are short."""
    patience: Count = 20
    """Epochs."""
    valid_users: Count | None = 5_000
    """Users that grade an epoch; None: all, which takes two fifths of a training's time on Beauty_2014."""

    def __post_init__(self) -> None:
        if self.codes and (self.vectors is not None or self.collaborative is not None):
            raise ValueError(
                f"codes={self.codes} leave nothing that reads vectors; set vectors=null collaborative=null"
            )
        if not self.codes and self.vectors is None:
            raise ValueError("vectors and codes are null; expected item vectors, or a file of codes")
        latent = f"sasrec-{self.tokenizer.width}"
        if self.collaborative not in (None, latent):
            raise ValueError(
                f"collaborative is {self.collaborative} and tokenizer.width {self.tokenizer.width}; expected equal "
                f"widths, as {latent}"
            )

    @property
    def unread(self) -> tuple[str, ...]:
        """Fields that nothing reads beside the others."""
        of_file = ("tokenizer", "tokenizer_epochs", "tokenizer_batch", "tokenizer_check") if self.codes else ()
        alone = () if self.collaborative else ("tokenizer.alignment",)
        return (*of_file, *alone, *(("epochs",) if self.steps else ()))


SMALL = Config(
    tokenizer=TokenizerConfig(hidden=(128, 64), codes=32, alignment=0.1, restarts=1, lr=3e-3),
    tokenizer_epochs=600,
    tokenizer_batch=256,
    tokenizer_check=50,
    t5=T5Sizes(width=64, inner=256, heads=4, head_width=16, encoder_layers=2, decoder_layers=2),
    history=10,
    lr=3e-3,
    warmup=0.15,
    batch_size=128,
    steps=1_200,
    patience=30,
    valid_users=None,
)


def tokenize(config: Config, corpus: Corpus, fit: Fit) -> ItemIndex:
    if config.codes:
        given = corpus.item_codes()
        return ItemIndex(F.pad(torch.from_numpy(given.values), (0, 0, 1, 0), value=-1), given.sizes)
    vectors = torch.from_numpy(corpus.item_vectors())
    collaborative = torch.from_numpy(corpus.collaborative_vectors()) if config.collaborative else None
    epochs = config.tokenizer_epochs
    tokenizer = fit(
        "tokenizer",
        lambda: LetterTokenizer(config.tokenizer, vectors, collaborative),
        Budget(epochs, config.tokenizer_batch, patience=epochs, check_every=config.tokenizer_check, clip=0.0),
        corpus.examples("items"),
        quality=unique_code_share,
    )
    codes = tokenizer.item_codes()
    return ItemIndex(F.pad(tokenizer.reassigned(codes), (0, 0, 1, 0), value=-1), tokenizer.quantizer.sizes, codes)


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    index = tokenize(config, corpus, fit)
    epochs = whole_epochs(config.steps, corpus, config.batch_size) if config.steps else config.epochs
    budget = Budget(epochs, config.batch_size, config.patience, valid_users=config.valid_users)
    return fit("recommender", lambda: Letter(config, index), budget)


class LetterTokenizer(pl.LightningModule):
    """A training example is an item. Loss: reconstruction, quantisation, alignment and diversity."""

    vectors: Tensor
    collaborative: Tensor | None
    cluster: Tensor

    def __init__(
        self, config: TokenizerConfig, vectors: Float[Tensor, "I F"], collaborative: Float[Tensor, "I D"] | None
    ) -> None:
        super().__init__()
        if collaborative is not None and collaborative.shape[1] != config.width:
            raise ValueError(
                f"the latent has width {config.width}, collaborative vectors have {collaborative.shape[1]}; "
                "expected equal ones (options tokenizer.width and collaborative)"
            )
        self.config = config
        self.register_buffer("vectors", vectors, persistent=False)
        self.register_buffer("collaborative", collaborative, persistent=False)
        widths = (vectors.shape[1], *config.hidden, config.width)
        self.encoder, self.decoder = mlp(widths, "xavier"), mlp(widths[::-1], "xavier")
        self.quantizer = ResidualQuantizer(
            config.levels, config.codes, config.width, config.commitment, config.epsilon, config.residual_gradient
        )
        self.register_buffer("cluster", torch.zeros(config.levels, config.codes, dtype=torch.long), persistent=False)
        self.start_seed = int(torch.randint(2**31 - 1, ()))

    def on_train_start(self) -> None:
        """Initialises the codebooks. It takes minutes, so a tokenizer that is only loaded does not do it."""
        if self.current_epoch == 0:  # a training that goes on has them
            self.start()
            # Processes that train together agree to the last bit.
            codebooks = self.quantizer.codebooks.data
            codebooks.copy_(self.trainer.strategy.broadcast(codebooks))

    @torch.no_grad()
    def start(self) -> None:
        """Sets each codebook to cluster centres of all items' residuals, under the seed drawn in the constructor."""
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(self.start_seed)
            self.quantizer.start_from(self.encoder(self.vectors[1:]), self._centres)

    def _centres(self, latents: Float[Tensor, "N D"], codes: int) -> Float[Tensor, "V D"]:
        """Centres of `codes` clusters of similar sizes."""
        smallest = min(len(latents) // (2 * codes), 50)
        largest = max(4 * smallest, -(-2 * len(latents) // codes))  # enough room on a corpus of any size
        return constrained_kmeans(latents, codes, smallest, largest, self.config.restarts).centres

    def on_train_epoch_start(self) -> None:
        """Groups the codes of each level anew."""
        if not self.config.diversity:
            return
        codes = self.config.codes
        clusters = min(self.config.clusters, codes // 2)
        restarts = self.config.cluster_restarts
        # Two at least: a code alone in its cluster would have no other to be drawn to.
        smallest = max(2, min(codes // (2 * clusters), 10))
        largest = max(60, -(-codes // clusters))
        groups = [constrained_kmeans(book, clusters, smallest, largest, restarts) for book in self.quantizer.codebooks]
        self.cluster = torch.stack([group.labels for group in groups])
        if processes() > 1:
            # Each has drawn its own.
            self.cluster.copy_(self.trainer.strategy.broadcast(self.cluster))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        config, vectors = self.config, self.vectors[batch.target]
        quantized = self.quantizer(self.encoder(vectors))
        loss = F.mse_loss(self.decoder(quantized.vector), vectors)
        loss = loss + quantized.loss / (config.levels * config.width)
        if self.collaborative is not None:
            loss = loss + config.alignment * info_nce(quantized.vector, self.collaborative[batch.target])
        if config.diversity:
            levels = zip(self.quantizer.codebooks, quantized.codes.T, self.cluster, strict=True)
            loss = loss + config.diversity * torch.stack([diversity(*level) for level in levels]).mean()
        return loss

    @torch.inference_mode()
    def item_codes(self) -> Int[Tensor, "N L"]:
        """The nearest codes of items 1..N."""
        was_training = self.training
        codes = self.eval().quantizer(self.encoder(self.vectors[1:])).codes.clone()
        self.train(was_training)
        return codes

    @torch.inference_mode()
    def reassigned(self, codes: Int[Tensor, "N L"], rounds: int = 20) -> Int[Tensor, "N L"]:
        """The official code's repair: in each round every group of items with equal codes shares out the codes of the
        last level by Sinkhorn. What is equal after the last round stays so: a round may also undo another.
        """
        codes, epsilon = codes.clone(), self.config.epsilon or REPAIR_EPSILON
        distance = -self.eval().quantizer(self.encoder(self.vectors[1:])).logits[:, -1]
        for _ in range(rounds):
            group, count = torch.unique(codes, dim=0, return_inverse=True, return_counts=True)[1:]
            before = codes.clone()
            together = group.argsort(stable=True)  # the items of a group one after the other
            fellows = count[group[together]]
            for size in count[count > 1].unique().tolist():
                members = together[fellows == size].view(-1, size)
                assign = torch.vmap(partial(sinkhorn, epsilon=epsilon), chunk_size=-(-AT_ONCE // size))
                codes[members, -1] = assign(distance[members])
            if torch.equal(codes, before):
                break
        return codes

    def configure_optimizers(self) -> Any:
        return adamw(self, self.config.lr, self.config.weight_decay)


def diversity(codebook: Float[Tensor, "V D"], code: Int[Tensor, "B"], cluster: Int[Tensor, "V"]) -> Float[Tensor, ""]:
    """Draws an assigned code to a random other of its cluster and pushes it from all the rest. Its own score is left
    out, and only the codebook gets a gradient.
    """
    own = code[:, None]
    mates = (cluster[own] == cluster).scatter(1, own, False).float()
    # As `multinomial` draws, but for its look at the probabilities, for which a GPU would be held up.
    partner = (mates / torch.empty_like(mates).exponential_()).argmax(1)
    logits = (codebook[code] @ codebook.T).scatter(1, own, -torch.inf)
    return F.cross_entropy(logits, partner)


@final
class Letter(Recommender):
    def __init__(self, config: Config, index: ItemIndex) -> None:
        super().__init__()
        self.config = config
        self.history_length = config.history
        self.generator = CodeGenerator(config.t5, index, "vocabulary")

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        labels = self.generator.item_tokens(batch.target)
        states = self.generator.states(labels, self.generator.read(batch.history))
        return self.generator.loss(states, labels, self.config.temperature)

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        return self.generator.rank(history, k)

    def configure_optimizers(self) -> Any:
        config = self.config
        warmup = int(config.warmup * self.trainer.estimated_stepping_batches)
        return adamw(self, config.lr, config.weight_decay, "cosine", warmup)
