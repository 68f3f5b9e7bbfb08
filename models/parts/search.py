"""Top-K items from a model that generates codes: beam search over the trie, with a proof where there is one.

Log-probabilities only fall along a sequence. So if every prefix that the beam dropped scored below the K-th best
complete item, no item that was lost could have entered the list, and the list equals the full ranking: `certified`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.api import Ranking
from models.parts.index import ItemIndex

Step = Callable[[Int[Tensor, "B P"] | None, Int[Tensor, "B P"] | None, Any], tuple[Float[Tensor, "B P V"], Any]]
"""Log-probabilities of the next level's codes: `step(codes, parent, state) -> (log_probs, state)`.

`codes` are the last codes of the prefixes and `parent` the prefix of the step before that each continues; both None at
the start, where there is one empty prefix per user. `state` is the model's own; the search hands it back.
"""


def beam_search(step: Step, state: Any, index: ItemIndex, k: int, width: int, constrained: bool = True) -> Ranking:
    """The `k` best items found by a beam of `width` prefixes per user.

    Args:
        state: what the first call of `step` is given.
        constrained: follow legal codes only; otherwise all codes, where a finished sequence that names no item keeps
            its rank as item 0 and nothing is certified.

    Items that share a code sequence share its score; ties go to the smaller item id.
    """
    log_probs, state = step(None, None, state)
    score = log_probs.new_zeros(log_probs.shape[:2])
    node = torch.zeros_like(score, dtype=torch.long)
    lost = log_probs.new_full(log_probs.shape[:1], -torch.inf)
    for level in range(index.levels):
        codes, child, total = _expand(index, level, node, score, log_probs, constrained)
        if total.shape[1] > width:
            kept, place = total.topk(width + 1, dim=1)
            lost = torch.maximum(lost, kept[:, -1])
            score, place = kept[:, :-1], place[:, :-1]
        else:
            score, place = total, torch.arange(total.shape[1], device=total.device).expand_as(total)
        fan_out = total.shape[1] // node.shape[1]
        parent, node, last = place // fan_out, child.gather(1, place), codes.gather(1, place)
        if level + 1 < index.levels:
            log_probs, state = step(last, parent, state)
    ranking = _items(index, node, score, k)
    # A short list is complete only if nothing was lost at all.
    certified = (lost < ranking.scores[:, -1]) | (lost == -torch.inf)
    return ranking._replace(certified=certified & constrained)


def _expand(
    index: ItemIndex,
    level: int,
    node: Int[Tensor, "B P"],
    score: Float[Tensor, "B P"],
    log_probs: Float[Tensor, "B P V"],
    constrained: bool,
) -> tuple[Int[Tensor, "B PC"], Int[Tensor, "B PC"], Float[Tensor, "B PC"]]:
    """Codes, trie nodes and scores of all continuations; -inf where there is none."""
    if constrained:
        codes, child, exists = index.continuations(level, node)
        # -inf is a place that holds nothing, whether the prefix has no such continuation or gives it no probability.
        total = (score[..., None] + log_probs.gather(2, codes)).masked_fill(~exists, -torch.inf)
    else:
        codes = torch.arange(log_probs.shape[2], device=node.device).expand_as(log_probs)
        child = index.child(level, node[..., None].expand_as(codes), codes)
        total = score[..., None] + log_probs
    child = torch.where(total > -torch.inf, child, -1)
    return codes.flatten(1), child.flatten(1), total.flatten(1)


def _items(index: ItemIndex, leaf: Int[Tensor, "B P"], score: Float[Tensor, "B P"], k: int) -> Ranking:
    """Complete sequences -> the `k` best items."""
    items = index.items_at(leaf)
    # A finished sequence that names no item holds one place, as item 0.
    held = items > 0
    held[..., 0] |= score > -torch.inf
    scores = score[..., None].expand_as(items).masked_fill(~held, -torch.inf)
    items, scores = items.flatten(1), scores.flatten(1)
    items, order = items.sort(dim=1, stable=True)
    scores, order = scores.gather(1, order).sort(dim=1, descending=True, stable=True)
    items = items.gather(1, order)[:, :k]
    short = k - items.shape[1]
    if short > 0:
        items = torch.nn.functional.pad(items, (0, short))
        scores = torch.nn.functional.pad(scores, (0, short), value=-torch.inf)
    return Ranking(items, scores[:, :k], torch.zeros(len(items), dtype=torch.bool, device=items.device))
