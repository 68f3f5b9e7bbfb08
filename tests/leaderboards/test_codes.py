"""Code cards: written once, read whole, tabled as they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from leaderboards import codes
from leaderboards.__main__ import main
from leaderboards.codes import CodeCard, corpora, read_all, write
from leaderboards.tables import render
from tests.leaderboards.test_record import run_of

FACTS: dict[str, Any] = {
    "levels": 3,
    "sizes": [8, 8, 4],
    "duplicates_before": 0.25,
    "duplicates_after": 0.0,
    "shared_prefix": [1.0, 0.25, 0.0],
    "utilisation": [0.75, 1.0, 0.5],
    "entropy": [1.2345, 2.0, 0.1],
    "mean_fan_out": [6.0, 4.0, 1.1],
    "largest_fan_out": [6, 8, 3],
}


def card_of(experiment: str, seed: int = 0, **changes: Any) -> CodeCard:
    shared = json.loads(run_of().record.model_dump_json(include={"corpus", "provenance", "key", "config"}))
    stage = {"name": "tokenizer", "epochs": 30, "best_epoch": 20, "seconds": 5, "quality": [0.5], "reused": False}
    content = {
        "model": "tiger",
        "experiment": experiment,
        "seed": seed,
        "vectors": {"kind": "tfidf", "name": "TF-IDF", "sha256": "d" * 64, "stand_in": True},
        "collaborative": None,
        "notes": ["small sizes"],
        "card": FACTS,
        "stages": [stage | {"name": "vectors", "epochs": 7, "best_epoch": 7}, stage],
    }
    return CodeCard.model_validate(shared | content | changes)


def test_a_card_comes_back_whole(tmp_path: Path) -> None:
    made = [card_of("tiger"), card_of("letter", seed=1)]
    targets = [write(tmp_path, card) for card in made]
    assert targets[1] == tmp_path / "toys/codes" / f"letter-{made[1].key}-seed-1.json"
    assert read_all(tmp_path, "toys") == [made[1], made[0]]
    assert corpora(tmp_path) == ["toys"]


def test_a_card_is_never_rewritten(tmp_path: Path) -> None:
    target = write(tmp_path, card_of("tiger"))
    before = target.read_bytes()
    with pytest.raises(FileExistsError, match=r"tiger-.*-seed-0.json exists"):
        write(tmp_path, card_of("tiger", notes=[]))
    assert target.read_bytes() == before


def test_a_damaged_card_is_named(tmp_path: Path) -> None:
    target = write(tmp_path, card_of("tiger"))
    target.write_text(target.read_text().replace('"duplicates_before": 0.25', '"duplicates_before": 25'))
    with pytest.raises(ValueError, match=r"tiger-.*-seed-0.json does not fit the schema at card.duplicates_before"):
        read_all(tmp_path, "toys")


def test_a_card_of_another_corpus_or_with_levels_missing(tmp_path: Path) -> None:
    target = write(tmp_path, card_of("tiger"))
    shutil.copytree(tmp_path / "toys", tmp_path / "books")
    with pytest.raises(ValueError, match=r"books.codes.tiger-.*-seed-0.json is the code card of toys/tiger-"):
        read_all(tmp_path, "books")
    facts = FACTS | {"utilisation": FACTS["utilisation"][:-1]}
    target.write_text(json.dumps(json.loads(target.read_text()) | {"card": facts}))
    with pytest.raises(ValueError, match=r"tiger-.*-seed-0.json does not fit the schema at card: .*3, 2, 3 sizes"):
        read_all(tmp_path, "toys")


def test_the_table_counts_codes_of_each_level(tmp_path: Path) -> None:
    write(tmp_path, card_of("tiger"))
    text = render(tmp_path, "toys")[0].read_text()
    (row,) = [line for line in text.splitlines() if line.startswith("| tiger")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    codes_in_use = ["6, 8, 2 of 8, 8, 4", "1.23, 2.00, 0.10", ""]
    assert cells[3:] == ["tfidf (stand-in)", "30, 20", "25.0%, 0.0%", "", "", *codes_in_use]
    assert "tiger: small sizes" in text


def test_a_card_may_count_distinct_codes_and_tell_their_error(tmp_path: Path) -> None:
    card = card_of("tiger")
    facts = card.card.model_copy(update={"distinct_before": 9_876, "reconstruction_error": 0.0})
    write(tmp_path, card.model_copy(update={"card": facts}))
    (row,) = [line for line in render(tmp_path, "toys")[0].read_text().splitlines() if line.startswith("| tiger")]
    assert [cell.strip() for cell in row.strip("|").split("|")][6:8] == ["9,876", "0.000"]


def test_clusters_take_no_training_and_a_card_may_count_items_per_sequence(tmp_path: Path) -> None:
    card = card_of("pit-no-i2i", stages=[])
    facts = card.card.model_copy(update={"most_items_per_sequence": 7})
    write(tmp_path, card.model_copy(update={"card": facts}))
    (row,) = [line for line in render(tmp_path, "toys")[0].read_text().splitlines() if line.startswith("| pit")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert (cells[4], cells[-1]) == ("", "7")


def test_the_command_renders_rows_and_cards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, card_of("tiger"))
    assert main(["board", "--board", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split() == [
        "written:",
        *(str(tmp_path / f"toys.{end}") for end in ("codes.md", "sha256")),
    ]
    assert codes.FOLDER == "codes"


def test_code_cards_alone_are_no_tables_of_a_paper(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, card_of("tiger"))
    assert main(["paper", "--board", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path} has code cards alone of any corpus; no row\n"


def test_a_card_says_what_was_overridden() -> None:
    found = codes.markdown([card_of("tiger"), card_of("tiger", notes=["overridden: tokenizer.codes=64"])])
    assert "| tiger, tokenizer.codes=64 |" in found
    assert "| tiger " in found
