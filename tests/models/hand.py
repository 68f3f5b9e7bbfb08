"""What the tests of untrained models share: corpora written by hand, and a `Fit` that must not be asked."""

from __future__ import annotations

from typing import Any

import numpy as np

from data_prep.corpus import Corpus


def corpus_of(users: list[list[int]], items: int) -> Corpus:
    return Corpus(
        "hand",
        np.array([item for user in users for item in user], dtype=np.int32),
        np.cumsum([0, *map(len, users)]),
        [f"u{number}" for number in range(len(users))],
        [f"i{number}" for number in range(items)],
    )


def held_out(parts: list[list[int]]) -> list[list[int]]:
    """Users with these training parts, and item 1 to validate and to test."""
    return [[*part, 1, 1] for part in parts]


def random_parts(seed: int, items: int = 12, users: int = 30) -> list[list[int]]:
    """Training parts of 1 to 7 items, drawn evenly: many ties, and some items twice for a user."""
    rng = np.random.default_rng(seed)
    return [rng.integers(1, items + 1, rng.integers(1, 8)).tolist() for _ in range(users)]


def no_fit(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("there is nothing to train")
