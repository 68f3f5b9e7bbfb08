"""Distributed training: what a model counts over a batch, it must count over the shares of all processes; and what
each of them does alone, all must know."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


def processes() -> int:
    """Number of processes that train together; 1 outside distributed training."""
    return distributed.get_world_size() if _several() else 1


def process_index() -> int:
    """Of this process among `processes()`, from 0."""
    return distributed.get_rank() if _several() else 0


def by_all(work: Callable[[], T]) -> list[T]:
    """What `work` returns in each process, by rank, in all of them; all must call it.

    Raises:
        Exception: the first one of `work` by rank, in all processes: none waits for one that has ended.
    """
    if not _several():
        return [work()]
    mine: T | Exception
    try:
        mine = work()
    except Exception as error:
        mine = _portable(error)
    found: list[Any] = [None] * processes()
    distributed.all_gather_object(found, mine)
    for each in found:
        if isinstance(each, Exception):
            raise each
    return found


def _portable(error: Exception) -> Exception:
    """The error, or its text where it cannot be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def all_gather_rows(values: Tensor) -> Tensor:
    """Concatenates the rows of all processes, by rank; all must have as many. One process gets its own `values`.

    The gradient of a row is the sum over all processes, so all must use it alike: the backward pass is a collective
    too.
    """
    gathered: Tensor = _Gathered.apply(values) if _several() else values  # type: ignore[no-untyped-call]
    return gathered


def local_rows(values: Tensor) -> Tensor:
    """The rows of this process among those of all, in the order of `all_gather_rows`."""
    if not _several():
        return values
    return values.chunk(distributed.get_world_size())[distributed.get_rank()]


def first_local_row(rows: int) -> int:
    """Position of this process's first row among those of all, where each process has `rows`."""
    return process_index() * rows


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
        return local_rows(total)
