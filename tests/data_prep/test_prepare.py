"""`load` on a folder laid out as the official downloads are, with files small enough to check by hand."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import data_prep
from data_prep import __main__ as command
from data_prep import prepare
from data_prep.__main__ import main
from data_prep.amazon2023 import CATEGORIES, Source, names
from data_prep.corpus import Corpus
from data_prep.prepare import facts, load
from tests.damage import DAMAGE

USERS = [f"u{n}" for n in range(8)]
ITEMS = [f"i{n}" for n in range(6)]
# Every user takes every item, each starting elsewhere in the round: a 5-core as it stands.
TAKEN = [[ITEMS[(start + step) % 6] for step in range(6)] for start in range(8)]
ROWS: list[dict[str, Any]] = [
    {"user_id": user, "parent_asin": item, "rating": 5.0, "timestamp": 1000 * time}
    for user, items in zip(USERS, TAKEN, strict=True)
    for time, item in enumerate(items)
]


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


def write_split(folder: Path) -> None:
    parts: dict[str, list[dict[str, Any]]] = {"train": [], "valid": [], "test": []}
    for row in ROWS:
        time = row["timestamp"] // 1000
        part = {4: "valid", 5: "test"}.get(time, "train")
        history = " ".join(TAKEN[USERS.index(row["user_id"])][:time])
        parts[part].append({**row, "history": history})
    for part, rows in parts.items():
        write_csv(folder / f"5core/last_out_w_his/Software.{part}.csv", rows)


def write_layout(folder: Path, layout: str) -> None:
    if layout == "rating_only":
        write_csv(folder / "5core/rating_only/Software.csv", ROWS)
    elif layout == "last_out_w_his":
        write_split(folder)
    elif layout == "raw":
        write_jsonl(folder / "raw/review_categories/Software.jsonl.gz", [*ROWS, {**ROWS[0], "user_id": "passer-by"}])
    else:
        path = folder / "sequences/Software.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{user}\t{' '.join(items)}\n" for user, items in zip(USERS, TAKEN, strict=True)))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


LAYOUTS = ["rating_only", "last_out_w_his", "sequences", "raw"]


@pytest.mark.parametrize("below", [".", "amazon2023", "amazon2023/benchmark"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_corpus(data: Path, cache: Path, layout: str, below: str) -> None:
    write_layout(data / below, layout)
    corpus = load("software", "local", cache, data)
    assert corpus.card["layout"] == layout
    assert corpus.card["origin"] == "local"
    assert corpus.item_text is None
    assert corpus.user_ids.to_pylist() == USERS
    assert [[ITEMS[item - 1] for item in part] for part in np.split(corpus.flat, corpus.offsets[1:-1])] == TAKEN
    assert (str(corpus.flat.dtype), str(corpus.offsets.dtype)) == ("int32", "int64")


def test_preference_among_layouts(data: Path, cache: Path) -> None:
    for layout in reversed(LAYOUTS):
        write_layout(data, layout)
        assert load("software", "local", cache, data).card["layout"] == layout


def test_a_smaller_core_starts_from_raw_reviews(data: Path, cache: Path) -> None:
    write_layout(data, "rating_only")
    with pytest.raises(FileNotFoundError, match="has no files of Software for a 3-core"):
        load("software", "local", cache, data, k=3)
    write_layout(data, "raw")
    assert load("software", "local", cache, data, k=3).card["layout"] == "raw"
    assert load("software", "local", cache, data, k=6).card["layout"] == "rating_only"


def test_metadata_becomes_item_text_and_changes_the_fingerprint_only(data: Path, cache: Path) -> None:
    write_layout(data, "rating_only")
    bare = load("software", "local", cache, data)
    write_jsonl(
        data / "raw/meta_categories/meta_Software.jsonl.gz",
        [{"parent_asin": item, "title": f"Tool {item}", "store": "Shop"} for item in reversed(ITEMS)],
    )
    told = load("software", "local", cache, data)
    assert told.item_categories is not None
    assert (bare.item_categories, told.item_categories.to_pylist()) == (None, [[]] * len(ITEMS))
    assert told.item_text is not None
    assert told.item_text.to_pylist() == [f"Tool {item}, by Shop." for item in ITEMS]
    assert told.sequences_sha256 == bare.sequences_sha256
    assert told.fingerprint != bare.fingerprint


def test_the_second_load_prepares_nothing_and_maps_the_files(
    data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_layout(data, "rating_only")
    first = load("software", "local", cache, data)
    monkeypatch.setattr(prepare, "_prepare", None)
    second = load("software", "local", cache, data)
    assert facts(second) == facts(first)
    assert second.card == first.card
    assert not second.flat.flags.owndata
    assert not second.flat.flags.writeable


def test_changed_source_files_are_prepared_anew(data: Path, cache: Path) -> None:
    write_layout(data, "rating_only")
    first = load("software", "local", cache, data)
    write_csv(data / "5core/rating_only/Software.csv", [row for row in ROWS if row["user_id"] != "u0"])
    second = load("software", "local", cache, data)
    assert (first.users, second.users) == (8, 7)
    assert len(list((cache / "software").iterdir())) == 2


def test_histories_that_contradict_the_rows(data: Path, cache: Path) -> None:
    write_split(data)
    path = data / "5core/last_out_w_his/Software.test.csv"
    path.write_text(path.read_text().replace("i3 i4 i5 i0 i1", "i4 i3 i5 i0 i1"))
    sentence = "the history of user u3 is i4 i3 i5 i0 i1 i2; expected the order of the rows, i3 i4 i5 i0 i1 i2"
    with pytest.raises(ValueError, match=sentence):
        load("software", "local", cache, data)
    assert not (cache / "software").exists(), "a refused corpus leaves nothing prepared"


@pytest.fixture
def cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cards"
    folder.mkdir()
    monkeypatch.setattr(prepare, "CARDS", folder)
    return folder


def expect(cards: Path, **expected: Any) -> None:
    (cards / "software.json").write_text(json.dumps({"expected": {"rating_only": expected}}))


def test_the_card_must_match_on_every_load(data: Path, cache: Path, cards: Path) -> None:
    write_layout(data, "rating_only")
    good = facts(load("software", "local", cache, data))
    expect(cards, **good)
    assert load("software", "local", cache, data).card["checked"]
    expect(cards, **{**good, "users": 9, "sequences_sha256": "00"})
    differences = f"users is 8, expected 9; sequences_sha256 is {good['sequences_sha256']}, expected 00"
    with pytest.raises(ValueError, match=rf"corpus software \(rating_only\) does not match .*: {differences}"):
        load("software", "local", cache, data)


def test_the_fingerprint_is_compared_only_with_item_text(data: Path, cache: Path, cards: Path) -> None:
    write_layout(data, "rating_only")
    expect(cards, fingerprint="00")
    assert load("software", "local", cache, data).item_text is None
    write_jsonl(data / "raw/meta_categories/meta_Software.jsonl", [{"parent_asin": "i1", "title": "One"}])
    with pytest.raises(ValueError, match=r"fingerprint is [0-9a-f]{64}, expected 00"):
        load("software", "local", cache, data)


@pytest.mark.parametrize("how", ["truncated", "empty"])
def test_a_damaged_card_is_named(data: Path, cache: Path, cards: Path, how: str) -> None:
    write_layout(data, "rating_only")
    (cards / "software.json").write_bytes(DAMAGE[how](b'{"sources": {}}'))
    with pytest.raises(ValueError, match=r"cards/software\.json: no JSON .*; expected a card"):
        load("software", "local", cache, data)


def test_a_card_holds_for_its_layout_and_k_only(data: Path, cache: Path, cards: Path) -> None:
    expect(cards, users=9)
    write_layout(data, "raw")
    assert not load("software", "local", cache, data).card["checked"]
    write_layout(data, "rating_only")
    assert not load("software", "local", cache, data, k=6).card["checked"]


@pytest.mark.parametrize(("name", "suggestion"), [("all_beuty", "all_beauty"), ("All_Beauty", "all_beauty"), ("", "")])
def test_unknown_corpus(cache: Path, name: str, suggestion: str) -> None:
    with pytest.raises(ValueError, match=f"no corpus '{name}'; did you mean '{suggestion}"):
        load(name, "auto", cache)


def test_unknown_source(cache: Path) -> None:
    with pytest.raises(ValueError, match="no source 'offical'; did you mean 'official'"):
        load("software", "offical", cache)


def test_local_only_and_generated_corpora_are_not_downloaded(
    cache: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRBENCH_DATA", raising=False)
    with pytest.raises(ValueError, match=r"no Amazon-2023 download; .* holds sequences/Beauty_2014\.tsv"):
        load("beauty_2014", "official", cache)
    with pytest.raises(ValueError, match="planted is generated, not hub"):
        load("planted", "hub", cache)
    with pytest.raises(FileNotFoundError, match="GRBENCH_DATA is not set"):
        load("software", "local", cache)


@pytest.mark.parametrize("origin", ["official", "hub"])
def test_downloads_go_through_the_same_readers(
    data: Path, cache: Path, origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_layout(data / "benchmark", "rating_only")
    write_jsonl(data / "raw/meta_categories/meta_Software.jsonl.gz", [{"parent_asin": i, "title": i} for i in ITEMS])
    if origin == "official":
        plain = data / "benchmark/5core/rating_only/Software.csv"
        plain.with_name("Software.csv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    else:
        packed = data / "raw/meta_categories/meta_Software.jsonl.gz"
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    monkeypatch.setattr(f"data_prep.amazon2023.{origin.upper()}", data.as_uri())
    corpus = load("software", origin, cache)
    assert corpus.card["origin"] == origin
    assert corpus.item_text is not None
    assert (corpus.users, corpus.item_text.to_pylist()) == (8, [f"{item}." for item in ITEMS])
    assert list(corpus.card["files"]) == ["5core/rating_only/Software.csv", "raw/meta_categories/meta_Software.jsonl"]


def test_a_download_that_changed_afterwards(data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_layout(data / "benchmark", "rating_only")
    (data / "benchmark/5core/rating_only/Software.csv").rename(data / "benchmark/5core/rating_only/Software.csv.gz")
    write_jsonl(data / "raw/meta_categories/meta_Software.jsonl.gz", [{"parent_asin": i, "title": i} for i in ITEMS])
    monkeypatch.setattr("data_prep.amazon2023.OFFICIAL", data.as_uri())
    load("software", "official", cache)
    downloaded = cache / "downloads/official/5core/rating_only/Software.csv.gz"
    downloaded.write_text(downloaded.read_text().replace("5.0", "4.0", 1) + "\n")
    with pytest.raises(ValueError, match=r"Software\.csv\.gz has changed: SHA-256 is [0-9a-f]{64}, expected"):
        load("software", "official", cache)


@pytest.fixture
def site(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both places of downloads in one folder: packed files as the site's, plain ones as the hub's."""
    write_layout(data / "benchmark", "rating_only")
    write_jsonl(data / "raw/meta_categories/meta_Software.jsonl.gz", [{"parent_asin": i, "title": i} for i in ITEMS])
    packed = data / "raw/meta_categories/meta_Software.jsonl.gz"
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    plain = data / "benchmark/5core/rating_only/Software.csv"
    plain.with_name("Software.csv.gz").write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
    for origin in ("OFFICIAL", "HUB"):
        monkeypatch.setattr(f"data_prep.amazon2023.{origin}", data.as_uri())
    return data


