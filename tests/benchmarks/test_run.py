"""A run: the record says what its ranks say, a second run does nothing, a repeated one gives the same."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import data_prep
import models
from benchmarks import model_inputs, provenance, record_fields, resolved_row
from benchmarks.evaluate import Graded
from benchmarks.experiments import SMALL_CORPORA, complete
from benchmarks.hardware import Hardware
from benchmarks.listing import LISTED, MORE
from benchmarks.model_inputs import with_inputs
from benchmarks.resolved_row import board_name, resolve
from benchmarks.run import check_trained, run
from benchmarks.settings import Bench
from benchmarks.training.checkpoint_callback import BEST
from benchmarks.training.fit import Fit
from data_prep.corpus import Corpus
from data_prep.embed import item_vectors
from leaderboards import store
from leaderboards.metrics import metrics
from leaderboards.notes import notes_of
from leaderboards.record import PROTOCOL, Record, Stage, config_key
from leaderboards.store import Run, read_board
from models import popularity, sasrec
from models.api import Ranking, parameters
from models.parts import tokenizer
from models.parts.generator import CodeGenerator
from models.parts.index import ItemIndex
from tests import scripts
from tests.factories import corpus_of
from tests.scripts.tiny_keys import keys

pytestmark = pytest.mark.usefixtures("saved_as_usual")

SASREC = ("epochs=3", "width=16", "inner=16", "layers=1")
GENERATOR = ("steps=2", "t5.width=16", "t5.inner=16", "t5.encoder_layers=1")
TIGER = ("tokenizer_epochs=3", "tokenizer.codes=8", *GENERATOR)
# Vectors of a SASRec that has learnt little are alike, and so are their codes.
TIGER_SAS = (*TIGER, "tokenizer.codes=16")
LETTER = ("tokenizer_epochs=2", "tokenizer.codes=8", "tokenizer.hidden=[16]", *GENERATOR)
PIT = (*TIGER, "warm_steps=4")


def overridden(settings: tuple[str, ...]) -> str:
    """The note of these settings, the last of each name."""
    last = dict(setting.split("=") for setting in settings)
    return "overridden: " + " ".join(f"{name}={last[name]}" for name in sorted(last))


def shared_sequences(record: Record) -> object:
    """Share of items whose whole code sequence another item has too."""
    assert record.code_card is not None
    per_level = record.code_card["shared_prefix"]
    assert isinstance(per_level, list)
    return per_level[-1]


@pytest.fixture(scope="module", autouse=True)
def _short_trainings_of_item_vectors() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_inputs, "SMALL_STEPS", 3)
        yield


@pytest.fixture(scope="module")
def corpus(tiny_corpus: Corpus) -> Corpus:
    """The tiny corpus under a name that has small configs."""
    return replace(tiny_corpus, name="all_beauty")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One board and one folder of trainings for the tests that only read."""
    folder = tmp_path_factory.mktemp("bench")
    return Bench(folder / "board", folder / "work")


@pytest.fixture(scope="module")
def ran(bench: Bench, corpus: Corpus) -> Callable[..., Run]:
    def one(name: str, *settings: str, seed: int = 0) -> Run:
        path = run(bench, corpus, complete(name, corpus.name, settings), seed)
        return next(found for found in read_board(bench.board, corpus.name) if path == place(bench, found))

    return one


def place(bench: Bench, found: Run) -> Path:
    record = found.record
    return store.path(bench.board, record.corpus.name, record.model, record.key, record.seed)


def hand_made() -> Corpus:
    """Three users; by counts of the training parts the items' order is 2, 1, 3, 4, 5."""
    users = [[1, 2, 3, 4, 5], [4, 5, 3, 2, 1], [2, 1, 4, 2, 3, 5]]
    return corpus_of(users, 5, "corner_shop", card={"origin": "local", "layout": "sequences"})


def test_the_columns_of_a_record_by_hand(tmp_path: Path) -> None:
    corpus = hand_made()
    run(Bench(tmp_path / "board", tmp_path), corpus, complete("popularity", corpus.name), seed=0)
    (found,) = read_board(tmp_path / "board", corpus.name)
    columns = found.ranks.to_pydict()
    assert columns["user"] == [0, 1, 2]
    assert columns["rank"] == [5, 2, 5]
    assert columns["valid_rank"] == [4, 1, 3]
    # What is not in a history comes next in this order; all three targets, and validation's, are the first such.
    assert columns["rank_unseen"] == columns["valid_rank_unseen"] == [1, 1, 1]
    assert columns["target_count"] == [1, 2, 1]
    assert columns["history_length"] == [4, 4, 5]
    # 4 -> 5 opens the second user's training part, 2 -> 1 the third's; 3 -> 5 is only there the other way round.
    assert columns["transition_seen"] == [True, True, False]
    record = found.record
    assert record.test["recall@5"] == 1
    assert record.test["ndcg@5"] == pytest.approx((2 / np.log2(6) + 1 / np.log2(3)) / 3)
    assert record.valid["ndcg@10"] == pytest.approx((1 / np.log2(5) + 1 + 1 / np.log2(4)) / 3)


