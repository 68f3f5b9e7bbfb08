"""Examples -> Batches: bucketed by length, from tensors in memory, without worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from data_prep.corpus import Batch, Examples

# A pool of so many batches is sorted by length before it is cut into batches: little padding, much randomness left.
POOL = 64


class Batches:
    """Batches of `Examples`, each padded to its own longest history only.

    With `epoch` given, an iteration goes through the examples in an order drawn from `(seed, epoch())`; without it, in
    order of length, for grading. In distributed training every process takes its own `shard` of each batch, all as many
    rows of it, so that together they take the steps that one process would. What is left over of an epoch's one short
    batch, fewer rows than there are processes, is left out.
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        history_length: int,
        device: torch.device | str = "cpu",
        seed: int = 0,
        epoch: Callable[[], int] | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        start = np.maximum(examples.start, examples.stop - history_length)
        # Copies: a prepared corpus lies in a read-only memory map.
        self.flat, self.user, self.start, self.stop = (
            torch.tensor(array, dtype=torch.int64, device=device)
            for array in (examples.flat, examples.user, start, examples.stop)
        )
        # Batches are planned on the CPU: to ask a GPU for the longest history would hold it up at every step.
        self.length = torch.from_numpy(examples.stop - start)
        self.batch_size, self.seed, self.epoch, self.shard = batch_size, seed, epoch, shard

    def __len__(self) -> int:
        whole, short = divmod(len(self.length), self.batch_size)
        return whole + (short >= self.shard[1])

    def __iter__(self) -> Iterator[Batch]:
        rank, world = self.shard
        for rows in self.rows():
            if len(rows) >= world:
                yield self.batch(rows[: len(rows) - len(rows) % world][rank::world])

    def rows(self) -> list[Int[Tensor, "B"]]:
        """Which examples make up each batch of the current epoch; on the CPU."""
        if self.epoch is None:
            return list(self.length.argsort(stable=True).split(self.batch_size))
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch())
        order = torch.randperm(len(self.length), generator=generator)
        pools = [pool[self.length[pool].argsort(stable=True)] for pool in order.split(self.batch_size * POOL)]
        batches = [batch for pool in pools for batch in pool.split(self.batch_size)]
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]

    def batch(self, rows: Int[Tensor, "B"]) -> Batch:
        columns = torch.arange(int(self.length[rows].max()), device=self.flat.device)
        rows = rows.to(self.flat.device, non_blocking=True)
        start, stop = self.start[rows], self.stop[rows]
        position = start[:, None] + columns
        inside = position < stop[:, None]
        history = self.flat[position.clamp(max=len(self.flat) - 1)] * inside
        return Batch(self.user[rows], history, self.flat[stop])
