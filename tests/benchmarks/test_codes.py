"""Code cards: the tokenizer that a row's model would have, and nothing trained beyond it."""

from __future__ import annotations

from pathlib import Path

import pytest

import benchmarks.model_inputs
from benchmarks import code_cards
from benchmarks.__main__ import main
from benchmarks.experiments import complete
from benchmarks.resolved_row import resolve
from benchmarks.settings import Bench
from data_prep.corpus import Corpus
from leaderboards.codes import CodeCard, read_all

SETTINGS = ["tokenizer.codes=8", "tokenizer_epochs=2", "tokenizer.hidden=[16]"]
CORPUS = "planted"  # by name, so that the small configs are taken


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(benchmarks.model_inputs, "STEPS", 1)
    return Bench(tmp_path / "board", tmp_path / "work")


def made(bench: Bench, corpus: Corpus, name: str) -> CodeCard:
    code_cards.card(bench, corpus, complete(name, CORPUS, SETTINGS), 0)
    (card,) = [card for card in read_all(bench.board, corpus.name) if card.experiment == name]
    return card


@pytest.mark.slow
def test_a_card_has_the_key_of_the_row_and_trains_no_recommender(bench: Bench, tiny_corpus: Corpus) -> None:
    card = made(bench, tiny_corpus, "tiger")
    assert card.key == resolve(bench, tiny_corpus, complete("tiger", CORPUS, SETTINGS)).key
    assert [stage.name for stage in card.stages] == ["tokenizer"]
    assert card.card.sizes == [8, 8, 8, 8]
    # TIGER's suffix tells all items apart, so what it repaired is what its first three codes had in common.
    assert card.card.duplicates_before == pytest.approx(card.card.shared_prefix[2])
    assert card.card.duplicates_after == 0


def test_a_card_of_letter_counts_the_training_of_its_collaborative_vectors(bench: Bench, tiny_corpus: Corpus) -> None:
    card = made(bench, tiny_corpus, "letter")
    assert [stage.name for stage in card.stages] == ["collaborative-recommender", "tokenizer"]
    assert card.collaborative is not None
    assert card.collaborative.kind == "sasrec-32"
    assert card.card.duplicates_after <= card.card.duplicates_before


@pytest.mark.parametrize(("name", "stages"), [("p5_sid", []), ("p5_cid", []), ("cost", ["tokenizer"])])
def test_cards_of_codes_without_and_with_a_training(
    bench: Bench, tiny_corpus: Corpus, name: str, stages: list[str]
) -> None:
    settings = SETTINGS if name == "cost" else []
    code_cards.card(bench, tiny_corpus, complete(name, CORPUS, settings), 0)
    (card,) = read_all(bench.board, tiny_corpus.name)
    assert [stage.name for stage in card.stages] == stages
    assert card.card.duplicates_after == 0
    assert (card.vectors is not None) == (name == "cost")


def test_a_card_that_exists_is_left_alone(bench: Bench, tiny_corpus: Corpus) -> None:
    experiment = complete("tiger", CORPUS, SETTINGS)
    path = code_cards.card(bench, tiny_corpus, experiment, 0)
    before = path.stat().st_mtime_ns
    assert code_cards.card(bench, tiny_corpus, experiment, 0) == path
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "etegrec",
            r"etegrec has no tokenizer of its own to make a card of; possible: cost, decor, .*p5_sid, pit, tiger",
        ),
        ("tiger-unseen-users", r"tiger-unseen-users is graded on unseen users, of whom a code card says nothing"),
    ],
)
def test_what_has_no_card(bench: Bench, tiny_corpus: Corpus, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        code_cards.card(bench, tiny_corpus, complete(name, CORPUS), 0)


@pytest.mark.parametrize(
    "command", ["codes --models tiger --board", "analyse cold_start --models popularity --corpus planted --out"]
)
def test_a_folder_that_cannot_be_written_is_told_before_anything_is_trained(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main([*command.split(), str(tmp_path / "file"), "--work", str(tmp_path / "work")]) == 2
    assert f"error: {tmp_path / 'file'} cannot be written; expected a folder for" in capsys.readouterr().err
    assert not (tmp_path / "work" / "fits").exists()


def test_what_has_no_card_is_told_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--board", str(tmp_path / "board"), "--work", str(tmp_path / "work")]
    assert main(["codes", "--corpus", "planted", "--models", "tiger", "sasrec", *options]) == 2
    assert "sasrec has no tokenizer of its own" in capsys.readouterr().err
    assert not (tmp_path / "board").exists()
    assert not (tmp_path / "work" / "fits").exists()
