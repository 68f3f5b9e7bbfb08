"""Distributed training: what a model counts over a batch, it must count over the shares of all processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed


def processes() -> int:
    """How many train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def everywhere(values: Tensor) -> Tensor:
    """The rows of all processes, that of each after the other's; all must have as many. Alone: the rows themselves.

    A row's gradient is the sum of what all processes make of it, so it must be used alike by all: the backward pass is
    a collective too.
    """
    gathered: Tensor = _Gathered.apply(values) if _several() else values  # type: ignore[no-untyped-call]
    return gathered


def own(values: Tensor) -> Tensor:
    """Of the rows that `everywhere` gives, or of as many, those of this process."""
    if not _several():
        return values
    return values.chunk(distributed.get_world_size())[distributed.get_rank()]


def first_own(rows: int) -> int:
    """Where this process's rows begin among all, where each has so many."""
    return distributed.get_rank() * rows if _several() else 0


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        parts = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return own(total)
