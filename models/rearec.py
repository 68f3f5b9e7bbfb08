"""ReaRec: a sequential recommender that thinks before it recommends (Tang et al., 2025, arXiv 2503.22675).

SASRec's causal transformer reads a history. Its last state h_0 is not the answer yet: with an embedding of the step it
is read in its turn, as one more input behind the history, which gives h_1, and so on to h_K. An item's score is the dot
product of its embedding with the answer. There are two ways to learn the steps:

- progressive (PRL): the answer is h_K. Every h_k is to find the next item by cross-entropy over all items, at the
  temperature tau alpha^(K-k), so that early steps may be vague and the last has to be sharp. After two epochs each step
  of a second reading, with noise on what steps read, is to find its own among the batch's (a contrastive loss).
- ensemble (ERL): the answer is the mean of h_0 to h_K, whose cross-entropy counts; to make the steps differ, the
  divergence of their distributions over items, KL(p_i || p_j) over all i != j, is taken off the loss.

Losses and sizes are those of the authors' code, whose rates they search for each corpus. As there, every prefix is a
sample with one target; gradients are clipped to length 1, theirs are not. Left out is the variant whose items are text.

Published on Beauty_2014 (PIT, table 2; which of the two it does not say): R@5 .0439, R@10 .0741, N@5 .0247, N@10 .0344.

    make bench MODELS=rearec CORPUS=beauty_2014
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from models.api import Batch, Budget, Corpus, Count, Fit, Ranking, Rate, Recommender, Share, Weight, divisible, tuned
from models.parts.dropout import Dropout
from models.parts.encoder import EPSILON, initialise
from models.parts.losses import catalogue_cross_entropy, info_nce
from models.parts.next_item import last
from models.parts.optim import adamw
from models.parts.ragged import grouped
from models.parts.ranking import rank_scores

WARMUP = 2  # epochs before the contrastive loss counts


@dataclass(frozen=True)
class Config:
    learning: Literal["progressive", "ensemble"] = "progressive"
    steps: Count = tuned(2, low=1, high=3)
    """K: how many times a state is read again."""
    width: Count = tuned(256, choices=[64, 128, 256])
    """Item embedding and hidden size D."""
    inner: Count = 300
    """Feed-forward size."""
    layers: Count = tuned(2, low=1, high=4)
    heads: Count = 2
    dropout: Share = tuned(0.5, low=0.1, high=0.7)
    """On attention weights and the output of each half of a block."""
    input_dropout: Share = 0.2
    """On what the first block reads."""
    history: Count = 50
    """Longest history, in items; longer ones keep their last items."""
    temperature: Rate = tuned(0.07, low=0.05, high=5.0, log=True)
    """tau: logits are divided by it. The authors' first release has .07, a later one .5 for both ways of learning."""
    alpha: Rate = tuned(5.0, low=1.0, high=10.0)
    """By how much the temperature of a step is above that of the next."""
    noise: Weight = 0.01
    """Standard deviation of what is added to a state when the history is read a second time."""
    contrastive: Weight = 1.0
    """Weight of the contrastive loss; with 0 there is no second reading."""
    divergence: Weight = tuned(0.05, low=1e-3, high=1e-1, log=True)
    """lambda: weight of the steps' divergence under ensemble learning."""
    lr: Rate = tuned(1e-3, low=1e-4, high=1e-2, log=True)
    weight_decay: Weight = 0.0
    batch_size: Count = 2048
    """Prefixes."""
    epochs: Count = 300
    patience: Count = 10
    valid_users: Count | None = None
    """Users that grade an epoch; None: all."""

    def __post_init__(self) -> None:
        divisible(self.width, self.heads)

    @property
    def unread(self) -> tuple[str, ...]:
        """Fields that nothing reads beside the others."""
        if self.learning == "ensemble":
            return ("alpha", "noise", "contrastive")
        return ("divergence",) if self.contrastive else ("divergence", "noise")


# Smaller sizes; nothing was searched.
SMALL = Config(width=64, inner=128, dropout=0.2, temperature=0.5, batch_size=256, patience=20)


def train(config: Config, corpus: Corpus, fit: Fit) -> Recommender:
    budget = Budget(config.epochs, config.batch_size, config.patience, valid_users=config.valid_users)
    return fit("recommender", lambda: ReaRec(config, corpus.items), budget)


