"""Dropout that costs little on a CPU: torch draws about 5 ns per element there, this 0.5 ns.

torch's own generator seeds every call, so `torch.manual_seed` still decides all; the masks are others than torch's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int16
from torch import Tensor, nn

# Random bits per element: p is rounded to a multiple of 1 / 65536, and the kept entries are scaled to match.
LEVELS = 1 << 16


class Kept(NamedTuple):
    """Attributes: mask, 0 or false where an element is dropped, None where none is; scale, of all others."""

    mask: Tensor | None
    scale: float


def kept(shape: Sequence[int], p: float, device: torch.device) -> Kept:
    """Draws which elements of a tensor are left."""
    if not p:
        return Kept(None, 1.0)
    if device.type != "cpu":
        return Kept(torch.rand(shape, device=device) >= p, 1 / (1 - p))
    dropped = min(max(1, round(p * LEVELS)), LEVELS - 1)
    return Kept(_mask(math.prod(shape), dropped).view(shape), LEVELS / (LEVELS - dropped))


def zero_(x: Tensor, mask: Tensor | None) -> Tensor:
    """Zeroes in place what a mask of `kept` drops."""
    if mask is None:
        return x
    # An integer product of equal width reads no number and converts none.
    (x.view(mask.dtype) if mask.dtype == torch.int16 and x.element_size() == 2 else x).mul_(mask)
    return x


class Dropout(nn.Dropout):
    """torch's dropout, but for masks drawn by numpy where a CPU trains."""

    def forward(self, input: Tensor) -> Tensor:
        dropped = round(self.p * LEVELS)
        if not self.training or input.device.type != "cpu" or dropped in (0, LEVELS):
            return super().forward(input)
        keep = _mask(input.numel(), dropped).view(input.shape).to(input.dtype).mul_(LEVELS / (LEVELS - dropped))
        return input.mul_(keep) if self.inplace else input * keep


def replace_dropout(module: nn.Module) -> None:
    """Turns every plain `nn.Dropout` in a module into ours, where it is: whatever refers to it still does."""
    for part in module.modules():
        if type(part) is nn.Dropout:
            part.__class__ = Dropout


def _mask(count: int, dropped: int) -> Int16[Tensor, "X"]:
    """0 with a chance of `dropped` in `LEVELS`, else 1."""
    seed = int(torch.randint(2**63 - 1, ()))
    words = np.random.SFC64(seed).random_raw(-(-count // 4))  # four elements per 64-bit word
    # In place and of one type, which is what torch does fastest.
    return torch.from_numpy(words.view(np.int16))[:count].ge_(dropped - LEVELS // 2)
