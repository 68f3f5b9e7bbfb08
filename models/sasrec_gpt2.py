"""SASRec built of GPT-2's blocks, the item-id model of Ding et al. (KDD 2026, arXiv 2603.19809).

`sasrec` normalises behind each half of a block, as RecBole does; GPT-2 (the transformers library's) before it, and once
more at the end, and its table of items is read and scored with, as SASRec's is. Softmax over all items. Their code for
this model is not at hand: sizes, dropout and the rate, one of the two that the paper searched, are those of GrIS
(hirc-airecs/graph-informed-sids), which is built on it, and so is the number of epochs, where their repository's
default is 300; warm-up, cosine and patience are theirs. There the softmax is over padding and an end token, too, and a
batch's losses are averaged over its own positions; here all positions of an epoch weigh alike, but of a history beyond
`history` only the last so many train.

Published (NDCG@10, seen items kept): Beauty_2014 .0436, Sports_2014 .0253, Musical_Instruments .0291.

    make bench MODELS=sasrec_gpt2 CORPUS=beauty_2014
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from jaxtyping import Float, Int
from torch import Tensor
from transformers import GPT2Config, GPT2Model

from models.api import Batch, Budget, Corpus, Count, Fit, Ranking, Rate, Recommender, Share, Whole, divisible, tuned
from models.parts.dropout import replace_dropout
from models.parts.next_item import last, mean_prefixes, prefix_loss
from models.parts.optim import adamw
from models.parts.ragged import trimmed
from models.parts.ranking import rank_scores

OPEN = "sizes, rate (the paper says 1e-3 or 3e-3) and epochs, taken from a repository that is built on theirs"


@dataclass(frozen=True)
class Config:
    width: Count = tuned(64, choices=[64, 128, 256])
    """Item embedding and hidden size D."""
    inner: Count = 256
    """Feed-forward size."""
    layers: Count = tuned(2, low=1, high=4)
    heads: Count = 2
    dropout: Share = tuned(0.5, low=0.1, high=0.7)
    """On embeddings and attention weights."""
    history: Count = 50
    """Longest history, in items; longer ones keep their last items."""
    lr: Rate = tuned(3e-3, low=1e-4, high=1e-2, log=True)
    warmup: Whole = 10_000
    """Steps until the rate is reached; it falls to zero in a cosine over the rest of the epochs."""
    batch_size: Count = 256
    """Users."""
    epochs: Count = 150
    patience: Count = 20
    valid_users: Count | None = None
    """Users that grade an epoch; None: all."""

    def __post_init__(self) -> None:
        divisible(self.width, self.heads)


SMALL = Config(batch_size=64, warmup=500)


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    budget = Budget(config.epochs, config.batch_size, config.patience, valid_users=config.valid_users)
    # A user's longest training example holds all its training positions.
    users = corpus.examples("train").longest_per_user()
    mean = mean_prefixes(users, config.history, config.batch_size)
    return fit("recommender", lambda: SasRecGpt2(config, corpus.items, mean), budget, users)


@final
class SasRecGpt2(Recommender):
    def __init__(self, config: Config, items: int, positions: float) -> None:
        """
        Args:
            positions: training positions of a batch, on average, which the sum of its losses is divided by.
        """
        super().__init__()
        self.config = config
        self.history_length = config.history
        self.positions = positions
        sizes = GPT2Config(
            vocab_size=items + 1,
            n_positions=config.history,
            n_embd=config.width,
            n_layer=config.layers,
            n_head=config.heads,
            n_inner=config.inner,
            embd_pdrop=config.dropout,
            attn_pdrop=config.dropout,
            resid_pdrop=0.0,
            layer_norm_epsilon=1e-12,
            use_cache=False,
            bos_token_id=None,
            eos_token_id=None,
        )
        self.gpt2 = GPT2Model(sizes)
        replace_dropout(self.gpt2)

    @property
    def items(self) -> Float[Tensor, "I D"]:
        """Embeddings of padding and of the items, read and scored with."""
        weight: Tensor = self.gpt2.get_input_embeddings().weight
        return weight

    def states(self, history: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """State after each item; at padding it has no meaning, and nothing before it looks there."""
        return trimmed(lambda rows: self.gpt2(rows).last_hidden_state, (history > 0).sum(1), history)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        return prefix_loss("ce", self.states(batch.history), batch, self.items[1:], self.positions)

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        states = last(self.states(history), history)
        return rank_scores((states @ self.items[1:].T).float(), k)

    def configure_optimizers(self) -> Any:
        return adamw(self, self.config.lr, 0.0, "cosine", self.config.warmup)
