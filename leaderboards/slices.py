"""Slices: where a row is strong, by what the rank files know of each user's target."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import rankdata

# Parts of about equally many users, fewer where many users share a value.
POPULARITY_PARTS, LENGTH_PARTS = 10, 4

Mask = NDArray[np.bool_]


class Slice(NamedTuple):
    """Some users of a corpus.

    Attributes:
        family: by what users are told apart.
        name: which of them these are.
        users: `[U]` whether a user is one of them.
    """

    family: str
    name: str
    users: Mask


def slices(ranks: pa.Table) -> list[Slice]:
    """The slices of a corpus; those that no user is in are left out.

    Popularity is how often the target occurs in training. Deciles are of the users whose target does, so that each
    holds a tenth of them where no count is shared by more.

    Args:
        ranks: of any run on the corpus; what is read are facts about targets, the same for every model.
    """
    count, length = ranks["target_count"].to_numpy(), ranks["history_length"].to_numpy()
    memorised, seen = ranks["transition_seen"].to_numpy(zero_copy_only=False), count > 0
    found = [Slice("target", "unseen in training", ~seen), Slice("target", "seen in training", seen)]
    found += _parts("target's interactions in training", count, seen, POPULARITY_PARTS)
    found += _parts("items in the history", length, np.ones(len(count), dtype=bool), LENGTH_PARTS)
    found += [
        Slice("last item to target", "a transition seen in training", memorised),
        Slice("last item to target", "new", ~memorised),
    ]
    return [part for part in found if part.users.any()]


def _parts(family: str, values: NDArray[np.integer], among: Mask, parts: int) -> list[Slice]:
    """Users `among` all, cut at quantiles of an integer; named by the values that each part holds."""
    place = np.full(len(values), -1)
    # Users with one value have one rank, so they are in one part.
    place[among] = (rankdata(values[among], method="min").astype(np.int64) - 1) * parts // max(1, int(among.sum()))
    masks = [place == number for number in range(parts)]
    return [Slice(family, _span(values[mask]), mask) for mask in masks if mask.any()]


def _span(values: NDArray[np.integer]) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low}-{high}"
