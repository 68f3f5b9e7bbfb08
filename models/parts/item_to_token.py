"""ItemToToken: a small causal decoder that generates the codes of an item from its vector, PIT's tokenizer.

Reconstructed, but for what the paper is known to state: a light decoder-only transformer that starts from the item's
vector, to which it sends no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@dataclass(frozen=True)
class ItemToTokenConfig:
    layers: int = 2
    heads: int = 4
    inner: int = 512
    dropout: float = 0.1


class ItemToToken(nn.Module):
    """Items' vectors X, and P(codes | X of the item) by a causal decoder. Vectors of codes come from outside."""

    vectors: Tensor

    def __init__(self, config: ItemToTokenConfig, width: int, levels: int, vectors: Float[Tensor, "I F"]) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors)
        self.project = nn.Linear(vectors.shape[1], width, bias=False)
        self.own = nn.Embedding(len(vectors), width)
        nn.init.zeros_(self.own.weight)
        self.norm = nn.LayerNorm(width)
        self.start = nn.Linear(width, width)
        self.place = nn.Parameter(torch.randn(levels, width) * 0.02)
        sizes = (width, config.heads, config.inner, config.dropout)
        layer = nn.TransformerEncoderLayer(*sizes, batch_first=True, norm_first=True)
        self.decoder = nn.TransformerEncoder(layer, config.layers, nn.LayerNorm(width), enable_nested_tensor=False)

    def items(self, item: Int[Tensor, "..."]) -> Float[Tensor, "... D"]:
        """X: text and what the item itself has learned."""
        return self.norm(self.project(self.vectors[item]) + self.own(item))

    def forward(
        self, x: Float[Tensor, "B D"], codes: Int[Tensor, "B l"], levels: list[Float[Tensor, "_ D"]]
    ) -> list[Float[Tensor, "B _"]]:
        """Log-probabilities of the code after each prefix, the empty one first. No gradient reaches X."""
        read = [levels[level][codes[:, level]] for level in range(codes.shape[1])]
        inputs = torch.stack([self.start(x.detach()), *read], 1)
        length = inputs.shape[1]
        later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        states = self.decoder(inputs + self.place[:length], mask=later)
        scale = states.shape[2] ** -0.5
        return [(states[:, level] * scale @ levels[level].T).float().log_softmax(1) for level in range(length)]

    def log_prob(
        self, item: Int[Tensor, "B"], codes: Int[Tensor, "B L"], levels: list[Float[Tensor, "_ D"]]
    ) -> Float[Tensor, "B"]:
        """Of a whole sequence of each item."""
        return chosen(self(self.items(item), codes[:, :-1], levels), codes).sum(1)

    def best(
        self, item: Int[Tensor, "B"], levels: list[Float[Tensor, "_ D"]], width: int
    ) -> tuple[Int[Tensor, "B W L"], Float[Tensor, "B W"]]:
        """The best sequences of items and their log-probabilities, best first, by a beam over all codes."""
        x = self.items(item)
        codes, scores = item.new_zeros(len(item), 1, 0), x.new_zeros(len(item), 1)
        for vectors in levels:
            beams, size = scores.shape[1], len(vectors)
            log_probs = self(x.repeat_interleave(beams, 0), codes.flatten(0, 1), levels)[-1]
            grown = (scores[..., None] + log_probs.view(len(item), beams, size)).flatten(1)
            scores, place = grown.topk(min(width, grown.shape[1]), dim=1)
            before = codes.gather(1, (place // size)[..., None].expand(-1, -1, codes.shape[2]))
            codes = torch.cat([before, (place % size)[..., None]], 2)
        return codes, scores


def chosen(log_probs: list[Float[Tensor, "B _"]], codes: Int[Tensor, "B L"]) -> Float[Tensor, "B L"]:
    """Log-probabilities of given codes."""
    return torch.cat([level.gather(1, code[:, None]) for level, code in zip(log_probs, codes.T, strict=True)], 1)
