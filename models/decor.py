"""DECOR: decomposed contextual token representations (Liu et al., arXiv 2509.10468 v1; SIGIR 2026).

TIGER's tokenizer and recommender with other token embeddings. The RQ-VAE's codebooks are as wide as the recommender and
stay frozen; a token's vector is a fusion of its code vector with a learned, collaborative one (Eq. 9-11), in the
encoder, in the decoder and as output weights. The decoder's inputs are composed in context (Eq. 13-18): a context
vector, pooled by attention over the history, weighs all codes of a level, and their mean is mixed into each code of
that level. The start token is composed in the same way of learned queries (Eq. 19). What is composed depends on the
history and the level alone, so it is made once per user, however many prefixes are searched.

The suffix code and the special tokens have no code vector: only their collaborative half. For some of what a
re-implementation does otherwise there is a field, see `Config`; its start token without projections and mixed with
padding's, its scaled pooling and its collaborative vectors that begin at 0 have none. Reconstructed: the optimiser of
the tokenizer, sizes of the recommender (TIGER's, of whose code family DECOR's is), of the fusion, the pooling and the
context's MLP (all as wide as the recommender), no 1/sqrt(D) in attention as in the formulas, context of history alone.
Left out: user and end-of-label tokens, as in our TIGER.

Published on Musical_Instruments (v1, table 1): R@5 .0399, R@10 .0610, N@5 .0266, N@10 .0333; SIGIR'26: .0409, .0617,
.0272, .0339.

    make bench MODELS=decor CORPUS=musical_instruments SET="vectors=npz"
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils import parametrize

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
from models.parts.generator import CodeGenerator, Composition
from models.parts.index import ItemIndex
from models.parts.optim import adamw
from models.parts.precision import in_float32
from models.parts.seq2seq import T5Sizes
from models.parts.tokenizer import Tokenized, TokenizerConfig, tokenized


@dataclass(frozen=True)
class Config:
    vectors: Literal[VectorKind, TrainedKind] = "tfidf"
    """Item vectors of `data_prep.embed` (the paper: sentence-t5-base)."""
    tokenizer: TokenizerConfig = field(default_factory=lambda: TokenizerConfig(hidden=(512, 256), width=128))
    """Its code vectors are as wide as the recommender."""
    tokenizer_epochs: Count = 500
    """Of an RQ-VAE. TIGER's paper: 20,000."""
    tokenizer_batch: Count = 1024
    tokenizer_check: Count = 50
    """Epochs between two looks at what the codes reconstruct; the best look is kept."""
    t5: T5Sizes = field(default_factory=T5Sizes)
    history: Count = 20
    """Longest history, in items."""
    fusion: bool = True
    """False: learned token vectors alone, as TIGER's."""
    projection: Literal["before-norm", "after-norm"] = "before-norm"
    """Of both halves. `before-norm`: the paper, LN(W e). `after-norm`: the re-implementation, LN of the code vector as
    it is, and an MLP of two layers behind the collaborative half's LN."""
    alpha: Share = tuned(0.55, choices=[0.1, 0.25, 0.4, 0.55, 0.7])
    """Part of the composed vector in a decoder input (Eq. 18); 0: no composition. The paper has .25 on Scientific."""
    bos_queries: Whole = tuned(64, choices=[8, 16, 32, 64, 128])
    """Queries of which the start token is composed; 0: a learned start token. The paper has 32 on Scientific."""
    context_mlp: bool = True
    """An MLP of two layers on the pooled history: the paper. The re-implementation has none."""
    detached_candidates: bool = False
    """No gradient from a composition to the vectors it is composed of: the re-implementation."""
    tied_head: bool = True
    """Token vectors are output weights too: the paper. The re-implementation learns others."""
    lr: Rate = tuned(3e-3, low=3e-4, high=1e-2, log=True)
    warmup: Whole = 10_000
    """Steps, then cosine."""
    weight_decay: Weight = 0.05
    batch_size: Count = 256
    epochs: Count = 200
    steps: Count | None = None
    """Instead of `epochs`, rounded up to whole ones: for corpora whose epochs are short."""
    patience: Count = 20
    """Epochs. The paper has 10 on Video_Games."""
    valid_users: Count | None = 5_000
    """Users that grade an epoch; None: all, which takes two fifths of a training's time on Beauty_2014."""

    def __post_init__(self) -> None:
        # Of an encoder's item vectors the width is not known yet.
        trained = self.vectors.removeprefix("sasrec-")
        if trained.isdigit() or self.tokenizer.method == "rqvae" or self.tokenizer.inputs == "whitened":
            self.check_width(int(trained) if trained.isdigit() else 0)

    def check_width(self, vectors: int) -> None:
        """
        Args:
            vectors: width of the item vectors.

        Raises:
            ValueError: code vectors and recommender have different widths.
        """
        width = self.tokenizer.code_width(vectors)
        if self.fusion and width != self.t5.width:
            raise ValueError(
                f"decor has code vectors of width {width} (option tokenizer.width; of rq-kmeans the item vectors' "
                f"width, of whitened ones tokenizer.components) and t5.width {self.t5.width}; expected equal ones, for "
                "code vectors are token vectors"
            )

    @property
    def unread(self) -> tuple[str, ...]:
        """Fields that nothing reads beside the others."""
        clustered = self.tokenizer.method == "rq-kmeans"
        nothing_of = {
            **dict.fromkeys(("tokenizer_epochs", "tokenizer_batch", "tokenizer_check"), clustered),
            "epochs": self.steps,
            "projection": not self.fusion,
            "detached_candidates": not self.alpha,
            "context_mlp": not self.alpha and not self.bos_queries,
        }
        return tuple(field for field, holds in nothing_of.items() if holds)


