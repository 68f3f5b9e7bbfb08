"""Examples -> Batches: drawn at random, from tensors in memory, without worker processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from data_prep.corpus import Batch, Examples

# So many batches are drawn together and cut by length. 1: all batches are random. More means less padding and a worse
# training, as the analysis `batching` shows; a network leaves padding out by `models.parts.ragged` instead.
POOL = 1


class Batches:
    """Batches of `Examples`, each padded to its own longest history only.

    With `epoch` given, an iteration goes through the examples in an order drawn from `(seed, epoch())`; without it, in
    order of length before they are cut to `history_length`, for grading.

    Training batches are equally large, but for one row, so that a mean over each weighs all examples alike. In
    distributed training every process takes its own `shard` of each batch, all as many rows of it; batches then differ
    by a row of each process, and what is left over, fewer examples than processes, is left out of the epoch.
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
        """
        Raises:
            ValueError: there are fewer examples than processes.
        """
        if len(examples) < shard[1]:
            raise ValueError(f"{len(examples)} examples are too few for {shard[1]} processes; expected one for each")
        start = np.maximum(examples.start, examples.stop - history_length)
        # Copies: a prepared corpus lies in a read-only memory map.
        self.flat, self.user, self.start, self.stop = (
            torch.tensor(array, dtype=torch.int64, device=device)
            for array in (examples.flat, examples.user, start, examples.stop)
        )
        # Batches are planned on the CPU: to ask a GPU for the longest history would hold it up at every step.
        self.length, self.width = torch.from_numpy(examples.length), torch.from_numpy(examples.stop - start)
        self.batch_size, self.seed, self.epoch, self.shard = batch_size, seed, epoch, shard

    def __len__(self) -> int:
        return math.ceil(self._shared() / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        rank, world = self.shard
        for rows in self.rows():
            yield self.batch(rows[rank::world])

    def rows(self) -> list[Int[Tensor, "B"]]:
        """Which examples make up each batch of the current epoch; on the CPU."""
        if self.epoch is None:
            return list(self.length.argsort(stable=True).split(self.batch_size))
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch())
        order = torch.randperm(len(self.length), generator=generator)[: self._shared()]
        drawn = [batch.flatten() for batch in order.view(-1, self.shard[1]).tensor_split(len(self))]
        pools = [drawn[first : first + POOL] for first in range(0, len(drawn), POOL)]
        batches = [batch for pool in pools for batch in self._by_length(pool)]
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]

    def batch(self, rows: Int[Tensor, "B"]) -> Batch:
        columns = torch.arange(int(self.width[rows].max()), device=self.flat.device)
        rows = rows.to(self.flat.device, non_blocking=True)
        start, stop = self.start[rows], self.stop[rows]
        position = start[:, None] + columns
        inside = position < stop[:, None]
        history = self.flat[position.clamp(max=len(self.flat) - 1)] * inside
        return Batch(self.user[rows], history, self.flat[stop])

    def _shared(self) -> int:
        """Examples of an epoch that all processes together go through."""
        return len(self.length) - len(self.length) % self.shard[1]

    def _by_length(self, pool: list[Int[Tensor, "_"]]) -> list[Int[Tensor, "_"]]:
        """The rows of some batches in order of length, cut into as many of the same sizes."""
        rows = torch.cat(pool)
        return list(rows[self.length[rows].argsort(stable=True)].split([len(batch) for batch in pool]))
