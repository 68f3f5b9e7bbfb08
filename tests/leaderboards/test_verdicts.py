"""Verdicts: every one of them, by hand, and every reason why there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from leaderboards.published import Paper, papers, published, rows
from leaderboards.record import RANKS_SCHEMA
from leaderboards.rows import Row
from leaderboards.verdicts import Verdict, judged, reasons_against, table, verdicts
from tests.leaderboards.test_record import run_of, run_of_v1

INSTRUMENTS = "musical_instruments"
PAPER = Paper("a paper", 50, 20, "no", "sentence-t5", "a split", "a table", "no", "no", "", "")
# Recall@10 of SASRec on Musical_Instruments, in ETEGRec's table 3 and DECOR's table 1.
STATED = 0.0530


def row_with_recall(recall: float, users: int = 40_000, unseen_recall: float = 0.0, **changes: Any) -> Row:
    """Of the first users the target is at rank 10, of the others nowhere; among unseen items it is at rank 1."""
    rank, unseen = np.zeros(users, dtype=np.uint8), np.zeros(users, dtype=np.uint8)
    rank[: round(recall * users)] = 10
    unseen[: round(unseen_recall * users)] = 1
    one = np.ones(users, dtype=np.int32)
    columns = [np.arange(users, dtype=np.int32), rank, rank, unseen, unseen, one, one, one.astype(bool)]
    ranks = pa.table(dict(zip(RANKS_SCHEMA.names, columns, strict=True)), schema=RANKS_SCHEMA)
    config = {"history": 50} | changes.pop("config", {})
    corpus = {"name": changes.pop("on", INSTRUMENTS)}
    return Row([run_of(0, ranks, corpus=corpus, config=config, **changes)], ranked=True)


def of_recall(row: Row, paper: str = "ETEGRec") -> Verdict:
    (found,) = [said for said in verdicts([row]) if said.metric == "recall@10" and said.paper.name.startswith(paper)]
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


@pytest.mark.parametrize(
    ("published", "verdict"),
    [
        # Three seeds at .10, .11 and .12 of very many users: a standard error of .00577 with two degrees of freedom or
        # less, whose t of 95% is 4.3 at least, so that .13 is no difference (z is 3.5), and 90% are wider than 5%.
        (0.130, "within noise"),
        (0.110, "within noise"),
        (0.200, "below"),
        (0.050, "above"),
    ],
)
def test_noise_of_three_seeds_is_students_t(published: float, verdict: str) -> None:
    users = 1_000_000
    values = np.stack([(np.arange(users) < share * users).astype(float) for share in (0.10, 0.11, 0.12)])
    z, found = judged(values, published)
    assert found == verdict
    assert z == pytest.approx((0.11 - published) / 0.00577, rel=0.02)


def test_what_a_record_says_is_no_markup() -> None:
    row = row_with_recall(0.05, notes=["overridden: vectors=a|b[x](y)"])
    lines = table(verdicts([row]), "github").splitlines()
    assert {line.replace("\\|", "").count("|") for line in lines} == {11}
    assert all("\\[x\\](y)" in line for line in lines[2:])


def test_each_paper_is_judged_by_what_it_did() -> None:
    """FDSA apart, ETEGRec's own table; DECOR's TIGER under its own numbers of SIGIR 2026 is its own."""
    row = row_with_recall(0.0530)
    assert of_recall(row, "ETEGRec").verdict == "reproduced"
    of_decor = row_with_recall(0.0598, model="decor", experiment="decor")
    assert of_recall(of_decor, "DECOR (SIGIR").verdict == "not comparable: history of 50 items, the paper's 20"


@pytest.mark.parametrize(
    ("history", "verdict"), [(50, "reproduced"), (20, "not comparable: history of 20 items, the paper's 50")]
)
def test_a_number_that_is_quoted_is_judged_as_its_source(history: int, verdict: str) -> None:
    """DECOR's table has ETEGRec's numbers of SASRec, of 50 items, beside its own models of 20."""
    row = row_with_recall(STATED, config={"history": history})
    quoting, source = of_recall(row, "DECOR (arXiv"), of_recall(row, "ETEGRec")
    assert quoting.verdict == source.verdict == verdict
    assert (quoting.paper.name, quoting.seen_items) == ("DECOR (arXiv 2509.10468v1)", "kept")


def test_a_row_by_another_loss_is_not_the_papers() -> None:
    """TRACT's GRU4Rec, of Beauty_2014, has cross-entropy; of S3-Rec's that is not known."""
    of_beauty: dict[str, Any] = {"on": "beauty_2014", "model": "gru4rec", "experiment": "gru4rec"}
    for config, verdict in (({"loss": "bce"}, "not comparable: loss bce, the paper's ce"), ({}, "below")):
        row = row_with_recall(0.01, config=config, **of_beauty)
        assert of_recall(row, "RecBole's models by TRACT").verdict == verdict
        assert of_recall(row, "S3-Rec's baselines").verdict == "below"


def test_reasons() -> None:
    vectors = {"kind": "tfidf", "name": "TF-IDF", "sha256": "d" * 64, "stand_in": True, "recipe": {}}
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


@pytest.mark.parametrize(
    ("kind", "stand_in", "theirs", "reason"),
    [
        ("sentence-t5-base", False, "sentence-t5", []),
        ("sentence-t5-base", False, "", []),
        ("sentence-t5-base", False, "SASRec of 256-d; not stated for its baselines", []),
        ("sentence-t5-base", False, "Llama3-8B", ["item vectors are sentence-t5-base, the paper's Llama3-8B"]),
        ("sasrec-256", False, "Llama3-8B", []),
        ("tfidf", True, "", ["item vectors are tfidf, the paper's are not said"]),
    ],
)
def test_vectors_by_another_encoder(kind: str, stand_in: bool, theirs: str, reason: list[str]) -> None:
    vectors = {"kind": kind, "name": "any", "sha256": "d" * 64, "stand_in": stand_in, "recipe": {}}
    assert reasons_against(run_of(0, vectors=vectors).record, PAPER._replace(vectors=theirs)) == reason


@pytest.mark.parametrize(
    ("paper", "reason"),
    [
        (PAPER._replace(valid_in_training="yes"), ["the paper trains on the validation item"]),
        (PAPER._replace(valid_in_training=""), []),
        (PAPER._replace(caveat="it counts code sequences"), ["it counts code sequences"]),
        (PAPER._replace(seen_masked="yes"), []),
        (PAPER._replace(seen_masked=""), []),
        (PAPER._replace(transcribed_by="a third party"), []),
    ],
)
def test_reasons_of_the_protocol(paper: Paper, reason: list[str]) -> None:
    assert reasons_against(run_of(0).record, paper) == reason


def test_a_row_of_the_first_protocol_is_not_comparable_with_a_paper_that_masks() -> None:
    reason = ["the paper skips seen items, this row does not"]
    assert reasons_against(run_of_v1(0).record, PAPER._replace(seen_masked="yes")) == reason


def test_a_paper_that_masks_is_compared_with_the_rank_among_unseen_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who keeps seen items, or does not say, is compared with the rank among all."""
    row, ways = row_with_recall(0.04, unseen_recall=0.5), ("yes", "no", "")
    several = {f"paper {way}": PAPER._replace(name=f"paper {way}", seen_masked=way) for way in ways}
    lines = pd.DataFrame([{"papers": [name], "loss": "", "recall@10": 0.5, "ndcg@10": np.nan} for name in several])
    monkeypatch.setattr("leaderboards.verdicts.papers", lambda: several)
    monkeypatch.setattr("leaderboards.verdicts.stated", lambda *_: lines)
    both = [(said.seen_items, said.ours, said.verdict) for said in verdicts([row])]
    assert both == [("masked", 0.5, "reproduced"), ("kept", 0.04, "below"), ("not said", 0.04, "below")]


