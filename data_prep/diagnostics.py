"""What of a corpus decides scores before any model is trained: its order, its ties, its repeats and its transitions.

A benchmark's order is often that of days. Where a file then breaks ties by item id, or by anything else that has to do
with the items, the order itself tells what comes next.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, Int64

from data_prep.corpus import Corpus
from data_prep.filtering import first_of_pair

FOLLOWERS = 10
TOP = 0.01

LABELS = {
    "order": "order of a user's items",
    "equal_times": "neighbours at equal times",
    "ascending_ids": "neighbours in ascending order of item id; by chance 50%",
    "repeats": "interactions with an item the user had before",
    "gini": "Gini coefficient of the items' training interactions",
    "top_items": f"training interactions with the {TOP:.0%} most popular items",
    "seen_transitions": "test targets that followed the last item in someone's training",
    "followers_recall": f"test targets among the {FOLLOWERS} items that followed the last item most often",
    "after_training": "test targets later than all of training",
}


class Neighbours(NamedTuple):
    """Attributes: first, places of all interactions but each user's last; the next place is the neighbour's."""

    first: Int64[np.ndarray, "X"]

    def of(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return values[self.first], values[self.first + 1]


def diagnose(corpus: Corpus) -> dict[str, Any]:
    """Facts of a whole corpus, by the names of `LABELS`: shares 0..1, None where the source has no times.

    `order` is `timestamps` or `order only`. A target's place among followers is by how often they followed in training,
    ties by item id: Recall@10 of `transitions-bigram` without what it fills its lists up with.
    """
    neighbours = _neighbours(corpus)
    before, after = neighbours.of(corpus.flat)
    moved = before != after
    times, counts = corpus.times, np.sort(corpus.trained_on.training_counts()[1:])[::-1]
    place = _places_among_followers(corpus)
    return {
        "order": "order only" if times is None else "timestamps",
        "equal_times": None if times is None else _share(np.equal(*neighbours.of(times))),
        "ascending_ids": _share((before < after)[moved]),
        "repeats": _share(~first_of_pair(corpus.user_index(), corpus.flat, corpus.items + 1)),
        "gini": _gini(counts),
        "top_items": float(counts[: max(1, round(TOP * len(counts)))].sum() / counts.sum()),
        "seen_transitions": _share(place >= 0),
        "followers_recall": _share((place >= 0) & (place < FOLLOWERS)),
        "after_training": _after_training(corpus),
    }


def described(facts: dict[str, Any]) -> dict[str, str]:
    """What is known of `diagnose`'s facts, as people read it: label -> text."""
    texts = {}
    for name, label in LABELS.items():
        value = facts.get(name)
        if value is not None:
            texts[label] = value if isinstance(value, str) else f"{value:.2f}" if name == "gini" else f"{value:.1%}"
    return texts


def _share(flags: np.ndarray) -> float:
    """0 where there are none."""
    return float(flags.mean()) if len(flags) else 0.0


def _neighbours(corpus: Corpus) -> Neighbours:
    inside = np.ones(corpus.interactions, dtype=bool)
    inside[corpus.offsets[1:] - 1] = False
    return Neighbours(np.flatnonzero(inside))


def _gini(descending: Int64[np.ndarray, "N"]) -> float:
    """0 where all items are equally popular, near 1 where one has all."""
    share = descending / descending.sum()
    return float(1 - 2 * (share * (np.arange(len(share)) + 0.5)).sum() / len(share))


def _places_among_followers(corpus: Corpus) -> Int64[np.ndarray, "U"]:
    """Place of each test target, from 0, among the items that followed the item before it in training; -1: never."""
    train, test = corpus.trained_on.examples("train"), corpus.examples("test")
    pairs, counts = np.unique(_pair(train.last_item, train.target, corpus.items), return_counts=True)
    first = pairs // (corpus.items + 1)
    best_first = np.lexsort((pairs, -counts, first))
    place = np.empty(len(pairs), dtype=np.int64)
    place[best_first] = np.arange(len(pairs)) - np.searchsorted(first, first[best_first])
    wanted = _pair(test.last_item, test.target, corpus.items)
    if not len(pairs):
        return np.full(len(wanted), -1)
    found = np.searchsorted(pairs, wanted).clip(max=len(pairs) - 1)
    return np.where(pairs[found] == wanted, place[found], -1)


def _pair(first: Int32[np.ndarray, "E"], second: Int32[np.ndarray, "E"], items: int) -> Int64[np.ndarray, "E"]:
    return first.astype(np.int64) * (items + 1) + second


def _after_training(corpus: Corpus) -> float | None:
    learned = corpus.trained_on
    if corpus.times is None or learned.times is None:
        return None
    return _share(corpus.times[corpus.offsets[1:] - 1] > learned.times[learned.in_training()].max())
