"""Metadata -> sentences."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from data_prep.item_text import TEMPLATE_SHA256, read_item_text, sentence

FULL = {
    "parent_asin": "B01",
    "title": " Oak  Brush\n",
    "store": "Shiny",
    "categories": ["Beauty", "Hair"],
    "features": ["Made of oak.", "Soft"],
    "details": '{"Brand": "Other"}',
}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "Oak Brush by Shiny, in Beauty > Hair: Made of oak; Soft."),
        ({"store": None}, "Oak Brush by Other, in Beauty > Hair: Made of oak; Soft."),
        ({"store": "", "details": {"Brand": "Third"}}, "Oak Brush by Third, in Beauty > Hair: Made of oak; Soft."),
        ({"store": None, "details": None, "features": []}, "Oak Brush, in Beauty > Hair."),
        ({"title": None, "store": None, "details": {}}, "in Beauty > Hair: Made of oak; Soft."),
        ({"title": "{title} 5.", "categories": [], "features": None}, "{title} 5. by Shiny."),
        ({"title": "", "store": None, "details": None, "categories": [], "features": []}, ""),
    ],
)
def test_sentence(change: dict[str, Any], expected: str) -> None:
    assert sentence({**FULL, **change}) == expected


def test_details_that_are_no_json() -> None:
    with pytest.raises(ValueError, match="metadata of item B01: details is no JSON"):
        sentence({**FULL, "store": None, "details": "{Brand"})


def write(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_duplicates_keep_the_first_and_missing_items_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(
        tmp_path / "meta.jsonl",
        {"parent_asin": "B02", "title": "Two"},
        {"parent_asin": "B01", "title": "One"},
        {"parent_asin": "B01", "title": "One"},
        {"parent_asin": "B01", "title": "Uno"},
        {"parent_asin": "B09", "title": "Not of this corpus"},
        {"parent_asin": "B09", "title": "Twice"},
    )
    with caplog.at_level(logging.WARNING):
        text = read_item_text(path, ["B01", "B02", "B03"])
    assert text.sentences == ["One.", "Two.", ""]
    assert text.card == {
        "template": 1,
        "template_sha256": TEMPLATE_SHA256,
        "duplicate_lines": 2,
        "conflicting_lines": 1,
        "malformed_lines": 0,
        "items_without_text": 1,
    }
    assert "2 duplicate lines for items (first B01), 1 with another sentence" in caplog.text
    assert "1 of 3 items are not in the metadata" in caplog.text


def test_metadata_of_another_corpus(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"meta\.jsonl names none of the corpus's 1 items"):
        read_item_text(write(tmp_path / "meta.jsonl", FULL), ["B77"])


def test_metadata_without_the_id(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"meta\.jsonl has no text in column parent_asin of a line; found asin, title"):
        read_item_text(write(tmp_path / "meta.jsonl", {"asin": "B01", "title": "One"}), ["B01"])