SMALL = Config(
    tokenizer=TokenizerConfig(hidden=(128,), width=64, codes=32),
    tokenizer_epochs=200,
    tokenizer_batch=256,
    tokenizer_check=20,
    t5=T5Sizes(width=64, inner=256, heads=4, head_width=16, encoder_layers=2, decoder_layers=2),
    history=10,
    alpha=0.25,
    bos_queries=16,
    warmup=200,
    weight_decay=0.01,
    batch_size=128,
    steps=1_200,
    patience=30,
    valid_users=None,
)


def _tokenized(config: Config, corpus: Corpus, fit: Fit) -> Tokenized:
    config.check_width(corpus.item_vectors().shape[1])
    epochs = config.tokenizer_epochs
    budget = Budget(epochs, config.tokenizer_batch, patience=epochs, check_every=config.tokenizer_check)
    return tokenized(config.tokenizer, budget, corpus, fit)


def tokenize(config: Config, corpus: Corpus, fit: Fit) -> ItemIndex:
    return _tokenized(config, corpus, fit).indexed()


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    made = _tokenized(config, corpus, fit)
    epochs = whole_epochs(config.steps, corpus, config.batch_size) if config.steps else config.epochs
    budget = Budget(epochs, config.batch_size, config.patience, valid_users=config.valid_users)
    return fit("recommender", lambda: Decor(config, made.indexed(), made.codebooks), budget)


class Fusion(nn.Module):
    """Decomposed embedding fusion: the vectors of all tokens from code vectors and collaborative vectors."""

    pretrained: Tensor
    has_code_vector: Tensor

    def __init__(self, config: Config, tokens: int, codebooks: Float[Tensor, "M V D"]) -> None:
        """Code vectors belong to the tokens from 1 on; the others have none."""
        super().__init__()
        width, vectors = codebooks.shape[2], codebooks.flatten(0, 1)
        pretrained = torch.zeros(tokens, width)
        pretrained[1 : 1 + len(vectors)] = vectors  # Eq. 9
        self.register_buffer("pretrained", pretrained)
        self.register_buffer("has_code_vector", (pretrained != 0).any(1, keepdim=True), persistent=False)
        norm = (nn.LayerNorm(width), nn.LayerNorm(width))
        self.of_code: nn.Module = norm[0]
        self.of_collaborative: nn.Module
        if config.projection == "before-norm":
            self.of_code = nn.Sequential(nn.Linear(width, width, bias=False), norm[0])
            self.of_collaborative = nn.Sequential(nn.Linear(width, width, bias=False), norm[1])
        else:
            self.of_collaborative = nn.Sequential(norm[1], two_layers(width))
        self.fuse = nn.Linear(2 * width, width, bias=False)

    # A batch reads a token thousands of times, and in bf16 the sum of its gradients would stand still before its end.
    @in_float32
    def forward(self, collaborative: Float[Tensor, "X D"]) -> Float[Tensor, "X D"]:
        code = self.of_code(self.pretrained) * self.has_code_vector  # Eq. 10
        return self.fuse(torch.cat([code, self.of_collaborative(collaborative)], 1))  # Eq. 11


