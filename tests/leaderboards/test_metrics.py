"""Metrics against hand-computed values, their own laws, and other ways to the same interval."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from leaderboards import board, metrics
from leaderboards.metrics import interval, ndcg, recall

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


def skewed(seeds: int, users: int) -> np.ndarray:
    """`[S, U]` NDCG@10 of sparse hits, as on a real test set."""
    rng = np.random.default_rng(7)
    return np.stack([ndcg(rng.integers(1, 51, users) * (rng.random(users) < 0.4), 10) for _ in range(seeds)])


def test_one_seed_agrees_with_scipy_and_the_normal_interval() -> None:
    values = skewed(1, 4000)
    low, high = interval(values, draws=4000)
    half = 1.96 * values.std(ddof=1) / np.sqrt(values.size)
    assert [low, high] == pytest.approx([values.mean() - half, values.mean() + half], abs=0.05 * half)
    by_scipy = stats.bootstrap((values[0],), np.mean, n_resamples=2000, method="percentile", rng=1, batch=200)
    assert [low, high] == pytest.approx(list(by_scipy.confidence_interval), abs=0.1 * half)


def test_two_levels_have_the_variance_of_both() -> None:
    # Seeds shift every user alike, so the variance of the mean is that over users plus that over seeds.
    users = np.random.default_rng(3).normal(0, 1, 400)
    shifts = np.array([-0.2, -0.1, 0.0, 0.1, 0.2])
    low, high = interval(users + shifts[:, None], draws=20_000)
    expected = np.sqrt(users.var() / 400 + shifts.var() / 5)
    assert (high - low) / (2 * 1.96) == pytest.approx(expected, rel=0.03)


def test_agrees_with_redrawing_one_by_one() -> None:
    values = skewed(3, 300)
    rng = np.random.default_rng(11)
    means = [values[rng.integers(0, 3, 3)][:, rng.integers(0, 300, 300)].mean() for _ in range(4000)]
    low, high = interval(values, draws=4000)
    assert [low, high] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.06 * (high - low))


def test_blocks_give_a_full_set_of_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    values = skewed(2, 200)
    whole = interval(values)
    monkeypatch.setattr(metrics, "BLOCK_CELLS", 100)
    assert interval(values) == pytest.approx(whole, abs=0.1 * (whole.high - whole.low))


def test_interval_is_deterministic_and_grows_with_its_level() -> None:
    values = skewed(3, 500)
    narrow, wide = interval(values, level=0.5), interval(values, level=0.99)
    assert interval(values) == interval(values)
    assert wide.low < narrow.low < values.mean() < narrow.high < wide.high


def test_bad_interval() -> None:
    with pytest.raises(ValueError, match=r"shape \(3,\); expected \[seeds, users\]"):
        interval(np.ones(3))
    with pytest.raises(ValueError, match="level of an interval is 95"):
        interval(np.ones((1, 3)), level=95)


def test_the_frozen_protocol_says_what_the_code_does() -> None:
    protocol = tomllib.loads((Path(metrics.__file__).parent / "v1" / "protocol.toml").read_text())
    assert protocol["version"] == "v1"
    assert tuple(protocol["metrics"]["cutoffs"]) == metrics.CUTOFFS
    assert protocol["ranking"]["max_rank"] == metrics.MAX_RANK
    assert protocol["selection"]["metric"] in metrics.NAMES
    assert protocol["evidence"]["std_from_seeds"] == board.STD_FROM_SEEDS
    level, draws = protocol["evidence"]["interval_level"], protocol["evidence"]["interval_draws"]
    values = skewed(2, 50)
    assert interval(values) == interval(values, draws=draws, level=level)
