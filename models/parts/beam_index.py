"""The edges of PIT's one-to-many beam index, as they evolve: weights that decay, pruning, new candidates, capacity.

`models.parts.index.ItemIndex` is what is searched; these are the rules by which it is made anew. Pure functions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Edges(NamedTuple):
    """Which sequences name which items, and how strongly.

    Attributes:
        codes: `[I, A, L]`; -1 where there is none, and in row 0 (padding).
        weights: `[I, A]`; 0 where there is none.
    """

    codes: Int[Tensor, "I A L"]
    weights: Float[Tensor, "I A"]


def selected(
    weights: Float[Tensor, "I A"], item: Int[Tensor, "B"], choice: Int[Tensor, "B"], decay: float
) -> Float[Tensor, "I A"]:
    """Weights after sequence `choice` has been selected for each `item`: w <- decay w + (1 - decay) [chosen].

    An item that comes n times decays n times, and what is gained goes to its choices in equal parts: their order within
    a batch does not matter.
    """
    chosen = torch.zeros_like(weights).index_put_((item, choice), weights.new_ones(()), accumulate=True)
    times = chosen.sum(1, keepdim=True)
    kept = decay**times
    return kept * weights + (1 - kept) * chosen / times.clamp(min=1)


def refreshed(edges: Edges, fresh: Int[Tensor, "I A L"] | None, prune: float, capacity: int) -> Edges:
    """Edges in order of weight, those below `prune` of their item's heaviest replaced by `fresh` candidates.

    A fresh candidate enters with the smallest weight that its item has left; one that the item had until now does not
    come back at once. A sequence that names more than `capacity` items is taken from those of them to which it belongs
    least, but never is an item's heaviest edge. Weights of an item sum to 1.
    """
    codes, weights = edges
    width, held = codes.shape[1], codes[..., 0] >= 0
    order = weights.masked_fill(~held, -1).argsort(dim=1, descending=True, stable=True)
    codes, weights, held = _taken(codes, order), weights.gather(1, order), held.gather(1, order)
    kept = held & (weights > 0) & (weights >= prune * weights[:, :1])
    if fresh is not None:
        known = ((fresh[:, :, None] == codes[:, None]).all(3) & held[:, None]).any(2)
        least = weights.masked_fill(~kept, torch.inf).amin(1, keepdim=True).expand(-1, fresh.shape[1])
        codes, weights = torch.cat([codes, fresh], 1), torch.cat([weights, least], 1)
        kept = torch.cat([kept, (fresh[..., 0] >= 0) & ~known], 1)
    codes, weights = (column[:, :width] for column in _packed(Edges(codes, weights), kept))
    codes, weights = _packed(Edges(codes, weights), _within(Edges(codes, weights), capacity))
    return Edges(codes, weights / weights.sum(1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny))


def _within(edges: Edges, capacity: int) -> Bool[Tensor, "I A"]:
    """Which edges the capacity of their sequences leaves."""
    kept = edges.codes[..., 0] >= 0
    item, place = kept.nonzero(as_tuple=True)
    sequence = edges.codes[item, place].unique(dim=0, return_inverse=True)[1]
    order = edges.weights[item, place].argsort(descending=True, stable=True)
    order = order[sequence[order].argsort(stable=True)]
    count = sequence.bincount()
    rank = torch.arange(len(order), device=order.device) - (count.cumsum(0) - count)[sequence[order]]
    dropped = order[(rank >= capacity) & (place[order] > 0)]
    kept[item[dropped], place[dropped]] = False
    return kept


def _packed(edges: Edges, kept: Bool[Tensor, "I A"]) -> Edges:
    """The kept edges of each item, in their order, before empty places."""
    order = (~kept).int().argsort(dim=1, stable=True)
    kept = kept.gather(1, order)
    codes = _taken(edges.codes, order).masked_fill(~kept[..., None], -1)
    return Edges(codes, edges.weights.gather(1, order).masked_fill(~kept, 0))


def _taken(codes: Int[Tensor, "I A L"], order: Int[Tensor, "I A"]) -> Int[Tensor, "I A L"]:
    return codes.gather(1, order[..., None].expand(-1, -1, codes.shape[2]))
