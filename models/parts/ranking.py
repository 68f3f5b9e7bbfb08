"""Top-K with the protocol's tie rule."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.api import Ranking


def rank_scores(scores: Float[Tensor, "B N"], k: int) -> Ranking:
    """Full ranking of items 1..N by `scores` (column j is item j+1); ties go to the smaller item id."""
    users, items = scores.shape
    k_found = min(k, items)
    values, columns = _top(scores, k_found)
    ids = columns + 1
    if k_found < k:
        ids = torch.nn.functional.pad(ids, (0, k - k_found))
        values = torch.nn.functional.pad(values, (0, k - k_found), value=-torch.inf)
    return Ranking(ids, values, torch.ones(users, dtype=torch.bool, device=scores.device))


def _top(scores: Float[Tensor, "B N"], k: int) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"]]:
    """Largest `k` per row, ties by column. `torch.topk` leaves ties in any order, also at the cut."""
    values, columns = scores.topk(k, dim=1)
    # Within the list: put columns in order, then sort stably by value.
    columns, order = columns.sort(dim=1)
    values, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    columns = columns.gather(1, order)
    # At the cut: only rows where more than k scores reach the k-th value can have lost a smaller column.
    cut = (scores >= values[:, -1:]).sum(1) > k
    if cut.any():
        sorted_values, sorted_columns = scores[cut].sort(dim=1, descending=True, stable=True)
        values[cut], columns[cut] = sorted_values[:, :k], sorted_columns[:, :k]
    return values, columns