def test_a_row_without_training(ran: Callable[..., Run], corpus: Corpus) -> None:
    record = ran("popularity").record
    assert (record.model, record.experiment, record.seed, record.protocol) == ("popularity", "popularity", 0, "v2")
    assert record.corpus.fingerprint == corpus.fingerprint
    assert (record.corpus.users, record.corpus.items, record.corpus.interactions) == (60, 40, len(corpus.flat))
    assert (record.corpus.source, record.corpus.ceiling) == ("local: sequences", None)
    assert (record.vectors, record.code_card, record.diagnostics, record.notes) == (None, None, {}, [])
    assert (record.cost.stages, record.cost.train_seconds, record.cost.parameters) == ([], 0, 0)
    assert record.search.certified_share == 1
    assert record.valid_users == 60
    assert record.key == config_key(PROTOCOL, "popularity", corpus.fingerprint, "32", {}, {})


@pytest.mark.parametrize(("name", "settings"), [("popularity", ()), ("sasrec", SASREC), ("tiger", TIGER)])
def test_metrics_are_those_of_the_stored_ranks(
    ran: Callable[..., Run], name: str, settings: tuple[str, ...], corpus: Corpus
) -> None:
    record, ranks = ran(name, *settings)
    assert record.test == pytest.approx(metrics(ranks["rank"].to_numpy(), ranks["rank_unseen"].to_numpy()))
    assert record.valid == pytest.approx(
        metrics(*(ranks[name].to_numpy() for name in ("valid_rank", "valid_rank_unseen")))
    )
    lengths = np.diff(corpus.offsets)
    assert ranks["history_length"].to_pylist() == (lengths - 1).tolist()
    assert ranks["target_count"].to_pylist() == corpus.training_counts()[corpus.flat[corpus.offsets[1:] - 1]].tolist()
    # All 40 items fit in a list of 50: every target has a rank.
    assert ranks["rank"].to_numpy().min() >= 1


def test_a_trained_row_says_how_it_was_trained(ran: Callable[..., Run]) -> None:
    record = ran("sasrec", *SASREC).record
    (stage,) = record.cost.stages
    assert (stage.name, stage.epochs, len(stage.quality), stage.reused) == ("recommender", 3, 3, False)
    assert record.cost.train_seconds == stage.seconds > 0
    assert (record.config["epochs"], record.config["width"], record.config["loss"]) == (3, 16, "ce")
    assert record.valid_users == 60
    assert record.notes == ["small sizes", overridden(SASREC)]
    assert record.cost.parameters > 40 * 16
    assert (record.provenance.threads, record.provenance.evaluation_batch) == (1, 64)


@pytest.mark.parametrize(("sample", "graded"), [(30, 30), (5000, 60)])
def test_a_row_says_how_many_users_chose_its_epoch(
    bench: Bench, corpus: Corpus, tmp_path: Path, sample: int, graded: int
) -> None:
    whole = complete("sasrec", corpus.name, SASREC)
    sampled = replace(whole, config=replace(whole.config, valid_users=sample))
    record = store.read(run(replace(bench, board=tmp_path), corpus, sampled, 0))
    assert record.valid_users == graded


def test_the_chosen_epoch_is_the_one_that_is_graded(ran: Callable[..., Run]) -> None:
    record = ran("sasrec", *SASREC).record
    (stage,) = record.cost.stages
    assert record.valid["ndcg@10"] == pytest.approx(max(stage.quality))
    assert stage.quality.index(max(stage.quality)) + 1 == stage.best_epoch


