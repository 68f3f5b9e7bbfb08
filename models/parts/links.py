"""What followed what: links from an item to those that came directly after it in the training parts."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from models.api import Corpus


def counted(corpus: Corpus, directed: bool = True) -> tuple[Int[Tensor, "2 E"], Int[Tensor, "E"]]:
    """An item and one that followed it, each pair once, in order of the first; and how often it did.

    Args:
        directed: otherwise an item that came directly before another counts as one that came after it, too.
    """
    pairs, rows = corpus.examples("train"), corpus.items + 1
    last, following = pairs.last_item.astype(np.int64), pairs.target.astype(np.int64)
    if not directed:
        last, following = np.concatenate([last, following]), np.concatenate([following, last])
    links, counts = np.unique(last * rows + following, return_counts=True)
    return torch.from_numpy(np.stack(np.divmod(links, rows))), torch.from_numpy(counts)


def starts(links: Int[Tensor, "2 E"], rows: int) -> Int[Tensor, "rows_1"]:
    """Where the links of each item begin, and those of the last one end."""
    return F.pad(torch.bincount(links[0], minlength=rows).cumsum(0), (1, 0))
