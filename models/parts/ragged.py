"""Rows of several lengths in one batch: batches are random, so most of a batch is padding."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
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
    order, whole = length.argsort(stable=True), inputs[0].shape[1]
    parts = []
    for rows in order.split(ROWS):
        width = int(length[rows[-1]])
        states = network(*(each[rows, :width] for each in inputs))
        parts.append(F.pad(states, (0, 0, 0, whole - width)))
    return torch.cat(parts)[order.argsort()]
