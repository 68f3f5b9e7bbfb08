"""Analyses on a tiny corpus: their numbers against the models' own, their files, and what they refuse."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import benchmarks.run
from benchmarks.analyses import ANALYSES, Lab, analyse, codes, composition, sensitivity
from benchmarks.run import Bench
from data_prep.batches import Batches
from data_prep.corpus import Corpus
from leaderboards.published import utilisation as stated
from leaderboards.store import read_board
from models.decor import Decor
from models.pit import Pit

SHORT = {
    "decor": ("tokenizer.codes=8", "tokenizer_epochs=2", "steps=6", "bos_queries=4"),
    "pit": ("codes=8", "pretraining_epochs=2", "warm_steps=4", "steps=8"),
}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trainings are shared among the tests, as among analyses."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture
def lab(tiny_corpus: Corpus, work: Path, tmp_path: Path) -> Callable[..., Lab]:
    # By the name of a small corpus, so that the small configs are taken.
    corpus = dataclasses.replace(tiny_corpus, name="planted")

    def made(model: str, *names: str) -> Lab:
        return Lab(Bench(tmp_path / "board", work), corpus, names=names, settings=SHORT[model])

    return made


def test_utilisation_is_that_of_the_weights(lab: Callable[..., Lab]) -> None:
    here = lab("decor")
    table = composition.utilisation(here).table
    model = here.recommender("decor").eval()
    assert isinstance(model, Decor)
    (batch,) = Batches(here.corpus.examples("test"), 100, model.history_length)
    with torch.no_grad():
        levels = model.composition_weights(batch.history)
    assert [weights.shape for weights in levels] == [(here.corpus.users, 8)] * 3
    for row, weights, held in zip(table.to_dict("records"), levels, model.generator.index.codes[1:, 0].T, strict=False):
        assert row["assigned to an item"] == len(set(held.tolist())) / 8
        above = [[weight >= 1 / 8 for weight in user] for user in weights.tolist()]
        assert row["composed for some user"] == np.mean(np.any(above, axis=0))
        assert row["composed on average"] == np.mean(np.mean(weights.double().numpy(), axis=0) >= 1 / 8)
    assert 0 < table["composed on average"].min() <= table["composed for some user"].min()


def test_the_papers_shares_stand_beside_a_corpus_of_theirs() -> None:
    assert stated("musical_instruments") == {
        "TIGER (published)": [0.2797, 0.9677, 1.0],
        "DECOR (published)": [1.0, 1.0, 1.0],
    }
    assert stated("planted") == {}


def test_prefixes_by_hand(lab: Callable[..., Lab]) -> None:
    here = lab("decor")
    table = composition.prefixes(here).table
    model = here.recommender("decor").eval()
    assert isinstance(model, Decor)
    held = [tuple(row) for row in model.generator.index.codes[1:, 0].tolist()]
    row = table.iloc[0]
    prefix = tuple(map(int, re.findall(r"\d+", row["Prefix"])))
    members = [item for item, row in enumerate(held, 1) if row[:2] == prefix]
    assert row["Items"] == len(members) == max(sum(other[:2] == some[:2] for other in held) for some in held)
    assert row["Next codes"] == len({held[item - 1][2] for item in members})
    targets = [int(item) for item in here.corpus.examples("train").target if item in members]
    assert row["Histories"] == len(targets)
    with torch.no_grad():
        levels = model.generator.vectors()
        static = (levels[0][prefix[0]] + levels[1][prefix[1]]) / 2
        own = [torch.cosine_similarity(static, levels[2][held[item - 1][2]], dim=0).item() for item in targets]
    assert row["static: cosine to the true next code"] == pytest.approx(np.mean(own), abs=1e-5)
    composed = row["composed: cosine to the true next code"]
    assert abs(composed - np.mean(own)) > 1e-4


def test_a_model_that_composes_nothing_is_refused(lab: Callable[..., Lab]) -> None:
    with pytest.raises(ValueError, match="decor-fusion composes no tokens; expected an experiment of decor"):
        composition.utilisation(dataclasses.replace(lab("decor", "decor-fusion"), settings=SHORT["decor"][:3]))


def test_sensitivity_has_a_record_of_every_value(lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch) -> None:
    here = lab("decor")
    ran: list[Any] = []

    def in_turn(setting: Bench, corpus: str, source: str, cells: list[Any], jobs: int) -> list[Any]:
        ran.append(len(cells))
        for cell in cells:
            benchmarks.run.run(setting, here.corpus, *cell)
        return []

    monkeypatch.setattr(sensitivity, "run_all", in_turn)
    monkeypatch.setattr(sensitivity, "OPTIONS", {"alpha": "part"})
    for _ in range(2):  # the second time all records are there
        table = sensitivity.sensitivity(here).table
    assert ran == [5, 0]
    assert table["Value"].tolist() == [0.1, 0.25, 0.4, 0.55, 0.7]
    records = {run.record.config["alpha"]: run.record for run in read_board(here.bench.board, "planted")}
    assert len(records) == 5
    assert table["NDCG@10"].tolist() == [records[value].test["ndcg@10"] for value in table["Value"]]
    assert (table["Low"] <= table["NDCG@10"]).all()


def test_entropy_by_hand(lab: Callable[..., Lab]) -> None:
    table = codes.entropy(lab("pit", "pit", "pit-no-i2i")).table
    assert table["Tokenizer"].tolist() == ["PIT's warm start (pit)", "RQ-k-means (pit-no-i2i)"]
    index = lab("pit").index("pit")
    for level in range(3):
        share = np.unique(index.codes[1:, 0, level], return_counts=True)[1] / 40
        assert table[f"Entropy {level + 1}"][0] == pytest.approx(-(share * np.log(share)).sum(), abs=1e-5)
    assert table["Average"][0] == pytest.approx(np.mean([table[f"Entropy {level}"][0] for level in (1, 2, 3)]))


def test_the_index_by_hand(lab: Callable[..., Lab]) -> None:
    here = lab("pit", "pit-coevolving")
    (row,) = codes.index(here).table.to_dict("records")
    model = here.recommender("pit-coevolving")
    assert isinstance(model, Pit)
    edges = [tuple(sequence) for item in model.codes[1:].tolist() for sequence in item if sequence[0] >= 0]
    assert row["Sequences per item"] == pytest.approx(len(edges) / 40)
    assert row["Items per sequence"] == pytest.approx(len(edges) / len(set(edges)))
    assert row["Most"] == max(map(edges.count, edges))
    assert 1 <= row["Different items, beam 20"] <= row["Different items, beam 50"] <= 40
    with pytest.raises(ValueError, match="decor has no beam index; expected an experiment of pit"):
        codes.index(lab("decor", "decor"))


@pytest.mark.parametrize(("name", "model"), [("prefixes", "decor"), ("entropy", "pit")])
def test_an_analysis_is_two_files(lab: Callable[..., Lab], tmp_path: Path, name: str, model: str) -> None:
    names = ("pit", "pit-no-i2i") if model == "pit" else ()
    found = [analyse(name, lab(model, *names), tmp_path / folder) for folder in ("one", "other")]
    pictures = [(tmp_path / folder / f"planted-{name}.svg").read_bytes() for folder in ("one", "other")]
    assert pictures[0] == pictures[1], "the same picture is the same file"
    assert pictures[0].startswith(b"<?xml")
    text = (tmp_path / "one" / f"planted-{name}.md").read_text()
    assert f"(planted-{name}.svg)" in text
    assert found[0].says in text
    assert all(str(column) in text for column in found[0].table.columns)
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [f"planted-{name}.md", f"planted-{name}.svg"]


def test_a_setting_may_be_of_one_experiment(lab: Callable[..., Lab]) -> None:
    here = dataclasses.replace(lab("pit"), settings=("tiger:tokenizer.lr=0.5", "history=3", "pit:codes=8"))
    assert here.experiment("tiger").config.tokenizer.lr == 0.5
    found = here.experiment("pit", "decay=0.5").config
    assert (found.history, found.codes, found.decay) == (3, 8, 0.5)
    assert here.experiment("pit-no-i2i").config.codes == 32, "a name, not the beginning of one"
    with pytest.raises(ValueError, match="pit has no option 'widht'"):
        dataclasses.replace(here, settings=("pit:widht=3",)).experiment("pit")


def test_an_unknown_analysis_is_named(lab: Callable[..., Lab], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"no analysis 'utilization'; possible: {', '.join(ANALYSES)}"):
        analyse("utilization", lab("decor"), tmp_path)
    with pytest.raises(ValueError, match="etegrec has no tokenizer that is finished before"):
        dataclasses.replace(lab("pit"), settings=()).index("etegrec")