def test_a_row_with_codes(ran: Callable[..., Run], corpus: Corpus, bench: Bench) -> None:
    record = ran("tiger", *TIGER).record
    vectors = item_vectors(corpus, "tfidf", cache=bench.work / "vectors")
    assert record.vectors is not None
    assert (record.vectors.kind, record.vectors.sha256, record.vectors.stand_in) == ("tfidf", vectors.sha256, True)
    stand_in = f"item vectors are a stand-in for sentence-t5: {vectors.name}"
    assert record.notes == ["small sizes", overridden(TIGER), stand_in]
    assert [stage.name for stage in record.cost.stages] == ["tokenizer", "recommender"]
    assert record.code_card is not None
    assert (record.code_card["sizes"], shared_sequences(record)) == ([8, 8, 8, 8], 0)
    assert set(record.diagnostics) == {f"beam{width}/{codes}" for width in (20, 50) for codes in ("trie", "free")}
    for name, found in record.diagnostics.items():
        assert set(found) == {"recall@10", "ndcg@10", "invalid"}
        assert (found["invalid"] == 0) == name.endswith("trie"), "an untrained model names items that are none"
    # 50 prefixes hold all 40 items: that beam is the full ranking, and so is the row's own list.
    assert record.diagnostics["beam50/trie"]["ndcg@10"] == pytest.approx(record.test["ndcg@10"])
    search = record.search
    assert search.certified_share == 1
    assert search.mean_expansions is not None
    assert search.max_expansions is not None
    assert 1 < search.mean_expansions <= search.max_expansions