class Contextual(nn.Module):
    """Contextualized token composition: what histories make of the decoder's inputs."""

    keep: Tensor

    def __init__(self, config: Config, levels: int) -> None:
        super().__init__()
        width = config.t5.width
        self.alpha, self.detached = config.alpha, config.detached_candidates
        self.score = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1, bias=False))
        self.context_mlp = two_layers(width) if config.context_mlp else nn.Identity()
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.bos = nn.Parameter(torch.randn(config.bos_queries, width)) if config.bos_queries else None
        # Composed of queries alone, the start token's own vector is nowhere.
        keep = [0.0 if config.bos_queries else 1.0, *[1.0 - config.alpha] * (levels - 1)]
        self.register_buffer("keep", torch.tensor(keep), persistent=False)

    def forward(
        self, codes: Float[Tensor, "B S D"], mask: Bool[Tensor, "B S"], levels: list[Float[Tensor, "_ D"]]
    ) -> Composition:
        context = self.context(codes, mask)
        none = torch.zeros_like(context)
        added = [none if self.bos is None else self.compose(context, self.bos)]  # Eq. 19
        # The last level's codes are never read.
        for candidates in levels[:-1]:
            candidates = candidates.detach() if self.detached else candidates
            added.append(self.alpha * self.compose(context, candidates) if self.alpha else none)  # Eq. 18
        return Composition(self.keep, torch.stack(added, 1))

    def context(self, codes: Float[Tensor, "B S D"], mask: Bool[Tensor, "B S"]) -> Float[Tensor, "B D"]:
        """Eq. 13 and 14: attention pooling."""
        weights = self.score(codes).squeeze(2).float().masked_fill(~mask, -torch.inf).softmax(1)
        return self.context_mlp((weights[:, None].to(codes) @ codes).squeeze(1))

    def weights(self, context: Float[Tensor, "B D"], candidates: Float[Tensor, "V D"]) -> Float[Tensor, "B V"]:
        """Eq. 16."""
        return (self.query(context) @ self.key(candidates).T).float().softmax(1)

    def compose(self, context: Float[Tensor, "B D"], candidates: Float[Tensor, "V D"]) -> Float[Tensor, "B D"]:
        """Eq. 17."""
        return self.weights(context, candidates).to(candidates) @ candidates


@final
class Decor(Recommender):
    def __init__(self, config: Config, index: ItemIndex, codebooks: Float[Tensor, "M V D"]) -> None:
        super().__init__()
        self.config = config
        self.history_length = config.history
        contextual = Contextual(config, index.levels) if config.alpha or config.bos_queries else None
        self.generator = CodeGenerator(config.t5, index, "vocabulary", contextual, config.tied_head)
        if config.fusion:
            token = self.generator.token
            parametrize.register_parametrization(token, "weight", Fusion(config, token.num_embeddings, codebooks))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        with parametrize.cached():  # tokens are fused once a step
            labels = self.generator.item_tokens(batch.target)
            return self.generator.loss(self.generator.states(labels, self.generator.read(batch.history)), labels)

    def composition_weights(self, history: Int[Tensor, "B T"]) -> list[Float[Tensor, "B _"]]:
        """Eq. 16 at each level whose codes are composed: what histories make of its codes."""
        contextual, tokens = self.generator.compose, self.generator.item_tokens(history).flatten(1)
        if not isinstance(contextual, Contextual):
            return []
        context = contextual.context(self.generator.token(tokens), tokens > 0)
        return [contextual.weights(context, candidates) for candidates in self.generator.vectors()[:-1]]

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        return self.generator.rank(history, k)

    def configure_optimizers(self) -> Any:
        config = self.config
        return adamw(self, config.lr, config.weight_decay, "cosine", config.warmup)


def two_layers(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
