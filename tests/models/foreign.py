"""What other implementations score: small models with random weights, and their scores of a few histories.

Files of `fixtures/` are named by library and version. They were made in an environment with the library, from its own
class: `inputs` are histories right-padded with 0, `scores` those of all items (column 0: padding), the rest is the
class's state dict. Where the class has more than ours, that is 0: the padding row of items, Caser's users. Where it
reads more than histories, that is beside them: the items' `categories`, and what S3-Rec is pre-trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.api import Recommender
from tests.models.test_contract import by_item, rank

FIXTURES = Path(__file__).with_name("fixtures")


class Foreign(NamedTuple):
    """Attributes: history, `[B, T]`; scores, `[B, N]` of items 1..N; weights, by the library's names."""

    history: Tensor
    scores: Tensor
    weights: dict[str, Tensor]


def foreign(file: str) -> Foreign:
    arrays = {name: torch.from_numpy(array) for name, array in np.load(FIXTURES / file).items()}
    return Foreign(arrays.pop("inputs").long(), arrays.pop("scores")[:, 1:], arrays)


def renamed(weights: Mapping[str, Tensor], parts: Mapping[str, str]) -> dict[str, Tensor]:
    """Weights by our names: of every name, the parts that are called otherwise here are replaced in turn."""
    found = {}
    for name, weight in weights.items():
        for theirs, ours in parts.items():
            name = name.replace(theirs, ours)
        found[name] = weight
    return found


BLOCKS = {
    "multi_head_attention.LayerNorm": "norm1",
    "multi_head_attention.dense": "self_attn.out_proj",
    "multi_head_attention": "self_attn",
    "feed_forward.LayerNorm": "norm2",
    "feed_forward.dense_": "linear",
}


def with_recboles_blocks(weights: Mapping[str, Tensor], parts: Mapping[str, str]) -> dict[str, Tensor]:
    """`renamed`, and so are the parts of RecBole's transformer, whose queries, keys and values are one here."""
    state = renamed(weights, {**BLOCKS, **parts})
    for name in [name for name in state if ".query." in name]:
        whole = torch.cat([state.pop(name.replace("query", part)) for part in ("query", "key", "value")])
        state[name.replace("query.", "in_proj_")] = whole
    return state


def assert_scores_alike(model: Recommender, expected: Foreign) -> None:
    """To float32's precision, for the batch and for each history alone."""
    model.eval()
    items = expected.scores.shape[1]
    found = by_item(rank(model, expected.history, items), items)[:, 1:]
    torch.testing.assert_close(found, expected.scores, atol=1e-5, rtol=1e-5)
    assert expected.scores.std(1).min() > 0.1, "items differ"
    for history, scores in zip(expected.history, expected.scores, strict=True):
        alone = by_item(rank(model, history[history > 0][None], items), items)[0, 1:]
        torch.testing.assert_close(alone, scores, atol=1e-5, rtol=1e-5)
