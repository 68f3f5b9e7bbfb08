"""The real files, read through GRBENCH_DATA: the papers' counts, and the official split row by row."""

from __future__ import annotations

import gzip
import html
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_prep.amazon2023 import Source, find_local, read_interactions
from data_prep.codes_file import find_codes, read_codes
from data_prep.corpus import Corpus, Part
from data_prep.filtering import k_core_sequences
from data_prep.prepare import committed_card, load

DATA = Path(os.environ.get("GRBENCH_DATA", ""))
pytestmark = pytest.mark.skipif("GRBENCH_DATA" not in os.environ, reason="GRBENCH_DATA names no folder of real data")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpora")


@pytest.mark.parametrize(
    ("name", "users", "items", "interactions", "train_pairs"),
    [
        ("all_beauty", 253, 356, 2_535, 1_776),
        ("beauty_2014", 22_363, 12_101, 198_502, 131_413),
        ("toys_2014", 19_412, 11_924, 167_597, 109_361),
        ("musical_instruments", 57_439, 24_587, 511_836, 339_519),
    ],
)
def test_counts(cache: Path, name: str, users: int, items: int, interactions: int, train_pairs: int) -> None:
    corpus = load(name, "local", cache)
    assert (corpus.users, corpus.items, corpus.interactions) == (users, items, interactions)
    assert len(corpus.examples("train")) == train_pairs
    assert corpus.card["checked"], "and the committed card, hashes included, was compared"


def test_the_codes_that_letters_authors_released(cache: Path) -> None:
    """Four of 256 for all items: 197 in use at the first level, 12,088 sequences."""
    corpus = load("beauty_2014", "local", cache)
    codes = read_codes(corpus, find_codes(corpus, "letter"))
    assert codes.sizes == (256,) * 4
    assert len(np.unique(codes.values, axis=0)) == 12_088
    assert len(np.unique(codes.values[:, 0])) == 197
    assert codes.values[list(corpus.item_ids.to_pylist()).index("7806397051")].tolist() == [110, 228, 51, 223]


def official(part: str) -> pd.DataFrame:
    path = DATA / f"amazon2023/5core/last_out_w_his/All_Beauty.{part}.csv.gz"
    return pd.read_csv(path, keep_default_na=False)


def rows(corpus: Corpus, part: Part) -> set[tuple[str, str, str]]:
    """Our examples as the official rows are written: user, item, history."""
    items, users = corpus.item_ids.to_pylist(), corpus.user_ids.to_pylist()
    examples = corpus.examples(part)
    histories = [
        " ".join(items[item - 1] for item in corpus.flat[start:stop])
        for start, stop in zip(examples.start, examples.stop, strict=True)
    ]
    names = ([users[user] for user in examples.user], [items[item - 1] for item in examples.target], histories)
    return set(zip(*names, strict=True))


@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_our_split_is_the_official_one_row_by_row(cache: Path, part: Part) -> None:
    corpus = load("all_beauty", "local", cache)
    assert corpus.card["layout"] == "rating_only"
    frame = official(part)
    theirs = set(zip(frame["user_id"], frame["parent_asin"], frame["history"], strict=True))
    assert len(theirs) == len(frame)
    first_rows = {row for row in theirs if not row[2]}
    assert len(first_rows) == (corpus.users if part == "train" else 0)
    assert rows(corpus, part) == theirs - first_rows


def test_the_split_files_give_the_same_corpus(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "5core").mkdir()
    (tmp_path / "5core/last_out_w_his").symlink_to(DATA / "amazon2023/5core/last_out_w_his")
    split, whole = load("all_beauty", "local", cache, tmp_path), load("all_beauty", "local", cache)
    assert split.card["layout"] == "last_out_w_his"
    assert split.card["checked"]
    assert split.sequences_sha256 == whole.sequences_sha256


def test_our_rules_leave_the_official_5_core_as_it_is(cache: Path) -> None:
    steps = load("all_beauty", "local", cache).card["steps"]
    assert {(step["users"], step["items"], step["interactions"]) for step in steps} == {(253, 356, 2535)}


@pytest.mark.parametrize(("k", "expected"), [(2, (470, 173, 1038)), (3, (6, 6, 18))])
def test_cores_of_raw_reviews(k: int, expected: tuple[int, int, int]) -> None:
    source = find_local("Subscription_Boxes", DATA, k)
    assert isinstance(source, Source)
    result = k_core_sequences(read_interactions(source), k, "subscription_boxes")
    assert result.steps[0] == {"step": "rows read", "users": 15_237, "items": 641, "interactions": 16_216}
    assert (len(result.user_ids), len(result.item_ids), len(result.flat)) == expected
    assert np.diff(result.offsets).min() >= k


def test_the_5_core_of_subscription_boxes_is_empty(cache: Path) -> None:
    with pytest.raises(ValueError, match="corpus subscription_boxes: the 5-core is empty"):
        load("subscription_boxes", "local", cache)


@pytest.mark.parametrize(
    ("name", "layout", "users", "items", "interactions"),
    [
        ("industrial_and_scientific", "rating_only", 50_985, 25_848, 412_947),
        ("video_games", "rating_only", 94_762, 25_612, 814_586),
        ("sports_2014", "sequences", 35_598, 18_357, 296_337),
    ],
)
def test_cards_of_absent_corpora_hold_the_papers_counts(
    name: str, layout: str, users: int, items: int, interactions: int
) -> None:
    expected = committed_card(name)["expected"][layout]
    assert (expected["users"], expected["items"], expected["interactions"]) == (users, items, interactions)
    assert expected["train_pairs"] == interactions - 3 * users


def test_no_sentence_of_beauty_2014_holds_html(cache: Path) -> None:
    raw = (DATA / "sequences/Beauty_2014.items.jsonl.gz").open("rb").read()
    assert gzip.decompress(raw).count(b"&amp;") > 1_000, "else there is nothing to decode"
    sentences = load("beauty_2014", "local", cache).item_text
    assert sentences is not None
    assert [text for text in sentences.to_pylist() if html.unescape(text) != text] == []
