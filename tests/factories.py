"""What tests of several rooms build by hand: corpora, indices of codes, weights at random, a `Fit` not to be asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from data_prep.corpus import Corpus
from models.parts.index import ItemIndex

USERS, ITEMS = 60, 40
KINDS = ("kettle", "rake", "pencil", "drum", "tent")
TRAITS = ("steel", "wooden", "tiny", "loud", "folding", "blue", "antique", "heavy")

Row = tuple[int, ...]
"""The codes of an item."""
M = TypeVar("M", bound=nn.Module)


def tiny() -> Corpus:
    """60 users, 40 items, 5 to 9 items each, no user an item twice; a step of 3 follows most items."""
    lengths = 5 + np.arange(USERS) % 5
    rng = np.random.default_rng(7)
    sequences = []
    for user, length in enumerate(lengths):
        steps = np.where(rng.random(length) < 0.2, 7, 3)
        sequences.append((user + steps.cumsum()) % ITEMS + 1)
    text = [f"{trait} {kind}, a {trait} thing for {kind} lovers" for kind in KINDS for trait in TRAITS]
    return Corpus(
        "tiny",
        np.concatenate(sequences).astype(np.int32),
        np.concatenate([[0], lengths.cumsum()]),
        [f"U{user:02}" for user in range(USERS)],
        [f"B{item:02}" for item in range(ITEMS)],
        text,
        {"origin": "local", "layout": "sequences"},
        item_categories=[[kind, trait] for kind in KINDS for trait in TRAITS],
    )


def corpus_of(sequences: Sequence[Sequence[int]], items: int, name: str = "hand", **fields: Any) -> Corpus:
    """Users u0, u1, ... with these items, which are i0, i1, ... in files."""
    return Corpus(
        name,
        np.array([item for sequence in sequences for item in sequence], dtype=np.int32),
        np.cumsum([0, *map(len, sequences)]),
        [f"u{number}" for number in range(len(sequences))],
        [f"i{number}" for number in range(items)],
        **fields,
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


def index_of(rows: Sequence[Row], sizes: tuple[int, ...]) -> ItemIndex:
    """Items 1, 2, ... of these codes; row 0 is padding."""
    return ItemIndex(torch.tensor([(-1,) * len(sizes), *rows]), sizes)


def shaken(module: M, by: float = 0.3) -> M:
    """Noise on every weight: a fresh model's are so small, or so even, that a fault would pass within the tolerance."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(torch.randn_like(weight) * by)
    return module
