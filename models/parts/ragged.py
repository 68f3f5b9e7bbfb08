"""Rows of several lengths in one batch: batches are random, so most of a batch is padding. Groups of several sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

# Rows of similar length that are computed together on a CPU.
ROWS = 64


def trimmed(
    network: Callable[..., Float[Tensor, "B S D"]], length: Int[Tensor, "B"], *inputs: Tensor
) -> Float[Tensor, "B S D"]:
    """`network(*inputs)` without most of the padding; what is left out of it is 0.

    Rows are computed with those of similar length, no wider than the longest of them. On a GPU all go at once: its time
    goes by the number of kernels, and to ask for a length would hold it up.

    Args:
        network: its states at a row's first `length` positions depend on nothing beyond them.
        length: of each row, at least 1.
        inputs: each `[B, S, ...]`, padded on the right.
    """
    if not length.is_cpu:
        return network(*inputs)
    whole = inputs[0].shape[1]

    def states(rows: Int[Tensor, "b"], width: int) -> Float[Tensor, "b S D"]:
        return F.pad(network(*(each[rows, :width] for each in inputs)), (0, 0, 0, whole - width))

    return grouped(torch.arange(whole) < length[:, None], states)


class Group(NamedTuple):
    """Attributes: rows of a batch; width, beyond which all of them are padding."""

    rows: Int[Tensor, "b"]
    width: int


def by_length(mask: Bool[Tensor, "B S"]) -> list[Group]:
    """The rows of a batch, padded on the right, with those of similar length; on a GPU all in one, as they are."""
    if not mask.is_cpu:
        return [Group(torch.arange(len(mask), device=mask.device), mask.shape[1])]
    length = mask.sum(1)
    return [Group(rows, int(length[rows[-1]])) for rows in length.argsort(stable=True).split(ROWS)]


def grouped(mask: Bool[Tensor, "B S"], network: Callable[[Tensor, int], Tensor]) -> Tensor:
    """`[B, ...]` what `network(rows, width)` makes of each group of `by_length`, in the order of the batch."""
    groups = by_length(mask)
    made = torch.cat([network(rows, width) for rows, width in groups])
    return made[torch.cat([group.rows for group in groups]).argsort()]


def members(start: Int[Tensor, "G1"], group: Int[Tensor, "X"]) -> tuple[Int[Tensor, "Y"], Int[Tensor, "Y"]]:
    """All members of groups that lie one behind the other: of each the place of its group in `group`, and its own.

    Args:
        start: where each of all groups begins, and where the last one ends.
    """
    first = start[group]
    number = start[group + 1] - first
    origin = torch.arange(len(number), device=number.device).repeat_interleave(number)
    # In the result, the members of a group begin where those of the groups before it end.
    begin = number.cumsum(0) - number
    return origin, (first - begin)[origin] + torch.arange(len(origin), device=number.device)


class Packing(NamedTuple):
    """Inputs side by side in rows, each whole, so that little is padding.

    Attributes:
        owner: which input, counted from 1, a place of a row belongs to; 0: none.
        source: for every place of the rows, the place in the inputs of what is there; -1: nothing.
        target: for every place of the inputs, the place in the rows where it is; -1: nowhere.
    """

    owner: Int[Tensor, "R W"]
    source: Int[Tensor, "X"]
    target: Int[Tensor, "Y"]

    @property
    def allowed(self) -> Bool[Tensor, "R W W"]:
        """Which tokens may attend to which: those of the same input."""
        return self.owner[:, :, None] == self.owner[:, None]

    def pack(self, inputs: Float[Tensor, "B S D"]) -> Float[Tensor, "R W D"]:
        return _moved(inputs.flatten(0, 1), self.source, self.target).unflatten(0, self.owner.shape)

    def unpack(self, rows: Float[Tensor, "R W D"], inputs: int) -> Float[Tensor, "B S D"]:
        """The rows taken apart into `inputs` inputs; 0 where there is padding."""
        return _moved(rows.flatten(0, 1), self.target, self.source).unflatten(0, (inputs, -1))


def packing(mask: Bool[Tensor, "B S"]) -> Packing:
    """Packs inputs that are padded on the right into rows as wide as the longest, by first fit, the longest first."""
    length, padded = mask.sum(1).numpy(), mask.shape[1]
    width = int(length.max())
    # Where each input begins among the rows, laid end to end, and how much room each row has left.
    start, free = np.empty(len(length), np.int64), np.full(len(length), width)
    for number in np.argsort(-length, kind="stable"):
        row = int(np.argmax(free >= length[number]))
        start[number] = (row + 1) * width - free[row]
        free[row] -= length[number]
    rows = int((free < width).sum())
    # Of each token: its position in its input, among the padded inputs and among the rows.
    within = np.arange(length.sum()) - np.repeat(length.cumsum() - length, length)
    unpacked = np.repeat(np.arange(len(length)) * padded, length) + within
    packed = np.repeat(start, length) + within
    owner = np.zeros(rows * width, np.int64)
    source, target = np.full(rows * width, -1), np.full(mask.numel(), -1)
    owner[packed] = unpacked // padded + 1
    source[packed] = unpacked
    target[unpacked] = packed
    return Packing(torch.from_numpy(owner).view(rows, width), torch.from_numpy(source), torch.from_numpy(target))


def _moved(x: Float[Tensor, "X D"], source: Int[Tensor, "Y"], target: Int[Tensor, "X"]) -> Float[Tensor, "Y D"]:
    """Row `source[i]` of `x` at each place i, 0 where that is -1; `target` says the reverse."""
    moved: Tensor = _Move.apply(x, source, target)  # type: ignore[no-untyped-call]
    return moved


class _Move(torch.autograd.Function):
    """No row is taken twice, so that its gradient is a move as well, and adds nothing up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(source, target)
        return x[source.clamp(min=0)].mul_((source >= 0)[:, None])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        source, target = ctx.saved_tensors
        return _moved(grad, target, source), None, None
