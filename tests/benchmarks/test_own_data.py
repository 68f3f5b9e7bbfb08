"""A user's own file through the commands: sizes, codebooks, what is missing, every model, and what a record tells."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

import models
from benchmarks import best_config, experiments, model_inputs
from benchmarks.__main__ import main
from benchmarks.best_config import TunedConfig
from benchmarks.checks import train_again
from benchmarks.checks.rerank import deep
from benchmarks.commands.options import asked
from benchmarks.config import flat
from benchmarks.experiments import complete, few, small
from benchmarks.run import run
from benchmarks.settings import Bench, prepared, source_of
from data_prep.corpus import UNSEEN_USERS, Corpus
from data_prep.own_corpus import OwnFile, prepare
from data_prep.prepare import CARDS
from leaderboards.store import read_board, read_run
from tests.models import test_contract

USERS, ITEMS = 300, 190
NEED_CATEGORIES = ("fdsa", "s3rec")


@pytest.fixture(autouse=True)
def _short_trainings_of_item_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_inputs, "SMALL_STEPS", 3)


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like MovieLens: 300 users, 190 items, ratings, seconds, no text; a step of 7 follows most items."""
    rng = np.random.default_rng(11)
    lines = ["userId,movieId,rating,timestamp"]
    for user in range(USERS):
        steps = np.where(rng.random(2 + user % 17) < 0.2, 11, 7)
        for place, item in enumerate((user + steps.cumsum()) % ITEMS):
            lines.append(f"{user + 1},{item + 1},{rng.integers(1, 11) / 2},{880_000_000 + 60 * place}")
    path = tmp_path_factory.mktemp("folder-of-mine") / "Small Ratings.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def corpus(ratings: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return prepare(OwnFile(ratings), tmp_path_factory.mktemp("cache"))


