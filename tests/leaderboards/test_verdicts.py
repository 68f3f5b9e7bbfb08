"""Verdicts: every one of them, by hand, and every reason why there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from leaderboards.published import Paper, papers, published, rows
from leaderboards.record import RANKS_SCHEMA
from leaderboards.rows import Row
from leaderboards.verdicts import Verdict, reasons_against, table, verdicts
from tests.leaderboards.test_record import run_of

INSTRUMENTS = "musical_instruments"
PAPER = Paper("a paper", 50, 20, "no", "sentence-t5", "a split", "a table")
# Recall@10 of SASRec on Musical_Instruments, in ETEGRec's table 3 and DECOR's table 1.
STATED = 0.0530


def row_with_recall(recall: float, users: int = 40_000, **changes: Any) -> Row:
    """Of the first users the target is at rank 10, of the others nowhere."""
    rank = np.zeros(users, dtype=np.uint8)
    rank[: round(recall * users)] = 10
    one = np.ones(users, dtype=np.int32)
    columns = [np.arange(users, dtype=np.int32), *[rank] * 4, one, one, one.astype(bool)]
    ranks = pa.table(dict(zip(RANKS_SCHEMA.names, columns, strict=True)), schema=RANKS_SCHEMA)
    config = {"history": 50} | changes.pop("config", {})
    return Row([run_of(0, ranks, corpus={"name": INSTRUMENTS}, config=config, **changes)], ranked=True)


def of_recall(row: Row, paper: str = "ETEGRec") -> Verdict:
    (found,) = [said for said in verdicts([row]) if said.metric == "recall@10" and said.paper.startswith(paper)]
    return found


@pytest.mark.parametrize(
    ("recall", "users", "verdict"),
    [
        (STATED, 40_000, "reproduced"),
        (STATED * 1.01, 40_000, "reproduced"),
        # So few users that 5% cannot be shown, and no difference either.
        (STATED * 1.01, 2_000, "within noise"),
        (STATED * 0.9, 40_000, "below"),
        (STATED * 1.1, 40_000, "above"),
        # Significant, yet within 5%: near enough wins.
        (STATED * 1.015, 4_000_000, "reproduced"),
    ],
)
def test_verdicts(recall: float, users: int, verdict: str) -> None:
    found = of_recall(row_with_recall(recall, users))
    assert found.verdict == verdict
    ours = round(recall * users) / users
    assert found.difference == pytest.approx(ours - STATED)
    assert found.z == pytest.approx((ours - STATED) / np.sqrt(ours * (1 - ours) / (users - 1)), rel=1e-6)


def test_each_paper_is_judged_by_what_it_did() -> None:
    row = row_with_recall(0.0530)
    assert of_recall(row, "ETEGRec").verdict == "reproduced"
    assert of_recall(row, "DECOR").verdict == "not comparable: history of 50 items, the paper's 20"


def test_reasons() -> None:
    vectors = {"kind": "tfidf", "name": "TF-IDF", "sha256": "d" * 64, "stand_in": True}
    notes = ["reconstruction: by us", "small sizes", "item vectors are a stand-in for sentence-t5: TF-IDF"]
    record = run_of(0, vectors=vectors, notes=notes, config={"history": 10}).record
    assert reasons_against(record, PAPER) == [
        "reconstruction",
        "small sizes",
        "item vectors are tfidf, the paper's sentence-t5",
        "history of 10 items, the paper's 50",
    ]
    assert reasons_against(run_of(0, config={}).record, PAPER) == []
    assert reasons_against(run_of(0, config={"history": 10}).record, PAPER._replace(history=None)) == []


def test_a_corpus_without_published_numbers() -> None:
    assert verdicts([Row([run_of()], ranked=True)]) == []


def test_a_row_without_noise_has_no_infinite_z() -> None:
    (found,) = [
        said for said in verdicts([row_with_recall(0.0)]) if said.metric == "ndcg@10" and "ETEGRec" in said.paper
    ]
    assert (found.z, found.verdict) == (-999, "below")


def test_the_table_has_a_line_per_number() -> None:
    found = verdicts([row_with_recall(0.05)])
    lines = table(found, "github").splitlines()[2:]
    assert len(lines) == len(found) == 4
    assert "0.0530" in lines[0]
    assert "-0.0030" in lines[0]


def test_every_paper_is_described() -> None:
    assert set(published()["paper"]) == set(papers())
    assert papers()["DECOR (arXiv 2509.10468v1)"].beam == 50
    assert papers()["TIGER (NeurIPS 2023; from general knowledge, check before quoting)"].beam is None
    assert all(paper.source and paper.split for paper in papers().values())
    # Where two papers disagree on a model, both stand.
    stated = rows("etegrec", INSTRUMENTS)
    assert stated[stated["metric"] == "recall@10"]["value"].tolist() == [0.0609, 0.0624, 0.0624]
