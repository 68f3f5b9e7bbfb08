"""The analysis of precision: runs in bf16 beside the gate's references, each told from the other."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import benchmarks.analyses
import benchmarks.run
from benchmarks.analyses import Lab, precisions
from benchmarks.checks.regress import BANK, bank, held
from benchmarks.settings import Bench
from data_prep.corpus import Corpus
from leaderboards.rows import Row
from leaderboards.store import read_board


@pytest.mark.slow
def test_popularity_trains_nothing_and_is_equal(
    planted_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(Bench(tmp_path / "board", tmp_path / "work"), planted_corpus, names=("popularity",))

    def in_turn(setting: Bench, corpus: str, source: str, cells: list[Any], jobs: int) -> list[Any]:
        for cell in cells:
            benchmarks.run.run(setting, planted_corpus, *cell)
        return []

    monkeypatch.setattr(benchmarks.analyses, "run_all", in_turn)
    ((row,),) = [precisions.precision(lab).table.to_dict("records")]
    runs = read_board(tmp_path / "board", "planted")
    assert [run.record.precision for run in runs] == ["bf16"] * BANK
    assert {run.record.key for run in runs}.isdisjoint({run.record.key for run in bank("popularity")})
    assert row["NDCG@10 in float32"] == row["in bf16"] == pytest.approx(0.0117, abs=1e-4)
    assert row["Difference"] == 0
    assert row["Margin"] == held(Row(runs, ranked=True), Row(bank("popularity"), ranked=True)).margin


def test_only_on_the_gates_corpus(tiny_corpus: Corpus, tmp_path: Path) -> None:
    lab = Lab(Bench(tmp_path / "board", tmp_path / "work"), dataclasses.replace(tiny_corpus, name="all_beauty"))
    with pytest.raises(ValueError, match=r"of planted, not of all_beauty; expected CORPUS=planted"):
        precisions.precision(lab)


def test_its_settings_are_the_gates(planted_corpus: Corpus, tmp_path: Path) -> None:
    lab = Lab(Bench(tmp_path / "board", tmp_path / "work"), planted_corpus, settings=("history=3",))
    with pytest.raises(ValueError, match=r"expected no settings \(history=3\)"):
        precisions.precision(lab)
