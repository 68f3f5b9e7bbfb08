"""Ranking again: saved weights give a record's ranks, other weights do not, and nothing is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import provenance
from benchmarks.__main__ import main
from benchmarks.checks.rerank import NotHereError, deep, experiment_of, hardware_of, platform, recall, rerank
from benchmarks.experiments import complete
from benchmarks.hardware import Hardware
from benchmarks.run import run
from benchmarks.settings import Bench
from benchmarks.training.fit import NotTrainedError
from data_prep.corpus import Corpus
from data_prep.files import content_sha256
from grbench import load
from leaderboards import store
from leaderboards.store import Run, read_run
from models.popularity import Popularity
from models.sasrec import SasRec
from tests.leaderboards.test_record import run_of

SASREC = ("epochs=1", "width=16", "inner=16", "layers=1")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, with_corpora: Callable[[Path], Path]) -> Bench:
    folder = tmp_path_factory.mktemp("rerank")
    return Bench(folder / "board", with_corpora(folder / "work"))


@pytest.fixture(scope="module")
def trained(bench: Bench, planted_corpus: Corpus) -> Run:
    return read_run(bench.board, run(bench, planted_corpus, complete("sasrec", "planted", SASREC), 0))


@pytest.mark.slow
def test_the_same_weights_rank_alike(bench: Bench, trained: Run) -> None:
    assert rerank(bench, trained) == (2_000, 0)
    # A batch of other users is summed in another order.
    users, different = rerank(bench, trained, users=300)
    assert (users, different <= 1) == (300, True)


def test_other_ranks_are_found(bench: Bench, trained: Run) -> None:
    moved = trained.ranks["rank"].to_numpy().copy()
    moved[[3, 5, 8]] += 1
    column = trained.ranks.schema.get_field_index("rank")
    ranks = trained.ranks.set_column(column, trained.ranks.schema.field("rank"), [moved])
    assert rerank(bench, trained._replace(ranks=ranks)) == (2_000, 3)


@pytest.mark.parametrize("name", ["valid_rank", "rank_unseen", "valid_rank_unseen"])
def test_every_column_of_ranks_is_held(bench: Bench, trained: Run, name: str) -> None:
    moved = trained.ranks[name].to_numpy().copy()
    moved[[3, 5]] = (moved[[3, 5]] + 1) % 9
    place = trained.ranks.schema.get_field_index(name)
    ranks = trained.ranks.set_column(place, trained.ranks.schema.field(name), [moved])
    assert rerank(bench, trained._replace(ranks=ranks)) == (2_000, 2)


def test_nothing_is_trained(bench: Bench, trained: Run, tmp_path: Path, with_corpora: Callable[[Path], Path]) -> None:
    work = with_corpora(tmp_path / "work")
    with pytest.raises(NotTrainedError, match="sasrec seed 0 has not been trained by this code in"):
        recall(Bench(bench.board, work), trained.record)
    assert not (work / "fits").exists()


def test_only_the_weights_that_the_record_names_count(
    bench: Bench, trained: Run, planted_corpus: Corpus, tmp_path: Path
) -> None:
    """Those of another seed rank otherwise, too; a record from before weights were named tells by that alone."""
    other = read_run(bench.board, run(bench, planted_corpus, complete("sasrec", "planted", SASREC), 1))
    (folder,) = recall(bench, other.record).fit.folders
    weights = tmp_path / "0-recommender.safetensors"
    weights.write_bytes((folder / "best.safetensors").read_bytes())
    (stage,) = trained.record.cost.stages
    with pytest.raises(ValueError, match=f"hash {content_sha256(weights)}; the record names {stage.weights_sha256}"):
        rerank(bench, trained, weights=tmp_path)
    unnamed = stage.model_copy(update={"weights_sha256": None})
    cost = trained.record.cost.model_copy(update={"stages": [unnamed]})
    older = trained._replace(record=trained.record.model_copy(update={"cost": cost}))
    assert rerank(bench, older, weights=tmp_path).different > 100


def test_a_record_gives_its_experiment_back(trained: Run) -> None:
    again = complete("sasrec", "planted", SASREC)
    assert experiment_of(trained.record) == dataclasses.replace(again, overrides=())
    changed = trained.record.model_copy(update={"config": {**trained.record.config, "gone": 1, "part": {"gone": 2}}})
    with pytest.raises(ValueError, match=rf"config of sasrec/{trained.record.key}: .* no option gone, part.gone"):
        experiment_of(changed)


def test_users_unseen_stay_unseen(bench: Bench, planted_corpus: Corpus) -> None:
    path = run(bench, planted_corpus, complete("popularity-unseen-users", "planted", []), 0)
    unseen = read_run(bench.board, path)
    assert rerank(bench, unseen) == (100, 0)
    assert isinstance(recall(bench, unseen.record).recommender, Popularity)


def test_a_record_is_ranked_again_on_the_kind_of_device_that_it_was_made_on(
    trained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = trained.record.provenance.model_copy(update={"threads": 3})
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    for gpu in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        assert hardware_of(origin) == Hardware("cpu", threads=3)
        old_gpu = origin.model_copy(update={"device": "2 x Some GPU"})
        assert hardware_of(old_gpu) == Hardware("auto" if gpu else "cpu", threads=3)


def test_another_platform_than_the_records_is_told(bench: Bench, trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "device_name", lambda device: "another processor")
    _, (line,) = deep(bench, f"sasrec/{trained.record.key}/seed-0", 200)
    assert f"at another rank, on another processor, torch {torch.__version__}" in line
    assert f"not on {platform(trained.record.provenance)}" in line


def test_a_board_is_ranked_again(
    bench: Bench,
    trained: Run,
    tmp_path: Path,
    with_corpora: Callable[[Path], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    problems, says = deep(bench, f"sasrec/{trained.record.key}/seed-0", 200)
    assert problems == []
    (line,) = says
    assert line.endswith("of 200 users come out at another rank")
    options = ["--board", str(bench.board), "--row", "seed-0", "--users", "50"]
    assert main(["rerank", *options, "--work", str(bench.work)]) == 0
    capsys.readouterr()
    work = with_corpora(tmp_path / "work")
    assert main(["rerank", *options, "--row", "sasrec", "--work", str(work)]) == 1
    said = capsys.readouterr().out
    assert "not re-ranked: stage recommender of sasrec seed 0 has not been trained" in said
    assert "wrong: no record of" in said
    assert f"whose path holds 'sasrec' was ranked again; expected weights of one in {work}" in said


@pytest.fixture
def _without_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRBENCH_DATA", raising=False)


@pytest.mark.usefixtures("_without_data")
def test_item_vectors_of_a_row_are_where_one_says(
    bench: Bench, planted_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = planted_corpus.item_ids.to_pylist()
    for seed, name in enumerate(("given", "others")):
        values = np.random.default_rng(seed).normal(size=(len(ids), 8))
        np.savez(tmp_path / f"{name}.npz", parent_asin=ids, vectors=values.astype(np.float32))
    board = Bench(tmp_path / "board", bench.work, tmp_path / "given.npz")
    run(board, planted_corpus, complete("last_item_vectors", "planted", ["vectors=npz"]), 0)
    run(Bench(board.board, bench.work), planted_corpus, complete("last_item_vectors", "planted", ["vectors=tfidf"]), 0)
    command = ["rerank", "--board", str(board.board), "--work", str(bench.work), "--users", "50"]
    assert main([*command, "--vectors-path", str(tmp_path / "given.npz")]) == 0
    assert capsys.readouterr().out.count("0 of 50 users come out at another rank") == 2
    # Where they are others, or missing, the record is not at fault, and the others are ranked again all the same.
    assert main([*command, "--vectors-path", str(tmp_path / "others.npz")]) == 0
    said = capsys.readouterr().out
    assert said.count("not re-ranked: the vectors here are others than the record's: they differ in file_sha256") == 1
    of_npz = (path for path in board.board.rglob("seed-0.json") if "vectors=npz" in path.read_text())
    with pytest.raises(ValueError, match="the vectors here are others than the record's"):
        load(next(of_npz), bench.work, vectors_path=tmp_path / "others.npz")
    assert main(command) == 0
    said = capsys.readouterr().out
    assert said.count("not re-ranked: item vectors 'npz' need a path") == 1
    assert said.count("0 of 50 users") == 1


@pytest.mark.usefixtures("_without_data")
@pytest.mark.parametrize(
    ("version", "row", "rows", "said"),
    [
        ("v2", "toys_2014/popularity", 3, "toys_2014 has no Amazon-2023 download; set GRBENCH_DATA"),
        ("v1", "all_beauty/pit", 5, "config of pit/25ebd93c890a: option candidates is 4: Input should be 'owned'"),
    ],
)
def test_what_is_not_here_is_no_fault_of_a_record(tmp_path: Path, version: str, row: str, rows: int, said: str) -> None:
    """Neither data nor the options that a model had once."""
    board = Path(__file__).resolve().parents[2] / "leaderboards" / version
    (nothing,), says = deep(Bench(board, tmp_path), row, 50)
    assert "was ranked again" in nothing
    assert len(says) == rows
    assert all(f"not re-ranked: {said}" in line for line in says)


def test_a_corpus_of_other_data_is_not_the_records(bench: Bench, trained: Run) -> None:
    for protocol, name, other in (("v2", "fingerprint", "0" * 64), ("v1", "users", 2_001)):
        corpus = trained.record.corpus.model_copy(update={name: other})
        record = trained.record.model_copy(update={"corpus": corpus, "protocol": protocol})
        with pytest.raises(NotHereError, match=f"the data of planted has {name} .*; the record's has {other}"):
            recall(bench, record)
    # The item text of protocol v1 was another one, and in the fingerprint.
    corpus = trained.record.corpus.model_copy(update={"fingerprint": "0" * 64})
    assert (
        recall(bench, trained.record.model_copy(update={"corpus": corpus, "protocol": "v1"})).eval_corpus.users == 2_000
    )


def test_without_its_ranks_a_record_is_told_and_the_others_are_ranked(
    bench: Bench, planted_corpus: Corpus, tmp_path: Path
) -> None:
    board = Bench(tmp_path / "board", bench.work)
    gone, kept = (run(board, planted_corpus, complete(name, "planted"), 0) for name in ("popularity", "transitions"))
    gone.with_suffix(".ranks.parquet").unlink()
    (problem,), (line,) = deep(board, None, 50)
    assert str(gone) in problem
    assert line == f"{kept}: 0 of 50 users come out at another rank"


def test_a_model_that_ranks_otherwise_is_told(
    bench: Bench, trained: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rank = SasRec.rank
    monkeypatch.setattr(SasRec, "rank", lambda self, history, k: rank(self, history.flip(1), k))
    assert main(["rerank", "--board", str(bench.board), "--row", "sasrec", "--work", str(bench.work)]) == 1
    assert "wrong: " in capsys.readouterr().out


def test_a_platform_is_processor_libraries_and_threads() -> None:
    origin = run_of().record.provenance.model_copy(update={"versions": {"torch": "1", "numpy": "1", "scipy": "1"}})
    others: list[dict[str, Any]] = [
        {"device": "another"},
        {"threads": 3},
        {"versions": {"torch": "2", "numpy": "1"}},
        {"versions": {"torch": "1", "numpy": "2"}},
    ]
    assert len({platform(origin), *(platform(origin.model_copy(update=other)) for other in others)}) == 5
    assert platform(origin.model_copy(update={"versions": {"torch": "1", "numpy": "1"}})) == platform(origin)


def test_a_record_is_ranked_again_with_as_many_threads(
    loaded: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path / "board", tmp_path)
    record = store.read(run(bench, loaded, complete("popularity", loaded.name), 0))
    told = list[int]()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    recall(dataclasses.replace(bench, hardware=Hardware("cpu", threads=3)), record)
    assert set(told) == {3}
