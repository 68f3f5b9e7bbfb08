"""TIGER: recommender systems with generative retrieval (Rajput et al., NeurIPS 2023, arXiv 2305.05065).

Section 3.1: an RQ-VAE turns an item's text vector into three codes; a fourth tells items with equal codes apart.
Section 3.2: a T5-style encoder-decoder reads the codes of the history and generates the codes of the next item.
The score of an item is the log-probability of its four codes under the softmax over the whole vocabulary.

Left out: user tokens (the harness ranks for histories alone, as GRID, LIGER and LETTER do) and the end token in the
labels (every sequence has four codes, so its probability is one). Reconstructed: weight decay, patience.

Published on Musical_Instruments (ETEGRec, table 3): R@5 .0368, R@10 .0574, N@5 .0242, N@10 .0308; hours on one GPU.

    make bench MODELS=tiger CORPUS=musical_instruments SET="vectors=npz"
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from data_prep.corpus import VectorKind
from models.api import Batch, Budget, Corpus, Fit, Ranking, Recommender, tuned
from models.parts.index import ItemIndex, with_suffix
from models.parts.optim import Schedule, adamw
from models.parts.rqvae import RqVae, RqVaeConfig
from models.parts.search import Step, exact_search
from models.parts.seq2seq import CodeTransformer, Encoded, T5Sizes


@dataclass(frozen=True)
class Config:
    vectors: Literal[VectorKind, "sasrec"] = "tfidf"
    """Item vectors of `data_prep.embed` (the paper: sentence-t5-base), or a SASRec's (ETEGRec's TIGER-SAS)."""
    tokenizer: RqVaeConfig = field(default_factory=RqVaeConfig)
    tokenizer_epochs: int = 20_000
    tokenizer_batch: int = 1024
    tokenizer_check: int = 500
    """Epochs between two looks at the training loss; the best look is kept."""
    t5: T5Sizes = field(default_factory=T5Sizes)
    history: int = 20
    """Longest history, in items."""
    lr: float = tuned(1e-2, low=3e-4, high=3e-2, log=True)
    schedule: Schedule = "inverse-sqrt"
    warmup: int = 10_000
    """Steps."""
    weight_decay: float = tuned(0.0, choices=[0.0, 0.01, 0.05, 0.1])
    batch_size: int = 256
    steps: int = 200_000
    """Rounded up to whole epochs."""
    patience: int = 20
    """Epochs."""
    valid_users: int | None = None
    """Users that grade an epoch; None: all."""


SMALL = Config(
    tokenizer=RqVaeConfig(hidden=(128,), width=32, codes=32, optimizer="adamw", lr=1e-3),
    tokenizer_epochs=200,
    tokenizer_batch=256,
    tokenizer_check=20,
    t5=T5Sizes(width=64, inner=256, heads=4, head_width=16, encoder_layers=2, decoder_layers=2),
    history=10,
    lr=3e-3,
    schedule="cosine",
    warmup=200,
    weight_decay=0.01,
    batch_size=128,
    steps=1_200,
    patience=30,
)


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    vectors = torch.from_numpy(corpus.item_vectors())
    epochs = config.tokenizer_epochs
    tokenizer = fit(
        "tokenizer",
        lambda: RqVae(config.tokenizer, vectors),
        Budget(epochs, config.tokenizer_batch, patience=epochs, check_every=config.tokenizer_check),
        corpus.examples("items"),
    )
    suffix_codes = config.tokenizer.codes
    codes = with_suffix(tokenizer.item_codes(), suffix_codes)
    index = ItemIndex(codes, (*tokenizer.quantizer.sizes, suffix_codes))
    steps_per_epoch = math.ceil(len(corpus.examples("train")) / config.batch_size)
    epochs = math.ceil(config.steps / steps_per_epoch)
    budget = Budget(epochs, config.batch_size, config.patience, valid_users=config.valid_users)
    return fit("recommender", lambda: Tiger(config, index), budget)


@final
class Tiger(Recommender):
    offset: Tensor

    def __init__(self, config: Config, index: ItemIndex) -> None:
        super().__init__()
        self.config = config
        self.history_length = config.history
        self.index = index
        self.transformer = CodeTransformer(config.t5)
        # Token 0 pads and starts the decoder; then the codes, level after level; the last token ends an input.
        self.first_token = [1 + sum(index.sizes[:level]) for level in range(index.levels)]
        self.register_buffer("offset", torch.tensor(self.first_token), persistent=False)
        self.end = 1 + sum(index.sizes)
        self.token = nn.Embedding(self.end + 1, config.t5.width)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        labels = self.item_tokens(batch.target)
        logits = self.forced_logits(labels, self.encode(batch.history))
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten())

    def forced_logits(self, labels: Int[Tensor, "B L"], encoded: Encoded) -> Float[Tensor, "B L W"]:
        """Teacher forcing: scores of every next token after the labels before it."""
        inputs = F.pad(labels[:, :-1], (1, 0))
        return self.logits(self.transformer.decode(self.token(inputs), encoded))

    def encode(self, history: Int[Tensor, "B T"]) -> Encoded:
        tokens = self.item_tokens(history).flatten(1)
        tokens = F.pad(tokens, (0, 1)).scatter(1, (tokens > 0).sum(1, keepdim=True), self.end)
        return self.transformer.encode(self.token(tokens), tokens > 0)

    def item_tokens(self, item: Int[Tensor, "..."]) -> Int[Tensor, "... L"]:
        """The tokens of items; padding has token 0 throughout."""
        tokens = self.index.codes[item, 0] + self.offset
        return tokens * (item > 0)[..., None]

    def logits(self, states: Float[Tensor, "... D"]) -> Float[Tensor, "... W"]:
        """Scores of all `W` tokens. The output is tied to the embedding and scaled, as in T5."""
        return (states * self.config.t5.width**-0.5 @ self.token.weight.T).float()

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        return exact_search(self.steps(history), len(history), self.index, k)

    def score(self, history: Int[Tensor, "B T"], items: Int[Tensor, "B M"]) -> Float[Tensor, "B M"]:
        users, candidates = items.shape
        encoded = self.encode(history)
        repeated = Encoded(*(tensor.repeat_interleave(candidates, 0) for tensor in encoded))
        labels = self.item_tokens(items.flatten())
        log_probs = self.forced_logits(labels, repeated).log_softmax(-1)
        return log_probs.gather(2, labels[..., None]).sum((1, 2)).view(users, candidates)

    def steps(self, history: Int[Tensor, "B T"]) -> Step:
        memory = self.transformer.memory(self.encode(history))

        def step(
            level: int, user: Int[Tensor, "P"], code: Int[Tensor, "P"], parent: Int[Tensor, "P"], cache: Any
        ) -> tuple[Float[Tensor, "P V"], Any]:
            token = code + self.first_token[level - 1] if level else code  # token 0 starts
            states, cache = self.transformer.step(self.token(token), user, memory, parent, cache or ())
            first = self.first_token[level]
            return self.logits(states).log_softmax(-1)[:, first : first + self.index.sizes[level]], cache

        return step

    def configure_optimizers(self) -> Any:
        config = self.config
        return adamw(self, config.lr, config.weight_decay, config.schedule, config.warmup)