@pytest.fixture
def command(ratings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.chdir(tmp_path)
    return lambda name, *more: main([name, "--corpus", str(ratings), "--work", "work", "--board", "board", *more])


def test_the_rule_gives_every_corpus_of_ours_the_sizes_it_has() -> None:
    counts = [
        (card.stem, expected["items"], expected["interactions"])
        for card in CARDS.glob("*.json")
        for expected in json.loads(card.read_text())["expected"].values()
    ]
    assert {name for name, *_ in counts} >= set(experiments.SMALL_CORPORA)
    assert all(few(items, interactions) == small(name) for name, items, interactions in counts)


def test_an_own_corpus_is_small_by_its_counts_before_any_users_are_split_off(corpus: Corpus) -> None:
    def of(items: int, interactions: int) -> Corpus:
        steps = [*corpus.card["steps"][:-1], {"step": "", "users": 9, "items": items, "interactions": interactions}]
        return replace(corpus, card={**corpus.card, "steps": steps})

    assert small(corpus)
    assert [small(of(*counts)) for counts in ((1_000, 100_000), (999, 10**7), (10**6, 99_999))] == [False, True, True]
    large = of(1_000, 100_000)
    parts = (large.without_test(), *large.split_users(0.05))
    assert [small(part) for part in parts] == [False] * 3
    assert complete("sasrec", large).config == models.load("sasrec").Config()
    assert complete("sasrec", corpus).config == models.load("sasrec").SMALL
    assert complete("sasrec", "small_ratings").config == models.load("sasrec").Config(), "its name alone does not tell"


@pytest.mark.parametrize("name", models.names())
def test_no_book_has_more_codes_than_there_are_items(tiny_corpus: Corpus, name: str) -> None:
    few_items = replace(tiny_corpus, name="all_beauty", item_ids=tiny_corpus.item_ids[:20])
    whole, capped = complete(name, "all_beauty"), complete(name, few_items)
    books = [f"{experiments.CODES}=20"] if experiments.CODES in dict(flat(asdict(whole.config))) else []
    assert capped.config == complete(name, "all_beauty", books).config
    assert capped.overrides == tuple(books)
    assert complete(name, replace(tiny_corpus, name="all_beauty")) == whole, "40 items fill a book of 32"


def test_what_a_small_file_reads_is_no_error(ratings: Path, tmp_path: Path) -> None:
    """At the papers' sizes TIGER has no weight decay, and more codes than that."""
    told = {"columns": (), "items": None, "core": None, "source": "auto", "work": tmp_path}
    read = ["decoupled_decay=false", "tokenizer.kmeans_items=40"]
    options = argparse.Namespace(corpus=str(ratings), set=read, **told)
    found = asked(options, ["tiger"]).corpus
    assert complete("tiger", found, read).overrides == tuple(read)
    with pytest.raises(ValueError, match="no model or experiment 'tigre'"):
        asked(options, ["tigre"])


def test_more_codes_than_items_are_refused_where_they_are_asked_for(corpus: Corpus) -> None:
    assert complete("tiger", corpus, ["tokenizer.codes=190"]).overrides == ("tokenizer.codes=190",)
    with pytest.raises(ValueError, match=r"^option tokenizer\.codes is 191; expected at most 190, the items of small_"):
        complete("tiger", corpus, ["tokenizer.codes=191"])
    alone = replace(corpus, item_ids=corpus.item_ids[:1])
    with pytest.raises(ValueError, match=r"^corpus small_\w+ has 1 item; expected at least 2, to tell apart by codes"):
        complete("tiger", alone)
    with pytest.raises(ValueError, match=r"tiger option tokenizer\.codes is 'many'"):
        complete("tiger", corpus, ["tokenizer.codes=many"])


def test_without_text_nothing_is_trained_and_the_choices_are_told(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert command("bench", "--jobs", "1") == 2
    out, err = capsys.readouterr()
    assert out == ""
    said = err.splitlines()[-1]
    assert said.startswith(
        "error: transitions_text, last_item_vectors, tiger, letter, etegrec, decor, pit: corpus small_ratings has no "
    )
    assert "vectors=sasrec-64, " in said
    assert "vectors=npz, " in said
    assert "--items, " in said
    assert not (tmp_path / "board").exists()


def test_the_command_again_under_a_mapping_with_text(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "films.csv").write_text(
        "movieId,title,genres\n"
        + "".join(f"{n},Film {n},{'Drama' if n % 2 else 'Comedy'}|Old\n" for n in range(1, 191))
    )
    told = ("--items", "films.csv", "--columns", "item=movieId", "--core", "3", "--jobs", "1", "--track", "off")
    assert command("bench", *told, "--models", "last_item_vectors") == 0
    (made,) = read_board(tmp_path / "board", "small_ratings")
    assert (made.record.corpus.source, made.record.corpus.items) == ("own: csv, 3-core", 190)
    assert made.record.vectors is not None
    assert made.record.vectors.kind == "tfidf"
    capsys.readouterr()
    assert command("bench", *told, "--models", "last_item_vectors") == 0
    assert "1 of 1 records exist in board/small_ratings" in capsys.readouterr().out


@pytest.mark.slow
def test_cells_find_the_corpus_and_nothing_made_names_a_folder(
    command: Callable[..., int], tmp_path: Path, ratings: Path, corpus: Corpus,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    tiny = ("--set", "epochs=1", "width=8", "inner=8", "layers=1")
    options = ("--models", "sasrec", "sasrec-unseen-users", *tiny, "--jobs", "1", "--track", "off")
    assert command("bench", *options) == 0
    (whole,), (unseen,) = (read_board(tmp_path / "board", f"small_ratings{end}") for end in ("", UNSEEN_USERS))
    assert whole.record.corpus.fingerprint == corpus.fingerprint != unseen.record.corpus.fingerprint
    assert whole.record.notes == ["small sizes", "overridden: epochs=1 inner=8 layers=1 width=8"]
    # Ranked again from the prepared corpus alone.
    bench = Bench(tmp_path / "board", tmp_path / "work")
    assert prepared(bench.work, "small_ratings", source_of(whole.record, "auto")).fingerprint == corpus.fingerprint
    problems, says = deep(bench, None, 50)
    assert (problems, len(says)) == ([], 2)
    for run_ in (whole, unseen):
        target = bench.board / f"{run_.record.corpus.name}/sasrec/{run_.record.key}/seed-0.json"
        again = ["x", str(target), "--board", "again", "--work", "again-work", "--accelerator", "cpu"]
        again += ["--source", source_of(run_.record, "auto"), "--prepared", str(bench.work / "corpora")]
        monkeypatch.setattr(sys, "argv", again)
        train_again.main()
        made = read_run(Path("again"), Path(capsys.readouterr().out.splitlines()[-1]))
        assert made.record.result() == run_.record.result()
    assert command("sweep", "--model", "sasrec", "--trials", "1", *tiny, "--best", "best", "--track", "off") == 0
    assert list(tmp_path.glob("best/small_ratings-*/sasrec.toml"))
    written = [file for folder in ("board", "best") for file in (tmp_path / folder).rglob("*") if file.is_file()]
    assert not [file for file in written if ratings.parent.name.encode() in file.read_bytes()]


def test_a_row_of_an_own_file_has_a_ladder(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("bench", "--models", "popularity", "popularity-unseen-users", "--jobs", "1") == 0
    folder, ladder = tmp_path / "board", ["analyse", "ladder", "--work", "work", "--out", "out", "--row"]
    (whole,) = folder.glob("small_ratings/*/*/seed-0.json")
    assert main([*ladder, str(whole)]) == 0
    (table,) = Path("out").glob("*.md")
    assert "small_ratings/popularity" in table.read_text()
    (unseen,) = folder.glob(f"small_ratings{UNSEEN_USERS}/*/*/seed-0.json")
    assert main([*ladder, str(unseen)]) == 2
    assert f"{unseen} is of unseen users; expected a row on all users" in capsys.readouterr().err


def test_two_files_of_one_name_are_two_corpora(command: Callable[..., int], ratings: Path, tmp_path: Path) -> None:
    other = tmp_path / ratings.name
    other.write_text("\n".join(ratings.read_text().splitlines()[:-30]))
    assert command("bench", "--models", "popularity", "--jobs", "1") == 0
    assert main(["bench", "--corpus", str(other), "--models", "popularity", "--board", "board", "--work", "work"]) == 0
    runs = read_board(tmp_path / "board", "small_ratings")
    assert len({run_.record.corpus.fingerprint for run_ in runs}) == len({run_.record.key for run_ in runs}) == 2


def test_what_a_sweep_found_on_one_is_not_used_on_the_other(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(best_config, "BEST", tmp_path)
    winner = TunedConfig(study="s", trial=1, trials=9, value=0.1, params={"lr": 0.0123})
    best_config.write(best_config.path(best_config.folder_of(corpus.name, corpus.fingerprint), "sasrec"), winner)
    other = replace(corpus, flat=corpus.flat[::-1].copy())
    assert (other.name, other.fingerprint == corpus.fingerprint) == (corpus.name, False)
    assert complete("sasrec", corpus).config.lr == 0.0123
    assert complete("sasrec", other).config.lr != 0.0123


@pytest.mark.slow
@pytest.mark.parametrize("name", models.names())
def test_every_model_takes_ratings_without_text(
    name: str, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_contract, "CODES", 64)
    options = dict(flat(asdict(models.load(name).SMALL)))
    wanted = {"vectors": "sasrec-64", "t5.inner": 16, "t5.encoder_layers": 1, "t5.decoder_layers": 1}
    experiment = complete(name, corpus, [f"{option}={value}" for option, value in wanted.items() if option in options])
    experiment = replace(experiment, config=test_contract.reduced(experiment.config))
    bench = Bench(tmp_path / "board", tmp_path / "work")
    if name in NEED_CATEGORIES:
        with pytest.raises(ValueError, match="corpus small_ratings has no item categories; expected item metadata"):
            run(bench, corpus, experiment, 0)
        return
    run(bench, corpus, experiment, 0)
    (made,) = read_board(bench.board, corpus.name)
    assert (made.record.corpus.users, made.record.corpus.items) == (corpus.users, ITEMS)
    assert made.record.vectors is None or made.record.vectors.kind == "sasrec-64"
    assert made.record.test["recall@50"] > 0


@pytest.mark.parametrize("arguments", [["--core", "3"], ["--columns", "user=u"], ["--items", "i.csv"]])
def test_what_is_told_of_a_named_corpus(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--corpus", "all_beauty", "--models", "popularity", *arguments]) == 2
    assert re.search("(is|are) told of files of your own; ", capsys.readouterr().err)


def test_show_knows_its_sizes(ratings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "tiger", str(ratings), "--work", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("tiger on small_ratings: ")
    assert "small: SMALL, sizes for corpora of a few thousand users" in out