@pytest.mark.parametrize(("origin", "ending"), [("official", ".gz"), ("hub", "")])
def test_a_card_written_from_a_download_refuses_another_one(
    site: Path, cache: Path, cards: Path, tmp_path: Path, origin: str, ending: str
) -> None:
    assert main(["software", "--source", origin, "--cache", str(cache), "--card"]) == 0
    name = f"5core/rating_only/Software.csv{ending}"
    written = json.loads((cards / "software.json").read_text())
    first = hashlib.sha256((site / "benchmark" / name).read_bytes()).hexdigest()
    assert list(written["sources"]) == [name, f"raw/meta_categories/meta_Software.jsonl{ending}"]
    assert written["sources"][name] == first
    assert written["expected"] == {"rating_only": facts(load("software", origin, cache))}

    content = (site / "benchmark/5core/rating_only/Software.csv").read_bytes().replace(b"5.0", b"4.0")
    other = gzip.compress(content, mtime=0) if ending else content
    (site / "benchmark" / name).write_bytes(other)
    second = hashlib.sha256(other).hexdigest()
    with pytest.raises(ValueError, match=rf"Software\.csv.*SHA-256 is {second}; expected {first}") as caught:
        load("software", origin, tmp_path / "elsewhere")
    assert "\n" not in str(caught.value)