@final
class ReaRec(Recommender):
    def __init__(self, config: Config, items: int) -> None:
        super().__init__()
        self.config = config
        self.history_length = config.history
        self.item = nn.Embedding(items + 1, config.width, padding_idx=0)
        self.position = nn.Embedding(config.history, config.width)
        self.step = nn.Embedding(config.steps, config.width)
        self.input = nn.Sequential(nn.LayerNorm(config.width, EPSILON), Dropout(config.input_dropout))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.apply(initialise)

    def thoughts(
        self, history: Int[Tensor, "B T"], read: Float[Tensor, "B K D"] | None = None
    ) -> Float[Tensor, "B S D"]:
        """h_0 of each history and h_1 to h_K, that of each step; S = K + 1.

        Args:
            read: what each step reads, but for its embedding; None: the state before it.
        """
        return grouped(
            history > 0,
            lambda rows, width: self._thoughts(history[rows, :width], None if read is None else read[rows]),
        )

    def _thoughts(self, history: Int[Tensor, "B T"], read: Float[Tensor, "B K D"] | None) -> Float[Tensor, "B S D"]:
        states, memory = self._states(history)
        found, padding = [last(states, history)], history == 0
        for step, embedding in enumerate(self.step.weight):
            given = found[step] if read is None else read[:, step]
            x, padding = self.input(given + embedding)[:, None], F.pad(padding, (0, 1))
            for layer, block in enumerate(self.blocks):
                memory[layer] = torch.cat([memory[layer], x], 1)
                x = block(x, memory[layer], padding=padding)
            found.append(x[:, 0])
        return torch.stack(found, 1)

    def _states(self, history: Int[Tensor, "B T"]) -> tuple[Float[Tensor, "B T D"], list[Float[Tensor, "B T D"]]]:
        """State after each item, and what each block has read; at padding they have no meaning."""
        x = self.input(self.item(history) + self.position.weight[: history.shape[1]])
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device, dtype=x.dtype)
        memory = []
        for block in self.blocks:
            memory.append(x)
            x = block(x, x, mask)
        return x, memory

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        thoughts = self.thoughts(batch.history)
        if self.config.learning == "ensemble":
            logits = (thoughts @ self.item.weight[1:].T).float() / self.config.temperature
            answered = self._surprise(thoughts.mean(1, keepdim=True), batch)
            return answered - self.config.divergence * divergence(logits.log_softmax(-1))
        early = self._surprise(thoughts[:, :-1], batch, range(self.config.steps, 0, -1))
        return early + self._surprise(thoughts[:, -1:], batch) + self._contrast(thoughts, batch)

    def _surprise(self, states: Float[Tensor, "B S D"], batch: Batch, rises: Iterable[int] = (0,)) -> Float[Tensor, ""]:
        """Mean cross-entropy of the next item; `rises`: how often alpha is in the temperature of each state."""
        temperature = [self.config.temperature * self.config.alpha**rise for rise in rises]
        flat = (states / states.new_tensor(temperature)[:, None]).flatten(0, 1)
        target = batch.target.repeat_interleave(states.shape[1])
        return catalogue_cross_entropy(flat, self.item.weight[1:], target - 1) / len(flat)

    def _contrast(self, thoughts: Float[Tensor, "B S D"], batch: Batch) -> Float[Tensor, ""] | float:
        if self.current_epoch < WARMUP or not self.config.contrastive:
            return 0.0
        read = thoughts[:, :-1]
        noisy = self.thoughts(batch.history, read + self.config.noise * torch.randn_like(read))
        pairs = list(zip(noisy.unbind(1), thoughts.unbind(1), strict=True))[1:]
        losses = [info_nce(each / self.config.temperature, own) for each, own in pairs]
        return self.config.contrastive * torch.stack(losses).mean()

    def rank(self, history: Int[Tensor, "B T"], k: int) -> Ranking:
        thoughts = self.thoughts(history)
        answer = thoughts.mean(1) if self.config.learning == "ensemble" else thoughts[:, -1]
        return rank_scores((answer @ self.item.weight[1:].T).float(), k)

    def configure_optimizers(self) -> Any:
        return adamw(self, self.config.lr, self.config.weight_decay)


class Block(nn.Module):
    """RecBole's, but of inputs that may look at more than themselves."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(config.width, config.heads, config.dropout, batch_first=True)
        self.norms = nn.ModuleList(nn.LayerNorm(config.width, EPSILON) for _ in range(2))
        self.rise, self.fall = nn.Linear(config.width, config.inner), nn.Linear(config.inner, config.width)
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        x: Float[Tensor, "B Q D"],
        seen: Float[Tensor, "B T D"],
        mask: Float[Tensor, "Q T"] | None = None,
        padding: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B Q D"]:
        read, _ = self.attention(x, seen, seen, attn_mask=mask, key_padding_mask=padding, need_weights=False)
        x = self.norms[0](x + self.dropout(read))
        return self.norms[1](x + self.dropout(self.fall(F.gelu(self.rise(x)))))


def divergence(log_p: Float[Tensor, "B S N"]) -> Float[Tensor, ""]:
    """Mean of KL(p_i || p_j) over rows and all i != j of S distributions, in nats; gradients go through p_i alone."""
    given, others = log_p.detach(), log_p.shape[1] - 1
    of_others = given.sum(1, keepdim=True) - given
    return (log_p.exp() * (log_p * others - of_others)).sum(-1).mean() / others
