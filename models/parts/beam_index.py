"""PIT's beam index as it evolves: each code sequence names one item, each item has up to A sequences, by weight.

`updated` is the paper's algorithm 1 for many items at once, a pure function. `models.parts.index.ItemIndex` is what is
searched.

[open], our choice:
- Proposals made at once are judged by the index as it was before them. Of several items that may have a sequence, the
  one that gives it the largest weight gets it, then the one of the smaller id.
- A sequence that goes to another item leaves its old owner at once; the paper's owner notices at its own next turn.
- An item's heaviest sequence cannot be taken from it, however old the link: so every item always has one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class BeamIndex(NamedTuple):
    """Sequences of items, heaviest first; each sequence occurs once.

    Attributes:
        codes: `[I, A, L]`; -1 where there is none, and in row 0 (padding).
        weights: `[I, A]`; 0 where there is none.
        renewed: `[I, A]` when the item last proposed the sequence.
    """

    codes: Int[Tensor, "I A L"]
    weights: Float[Tensor, "I A"]
    renewed: Int[Tensor, "I A"]


class Proposals(NamedTuple):
    """What I2T proposes for some items.

    Attributes:
        item: `[P]` ascending, each once.
        codes: `[P, C, L]` sequences, those of an item all different.
        weights: `[P, C]`.
    """

    item: Int[Tensor, "P"]
    codes: Int[Tensor, "P C L"]
    weights: Float[Tensor, "P C"]


def one_to_one(codes: Int[Tensor, "I L"], weights: Float[Tensor, "I"], width: int) -> BeamIndex:
    """One sequence per item, and room for `width`."""
    rest = (0, width - 1)
    weights = weights.masked_fill(codes[:, 0] < 0, 0)[:, None]
    every = torch.nn.functional.pad(codes[:, None], (0, 0, *rest), value=-1)
    weights = torch.nn.functional.pad(weights, rest)
    return BeamIndex(every, weights, torch.zeros_like(weights, dtype=torch.long))


def updated(index: BeamIndex, proposed: Proposals, now: int, momentum: float, lease: int) -> BeamIndex:
    """Algorithm 1: stored and proposed sequences of items merged, the heaviest kept. One that was taken from another
    item and is not among the heaviest names no item.

    Args:
        now: the present time.
        momentum: gamma of eq. 13: a sequence that is stored and proposed weighs gamma * old + (1 - gamma) * new, any
            other what it weighs where it is.
        lease: Delta t: a sequence of another item can be taken once it was renewed longer ago than this.
    """
    width = index.weights.shape[1]
    stored, offered = _numbers(index.codes, proposed.codes)
    # [P, A, C]: whether a stored sequence of an item is among those that the item proposes.
    same = stored[proposed.item][:, :, None] == offered[:, None]
    proposed_again, stored_already = same.any(2), same.any(1)
    firm = index.renewed >= now - lease
    firm[:, 0] = True
    firm[proposed.item] |= proposed_again
    won, lost = _claims(stored, offered.masked_fill(stored_already, -1), proposed.weights, firm)
    kept = (stored >= 0) & ~lost

    before = BeamIndex(*(column[proposed.item] for column in index))
    new_weights = (same * proposed.weights[:, None]).sum(2)
    averaged = momentum * before.weights + (1 - momentum) * new_weights  # Eq. 13
    weights = torch.where(proposed_again, averaged, before.weights)
    renewed = before.renewed.masked_fill(proposed_again, now)
    merged = BeamIndex(
        torch.cat([before.codes, proposed.codes], 1),
        torch.cat([weights, proposed.weights], 1),
        torch.cat([renewed, torch.full_like(offered, now)], 1),
    )
    updated_rows = _heaviest(merged, torch.cat([kept[proposed.item], won], 1), width)
    all_rows = _heaviest(index, kept, width)
    columns = zip(all_rows, updated_rows, strict=True)
    return BeamIndex(*(column.index_put((proposed.item,), rows) for column, rows in columns))


def _claims(
    stored: Int[Tensor, "I A"], wanted: Int[Tensor, "P C"], weights: Float[Tensor, "P C"], firm: Bool[Tensor, "I A"]
) -> tuple[Bool[Tensor, "P C"], Bool[Tensor, "I A"]]:
    """Which proposals get their sequence, and which stored links lose theirs.

    Args:
        wanted: sequences, by number; -1 where nothing is wanted.
        firm: links that cannot be taken from their items.
    """
    ordered, link = stored.flatten().sort()
    position = torch.searchsorted(ordered, wanted).clamp(max=len(ordered) - 1)
    owned, link = ordered[position] == wanted, link[position]
    refused = owned & firm.flatten()[link]
    number = wanted.masked_fill(refused, -1).flatten()
    # By sequence, then the largest weight first, then the smaller item: sorts are stable.
    order = weights.flatten().argsort(descending=True, stable=True)
    order = order[number[order].argsort(stable=True)]
    first = number[order].diff(prepend=number.new_full((1,), -1)) != 0
    won = torch.zeros_like(first).scatter(0, order, first).view(wanted.shape)
    # A sum, as a mask would have a GPU asked for its number of rows.
    taken = torch.zeros_like(ordered).scatter_add(0, link.flatten(), (won & owned).long().flatten())
    return won, (taken > 0).view(stored.shape)


def _heaviest(index: BeamIndex, kept: Bool[Tensor, "X M"], width: int) -> BeamIndex:
    """The `width` heaviest of the kept sequences of each row, then empty ones."""
    weights = index.weights.masked_fill(~kept, -torch.inf)
    order = weights.argsort(dim=1, descending=True, stable=True)[:, :width]
    empty = ~kept.gather(1, order)
    codes = index.codes.gather(1, order[..., None].expand(-1, -1, index.codes.shape[2]))
    weights, renewed = index.weights.gather(1, order), index.renewed.gather(1, order)
    return BeamIndex(
        codes.masked_fill(empty[..., None], -1), weights.masked_fill(empty, 0), renewed.masked_fill(empty, 0)
    )


def _numbers(stored: Int[Tensor, "I A L"], offered: Int[Tensor, "P C L"]) -> tuple[Tensor, Tensor]:
    """Each sequence as one number, equal ones as the same; -1 where there is none."""
    base = 1 + torch.maximum(stored.max(), offered.max())
    power = base ** torch.arange(stored.shape[2], device=stored.device).flip(0)
    stored, offered = ((codes * power).sum(2).masked_fill(codes[..., 0] < 0, -1) for codes in (stored, offered))
    return stored, offered
