"""Next-item training of a causal model on all positions of a user in one pass: each is a prefix with the item after it.

RecBole trains every prefix as a sample of its own. Here batches hold users, so they differ in how many prefixes they
have: the sum of a batch's losses is divided by the number that batches have on average (`mean_prefixes`) rather than by
its own, so that an epoch weighs all prefixes alike, as RecBole's does.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from models.api import Batch, Examples
from models.parts.losses import Loss, next_item_loss
from models.parts.processes import processes


class Prefixes(NamedTuple):
    """Attributes: place, in the batch's flattened histories; target, the item that follows there."""

    place: Int[Tensor, "X"]
    target: Int[Tensor, "X"]


def prefixes(batch: Batch) -> Prefixes:
    """What trains of a batch, without padding."""
    following = followed(batch.history, batch.target)[:, 1:]
    # Numbers of the positions, not a mask: a GPU is held up once for them, and not by each tensor and its gradient.
    place = (batch.history > 0).flatten().nonzero()[:, 0]
    return Prefixes(place, following.flatten()[place])


def followed(history: Int[Tensor, "B T"], item: Int[Tensor, "B"]) -> Int[Tensor, "B S"]:
    """Histories, each with an item behind its last; S = T + 1."""
    return F.pad(history, (0, 1)).scatter(1, (history > 0).sum(1, keepdim=True), item[:, None])


def mean_prefixes(users: Examples, history: int, batch_size: int) -> float:
    """Those of a batch, on average, where `users` holds each user's longest example."""
    return float(np.minimum(users.length, history).sum() / math.ceil(len(users) / batch_size))


def prefix_loss(
    loss: Loss, states: Float[Tensor, "B T D"], batch: Batch, items: Float[Tensor, "N D"], mean: float
) -> Float[Tensor, ""]:
    """Loss of the item that follows each prefix.

    Args:
        mean: of the prefixes of a batch (`mean_prefixes`).
    """
    place, target = prefixes(batch)
    # Each process sees its share of the batch, and their gradients are averaged.
    return next_item_loss(loss, states.flatten(0, 1)[place], items, target - 1) * (processes() / mean)


def last(states: Float[Tensor, "B T D"], history: Int[Tensor, "B T"]) -> Float[Tensor, "B D"]:
    """The state after each history's last item."""
    return states[torch.arange(len(history), device=history.device), (history > 0).sum(1) - 1]


def last_item(history: Int[Tensor, "B T"]) -> Int[Tensor, "B"]:
    """Of histories that are not empty, right-padded with 0."""
    return history.gather(1, (history > 0).sum(1, keepdim=True) - 1)[:, 0]
