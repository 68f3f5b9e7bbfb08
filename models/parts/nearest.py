"""Items by the cosine of their vectors to that of a history's last item."""

from __future__ import annotations

from jaxtyping import Float32, Float64, Int, Num
from torch import Tensor
from torch.nn import functional as F

# Of the last item itself, whose cosine of 1 says nothing of what comes next: below every cosine.
LAST = -2.0


def directions(vectors: Num[Tensor, "I F"]) -> Float64[Tensor, "I F"]:
    """Vectors of length 1; row 0 is for padding, and zeros stay zeros."""
    return F.normalize(vectors.double(), dim=1)


def cosines(directions: Float64[Tensor, "I F"], last: Int[Tensor, "B"]) -> Float32[Tensor, "B N"]:
    """To the last items, column j of item j+1; `LAST` for the last item itself.

    Sums are in float64, cosines in float32: items of one text then have one, on every processor.
    """
    found = (directions[last] @ directions[1:].T).float()
    return found.scatter_(1, last[:, None] - 1, LAST)
