"""Metadata -> sentences."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from data_prep.item_text import TEMPLATE_SHA256, read_item_text, sentence

FULL = {
    "parent_asin": "B01",
    "title": " Oak  Brush\n",
    "price": 9.9,
    "store": "Shiny",
    "categories": ["Beauty", "Hair"],
    "features": ["Made of oak.", "Soft"],
    "details": '{"Brand": "Other"}',
}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "Oak Brush, $9.90, by Shiny, in Beauty > Hair."),
        ({"store": None}, "Oak Brush, $9.90, by Other, in Beauty > Hair."),
        ({"store": "", "details": {"Brand": "Third"}}, "Oak Brush, $9.90, by Third, in Beauty > Hair."),
        ({"price": None, "store": None, "details": None}, "Oak Brush, in Beauty > Hair."),
        ({"title": None, "price": None, "store": None, "details": {}}, "in Beauty > Hair."),
        ({"title": "{title} 5.", "price": 4, "categories": []}, "{title} 5., $4.00, by Shiny."),
        ({"title": "", "price": None, "store": None, "details": None, "categories": []}, ""),
    ],
)
def test_sentence(change: dict[str, Any], expected: str) -> None:
    assert sentence({**FULL, **change}) == expected


@pytest.mark.parametrize(
    ("price", "said"),
    [
        (19, "$19.00"),
        ("19.9", "$19.90"),
        ("$19.90", "$19.90"),
        ("from 12.99", "from 12.99"),
        ("\u2014", ""),
        ("None", ""),
        (True, ""),
        (float("nan"), ""),
        (10**400, ""),
    ],
)
def test_prices(price: object, said: str) -> None:
    assert sentence({"title": "Soap", "price": price}) == f"Soap{said and ', '}{said}."


@pytest.mark.parametrize(
    ("title", "plain"),
    [
        ("Cr&egrave;me &amp; Soap<br>", "Crème & Soap"),
        ("Crème & Soap", "Crème & Soap"),
        ('Soap<br/>Bar,&nbsp;<b class="x">12</b> oz', "Soap Bar, 12 oz"),
        ("&lt;i&gt;Fine&lt;/i&gt; soap", "Fine soap"),
        ("XIU&amp;#8482 brush, AVVA&#x2122;", "XIU™ brush, AVVA™"),
        ("Size < 5, Wash&Notes, R&B; A&T", "Size < 5, Wash&Notes, R&B; A&T"),
        (f"Number &#{'9' * 5000}; of <", f"Number &#{'9' * 5000}; of <"),
    ],
)
def test_entities_are_decoded_and_tags_dropped(title: str, plain: str) -> None:
    assert sentence({"title": title}) == f"{plain}."


def test_both_spellings_are_one_word() -> None:
    read = TfidfVectorizer(strip_accents="unicode").build_analyzer()
    assert read(sentence({"title": "Cr&egrave;me"})) == read(sentence({"title": "Crème"})) == ["creme"]


def test_half_a_character_is_replaced_and_its_item_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole, half = "Guitar \U0001f3b8", "Guitar \ud83c"
    path = write(tmp_path / "meta.jsonl", {"parent_asin": "B01", "title": whole}, {"parent_asin": "B02", "title": half})
    with caplog.at_level(logging.WARNING):
        text = read_item_text(path, ["B01", "B02"])
    assert text.sentences == [f"{whole}.", "Guitar \ufffd."]
    assert text.card["items_with_half_characters"] == 1
    assert "the text of 1 items holds half a character (B02)" in caplog.text


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
    assert text.sentences == ["One.", "Two.", ""], "one that is not there counts as one without text"
    assert text.card == {
        "template": 2,
        "template_sha256": TEMPLATE_SHA256,
        "duplicate_lines": 2,
        "conflicting_lines": 1,
        "malformed_lines": 0,
        "items_with_half_characters": 0,
        "items_without_text": 1,
    }
    assert "2 duplicate lines for items (first B01), 1 with another sentence" in caplog.text
    assert "1 of 3 items are not in the metadata" in caplog.text


def test_items_of_which_nothing_is_said_have_no_text(tmp_path: Path) -> None:
    path = write(tmp_path / "meta.jsonl", {"parent_asin": "B01", "title": ""}, {"parent_asin": "B02", "title": "Two"})
    assert read_item_text(path, ["B01", "B02", "B03"]).card["items_without_text"] == 2


@pytest.mark.parametrize("name", [None, "", 3, 1.5, float("nan"), True, ["B01"], {"B": 1}, "nan", "B\n01", "\ud83c"])
def test_a_line_that_names_no_item_is_malformed(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: object) -> None:
    lines = [{"parent_asin": f"B{n}", "title": f"Item {n}"} for n in range(1000)]
    path = write(tmp_path / "meta.jsonl", *lines[:3], {**FULL, "parent_asin": name}, *lines[4:])
    text = read_item_text(path, ["B0", "B3"])
    assert text.sentences == ["Item 0.", ""]
    assert (text.card["malformed_lines"], text.card["items_without_text"]) == (1, 1)
    assert "1 of 1000 lines are malformed (lines 4) and left out; line 4: parent_asin is" in caplog.text
    with pytest.raises(
        ValueError, match=r"meta\.jsonl: 2 of 3 lines are malformed \(lines 2, 3\); .*; line 2: parent_asin"
    ):
        read_item_text(write(path, lines[0], *[{**FULL, "parent_asin": name}] * 2), ["B0"])


def test_what_is_no_number_is_no_word_of_a_sentence(tmp_path: Path) -> None:
    """NaN is what Python writes for a missing value, and half of all tables for an empty store."""
    nan = float("nan")
    brand = {**FULL, "price": nan, "store": nan, "details": '{"Brand": NaN}', "categories": ["Hair", nan]}
    path = write(tmp_path / "meta.jsonl", brand, {"parent_asin": "B02", "title": "Half\tof\x01it", "images": [nan]})
    text = path.read_text().replace("\\t", "\t").replace("\\u0001", "\x01")
    path.write_text("\ufeff" + text)
    assert read_item_text(path, ["B01", "B02"]).sentences == ["Oak Brush, in Hair.", "Half of\x01it."]


def test_details_that_are_no_json_name_the_line(tmp_path: Path) -> None:
    path = write(tmp_path / "meta.jsonl", {"parent_asin": "B00"}, {**FULL, "store": None, "details": "{Brand"})
    with pytest.raises(ValueError, match=r"meta\.jsonl, line 2: metadata of item B01: details is no JSON"):
        read_item_text(path, ["B01"])


def test_metadata_of_another_corpus(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"meta\.jsonl names none of the corpus's 1 items"):
        read_item_text(write(tmp_path / "meta.jsonl", FULL), ["B77"])


def test_metadata_without_the_id(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"meta\.jsonl has no column parent_asin; found asin, title"):
        read_item_text(write(tmp_path / "meta.jsonl", {"asin": "B01", "title": "One"}), ["B01"])


def test_categories_are_those_of_the_sentence(tmp_path: Path) -> None:
    written = {
        "B01": ["Bath &amp; Body", None, " <b>Soap</b>\n", "half \ud83c"],
        "B02": "Hair",
        "B03": [],
        "B04": None,
    }
    lines = [{"parent_asin": item, "title": "One", "categories": names} for item, names in written.items()]
    text = read_item_text(write(tmp_path / "meta.jsonl", *lines), [*written, "B05"])
    assert text.categories == [["Bath & Body", "Soap", "half \ufffd"], ["Hair"], [], [], []]
    assert text.sentences[:2] == ["One, in Bath & Body > Soap > half \ufffd.", "One, in Hair."]