def test_a_card_keeps_what_it_says(site: Path, cache: Path, cards: Path) -> None:
    """Hashes that are there came from a download that was checked against them; counts may be the papers'."""
    known = {"about": "Ours.", "sources": {"another": "00"}, "expected": {"rating_only": {"users": 8}}}
    (cards / "software.json").write_text(json.dumps(known))
    for origin in ("official", "hub"):
        prepare.write_card(load("software", origin, cache))
    written = json.loads((cards / "software.json").read_text())
    assert (written["about"], written["expected"]) == ("Ours.", known["expected"])
    assert len(written["sources"]) == 5, "the site's two, the hub's two, and the other"


def test_local_files_have_no_hash_to_expect_of_others(
    data: Path, cache: Path, cards: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRBENCH_DATA", str(data))
    write_layout(data, "rating_only")
    (cards / "software.json").write_text(json.dumps({"sources": {"5core/rating_only/Software.csv": "00"}}))
    assert main(["software", "--cache", str(cache)]) == 0, "they may be packed otherwise"
    assert main(["software", "--cache", str(cache), "--card"]) == 2
    assert "error: software is local, not downloaded; expected source official or hub" in capsys.readouterr().err


def test_malformed_lines_are_on_the_card(
    data: Path, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRBENCH_DATA", str(data))
    write_jsonl(data / "raw/review_categories/Software.jsonl.gz", [*ROWS * 25, {**ROWS[0], "user_id": None}])
    assert load("software", "local", cache).card["malformed_lines"] == 1
    assert load("software", "local", cache).users == 8
    assert main(["software", "--cache", str(cache)]) == 0
    assert re.search("malformed lines +1, left out", capsys.readouterr().out)


def test_auto_takes_the_local_folder_when_it_has_the_corpus(
    data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.mkdir()
    monkeypatch.setenv("GRBENCH_DATA", str(data))
    monkeypatch.setattr("data_prep.amazon2023.OFFICIAL", (data / "nowhere").as_uri())
    with pytest.raises(ValueError, match=r"nowhere/benchmark/5core/rating_only/Software\.csv\.gz cannot be reached"):
        load("software", "auto", cache)
    write_layout(data, "sequences")
    assert load("software", "auto", cache).card["origin"] == "local"


def test_planted_goes_the_raw_way(cache: Path) -> None:
    corpus = load("planted", cache=cache)
    assert corpus.card["origin"] == "generated"
    assert corpus.card["layout"] == "raw"
    steps = corpus.card["steps"]
    assert steps[0]["interactions"] > steps[1]["interactions"] > steps[-1]["interactions"], "it plants what must go"
    assert corpus.item_text is not None
    assert all(corpus.item_text.to_pylist())
    assert corpus.item_categories is not None
    named = zip(corpus.item_text.to_pylist(), corpus.item_categories.to_pylist(), strict=True)
    assert all(text.endswith(f", in {' > '.join(categories)}.") for text, categories in named)
    # 5 departments, 10 shelves, 40 leaves.
    assert (corpus.categories().shape, corpus.categories().max()) == ((1001, 3), 55)


def test_the_command_prints_the_card(
    data: Path, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRBENCH_DATA", str(data))
    write_layout(data, "raw")
    assert main(["software", "--cache", str(cache)]) == 0
    printed = capsys.readouterr().out
    assert "local, layout raw, 5-core" in printed
    assert [line.split() for line in printed.splitlines()[-3:]] == [
        ["rows", "read", "9", "6", "49"],
        ["after", "duplicates", "9", "6", "49"],
        ["5-core,", "round", "1", "8", "6", "48"],
    ]


def test_the_command_says_an_error_in_one_line(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["softwar", "--cache", str(cache)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: no corpus 'softwar'; did you mean 'software'")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.split() == names() == data_prep.names()
    others = {"beauty_2014", "sports_2014", "toys_2014", "planted", "planted_noise"}
    assert {category.lower() for category in CATEGORIES} | others == set(names())
    assert data_prep.load is load
    assert Corpus.__name__ in repr(load.__annotations__["return"])


def test_endings_of_a_name_add_up(workplace: Path, planted_corpus: Corpus) -> None:
    """Ties are shuffled first; times stay, so that the moment of the cut is the same."""
    cache = workplace / "runs/corpora"
    shuffled, cut = (load(f"planted{ties}_global_time", cache=cache) for ties in ("_shuffled_ties", ""))
    left = [[step["interactions"] for step in corpus.card["steps"]] for corpus in (shuffled, cut)]
    assert left[0] == left[1]
    cold = load("planted_shuffled_ties_cold_items", cache=cache)
    assert cold.fingerprint == planted_corpus.shuffled_ties().cold_items().fingerprint


def test_an_ending_stands_once() -> None:
    with pytest.raises(
        ValueError, match="'planted_shuffled_ties_shuffled_ties' has _shuffled_ties twice; expected it once"
    ):
        load("planted_shuffled_ties_shuffled_ties")


def test_an_interrupted_preparation_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "load", interrupted)
    assert main(["planted"]) == 130
    assert capsys.readouterr().err == "\ninterrupted; the same command goes on\n"


def test_a_prepared_corpus_is_known_by_all_that_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, told = Source("local", "raw", {}), Source("local", "raw", {}, {"meta": Path("meta")})
    keys = [
        prepare._content_key(plain, {"a": "0"}, 5),
        prepare._content_key(plain, {"a": "0"}, 6),
        prepare._content_key(plain, {"a": "1"}, 5),
        prepare._content_key(Source("local", "sequences", {}), {"a": "0"}, 5),
        prepare._content_key(told, {"a": "0"}, 5),
    ]
    assert prepare._content_key(Source("official", "raw", {}), {"a": "0"}, 5) == keys[0]
    monkeypatch.setattr(prepare, "TEMPLATE_SHA256", "another")
    assert prepare._content_key(plain, {"a": "0"}, 5) == keys[0]
    keys.append(prepare._content_key(told, {"a": "0"}, 5))
    monkeypatch.setattr(prepare, "PREPARATION_VERSION", prepare.PREPARATION_VERSION + 1)
    keys.append(prepare._content_key(plain, {"a": "0"}, 5))
    assert len(set(keys)) == len(keys) == 7
