"""The one evaluator: ranks of the targets by full ranking. The metric is the product.

A target has two ranks: among all items, and among those that are not in the user's whole history. Papers differ in
which of them they report. Recall and NDCG are computed from these ranks alone, by `leaderboards.metrics`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int, Int64, UInt8
from torch import Tensor

from benchmarks.hardware import users_at_once
from data_prep.batches import Batches
from data_prep.corpus import Corpus, Part
from leaderboards.metrics import MAX_RANK, MAX_UNSEEN_RANK
from models.api import Ranking, Recommender, generator_of
from models.parts.processes import by_all, process_index, processes

Ranker = Callable[[Int[Tensor, "B T"], int], Ranking]


class NanScoreError(ValueError):
    """A list whose order means nothing."""


@dataclass(frozen=True)
class Graded:
    """What one pass over users found.

    Attributes:
        ranks: `[U]` rank of each user's target, 1..K; 0 beyond.
        unseen_ranks: `[U]` its rank among the items that are not in the user's history, 1..10; 0 beyond, and for a
            target that is in the history. None where it was not asked for.
        certified: `[U]` the rank is proven to be that in the full ranking.
        expansions: `[U]` prefixes expanded for the user; None for a model that scores every item.
        invalid: share of list places that name no item; 0 where no lists were asked for, but the targets' places.
        seconds: wall time of the pass.
    """

    ranks: UInt8[np.ndarray, "U"]
    unseen_ranks: UInt8[np.ndarray, "U"] | None
    certified: Bool[np.ndarray, "U"]
    expansions: Int64[np.ndarray, "U"] | None
    invalid: float
    seconds: float


class Grader:
    """Grades recommenders on one part of a corpus, always on the same users in the same order."""

    def __init__(
        self,
        corpus: Corpus,
        part: Part,
        users: int | None = None,
        k: int = MAX_RANK,
        unseen: bool = False,
    ) -> None:
        """
        Args:
            users: grade a sample of so many users, the same at every call; None for all.
            k: length of the ranked lists, at most 50.
            unseen: find the ranks among unseen items, too; lists are then long enough for 10 such items.
        """
        examples = corpus.examples(part)
        if users is not None and users < len(examples):
            chosen = np.random.default_rng(0).choice(len(examples), users, replace=False)
            examples = examples.take(np.sort(chosen))
        self.examples, self.items, self.k, self.unseen = examples, corpus.items, k, unseen

    def __call__(self, recommender: Recommender, rank: Ranker | None = None) -> Graded:
        """Grades `recommender.rank`, or another ranking function of the same recommender.

        One that generates codes searches for the target's place instead, which costs a part of a list's search. The
        processes of distributed training share the users' batches out, so all must call it; no rank depends on it.

        Raises:
            ValueError: the ranking has a wrong shape, an id that is no item, or names an item twice.
        """
        return reduce(_joined, by_all(lambda: self._share(recommender, rank)))

    def _share(self, recommender: Recommender, rank: Ranker | None) -> Graded:
        """The users of this process's batches; all zero where they are another's."""
        was_training = recommender.training
        recommender.eval()
        started = time.perf_counter()
        size = users_at_once(recommender.device)
        generator = None if rank else generator_of(recommender)
        batches = Batches(self.examples, size, recommender.history_length, recommender.device)
        longest = max(1, int(self.examples.length.max()))
        whole = Batches(self.examples, size, longest, recommender.device) if self.unseen else None
        ranks = np.zeros(len(self.examples), dtype=np.uint8)
        unseen_ranks = np.zeros_like(ranks) if self.unseen else None
        certified = np.zeros(len(self.examples), dtype=bool)
        expansions = None
        invalid = 0
        with torch.inference_mode():
            for rows in batches.rows()[process_index() :: processes()]:
                batch = batches.batch(rows)
                history = whole.batch(rows).history if whole else None
                k = self.k if history is None else list_length(history, self.k, self.items)
                if generator:
                    ranking, last = generator.place(batch.history, k, batch.target), batch.target
                else:
                    ranking, last = (rank or recommender.rank)(batch.history, k), None
                check(ranking, len(rows), k, self.items, type(recommender).__name__, last)
                if last is None:
                    invalid += int((ranking.items[:, : self.k] == 0).sum())
                users = rows.cpu().numpy()  # as a tensor, one user alone would index like a plain number
                ranks[users] = target_ranks(ranking.items[:, : self.k], batch.target).cpu().numpy()
                if history is not None and unseen_ranks is not None:
                    found = target_ranks_among_unseen(ranking.items, history, batch.target, self.items)
                    unseen_ranks[users] = found.cpu().numpy()
                certified[users] = ranking.certified.cpu().numpy()
                if ranking.expansions is not None:
                    expansions = np.zeros(len(self.examples), dtype=np.int64) if expansions is None else expansions
                    expansions[users] = ranking.expansions.cpu().numpy()
        recommender.train(was_training)
        places = max(1, len(self.examples) * self.k)
        return Graded(ranks, unseen_ranks, certified, expansions, invalid / places, time.perf_counter() - started)


def list_length(history: Int[Tensor, "B T"], k: int, items: int) -> int:
    """Of lists of `k` items, longer where it takes that to name 10 outside these histories, or all items there are."""
    return max(k, min(MAX_UNSEEN_RANK + history.shape[1], items))


def _joined(one: Graded, other: Graded) -> Graded:
    """Both processes' users. One with more processes than batches has not seen whether the model counts expansions."""

    def both(mine: np.ndarray | None, theirs: np.ndarray | None) -> np.ndarray | None:
        return theirs if mine is None else mine if theirs is None else mine + theirs

    return Graded(
        one.ranks + other.ranks,
        both(one.unseen_ranks, other.unseen_ranks),
        one.certified | other.certified,
        both(one.expansions, other.expansions),
        one.invalid + other.invalid,
        max(one.seconds, other.seconds),
    )


