"""Grading's pair: both sides work on the same lists and must agree, or there is no pair."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks.perf import grade as grade_module
from benchmarks.perf.grade import PLACES, Lists, check_equal, grade, ours, random_lists, scikit_learn, torchmetrics
from leaderboards.metrics import NAMES

# Places 1, 6 and 50, and a target that is in no list.
RANKS = (1, 6, 50, 0)


def known_lists() -> Lists:
    items = torch.arange(1, PLACES + 1).repeat(len(RANKS), 1)
    return Lists(items, torch.tensor([rank or PLACES + 1 for rank in RANKS]))


def test_all_sides_give_what_a_hand_computes() -> None:
    gain = {rank: 1 / math.log2(1 + rank) for rank in RANKS if rank}
    hits = {k: [rank for rank in RANKS if 1 <= rank <= k] for k in (5, 10, 20, 50)}
    expected = {f"recall@{k}": len(ranks) / len(RANKS) for k, ranks in hits.items()}
    expected |= {f"ndcg@{k}": sum(gain[rank] for rank in ranks) / len(RANKS) for k, ranks in hits.items()}
    assert ours(known_lists()) == pytest.approx(expected, abs=1e-12)
    assert torchmetrics(known_lists()) == pytest.approx(expected, abs=1e-7)
    ndcg = {name: value for name, value in expected.items() if name.startswith("ndcg")}
    assert scikit_learn(known_lists()) == pytest.approx(ndcg, abs=1e-12)


def test_lists_name_no_item_twice_and_miss_some_targets() -> None:
    items, target = random_lists(500)
    assert items.shape == (500, PLACES)
    assert all(len(set(row)) == PLACES for row in items.tolist())
    hits = (items == target[:, None]).any(1).float().mean()
    assert 0.15 < hits < 0.35
    assert torch.equal(random_lists(500).items, items), "the same at every call"


@pytest.mark.slow
def test_500_users() -> None:
    assert set(ours(random_lists(500))) == set(torchmetrics(random_lists(500))) == set(NAMES)
    pairs = grade(500)
    assert [(made.name, made.unit) for made in pairs] == [("grade", "users/s"), ("grade_scikit_learn", "users/s")]
    for made in pairs:
        assert made.ratio == made.ours / made.baseline
        assert "of 500 lists of 50" in made.note


@pytest.mark.parametrize(("name", "error"), [("recall@10", 2e-9), ("ndcg@20", 2e-9), ("ndcg@5", 2e-6)])
def test_an_error_in_one_metric_ends_the_benchmark(monkeypatch: pytest.MonkeyPatch, name: str, error: float) -> None:
    def wrong(lists: Lists) -> dict[str, float]:
        found = ours(lists)
        return found | {name: found[name] + error}

    monkeypatch.setattr(grade_module, "ours", wrong)
    with pytest.raises(ValueError, match=f"{name} is .*, by the baseline .*; expected at most"):
        grade(500)


def test_a_value_that_is_no_number_equals_nothing() -> None:
    with pytest.raises(ValueError, match="ndcg@5 is nan"):
        check_equal({"ndcg@5": math.nan}, {"ndcg@5": 0.5}, {"ndcg": 1e-9})