def test_published_numbers_of_another_protocol_get_no_verdict() -> None:
    """HSTU-BLaIR trains on the validation item and has other data."""
    assert of_recall(row_with_recall(0.0643), "HSTU-BLaIR").verdict == (
        "not comparable: the paper trains on the validation item; its data have one interaction fewer, and timestamps"
    )


def test_a_corpus_without_published_numbers() -> None:
    assert verdicts([Row([run_of()], ranked=True)]) == []


def test_a_row_without_noise_has_no_infinite_z() -> None:
    (found,) = [
        said for said in verdicts([row_with_recall(0.0)]) if said.metric == "ndcg@10" and "ETEGRec" in said.paper.name
    ]
    assert (found.z, found.verdict) == (-999, "below")


def test_of_so_few_users_no_hit_is_no_miss() -> None:
    # .995 to the 253th: with so many users there is no hit in 28 of a hundred cases.
    assert judged(np.zeros((1, 253)), 0.005)[1] == judged(np.zeros((3, 253)), 0.005)[1] == "within noise"
    assert judged(np.zeros((1, 253)), 0.05)[1] == "below"


def test_a_row_of_another_content_of_the_corpus_is_not_the_papers() -> None:
    same = row_with_recall(STATED)
    (found,) = [said for said in verdicts([Row(same.runs, ranked=False)]) if said.paper.name.startswith("ETEGRec")][:1]
    assert found.verdict == "not comparable: another content of the corpus than the board's, or another protocol"


def test_the_table_has_a_line_per_number() -> None:
    found = verdicts([row_with_recall(0.05)])
    lines = table(found, "github").splitlines()[2:]
    assert len(lines) == len(found) == 13
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    theirs = {line[2]: line[3] for line in cells}
    assert theirs["ETEGRec (SIGIR 2025, arXiv 2409.05546v3)"] == "kept"
    assert theirs["HSTU-BLaIR (arXiv 2504.10545v3)"] == "masked"
    assert theirs["DECOR (arXiv 2509.10468v1)"] == "kept", "it quotes ETEGRec"
    assert theirs["LARES (arXiv 2505.16865) †"] == "not said", "and marked as transcribed by others"
    assert cells[0][4:8] == ["Recall@10", "0.0530", "0.0500", "-0.0030"]


def test_every_paper_is_described() -> None:
    assert set(published()["paper"]) == set(papers())
    assert papers()["DECOR (arXiv 2509.10468v1)"].beam == 50
    assert papers()["TIGER (NeurIPS 2023, arXiv 2305.05065)"].beam is None
    assert all(paper.source and paper.split for paper in papers().values())
    assert {paper.seen_masked for paper in papers().values()} == {"yes", "no", ""}
    assert {paper.valid_in_training for paper in papers().values()} == {"yes", "no", ""}
    # Where two papers disagree on a model, both stand.
    stated = rows("etegrec", INSTRUMENTS)
    assert stated[stated["metric"] == "recall@10"]["value"].tolist() == [0.0609, 0.0624, 0.0624]
