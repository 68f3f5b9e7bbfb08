"""DIN and the item vectors that learn by it: PIT's collaborative signal alignment (CSA, eq. 2 and 5)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from models.parts.precision import in_float32
from models.parts.rqvae import mlp


class ItemVectors(nn.Module):
    """X: an embedding of the item's id, enriched with its content vector. In float32, for codes are made of it."""

    content: Tensor

    def __init__(self, content: Float[Tensor, "I F"], width: int) -> None:
        super().__init__()
        self.register_buffer("content", content, persistent=False)
        self.project = nn.Linear(content.shape[1], width, bias=False)
        self.own = nn.Embedding(len(content), width)
        nn.init.normal_(self.own.weight, std=0.02)
        self.norm = nn.LayerNorm(width)

    @in_float32
    def forward(self, item: Int[Tensor, "..."]) -> Float[Tensor, "... D"]:
        return self.norm(self.project(self.content[item]) + self.own(item))


class Din(nn.Module):
    """Deep interest network: attention of a candidate over the history, then an MLP. Sizes are not stated."""

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


def alignment(
    din: Din, items: ItemVectors, history: Int[Tensor, "B T"], target: Int[Tensor, "B"], negatives: int
) -> Float[Tensor, ""]:
    """L_xtr: binary cross-entropy of the target and of `negatives` uniform items, y = DIN(sg(H), X).

    Negatives are not stated. One that is the target by chance counts as a target.
    """
    others = torch.randint(1, len(items.content), (len(target), negatives), device=target.device)
    candidates = torch.cat([target[:, None], others], 1)
    logits = din(items(history).detach(), history > 0, items(candidates)).float()
    return F.binary_cross_entropy_with_logits(logits, (candidates == target[:, None]).float())
