"""Ranks and metrics of finished lists: ours beside torchmetrics and scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, NamedTuple

import torch
from jaxtyping import Int64
from sklearn.metrics import ndcg_score
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.retrieval import RetrievalNormalizedDCG, RetrievalRecall

from benchmarks.evaluate import target_ranks
from benchmarks.perf import Pair, Turns, in_turn, pair, seconds
from leaderboards.metrics import CUTOFFS, metrics

USERS, PLACES = 100_000, 50
# Lists are drawn from so many items: a quarter of the targets is in its list. torchmetrics skips users without a hit.
ITEMS = 200
REPEATS = 3
# Largest difference of a metric: torchmetrics' NDCG is float32 by construction, its Recall is averaged in float64 here.
EQUAL, EQUAL_FLOAT32 = 1e-9, 1e-6


class Lists(NamedTuple):
    """One list per user, no item twice, and the one relevant item, which may be beyond the list."""

    items: Int64[Tensor, "U K"]
    target: Int64[Tensor, "U"]


def grade(users: int = USERS) -> list[Pair]:
    """Users per second of ours beside torchmetrics, and beside scikit-learn's NDCG, which needs no loop.

    Raises:
        ValueError: a metric of ours differs from torchmetrics' or, for NDCG in float64, from scikit-learn's.
    """
    lists = random_lists(users)
    what = f"at {', '.join(map(str, CUTOFFS))} of {users:,} lists of {PLACES}"
    by_loop = _rates(lists, torchmetrics, {"recall": EQUAL, "ndcg": EQUAL_FLOAT32})
    by_array = _rates(lists, scikit_learn, {"ndcg": EQUAL})
    loop_note = (
        f"torchmetrics {version('torchmetrics')}, Recall and NDCG {what}; its Recall equals ours to {EQUAL:g}, "
        f"its NDCG, in float32, to {EQUAL_FLOAT32:g}"
    )
    array_note = (
        f"scikit-learn {version('scikit-learn')}, NDCG alone {what}, against all of ours; it equals ours to {EQUAL:g}"
    )
    return [
        pair("grade", by_loop, "users/s", loop_note),
        pair("grade_scikit_learn", by_array, "users/s", array_note),
    ]


def random_lists(users: int) -> Lists:
    """Always the same lists for so many users."""
    generator = torch.Generator().manual_seed(0)
    items = torch.rand(users, ITEMS, generator=generator).argsort(1)[:, :PLACES] + 1
    return Lists(items, torch.randint(1, ITEMS + 1, (users,), generator=generator))


def ours(lists: Lists) -> dict[str, float]:
    """As a bench grades: ranks from lists, then all metrics."""
    return metrics(target_ranks(lists.items, lists.target).numpy())


def torchmetrics(lists: Lists) -> dict[str, float]:
    """As its documentation has it; a user without a hit counts 0 by default."""
    options: dict[str, Any] = {"aggregation": lambda values, dim: values.double().mean(dim)}
    kinds = {"recall": RetrievalRecall, "ndcg": RetrievalNormalizedDCG}
    named: dict[str, Metric | MetricCollection] = {
        f"{name}@{k}": kind(top_k=k, **options) for name, kind in kinds.items() for k in CUTOFFS
    }
    collection = MetricCollection(named)
    users = torch.arange(len(lists.target))[:, None].expand_as(lists.items)
    collection.update(_scores(lists), lists.items == lists.target[:, None], indexes=users)
    return {name: float(value) for name, value in collection.compute().items()}


def scikit_learn(lists: Lists) -> dict[str, float]:
    """NDCG alone; it has no Recall of ranked lists."""
    relevant, scores = (lists.items == lists.target[:, None]).double().numpy(), _scores(lists).numpy()
    return {f"ndcg@{k}": float(ndcg_score(relevant, scores, k=k, ignore_ties=True)) for k in CUTOFFS}


def check_equal(found: Mapping[str, float], expected: Mapping[str, float], tolerance: Mapping[str, float]) -> None:
    """Compares all expected metrics.

    Args:
        tolerance: largest difference by kind, `recall` or `ndcg`.

    Raises:
        ValueError: a value is further than that from the expected one.
    """
    for name, value in expected.items():
        apart = tolerance[name.split("@")[0]]
        if not abs(found[name] - value) <= apart:
            raise ValueError(f"{name} is {found[name]!r}, by the baseline {value!r}; expected at most {apart:g} apart")


def _rates(lists: Lists, baseline: Callable[[Lists], dict[str, float]], tolerance: Mapping[str, float]) -> Turns:
    """Users per second of both sides, whose values are compared in every repetition."""
    users, found = len(lists.target), ours(lists)

    def compared() -> float:
        values: dict[str, float] = {}
        took = seconds(lambda: values.update(baseline(lists)))
        check_equal(found, values, tolerance)
        return users / took

    return in_turn(lambda: users / seconds(lambda: ours(lists)), compared, REPEATS)


def _scores(lists: Lists) -> Tensor:
    """`[U, K]` falling along each list; all above 0, since torchmetrics' Recall counts no other."""
    return torch.arange(lists.items.shape[1], 0, -1, dtype=torch.float32).expand(lists.items.shape)
