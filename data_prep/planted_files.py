"""Writes the embedded corpus: raw reviews and metadata in the Amazon-2023 schema, drawn from `data_prep.planted`'s law.

The files also hold rows that the preparation must remove, and it can be told which:

- later repeats of a review; the duplicate rule drops them;
- passers-by with at most four items each, and odd items with at most four reviewers each; 5-core drops them at once;
- stragglers, users of four catalogue items and one odd item, and fads, items of four users of the law and one
  passer-by; they have five neighbours, one of whom goes first, so only a 5-core run to its fixpoint drops them.

What is left, users of the law and catalogue items, have five or more of each other, hence are the 5-core.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64

from data_prep.atomic import atomic_file
from data_prep.planted import ADJECTIVES, ITEMS, LEAVES, LONGEST, SHORTEST, ids, item_ids, law_of_catalogue

# Under this seed every item of both variants is taken at least five times; generation asserts it.
SEED = 2042
USERS = 2 * ITEMS
COLOURS = ["Amber", "Crimson", "Emerald", "Indigo", "Ivory", "Jade", "Mauve", "Ochre", "Pearl", "Russet", "Sable"]

REPEATED = 0.03
PASSERS_BY, STRAGGLERS, FADS = 600, 120, 40
ODD_ITEMS = (PASSERS_BY + STRAGGLERS) // 4

DAY = 86_400_000  # milliseconds
OPENING = 1_420_070_400_000  # 2015-01-01
TIED = 0.05  # share of reviews with the timestamp of the user's review before


def write(root: Path, noise_only: bool = False) -> None:
    """Write the reviews and metadata of category `Planted`, or `Planted_Noise`, laid out as the official downloads are.

    The same bytes each time: `<root>/raw/review_categories/<category>.jsonl.gz` and
    `<root>/raw/meta_categories/meta_<category>.jsonl.gz`. Existing files are replaced whole or not at all.
    """
    category = "Planted_Noise" if noise_only else "Planted"
    # Of all draws only random() is used, the one whose stream numpy has kept from version to version.
    rng = np.random.Generator(np.random.PCG64(SEED))
    _write(root / "raw/meta_categories" / f"meta_{category}.jsonl.gz", _metadata(noise_only))
    _write(root / "raw/review_categories" / f"{category}.jsonl.gz", _reviews(noise_only, rng))


def _sequences(noise_only: bool, rng: np.random.Generator) -> list[Int32[np.ndarray, "T"]]:
    """Catalogue numbers (from 1) that each user of the law takes, oldest first."""
    law = law_of_catalogue(noise_only)
    # The square makes short histories the most frequent, as they are in shops.
    lengths = SHORTEST + (rng.random(USERS) ** 2 * (LONGEST + 1 - SHORTEST)).astype(int)
    taken = np.zeros((USERS, LONGEST), np.int32)
    taken[:, 0] = 1 + np.arange(USERS) % ITEMS
    for step in range(1, LONGEST):
        going = np.flatnonzero(lengths > step)
        below = law.next_item(taken[going, :step]).cumsum(1)
        drawn = rng.random((len(going), 1)) * below[:, -1:]
        taken[going, step] = 1 + (below <= drawn).sum(1)
    rarest = int(np.bincount(taken[taken > 0], minlength=ITEMS + 1)[1:].min())
    assert rarest >= SHORTEST, f"under seed {SEED} an item is taken {rarest} times; 5-core would drop it"
    return [row[:length] for row, length in zip(taken, lengths, strict=True)]


def _chaff(rng: np.random.Generator) -> Int64[np.ndarray, "R 2"]:
    """Reviews that 5-core must remove, as user and item numbers; those of the law come first in both counts."""
    passers_by, stragglers, fads = np.arange(PASSERS_BY), np.arange(STRAGGLERS), np.arange(FADS)
    pairs = [(USERS + passers_by, ITEMS + passers_by // 4)]
    pairs += [(USERS + fads, ITEMS + ODD_ITEMS + fads)]
    pairs += [(USERS + PASSERS_BY + stragglers, ITEMS + (PASSERS_BY + stragglers) // 4)]
    for turn, item in enumerate(_spread(rng, PASSERS_BY, 2, ITEMS)):
        some = passers_by % 3 > turn
        pairs += [(USERS + passers_by[some], item[some])]
    pairs += [(USERS + PASSERS_BY + stragglers, item) for item in _spread(rng, STRAGGLERS, 4, ITEMS)]
    pairs += [(user, ITEMS + ODD_ITEMS + fads) for user in _spread(rng, FADS, 4, USERS)]
    return np.concatenate([np.stack(pair, axis=1) for pair in pairs])


def _spread(rng: np.random.Generator, rows: int, times: int, among: int) -> Int64[np.ndarray, "times rows"]:
    """For each row so many different numbers below `among`, from a random start at equal distances."""
    start = (rng.random(rows) * among).astype(np.int64)
    return (start + np.arange(times)[:, None] * (among // times)) % among


def _interactions(noise_only: bool, rng: np.random.Generator) -> Int64[np.ndarray, "R 3"]:
    """User number, item number and timestamp (ms) of every review, in the order of the file."""
    sequences = _sequences(noise_only, rng)
    users = np.repeat(np.arange(USERS), [len(row) for row in sequences])
    gaps = np.where(rng.random(len(users)) < TIED, 0, 1 + rng.random(len(users)) ** 2 * 60 * DAY).astype(np.int64)
    starts = (rng.random(USERS) * 5 * 365 * DAY).astype(np.int64)
    since = np.cumsum(gaps)
    first = np.concatenate([[0], np.flatnonzero(np.diff(users)) + 1])
    times = OPENING + starts[users] + since - since[first][users]
    lawful = np.stack([users, np.concatenate(sequences) - 1, times], axis=1)

    chaff = _chaff(rng)
    days = OPENING + (rng.random(len(chaff)) * 7 * 365 * DAY).astype(np.int64)
    once = np.concatenate([lawful, np.column_stack([chaff, days])])

    again = once[rng.random(len(once)) < REPEATED]
    again[:, 2] += DAY + (rng.random(len(again)) * 90 * DAY).astype(np.int64)
    rows = np.concatenate([once, again])

    # Shuffled, but reviews that a user wrote at one time stay in order: a stable sort by time restores the sequences.
    moment = np.unique(rows[:, [0, 2]], axis=0, return_inverse=True)[1]
    return rows[np.argsort(rng.random(len(rows))[moment], kind="stable")]


def _reviews(noise_only: bool, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    items = _item_ids(noise_only)
    users = ids(f"user {noise_only}", USERS + PASSERS_BY + STRAGGLERS, 27, "A")
    rows = _interactions(noise_only, rng)
    ratings = 1 + (5 * np.sqrt(rng.random(len(rows)))).astype(int)
    votes = (4 * rng.random(len(rows)) ** 4).astype(int)
    for (user, item, time), rating, vote in zip(rows.tolist(), ratings.tolist(), votes.tolist(), strict=True):
        yield {
            "rating": float(rating),
            "title": "",
            "text": "",
            "images": [],
            # A variant of the item: who counts by asin instead of parent_asin gets another corpus.
            "asin": items[item][:-1] + "XYZ"[time % 3],
            "parent_asin": items[item],
            "user_id": users[user],
            "timestamp": time,
            "helpful_vote": vote,
            "verified_purchase": vote != 3,
        }


def _metadata(noise_only: bool) -> Iterator[dict[str, Any]]:
    """Every item's record, in the order of parent_asin."""
    for asin, number in sorted((asin, number) for number, asin in enumerate(_item_ids(noise_only))):
        leaf_number, rank = divmod(number % ITEMS, len(ADJECTIVES))
        department, shelf, leaf = LEAVES[leaf_number]
        adjective = ADJECTIVES[rank]
        colour = COLOURS[number % len(COLOURS)]
        yield {
            "main_category": department,
            "title": f"{adjective} {leaf}, {colour}",
            "average_rating": None,
            "rating_number": None,
            "features": [f"{leaf} for {shelf.lower()}", f"{adjective} make, {colour.lower()} finish"],
            "description": [],
            "price": None,
            "images": [],
            "videos": [],
            "store": f"{department} {shelf} Store",
            "categories": [department, shelf, leaf],
            "details": json.dumps({"Color": colour}),
            "parent_asin": asin,
            "bought_together": None,
        }


def _item_ids(noise_only: bool) -> list[str]:
    """parent_asin of the catalogue's items, then of odd items, then of fads."""
    return item_ids(noise_only, ITEMS + ODD_ITEMS + FADS)


def _write(path: Path, records: Iterable[dict[str, Any]]) -> None:
    # Neither name nor time in the gzip header: the same records give the same bytes.
    with atomic_file(path) as plain, gzip.GzipFile(filename="", mode="wb", fileobj=plain, mtime=0) as packed:
        packed.writelines(json.dumps(record).encode() + b"\n" for record in records)