def target_ranks(items: Int[Tensor, "B K"], target: Int64[Tensor, "B"]) -> UInt8[Tensor, "B"]:
    """1-based place of the target in its list; 0 where it is absent. A hit is an item, never a code sequence."""
    hit = items == target[:, None]
    return torch.where(hit.any(1), hit.int().argmax(1) + 1, 0).to(torch.uint8)


def target_ranks_among_unseen(
    items: Int[Tensor, "B K"], history: Int[Tensor, "B T"], target: Int64[Tensor, "B"], catalogue: int
) -> UInt8[Tensor, "B"]:
    """1-based place of the target among the list's items that the history does not hold; 0 where it is absent, beyond
    10, or in the history itself.

    Args:
        history: right-padded with 0.
        catalogue: number of items.
    """
    seen = torch.zeros(len(items), catalogue + 1, dtype=torch.bool, device=items.device).scatter_(1, history, True)
    seen[:, 0] = False
    unseen = ~seen.gather(1, items)
    hit = (items == target[:, None]) & unseen
    place = (unseen.cumsum(1) * hit).sum(1)
    return torch.where(place <= MAX_UNSEEN_RANK, place, 0).to(torch.uint8)


def check(ranking: Any, users: int, k: int, items: int, model: str, last: Int64[Tensor, "B"] | None = None) -> None:
    """Refuses a ranking that would flatter its model: every item at most once, only items of the corpus, scores that
    have an order, and as many items as there are wherever the list is said to be the full ranking's.

    Args:
        last: an item of each user with which the list may end.
    """
    _check_form(ranking, users, k, model)
    if int(ranking.items.min()) < 0 or int(ranking.items.max()) > items:
        raise ValueError(f"{model}.rank returned an item id outside 0..{items}")
    ordered = ranking.items.sort(dim=1).values
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] > 0)).any():
        raise ValueError(f"{model}.rank named an item twice in one list; each item may hold one rank only")
    if ranking.scores.isnan().any():
        raise NanScoreError(
            f"{model}.rank returned a score that is nan; expected numbers, or -inf where there is no item"
        )
    lowest = ranking.scores.masked_fill(ranking.items == 0, torch.inf).cummin(1).values
    rises = (ranking.items[:, 1:] > 0) & (ranking.scores[:, 1:] > lowest[:, :-1])
    if last is None and rises.any():
        raise ValueError(f"{model}.rank returned scores that rise within a list; expected the best item first")
    named, full = (ranking.items > 0).sum(1), min(k, items)
    short = ranking.certified & (named < full)
    if last is not None:
        short &= (ranking.items != last[:, None]).all(1)
    if short.any():
        fewest = int(named[short].min())
        raise ValueError(
            f"{model}.rank certified a list of {fewest} items; the full ranking of {items} has {full} there"
        )


def _check_form(ranking: Any, users: int, k: int, model: str) -> None:
    """
    Raises:
        ValueError: it is no `Ranking` of so many users and places.
    """
    if not isinstance(ranking, Ranking):
        raise ValueError(f"{model}.rank returned {type(ranking).__name__}; expected a models.api.Ranking")
    forms = {
        "items": (torch.int64, (users, k)),
        "scores": (None, (users, k)),
        "certified": (torch.bool, (users,)),
        "expansions": (torch.int64, (users,)),
    }
    if ranking.expansions is None:
        del forms["expansions"]
    for name, (kind, shape) in forms.items():
        found, wanted = getattr(ranking, name), f"{shape} {kind or 'of floats'}"
        if not isinstance(found, Tensor):
            raise ValueError(f"{model}.rank returned {name} of type {type(found).__name__}; expected a tensor {wanted}")
        if found.shape != shape or not (found.dtype == kind if kind else found.is_floating_point()):
            here = f"{tuple(found.shape)} {found.dtype}"
            raise ValueError(f"{model}.rank returned {name} of shape {here}; expected {wanted}")