def test_no_whole_list_is_searched_for(corpus: Corpus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    placed: dict[int, int] = {}
    place = CodeGenerator.place

    def counted(self: CodeGenerator, history: torch.Tensor, k: int, target: torch.Tensor) -> Ranking:
        placed[k] = placed.get(k, 0) + len(history)
        return place(self, history, k, target)

    monkeypatch.setattr(CodeGenerator, "place", counted)
    monkeypatch.setattr(CodeGenerator, "rank", lambda *_: pytest.fail("a whole list"))
    record = store.read(run(Bench(tmp_path / "board", tmp_path), corpus, complete("tiger", corpus.name, TIGER), 0))
    # To rank 10 at each epoch; to the last rank that counts for the row, once validation and once test.
    assert placed == {10: corpus.users * record.cost.stages[1].epochs, 50: 2 * corpus.users}
    assert record.search.certified_share == 1


def test_certified_and_duplicates_are_what_the_model_says(
    bench: Bench, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The harness copies shares from rankings and index: here every other user is in doubt, two items share codes."""
    place = CodeGenerator.place

    def doubtful(self: CodeGenerator, history: torch.Tensor, k: int, target: torch.Tensor) -> Ranking:
        found = place(self, history, k, target)
        return found._replace(certified=torch.arange(len(history)) % 2 == 0)

    suffixed = tokenizer.suffixed

    def twins(codes: torch.Tensor, size: int, error: float | None = None) -> ItemIndex:
        index = suffixed(codes, size, error)
        index.assign(index.codes.index_copy(0, torch.tensor([2]), index.codes[1:2]), codes)
        return index

    monkeypatch.setattr(CodeGenerator, "place", doubtful)
    monkeypatch.setattr(tokenizer, "suffixed", twins)
    fresh = replace(bench, board=tmp_path / "board")
    record = store.read(run(fresh, corpus, complete("tiger", corpus.name, TIGER), 0))
    assert record.search.certified_share == 0.5
    assert record.code_card is not None
    assert shared_sequences(record) == pytest.approx(2 / 40)


@pytest.mark.slow
def test_tiger_sas_is_given_the_vectors_of_a_sasrec(ran: Callable[..., Run], corpus: Corpus) -> None:
    record = ran("tiger-sas", *TIGER_SAS).record
    assert (record.model, record.experiment) == ("tiger", "tiger-sas")
    assert [stage.name for stage in record.cost.stages] == ["vectors-recommender", "tokenizer", "recommender"]
    assert record.cost.stages[0].epochs == 3
    assert record.vectors is not None
    assert (record.vectors.kind, record.vectors.stand_in) == ("sasrec-128", False)
    assert record.vectors.name.startswith("SASRec, 128-d, 3 epochs")
    assert record.collaborative is None
    assert record.notes == ["small sizes", overridden(TIGER_SAS)]
    assert record.key != ran("tiger", *TIGER_SAS).record.key


def test_letter_is_given_vectors_of_both_kinds(ran: Callable[..., Run], corpus: Corpus, bench: Bench) -> None:
    record = ran("letter", *LETTER).record
    assert record.vectors is not None
    assert record.collaborative is not None
    assert (record.vectors.kind, record.vectors.stand_in) == ("tfidf", True)
    assert (record.collaborative.kind, record.collaborative.stand_in) == ("sasrec-32", False)
    assert record.collaborative.name.startswith("SASRec, 32-d, 3 epochs")
    assert record.vectors.sha256 == item_vectors(corpus, "tfidf", cache=bench.work / "vectors").sha256
    inputs = {"vectors": record.vectors.recipe, "collaborative": record.collaborative.recipe}
    assert record.key == config_key(PROTOCOL, "letter", corpus.fingerprint, "32", record.config, inputs)
    names = [stage.name for stage in record.cost.stages]
    assert names == ["collaborative-recommender", "tokenizer", "recommender"]


def test_a_key_needs_no_vectors_and_no_processor(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = complete("letter", corpus.name, LETTER)
    here = resolve(Bench(tmp_path, tmp_path), corpus, experiment).key

    def refused(*arguments: Any) -> Any:
        raise AssertionError("a key made item vectors")

    monkeypatch.setattr(model_inputs, "item_vectors", refused)
    assert resolve(Bench(tmp_path, tmp_path), corpus, experiment).key == here
    other = replace(corpus, item_text=[*list(corpus.item_text or ())[:-1], "another sentence"])
    monkeypatch.setattr(type(corpus), "fingerprint", corpus.fingerprint)
    assert resolve(Bench(tmp_path, tmp_path), other, experiment).key != here


@pytest.mark.slow
def test_a_key_is_the_same_under_another_kernel_of_linear_algebra(tiny_corpus: Corpus, tmp_path: Path) -> None:
    kernel = {"OPENBLAS_CORETYPE": "Prescott", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "PYTHONPATH": str(Path.cwd())}
    script = scripts.command("tiny_keys", tmp_path / "there")
    said = subprocess.run(script, env=os.environ | kernel, capture_output=True, text=True, check=True).stdout
    assert said.split() == keys(tiny_corpus, tmp_path / "here")


def test_equal_kinds_under_one_seed_are_trained_once(corpus: Corpus, tmp_path: Path) -> None:
    def trained(name: str, *settings: str, seed: int = 0) -> tuple[Corpus, bool]:
        fit = Fit(corpus, seed, tmp_path / "fits", "test")
        given = with_inputs(Bench(tmp_path, tmp_path), complete(name, corpus.name, settings), fit)
        (stage,) = fit.stages
        return given, stage.reused

    letter, first = trained("letter")
    tiger, again = trained("tiger-sas", "vectors=sasrec-32")
    assert (first, again) == (False, True)
    assert letter.collaborative is not None
    assert tiger.vectors is not None
    assert np.array_equal(tiger.vectors.values, letter.collaborative.values)
    assert tiger.vectors.sha256 == letter.collaborative.sha256
    assert not trained("tiger-sas", "vectors=sasrec-64")[1]
    assert not trained("tiger-sas", "vectors=sasrec-32", seed=1)[1]


def trained_vectors(corpus: Corpus, name: str, folder: Path, seed: int = 0) -> tuple[Corpus, list[list[float]]]:
    """The corpus with vectors from a training that finds nothing to reuse, and what its epochs were chosen by."""
    fit = Fit(corpus, seed, folder / "fits", "test")
    given = with_inputs(Bench(folder / "board", folder), complete(name, corpus.name), fit)
    assert [stage.reused for stage in fit.stages] == [False]
    return given, [stage.quality for stage in fit.stages]


@pytest.mark.parametrize(("name", "field"), [("tiger-sas", "vectors"), ("letter", "collaborative")])
def test_trained_vectors_know_no_held_out_item(corpus: Corpus, tmp_path: Path, name: str, field: str) -> None:
    ends = np.concatenate([corpus.offsets[1:] - 1, corpus.offsets[1:] - 2])
    poisoned, retold = (replace(corpus, flat=corpus.flat.copy()) for _ in range(2))
    poisoned.flat[ends] = (corpus.flat[ends] + 4) % corpus.items + 1
    retold.flat[0] = corpus.flat[0] % corpus.items + 1
    assert (poisoned.flat != corpus.flat).sum() == 2 * corpus.users
    given, quality = trained_vectors(corpus, name, tmp_path / "whole")
    blind, same_quality = trained_vectors(poisoned, name, tmp_path / "poisoned")
    values = getattr(given, field).values
    assert np.array_equal(getattr(blind, field).values, values)
    assert same_quality == quality
    # A single training interaction does tell, and so does the seed.
    assert not np.array_equal(getattr(trained_vectors(retold, name, tmp_path / "retold")[0], field).values, values)
    assert not np.array_equal(getattr(trained_vectors(corpus, name, tmp_path / "seed", 1)[0], field).values, values)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SMALL_CORPORA, LISTED, *MORE, "corner_shop"])
def test_other_test_targets_change_no_training_and_no_validation(corpus: Corpus, tmp_path: Path, name: str) -> None:
    last, changed = corpus.offsets[1:] - 1, corpus.flat.copy()
    changed[last] = (changed[last] + 4) % corpus.items + 1
    weights, found = [], []
    for flat in (corpus.flat, changed):
        known = replace(corpus, name=name, flat=flat)
        folder = tmp_path / known.fingerprint
        bench = Bench(folder / "board", folder)
        found.append(store.read_run(bench.board, run(bench, known, complete("sasrec", name, SASREC), 0)))
        weights.append([file.read_bytes() for file in folder.rglob(BEST)])
    one, other = found
    assert len(weights[0]) == 1
    assert weights[0] == weights[1]
    assert [stage.quality for stage in one.record.cost.stages] == [stage.quality for stage in other.record.cost.stages]
    assert one.record.valid == other.record.valid
    assert one.ranks["valid_rank"].equals(other.ranks["valid_rank"])
    assert not one.ranks["rank"].equals(other.ranks["rank"])


@pytest.mark.parametrize(
    ("name", "settings", "trained"),
    [
        ("popularity", (), ["popularity"]),
        ("letter", LETTER, ["sasrec", "letter"]),
        ("sasrec-unseen-users", SASREC, ["sasrec"]),
    ],
)
def test_a_model_finds_no_test_target(
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    settings: tuple[str, ...],
    trained: list[str],
) -> None:
    """The last 6 items are test targets alone: still items, with their text, but in no sequence that `train` sees."""
    flat, last = corpus.flat % 34 + 1, corpus.offsets[1:] - 1
    flat[last] = 35 + np.arange(corpus.users, dtype=np.int32) % 6
    asked = []

    def curious(model: str, train: Callable[..., Any]) -> Callable[..., Any]:
        def asks(config: Any, given: Corpus, fit: Fit) -> Any:
            asked.append(model)
            for known in (given, fit.corpus):
                with pytest.raises(ValueError, match="all_beauty is here without its test part, which the harness"):
                    known.examples("test")
                assert known.flat.max() == 34
                assert all(known.examples(part).flat.max() == 34 for part in ("train", "valid"))
                assert (known.items, len(known.examples("items"))) == (40, 40)
                assert known.item_text == corpus.item_text
            return train(config, given, fit)

        return asks

    for model in trained:
        module = models.load(model)
        monkeypatch.setattr(module, "train", curious(model, module.train))
    run(Bench(tmp_path, tmp_path), replace(corpus, flat=flat), complete(name, corpus.name, settings), 0)
    assert asked == trained


def test_a_model_that_asks_for_the_test_part_makes_no_row(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(config: Any, given: Corpus, fit: Fit) -> Any:
        return popularity.Popularity(config, torch.from_numpy(np.bincount(given.examples("test").target)))

    monkeypatch.setattr(popularity, "train", train)
    with pytest.raises(ValueError, match="corpus all_beauty is here without its test part, which the harness keeps"):
        run(Bench(tmp_path, tmp_path), corpus, complete("popularity", corpus.name), 0)
    assert not list(tmp_path.rglob("seed-*.json"))


def test_unseen_users_by_hand(tmp_path: Path) -> None:
    """The first user is the shortest; by the others' training parts the items' order is 2, 4, 1, 3, 5."""
    corpus = hand_made()
    experiment = complete("popularity-unseen-users", corpus.name)
    run(Bench(tmp_path / "board", tmp_path), corpus, experiment, seed=0)
    assert [folder.name for folder in (tmp_path / "board").iterdir()] == ["corner_shop_unseen_users"]
    (found,) = read_board(tmp_path / "board", board_name(corpus.name, experiment))
    assert found.ranks.to_pydict() == {
        "user": [0],
        "rank": [5],
        "valid_rank": [2],
        # The history holds all items but the target, and all but this one and the test target.
        "rank_unseen": [1],
        "valid_rank_unseen": [1],
        "target_count": [1],
        "history_length": [4],
        "transition_seen": [True],
    }
    record = found.record
    assert (record.experiment, record.corpus.name) == ("popularity-unseen-users", "corner_shop_unseen_users")
    assert (record.corpus.users, record.corpus.items, record.corpus.interactions) == (1, 5, 5)
    seen, unseen = corpus.split_users(0.05)
    assert record.corpus.fingerprint == unseen.fingerprint
    assert (seen.users, record.valid_users) == (2, 2)
    # The seen users' test items are third and last.
    assert record.diagnostics == {
        "seen_users": {"recall@10": 1, "ndcg@10": pytest.approx((1 / np.log2(4) + 1 / np.log2(6)) / 2)}
    }
    assert record.notes == [
        "users with the least history, whom the model never saw; validation during training on 2 of the 2 others"
    ]


def test_a_cut_in_time_by_hand(tmp_path: Path) -> None:
    """Before 50 the users have trained on items 1, 2 and on 6, 5, 4: by count and id 1, 2, 4, 5, 6, 3."""
    times = np.array([10, 20, 30, 50, 60, 40, 50, 50, 10, 20, 30, 40])
    users, card = [[1, 2, 3, 4, 5], [2, 2, 6], [6, 5, 4, 3]], {"origin": "drawn", "layout": "raw", "k": 1, "steps": []}
    corpus = corpus_of(users, 6, times=times, card=card).global_time(50)
    run(Bench(tmp_path / "board", tmp_path), corpus, complete("popularity", "planted"), seed=0)
    (found,) = read_board(tmp_path / "board", "hand_global_time")
    assert found.ranks.to_pydict() == {
        "user": [0],
        "rank": [3],
        "valid_rank": [6],
        "rank_unseen": [1],
        "valid_rank_unseen": [4],
        "target_count": [1],
        "history_length": [3],
        "transition_seen": [False],
    }
    assert (found.record.corpus.name, found.record.corpus.users, found.record.valid_users) == ("hand_global_time", 1, 2)
    assert found.record.notes == [
        "graded on the users who went on after the cut, on their first item then; validation during training on 2 of "
        "all 2 users that were active before"
    ]
    assert notes_of(found.record)[:1] == found.record.notes
    assert not any(note.startswith("validation") for note in notes_of(found.record))


def test_counts_and_transitions_are_those_of_the_seen_users(tmp_path: Path) -> None:
    """The first user's own training part holds 1 -> 2, which ends the sequence too; nobody else's does."""
    users = [[1, 2, 3, 1, 2], [3, 4, 5, 3, 4, 5], [4, 4, 3, 5, 2, 1]]
    flat = np.concatenate(users).astype(np.int32)
    corpus = replace(hand_made(), flat=flat, offsets=np.array([0, 5, 11, 17]))
    counts, known = {}, {}
    for name in ("popularity", "popularity-unseen-users"):
        experiment = complete(name, corpus.name)
        run(Bench(tmp_path / "board", tmp_path), corpus, experiment, seed=0)
        (found,) = read_board(tmp_path / "board", board_name(corpus.name, experiment))
        counts[name] = found.ranks["target_count"].to_pylist()[0]
        known[name] = found.ranks["transition_seen"].to_pylist()[0]
    assert counts == {"popularity": 1, "popularity-unseen-users": 0}
    assert known == {"popularity": True, "popularity-unseen-users": False}


@pytest.mark.parametrize(("name", "settings"), [("sasrec", SASREC), ("tiger-sas", TIGER_SAS)])
def test_unseen_users_leave_no_trace_in_the_model(
    corpus: Corpus, tmp_path: Path, name: str, settings: tuple[str, ...]
) -> None:
    """With other sequences of the unseen users every training is found to be the same one."""
    shortest = np.flatnonzero(np.diff(corpus.offsets) == 5)[:3]
    rows = np.concatenate([np.arange(corpus.offsets[user], corpus.offsets[user + 1]) for user in shortest])
    other = replace(corpus, flat=corpus.flat.copy())
    other.flat[rows] = (corpus.flat[rows] + 4) % corpus.items + 1
    experiment = complete(f"{name}-unseen-users", corpus.name, settings)
    records = [
        store.read(run(Bench(tmp_path / board, tmp_path / "work"), each, experiment, 0))
        for board, each in (("one", corpus), ("two", other))
    ]
    stages = [[stage.reused for stage in record.cost.stages] for record in records]
    assert not any(stages[0])
    assert all(stages[1])
    assert records[0].diagnostics["seen_users"] == records[1].diagnostics["seen_users"]
    assert records[0].corpus.fingerprint != records[1].corpus.fingerprint
    assert records[0].ranks_sha256 != records[1].ranks_sha256
    for record in records:
        assert (record.corpus.name, record.corpus.users, record.valid_users) == ("all_beauty_unseen_users", 3, 57)
        assert record.notes == [
            "small sizes",
            overridden(settings),
            "users with the least history, whom the model never saw; validation during training on 57 of the 57 others",
        ]
        assert set(record.diagnostics["seen_users"]) == {"recall@10", "ndcg@10"}


def test_seen_users_are_graded_as_on_a_board_of_their_own(corpus: Corpus, tmp_path: Path) -> None:
    """The seen half, run as if it were a corpus, trains the same weights and scores the same."""
    bench = Bench(tmp_path / "board", tmp_path / "work")
    unseen = store.read(run(bench, corpus, complete("sasrec-unseen-users", corpus.name, SASREC), 0))
    seen = store.read(run(bench, corpus.split_users(0.05)[0], complete("sasrec", corpus.name, SASREC), 0))
    assert [stage.reused for stage in seen.cost.stages] == [True]
    assert unseen.diagnostics["seen_users"] == {name: seen.test[name] for name in ("recall@10", "ndcg@10")}
    assert unseen.key != seen.key


def test_a_sample_of_the_seen_users_is_told(bench: Bench, corpus: Corpus, tmp_path: Path) -> None:
    whole = complete("sasrec-unseen-users", corpus.name, SASREC)
    sampled = replace(whole, config=replace(whole.config, valid_users=30))
    record = store.read(run(replace(bench, board=tmp_path), corpus, sampled, 0))
    assert record.valid_users == 30
    assert record.notes[-1].endswith("validation during training on 30 of the 57 others")


def test_unseen_users_are_a_row_of_another_board(bench: Bench, corpus: Corpus) -> None:
    whole, unseen = (
        resolve(bench, corpus, complete(name, corpus.name)).record_path(0) for name in ("tiger", "tiger-unseen-users")
    )
    assert whole.parts[-4:-2] == ("all_beauty", "tiger")
    assert unseen.parts[-4:-2] == ("all_beauty_unseen_users", "tiger")
    assert whole.parts[-2] != unseen.parts[-2]


def test_what_train_returns_is_a_recommender_that_the_harness_trained(corpus: Corpus, tmp_path: Path) -> None:
    fit = Fit(corpus, 0, tmp_path, "test")
    check_trained(popularity.train(popularity.Config(), corpus, fit), "popularity", fit)
    with pytest.raises(ValueError, match=r"^train of models/mine.py returned NoneType; expected a models.api.Recomm"):
        check_trained(None, "mine", fit)
    past = sasrec.SasRec(sasrec.Config(width=16, inner=16, layers=1), corpus.items, 1.0)
    said = f"^train of models/mine.py returned a recommender of {parameters(past):,} trainable parameters and"
    with pytest.raises(ValueError, match=said):
        check_trained(past, "mine", fit)
    fit.stages.append(Stage.begun("recommender"))
    check_trained(past, "mine", fit)


def test_a_board_that_cannot_be_written_is_told_before_the_training(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path / "board", tmp_path / "work")
    monkeypatch.setattr(resolved_row, "Fit", None)
    monkeypatch.setattr(os, "access", lambda folder, mode: False)
    with pytest.raises(OSError, match=r"cannot be written; expected a folder for records \(BOARD=, --board\)"):
        run(bench, corpus, complete("sasrec", corpus.name, SASREC), 0)
    assert not bench.board.exists()


def test_a_record_that_exists_is_left_alone(
    bench: Bench, ran: Callable[..., Run], corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran("sasrec", *SASREC)
    experiment = complete("sasrec", corpus.name, SASREC)
    path = resolve(bench, corpus, experiment).record_path(0)
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.parent.iterdir()}
    assert len(before) == 3
    monkeypatch.setattr(resolved_row, "Fit", None)
    assert run(bench, corpus, experiment, 0) == path
    assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.parent.iterdir()} == before


@pytest.mark.parametrize(("name", "settings"), [("sasrec", SASREC), ("tiger", TIGER)])
def test_a_fresh_board_gets_an_equal_result(
    ran: Callable[..., Run], corpus: Corpus, tmp_path: Path, bench: Bench, name: str, settings: tuple[str, ...]
) -> None:
    """Trained again from nothing; the stored result then takes it for the same run."""
    first = ran(name, *settings)
    run(Bench(tmp_path / "board", tmp_path / "work"), corpus, complete(name, corpus.name, settings), 0)
    (again,) = read_board(tmp_path / "board", corpus.name)
    assert not any(stage.reused for stage in again.record.cost.stages)
    assert again.record.result() == first.record.result()
    assert again.ranks.equals(first.ranks)
    written = place(bench, first).read_bytes()
    assert store.write(bench.board, again.record, again.ranks) == place(bench, first)
    assert place(bench, first).read_bytes() == written


def test_another_seed_is_another_row_of_the_same_key(ran: Callable[..., Run]) -> None:
    first, other = ran("sasrec", *SASREC), ran("sasrec", *SASREC, seed=1)
    assert (other.record.key, other.record.seed) == (first.record.key, 1)
    assert not other.ranks["rank"].equals(first.ranks["rank"])


def test_the_config_and_the_vectors_decide_the_key(bench: Bench, corpus: Corpus) -> None:
    experiments = [
        complete("sasrec", corpus.name),
        complete("sasrec", corpus.name, ["lr=0.002"]),
        complete("tiger", corpus.name),
        complete("tiger-sas", corpus.name),
    ]
    keys = [resolve(bench, corpus, experiment).key for experiment in experiments]
    reworded = replace(corpus, item_text=[*corpus.item_text[:-1], "something else"])  # type: ignore[index]
    keys += [resolve(bench, reworded, experiment).key for experiment in experiments]
    assert len(set(keys)) == len(keys)


def test_a_model_that_wants_text_where_there_is_none(tmp_path: Path) -> None:
    corpus = hand_made()
    with pytest.raises(ValueError, match="corpus corner_shop has no item text for 'tfidf'"):
        run(Bench(tmp_path / "board", tmp_path), corpus, complete("tiger", "all_beauty"), 0)
    assert not (tmp_path / "board").exists()


def test_what_a_paper_leaves_open_is_a_note(ran: Callable[..., Run], bench: Bench, corpus: Corpus) -> None:
    record = ran("pit", *PIT).record
    assert record.notes[0].startswith("open in the paper: B offline, gamma, lambdas, Delta t")
    assert [stage.name for stage in record.cost.stages] == ["tokenizer", "warm-up", "dynamic"]
    card: Any = record.code_card
    assert 1 <= card["sequences_per_item"] <= 4
    assert not any("open in the paper" in note for note in ran("tiger", *TIGER).record.notes)


def ranks_by_popularity(corpus: Corpus) -> list[int]:
    """Ranks of the test targets, 0 beyond 50, from a list that is sorted here."""
    counts = corpus.training_counts()
    order = sorted(range(1, corpus.items + 1), key=lambda item: (-counts[item], item))[:50]
    return [order.index(item) + 1 if item in order else 0 for item in corpus.examples("test").target.tolist()]


def test_stored_ranks_are_those_of_the_list(ran: Callable[..., Run], corpus: Corpus) -> None:
    assert ran("popularity").ranks["rank"].to_pylist() == ranks_by_popularity(corpus)


def test_stored_ranks_are_those_of_the_list_on_real_data(real_data: Path, tmp_path: Path) -> None:
    corpus = data_prep.load("all_beauty", "local", tmp_path / "corpora", real_data)
    run(Bench(tmp_path / "board", tmp_path / "work"), corpus, complete("popularity", corpus.name), 0)
    (found,) = read_board(tmp_path / "board", corpus.name)
    ranks = found.ranks["rank"].to_pylist()
    assert ranks == ranks_by_popularity(corpus)
    assert 0 in ranks, "356 items do not fit in a list of 50"


def test_a_training_that_was_found_has_cost_what_it_cost(corpus: Corpus, tmp_path: Path) -> None:
    experiment = complete("sasrec", corpus.name, SASREC)
    first, again = (
        store.read(run(Bench(tmp_path / board, tmp_path / "work"), corpus, experiment, 0)) for board in ("one", "other")
    )
    assert [stage.reused for record in (first, again) for stage in record.cost.stages] == [False, True]
    assert again.cost.train_seconds == first.cost.train_seconds > 0


def test_what_ran_is_told_as_it_was_before_the_training(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours later the files may be others than those that were trained with."""
    order = list[str]()

    def noted(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*given: Any) -> Any:
            order.append(what)
            return function(*given)

        return called

    monkeypatch.setattr(provenance, "of", noted("told", provenance.of))
    monkeypatch.setattr(popularity, "train", noted("trained", popularity.train))
    run(Bench(tmp_path / "board", tmp_path), corpus, complete("popularity", corpus.name), 0)
    assert order == ["told", "trained"]


def test_what_a_search_spent_by_hand() -> None:
    certified, expansions = np.array([True, True, False]), np.array([1, 2, 9])
    found = record_fields.search(Graded(np.ones(3, np.uint8), None, certified, expansions, 0.0, 1.0))
    assert found.certified_share == pytest.approx(2 / 3)
    assert (found.mean_expansions, found.max_expansions) == (4.0, 9)


def test_a_model_that_ranks_otherwise_than_when_it_was_chosen_makes_no_row(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = sasrec.train

    def changed(*given: Any) -> Any:
        trained = train(*given)
        weight = trained.state_dict()["item.weight"]
        weight.copy_(weight.flip(0))
        return trained

    monkeypatch.setattr(sasrec, "train", changed)
    with pytest.raises(ValueError, match="in the chosen epoch; expected the same"):
        run(Bench(tmp_path / "board", tmp_path), corpus, complete("sasrec", corpus.name, SASREC), 0)
    assert not list(tmp_path.rglob("seed-*.json"))


def test_a_run_computes_with_the_threads_that_its_record_names(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = list[int]()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    bench = Bench(tmp_path / "board", tmp_path, hardware=Hardware("cpu", threads=3))
    record = store.read(run(bench, corpus, complete("popularity", corpus.name), 0))
    assert (record.provenance.threads, set(told)) == (3, {3})
