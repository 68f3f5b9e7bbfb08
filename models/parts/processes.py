"""Distributed training: what a model counts outside its optimizer, it must count over all processes."""

from __future__ import annotations

import torch
from torch import Tensor, distributed


def processes() -> int:
    """How many train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def everywhere(values: Tensor) -> Tensor:
    """The rows of all processes, that of each after the other's; all must have as many. Alone: the rows themselves."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return values
    parts = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, values)
    return torch.cat(parts)
