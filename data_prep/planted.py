"""The embedded corpus's law: what users take next, and so the best score that any model can expect.

1,000 items hang in a tree of 5 departments, 10 shelves and 40 leaves, and their text says so. 2,000 users each start at
an item of the catalogue's round (every item starts two users) and then follow one law. From an item of leaf `c`:

- with probability 1 - `NOISE` the user moves to leaf `c + s` (modulo 40), `s` drawn from `MOVES`; with probability
  `NOISE` to any leaf. Either way leaves stay equally popular, and neighbours on a shelf move to neighbours on a shelf.
- Within the leaf, the item of popularity rank `r` has a share in proportion to `1 / sqrt(r)`.
- No user takes an item twice: items of the history are struck out and the rest is renormalised.

The noise-only variant has `NOISE` = 1, users and items of its own. `data_prep.planted_files` draws from the law and
writes the raw files.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int, Int64

from data_prep.batches import Batches
from data_prep.corpus import Corpus

TREE = {
    "Kitchen": {
        "Bakeware": ("Loaf Pans", "Pie Dishes", "Muffin Trays", "Cake Rings"),
        "Cutlery": ("Bread Knives", "Peelers", "Cleavers", "Steak Forks"),
    },
    "Garden": {
        "Watering": ("Hoses", "Sprinklers", "Rain Barrels", "Drip Emitters"),
        "Planting": ("Trowels", "Seed Starters", "Raised Beds", "Bulb Augers"),
    },
    "Office": {
        "Writing": ("Fountain Pens", "Highlighters", "Pencils", "Inkwells"),
        "Filing": ("Binders", "Folders", "Label Makers", "Archive Boxes"),
    },
    "Music": {
        "Strings": ("Guitar Picks", "Violin Bows", "Capos", "Cello Rosin"),
        "Percussion": ("Drumsticks", "Cymbals", "Tambourines", "Cowbells"),
    },
    "Outdoors": {
        "Camping": ("Tents", "Sleeping Bags", "Lanterns", "Camp Stoves"),
        "Cycling": ("Helmets", "Panniers", "Bike Pumps", "Mudguards"),
    },
}
LEAVES = [(department, shelf, leaf) for department in TREE for shelf, some in TREE[department].items() for leaf in some]
# One adjective per popularity rank within a leaf: leaf and adjective together name an item.
ADJECTIVES = [
    "Classic", "Compact", "Deluxe", "Rugged", "Slim", "Vintage", "Folding", "Premium", "Everyday", "Lightweight",
    "Heavy", "Modern", "Rustic", "Travel", "Junior", "Artisan", "Quiet", "Bright", "Matte", "Polished", "Tapered",
    "Curved", "Modular", "Woven", "Recycled",
]  # fmt: skip
ITEMS = len(LEAVES) * len(ADJECTIVES)
MOVES = {13: 0.72, 22: 0.2, 31: 0.08}
NOISE = 0.12
# Items that a user takes.
SHORTEST, LONGEST = 5, 16


@dataclass(frozen=True)
class Law:
    """Who takes what next, for items in the order of a corpus.

    Attributes:
        leaf: `[N]` leaf of items 1..N.
        move: `[leaves, N]` probability of the next item given the leaf of the last, before the history is struck out.
    """

    leaf: Int64[np.ndarray, "N"]
    move: Float64[np.ndarray, "C N"]

    def next_item(self, history: Int[np.ndarray, "B T"]) -> Float64[np.ndarray, "B N"]:
        """Probability of each item 1..N to come next.

        Args:
            history: `[B, T]` item ids, oldest first, right-padded with 0.

        Raises:
            ValueError: a history is empty; users' first items are dealt out, not drawn.
        """
        lengths = (history > 0).sum(1)
        if not lengths.all():
            raise ValueError(f"history {int(lengths.argmin())} is empty; the planted law starts from an item")
        rows = np.arange(len(history))
        last = history[rows, lengths - 1]
        # A column for the padding takes its strikes, so that no mask is needed.
        chances = np.pad(self.move[self.leaf[last - 1]], ((0, 0), (1, 0)))
        chances[rows[:, None], history] = 0
        renormalised: Float64[np.ndarray, "B N"] = chances[:, 1:] / chances.sum(1, keepdims=True)
        return renormalised


def law(corpus: Corpus) -> Law:
    """The law that the corpus was drawn from; its parent_asin tell which variant it is.

    Raises:
        ValueError: the corpus's items are not those of a planted catalogue.
    """
    asins = [str(asin) for asin in corpus.item_ids]
    for noise_only in (False, True):
        number = {asin: n for n, asin in enumerate(item_ids(noise_only, ITEMS))}
        if number.keys() == set(asins):
            order = np.array([number[asin] for asin in asins])
            whole = law_of_catalogue(noise_only)
            return Law(whole.leaf[order], whole.move[:, order])
    raise ValueError(f"corpus {corpus.name}: its {len(asins)} items are not the {ITEMS} of the planted catalogue")


def ceiling(corpus: Corpus) -> dict[str, float]:
    """Expected test scores of the best possible ranking, which sorts items by the law's probability.

    Returns:
        recall@k and ndcg@k for k = 5, 10, 20, 50, each the mean over the test users of its expectation under the law.

    Raises:
        ValueError: the corpus is not planted.
    """
    test = corpus.examples("test")
    (batch,) = Batches(test, batch_size=len(test), history_length=LONGEST)
    chances = law(corpus).next_item(batch.history.numpy())
    best = np.sort(chances, axis=1)[:, ::-1].mean(0)
    discounted = best / np.log2(1 + np.arange(1, len(best) + 1))
    gains = {"recall": best, "ndcg": discounted}
    return {f"{metric}@{k}": float(gain[:k].sum()) for metric, gain in gains.items() for k in (5, 10, 20, 50)}


def law_of_catalogue(noise_only: bool) -> Law:
    """The law of a variant, for items in the order of the catalogue: leaf after leaf, by popularity rank within."""
    leaf = np.repeat(np.arange(len(LEAVES)), len(ADJECTIVES))
    share = 1 / np.sqrt(np.arange(1, len(ADJECTIVES) + 1))
    noise = 1.0 if noise_only else NOISE
    to_leaf = np.full((len(LEAVES), len(LEAVES)), noise / len(LEAVES))
    for step, chance in MOVES.items():
        to_leaf += (1 - noise) * chance * np.roll(np.eye(len(LEAVES)), step, axis=1)
    return Law(leaf, to_leaf[:, leaf] * np.tile(share / share.sum(), len(LEAVES)))


def item_ids(noise_only: bool, count: int) -> list[str]:
    """parent_asin of the first items that the files have; the catalogue's come first."""
    return ids(f"item {noise_only}", count, 8, "B0")


def ids(kind: str, count: int, length: int, prefix: str) -> list[str]:
    """Ids that look like the shop's and whose order says nothing."""
    return [prefix + hashlib.sha256(f"{kind} {n}".encode()).hexdigest().upper()[:length] for n in range(count)]
