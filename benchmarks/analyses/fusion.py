"""What fusing two models brings (Ding et al., KDD 2026, arXiv 2603.19809, who fuse SASRec and TIGER at fixed weights).

Any two models that err differently gain by it. Whether codes are why is seen beside a second seed of the first model
and beside models that learn nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64, Int32, Int64

from benchmarks.analyses import Finding, Lab, proven
from benchmarks.hardware import users_at_once
from data_prep.batches import Batches
from data_prep.corpus import Examples, Part
from leaderboards.metrics import MAX_RANK, per_user
from leaderboards.plots import panels
from leaderboards.rows import RANKED_BY
from leaderboards.statistics import Values, compare
from models.api import Recommender

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODELS = ("sasrec", "sasrec", "item_knn", "transitions", "last_item_vectors")
# Of the other model in the sum; by the better one on validation.
SHARES = np.linspace(0, 1, 21)
PARTS: tuple[Part, ...] = ("valid", "test")


class Lists(NamedTuple):
    """Each user's best items, with scores from 1, the first one's, to 0, the last one's."""

    items: Int64[np.ndarray, "U K"]
    scores: Float64[np.ndarray, "U K"]


def fusion(lab: Lab) -> Finding:
    """The first experiment's lists, fused with those of every other one; a name that comes again is its next seed.

    Raises:
        ValueError: fewer than two experiments are given; what `Lab.recommender` raises.
    """
    names = lab.chosen(*MODELS)
    if len(names) < 2:
        raise ValueError(f"a fusion is of two experiments at least; one was given: {names[0]}")
    examples = {part: lab.corpus.examples(part) for part in PARTS}
    lists = {
        title: [listed(recommender, of_part) for of_part in examples.values()]
        for title, recommender in _members(lab, names)
    }
    valid, test = (of_part.target for of_part in examples.values())
    (name, first), *others = lists.items()
    alone = ranks(first[1], test)
    rows: list[dict[str, Any]] = [{"Experiment": name, **_means(alone, "")}]
    curves = {}
    for title, other in others:
        curves[title] = per_user(RANKED_BY, fused_ranks(first[0], other[0], valid, SHARES)).mean(1)
        share = float(SHARES[curves[title].argmax()])
        fused, of_other = fused_ranks(first[1], other[1], test, [share])[0], ranks(other[1], test)
        found = compare(per_user(RANKED_BY, fused)[None], per_user(RANKED_BY, alone)[None])
        rows.append(
            {"Experiment": title, **_means(of_other, ""), "Share": share, **_means(fused, ", fused")}
            | {f"from {name}": found.difference, "low": found.interval.low, "high": found.interval.high}
        )
    says = (
        f"Test metrics of each experiment alone, and of its lists of {MAX_RANK} items fused with those of {name}: a "
        "list's scores are put on a scale from 1, its first item, to 0, its last item and all that are not on it, and "
        "added. The share of the other list is the best on validation, by NDCG@10, of those that the picture shows. "
        f"Low and high: 95% interval of the difference in NDCG@10 from {name} alone, paired by user, of these weights; "
        "each line for itself."
    )
    return Finding(pd.DataFrame(rows), _figure(curves), says)


def _members(lab: Lab, names: tuple[str, ...]) -> Iterator[tuple[str, Recommender]]:
    for place, name in enumerate(names):
        seed = lab.seed + names[:place].count(name)
        title = f"{name}, seed {seed}" if names.count(name) > 1 else name
        yield title, replace(lab, seed=seed).recommender(name)


@torch.inference_mode()
def listed(recommender: Recommender, examples: Examples) -> Lists:
    """The lists of all users, as the protocol ranks, in the order of the examples."""
    recommender.eval()
    lists = Lists(np.zeros((len(examples), MAX_RANK), dtype=np.int64), np.zeros((len(examples), MAX_RANK)))
    batches = Batches(examples, users_at_once(recommender.device), recommender.history_length, recommender.device)
    for rows in batches.rows():
        ranking = proven(recommender.rank(batches.batch(rows).history, MAX_RANK))
        lists.items[rows], lists.scores[rows] = ranking.items.cpu(), _scaled(ranking.scores.double().cpu().numpy())
    return lists


def _scaled(scores: Float64[np.ndarray, "U K"]) -> Float64[np.ndarray, "U K"]:
    """From 0 to 1 in each row; 0 where all are equal, and at the empty places of a small catalogue."""
    there = np.isfinite(scores)
    low = np.where(there, scores, np.inf).min(1, keepdims=True)
    height = np.where(there, scores - low, 0.0)
    return height / np.maximum(height[:, :1], np.finfo(np.float64).tiny)


def ranks(lists: Lists, target: Int32[np.ndarray, "U"]) -> Int64[np.ndarray, "U"]:
    """Rank of each user's target on a list; 0 where it is not on it."""
    found = lists.items == target[:, None]
    return np.where(found.any(1), 1 + found.argmax(1), 0)


def fused_ranks(
    first: Lists, other: Lists, target: Int32[np.ndarray, "U"], shares: Sequence[float] | Float64[np.ndarray, "S"]
) -> Int64[np.ndarray, "S U"]:
    """Rank of each user's target in two lists fused, by share of the other; 0 beyond 50 and where it is on neither."""
    again = (other.items[:, :, None] == first.items[:, None, :]).any(2)
    items = np.concatenate([first.items, np.where(again, 0, other.items)], axis=1)
    of_first, of_other = _of(first, items), _of(other, items)
    is_target = items == target[:, None]
    found = []
    for share in shares:
        scores = np.where(items > 0, (1 - share) * of_first + share * of_other, -1.0)
        own = np.where(is_target, scores, -1.0).max(1, keepdims=True)
        before = (scores > own) | ((scores == own) & (items < target[:, None]) & (items > 0))
        rank = 1 + before.sum(1)
        found.append(np.where(is_target.any(1) & (rank <= MAX_RANK), rank, 0))
    return np.stack(found)


def _of(lists: Lists, items: Int64[np.ndarray, "U X"]) -> Float64[np.ndarray, "U X"]:
    """Scores of items on the lists; 0 of those that are not on them."""
    scores = np.zeros(items.shape)
    for item, score in zip(lists.items.T, lists.scores.T, strict=True):
        scores += score[:, None] * (items == item[:, None])
    return scores


def _means(of_users: Int64[np.ndarray, "U"], title: str) -> dict[str, float]:
    metrics = {"Recall@10": "recall@10", "NDCG@10": RANKED_BY}
    return {f"{name}{title}": float(per_user(metric, of_users).mean()) for name, metric in metrics.items()}


def _figure(curves: dict[str, Values]) -> Figure:
    figure, (axis,) = panels("Validation", width=6.4)
    for title, curve in curves.items():
        axis.plot(SHARES, curve, marker=".", label=title)
    axis.set_xlabel("share of the other list")
    axis.set_ylabel("NDCG@10")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower left", fontsize=8, frameon=False, ncols=2)
    return figure
