"""Where a model computes in less than float32, and where it does not: a code is the nearest of many, and bf16 finds
another for 7% of the items."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Result = TypeVar("Result")


def in_float32(method: Callable[..., Result]) -> Callable[..., Result]:
    """A function of tensors, or a method of a module with weights, that computes in float32, whatever the precision
    around it."""

    @wraps(method)
    def computed(first: nn.Module | Tensor, *arguments: Any) -> Result:
        where = first if isinstance(first, Tensor) else next(first.parameters())
        with torch.autocast(where.device.type, enabled=False):
            return method(_widened(first), *map(_widened, arguments))

    return computed


def product_format(x: Tensor) -> torch.dtype:
    """Of matrix products with `x` here and now: autocast's, or its own."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def _widened(argument: Any) -> Any:
    halved = isinstance(argument, Tensor) and argument.dtype in (torch.bfloat16, torch.float16)
    return argument.float() if halved else argument
