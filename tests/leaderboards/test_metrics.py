"""Metrics against hand-computed values and their own laws."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from leaderboards import metrics
from leaderboards.metrics import ndcg, recall
from leaderboards.statistics import SEEDS_FOR_VARIANCE, interval

ranks_of_users = hnp.arrays(np.uint8, st.integers(1, 40), elements=st.integers(0, metrics.MAX_RANK))


def test_hand_computed() -> None:
    ranks = np.array([1, 2, 5, 6, 10, 11, 50, 0], dtype=np.uint8)
    assert recall(ranks, 5).tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert recall(ranks, 10).tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    # 1/log2(2), 1/log2(3), 1/log2(6), by hand.
    assert ndcg(ranks, 5) == pytest.approx([1, 0.6309298, 0.3868528, 0, 0, 0, 0, 0], abs=1e-7)
    means = metrics.metrics(ranks)
    assert means["recall@10"] == 5 / 8
    assert means["ndcg@5"] == pytest.approx((1 + 0.6309298 + 0.3868528) / 8, abs=1e-7)
    # The seventh user's item is the fiftieth: 1/log2(51) = 0.1762914.
    assert means["recall@50"] == 7 / 8
    assert means["ndcg@50"] - means["ndcg@20"] == pytest.approx(0.1762914 / 8, abs=1e-7)


def test_ndcg_agrees_with_scikit_learn() -> None:
    from sklearn.metrics import ndcg_score

    for rank in (1, 3, 9, 10, 11, 30):
        relevance = np.eye(1, 60, rank - 1)
        scores = -np.arange(60.0)[None]
        assert ndcg(np.array([rank]), 10)[0] == pytest.approx(ndcg_score(relevance, scores, k=10))


@given(ranks_of_users)
def test_bounds_and_growth_with_k(ranks: np.ndarray) -> None:
    means = metrics.metrics(ranks)
    assert set(means) == set(metrics.NAMES)
    for name in ("recall", "ndcg"):
        values = [means[f"{name}@{k}"] for k in metrics.CUTOFFS]
        assert values == sorted(values)
    for k in metrics.CUTOFFS:
        assert 0 <= means[f"ndcg@{k}"] <= means[f"recall@{k}"] <= 1


@given(ranks_of_users, st.integers(1, 50))
def test_a_better_rank_is_never_worse(ranks: np.ndarray, k: int) -> None:
    better = np.where(ranks > 1, ranks - 1, ranks)
    assert (ndcg(better, k) >= ndcg(ranks, k)).all()


@pytest.mark.parametrize(
    ("ranks", "k", "message"),
    [
        ([1], 51, "k=51 is not among 1..50"),
        ([1], 0, "k=0 is not among 1..50"),
        ([3, 51], 10, "ranks run from 3 to 51"),
        ([-1, 3], 10, "ranks run from -1 to 3"),
    ],
)
def test_out_of_range(ranks: list[int], k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ndcg(np.array(ranks), k)


def test_no_users() -> None:
    with pytest.raises(ValueError, match="no ranks to average"):
        metrics.metrics(np.array([], dtype=np.uint8))


def test_the_frozen_protocol_says_what_the_code_does() -> None:
    protocol = tomllib.loads((Path(metrics.__file__).parent / "v2" / "protocol.toml").read_text())
    assert protocol["version"] == "v2"
    assert tuple(protocol["metrics"]["cutoffs"]) == metrics.CUTOFFS
    assert protocol["ranking"]["max_rank"] == metrics.MAX_RANK
    assert protocol["ranking"]["max_unseen_rank"] == metrics.MAX_UNSEEN_RANK
    cutoffs = protocol["metrics"]["cutoffs_unseen"]
    assert {f"{name}@{k}_unseen" for name in ("recall", "ndcg") for k in cutoffs} == set(metrics.UNSEEN_NAMES)
    assert protocol["selection"]["metric"] in metrics.NAMES
    assert protocol["evidence"]["std_from_seeds"] == SEEDS_FOR_VARIANCE
    level, draws = protocol["evidence"]["interval_level"], protocol["evidence"]["interval_draws"]
    values = np.random.default_rng(0).random((4, 50))
    assert interval(values) == interval(values, draws=draws, level=level)
