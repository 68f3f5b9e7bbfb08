"""ItemToToken: a small causal decoder that generates the codes of an item from its vector, PIT's tokenizer (I2T)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.api import Count, Share, divisible
from models.parts.precision import in_float32


@dataclass(frozen=True)
class ItemToTokenConfig:
    """Sizes are the paper's (4.1.4)."""

    width: Count = 64
    """Of item vectors, too: an item's vector is the first input as it is."""
    layers: Count = 4
    heads: Count = 4
    inner: Count = 256
    dropout: Share = 0.1
    """Not stated: T5's."""

    def __post_init__(self) -> None:
        divisible(self.width, self.heads)


class ItemToToken(nn.Module):
    """P(codes | x) (eq. 3): a decoder-only transformer whose BOS vector is an item's, to which it sends no gradient.

    It names items, so it computes in float32. Its layers begin as copies of one, as PyTorch makes them; the paper does
    not say how they begin.
    """

    def __init__(self, config: ItemToTokenConfig, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes
        self.first = [sum(sizes[:level]) for level in range(len(sizes))]
        self.token = nn.Embedding(sum(sizes), config.width)
        self.place = nn.Parameter(torch.randn(len(sizes), config.width) * 0.02)
        shape = (config.width, config.heads, config.inner, config.dropout)
        layer = nn.TransformerEncoderLayer(*shape, batch_first=True, norm_first=True)
        self.decoder = nn.TransformerEncoder(
            layer, config.layers, nn.LayerNorm(config.width), enable_nested_tensor=False
        )
        self.head = nn.Linear(config.width, sum(sizes))

    @in_float32
    def forward(self, x: Float[Tensor, "B D"], codes: Int[Tensor, "B l"]) -> list[Float[Tensor, "B _"]]:
        """Log-probabilities of the code after each prefix, the empty one first."""
        of_codes = [self.token(codes[:, level] + self.first[level]) for level in range(codes.shape[1])]
        inputs = torch.stack([x.detach(), *of_codes], 1)
        length = inputs.shape[1]
        inputs = inputs + self.place[:length]
        later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        # Unless it is told, torch compares the mask with a causal one, and holds a GPU up at every step.
        logits = self.head(self.decoder(inputs, mask=later, is_causal=True))
        # A code competes with those of its level.
        levels = zip(logits.unbind(1), self.first[:length], self.sizes, strict=False)
        return [row[:, first : first + size].log_softmax(1) for row, first, size in levels]

    def log_prob(self, x: Float[Tensor, "B D"], codes: Int[Tensor, "B L"]) -> Float[Tensor, "B L"]:
        """Log-probabilities of each code of given sequences."""
        levels = zip(self(x, codes[:, :-1]), codes.T, strict=True)
        return torch.cat([log_probs.gather(1, code[:, None]) for log_probs, code in levels], 1)

    @torch.no_grad()
    def best(self, x: Float[Tensor, "B D"], width: int) -> tuple[Int[Tensor, "B W L"], Float[Tensor, "B W"]]:
        """A beam over all codes: sequences and their log-probabilities, best first."""
        codes = torch.zeros(len(x), 1, 0, dtype=torch.long, device=x.device)
        scores = torch.zeros(len(x), 1, device=x.device)
        for size in self.sizes:
            beams, level = codes.shape[1:]
            log_probs = self(x.repeat_interleave(beams, 0), codes.flatten(0, 1))[-1]
            grown = (scores[..., None] + log_probs.view(*scores.shape, size)).flatten(1)
            scores, position = grown.topk(min(width, grown.shape[1]), dim=1)
            parent, code = position // size, position % size
            prefix = codes.gather(1, parent[..., None].expand(-1, -1, level))
            codes = torch.cat([prefix, code[..., None]], 2)
        return codes, scores
