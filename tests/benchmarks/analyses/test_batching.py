"""The analysis of batching: each side is trained on its own batches, and padding is counted by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import benchmarks.analyses
import benchmarks.run
import data_prep.batches
from benchmarks.analyses import Lab, batching
from benchmarks.settings import Bench
from data_prep.corpus import Corpus
from leaderboards.metrics import ndcg
from leaderboards.statistics import compare, equivalence
from leaderboards.store import read_board

SETTINGS = tuple(
    f"sasrec:{text}" for text in ("width=8", "inner=8", "layers=1", "heads=1", "epochs=3", "batch_size=8", "lr=0.05")
)


@pytest.fixture
def lab(tiny_corpus: Corpus, tmp_path: Path) -> Lab:
    # By the name of a small corpus, so that the small config is taken.
    corpus = dataclasses.replace(tiny_corpus, name="all_beauty")
    return Lab(Bench(tmp_path / "board", tmp_path / "work"), corpus, names=("sasrec",), settings=SETTINGS)


@pytest.mark.slow
def test_each_side_has_its_own_batches(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[int, int]] = []

    def in_turn(setting: Bench, corpus: str, source: str, cells: list[Any], jobs: int) -> list[Any]:
        ran.append((data_prep.batches.POOL, len(cells)))
        for cell in cells:
            benchmarks.run.run(setting, lab.corpus, *cell)
        return []

    monkeypatch.setattr(benchmarks.analyses, "run_all", in_turn)
    monkeypatch.setattr(batching, "SEEDS", 3)
    monkeypatch.setattr(batching, "POOL", 2)
    for _ in range(2):  # the second time all records are there
        ((row,),) = [batching.batching(lab).table.to_dict("records")]
    assert ran == [(1, 3), (2, 3), (1, 0), (2, 0)]
    assert data_prep.batches.POOL == 1
    boards = [lab.bench.board, lab.bench.work / "pools-of-2" / "board"]
    runs = [sorted(read_board(board, "all_beauty"), key=lambda run: run.record.seed) for board in boards]
    assert [len(side) for side in runs] == [3, 3]
    assert {run.record.key for side in runs for run in side} == {runs[0][0].record.key}
    ours, pooled = (np.stack([ndcg(run.ranks["rank"].to_numpy(), 10) for run in side]) for side in runs)
    assert not np.array_equal(ours, pooled)
    found = compare(ours, pooled)
    assert row["NDCG@10"] == pytest.approx(ours.mean())
    assert row["in pools"] == pytest.approx(pooled.mean())
    assert row["Difference"] == pytest.approx(found.difference)
    assert row["Margin"] == pytest.approx(max(1.5 * found.detectable, 0.05 * pooled.mean()))
    assert row["p of more than the margin"] == equivalence(found, row["Margin"])


def test_padding_by_hand(lab: Lab) -> None:
    """12 users with histories of 1 and of 3: in random batches of 6 there are both, in a pool there are not."""
    lengths = [4, 6] * 6
    corpus = dataclasses.replace(
        lab.corpus,
        flat=np.arange(60, dtype=np.int32) % lab.corpus.items + 1,
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        user_ids=lab.corpus.user_ids[:12],
    )
    experiment = lab.experiment("sasrec", "batch_size=6")
    assert batching.padding(corpus, experiment, 1, rows=None) == pytest.approx(1 - 24 / 36)
    assert batching.padding(corpus, experiment, 1, rows=1) == 0
    assert batching.padding(corpus, experiment, 2, rows=None) == 0
    assert batching.computed(corpus, experiment) == pytest.approx(1 - 24 / 36)
    # TIGER has an example of each prefix: 12 of one item, 6 of two, 6 of three.
    assert batching.padding(corpus, lab.experiment("tiger", "batch_size=24"), 1, rows=None) == pytest.approx(
        1 - 42 / 72
    )
    # Side by side they fill rows of three: 6 whole, 6 of 2 + 1, 2 of 1 + 1 + 1.
    assert batching.computed(corpus, lab.experiment("tiger", "batch_size=24")) == 0


def test_batches_of_others_are_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "trained", lambda *a: pytest.fail("trained"))
    for name, settings in (("gru4rec", ()), ("popularity", ()), ("tiger-grid", ())):
        with pytest.raises(ValueError, match=f"batches of {name} are not known here; expected one of sasrec, tiger,"):
            batching.batching(dataclasses.replace(lab, names=("sasrec", name), settings=settings))


def test_the_embedded_corpus_has_the_gates_sizes(lab: Lab) -> None:
    here = dataclasses.replace(lab, corpus=dataclasses.replace(lab.corpus, name="planted"), settings=())
    assert batching.sized(here, "sasrec").config.width == 32
    typed = dataclasses.replace(here, settings=("width=16",))
    assert batching.sized(typed, "sasrec").config.width == 16
    assert (batching.seeds(here), batching.seeds(lab)) == (3, 5)
