"""Two models' lists, fused: against sums over the whole catalogue, and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.analyses import Lab, fusion
from benchmarks.analyses.fusion import Lists, fused_ranks, listed
from benchmarks.evaluate import Grader
from benchmarks.settings import Bench
from data_prep.corpus import Corpus, Part
from leaderboards.metrics import metrics

# 40 items have lists of 50 places.
ITEMS = 40


@pytest.fixture
def lab(tiny_corpus: Corpus, tmp_path: Path) -> Lab:
    return Lab(Bench(tmp_path / "board", tmp_path / "work"), tiny_corpus)


def test_by_hand() -> None:
    first = Lists(np.array([[1, 2, 3]]), np.array([[1.0, 0.4, 0.0]]))
    other = Lists(np.array([[3, 4, 1]]), np.array([[1.0, 0.9, 0.0]]))
    # Of items 1 to 4 a half of each: .5, .2, .5, .45.
    for target, rank in ((1, 1), (3, 2), (4, 3), (2, 4), (5, 0)):
        assert fused_ranks(first, other, np.array([target], np.int32), [0.5]).tolist() == [[rank]]
    assert fused_ranks(first, other, np.array([4], np.int32), [0.0, 1.0]).tolist() == [[4], [2]]


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_as_the_sum_over_the_whole_catalogue(share: float) -> None:
    rng = np.random.default_rng(0)
    users, items, length = 60, 30, 10
    dense, lists = [], list[Lists]()
    for _ in range(2):
        # Few values, so that there are ties, which go to the smaller item.
        scores = rng.integers(1, 6, (users, items)) / 5
        order = np.argsort(-scores, axis=1, kind="stable")[:, :length]
        kept = np.zeros((users, items))
        np.put_along_axis(kept, order, np.take_along_axis(scores, order, 1), 1)
        dense.append(kept)
        lists.append(Lists(order + 1, np.take_along_axis(scores, order, 1)))
    target = rng.integers(1, items + 1, users).astype(np.int32)
    fused = (1 - share) * dense[0] + share * dense[1]
    on_a_list = (dense[0] > 0) | (dense[1] > 0)
    order = np.argsort(-np.where(on_a_list, fused, -1), axis=1, kind="stable") + 1
    expected = [
        1 + int(np.flatnonzero(row == own)[0]) if there[own - 1] else 0
        for row, own, there in zip(order, target, on_a_list, strict=True)
    ]
    first, other = lists
    assert fused_ranks(first, other, target, [share])[0].tolist() == expected


def test_lists_are_the_protocols_on_a_scale_from_1_to_0(lab: Lab) -> None:
    recommender, examples = lab.recommender("transitions"), lab.corpus.examples("test")
    lists = listed(recommender, examples)
    ranks = Grader(lab.corpus, "test")(recommender).ranks
    assert fusion.ranks(lists, examples.target).tolist() == ranks.tolist()
    assert (lists.scores[:, 0] == 1).all()
    assert (lists.scores[:, ITEMS - 1] == 0).all()
    assert (np.diff(lists.scores[:, :ITEMS], axis=1) <= 0).all()
    assert (lists.items[:, ITEMS:] == 0).all()
    assert (lists.scores[:, ITEMS:] == 0).all()


def test_the_share_is_the_best_on_validation(lab: Lab) -> None:
    found = fusion.fusion(Lab(lab.bench, lab.corpus, names=("popularity", "transitions", "popularity")))
    first, counted, again = found.table.to_dict("records")
    assert [line["Experiment"] for line in (first, counted, again)] == [
        "popularity, seed 0",
        "transitions",
        "popularity, seed 1",
    ]
    recommenders = [lab.recommender(name) for name in ("popularity", "transitions")]
    for line, recommender in zip((first, counted), recommenders, strict=True):
        of_test = metrics(Grader(lab.corpus, "test")(recommender).ranks)
        assert (line["Recall@10"], line["NDCG@10"]) == (of_test["recall@10"], of_test["ndcg@10"])

    def fused(part: Part, share: float) -> dict[str, float]:
        one, other = (listed(each, lab.corpus.examples(part)) for each in recommenders)
        return metrics(fused_ranks(one, other, lab.corpus.examples(part).target, [share])[0])

    by_share = {share: fused("valid", share)["ndcg@10"] for share in fusion.SHARES}
    assert by_share[counted["Share"]] == max(by_share.values())
    of_test = fused("test", counted["Share"])
    assert (counted["Recall@10, fused"], counted["NDCG@10, fused"]) == (of_test["recall@10"], of_test["ndcg@10"])
    gain = counted["from popularity, seed 0"]
    assert gain == pytest.approx(of_test["ndcg@10"] - first["NDCG@10"])
    assert counted["low"] < gain < counted["high"]
    # A second seed of what has none changes nothing.
    assert (again["NDCG@10, fused"], again["from popularity, seed 0"]) == (first["NDCG@10"], 0)


def test_one_model_is_no_fusion(lab: Lab) -> None:
    with pytest.raises(ValueError, match="a fusion is of two experiments at least; one was given: sasrec"):
        fusion.fusion(Lab(lab.bench, lab.corpus, names=("sasrec",)))
