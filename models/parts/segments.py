"""What S3-Rec's pre-training masks in a sequence: items, and runs of items that are to be told from others."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def masks(sequence: Int[Tensor, "B T"], share: float, last: bool) -> Bool[Tensor, "B T"]:
    """Items drawn with a chance of `share`, and every sequence's last one where `last` is true."""
    held = sequence > 0
    drawn = (torch.rand(sequence.shape, device=sequence.device) < share) & held
    return drawn.scatter(1, held.sum(1, keepdim=True) - 1, True) if last else drawn


class Segments(NamedTuple):
    """Of each sequence: context, a run of it masked; own, all but that run masked; other, the same places, but with
    items of another run."""

    context: Int[Tensor, "B T"]
    own: Int[Tensor, "B T"]
    other: Int[Tensor, "B T"]


def segments(sequence: Int[Tensor, "B T"], mask: int) -> Segments:
    """Runs of at most half a sequence; another is drawn from all sequences, one behind the other."""
    length, held = (sequence > 0).sum(1, keepdim=True), sequence > 0
    run = 1 + _below(length // 2)
    first, every = _below(length - run + 1), sequence[held]
    place = torch.arange(sequence.shape[1], device=sequence.device) - first
    inside = (place >= 0) & (place < run)
    other = every[(_below(len(every) - run + 1) + place).clamp(0, len(every) - 1)]
    outside = sequence.masked_fill(held, mask)
    return Segments(sequence.masked_fill(inside, mask), *(torch.where(inside, of, outside) for of in (sequence, other)))


def _below(bound: Int[Tensor, "B 1"]) -> Int[Tensor, "B 1"]:
    """Even draws from 0 to each bound, without it."""
    return (torch.rand(bound.shape, device=bound.device) * bound).long().minimum(bound - 1)
