"""A corpus from a file of a user's own: its name, what is left of it, how that is told, how it is found again."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from data_prep import own_corpus
from data_prep.__main__ import main
from data_prep.corpus import Corpus
from data_prep.own_corpus import OwnFile, given, prepare, reopen, source_of

# 6 users take 6 items each; "few" takes 3, and with "two" and "one" some that nobody else takes.
ROOT = Path(__file__).resolve().parents[2]
TAKEN = {f"u{user}": [f"i{(user + step) % 6}" for step in range(6)] for user in range(6)}
SHORT = {"few": ["i0", "x", "y"], "two": ["i1", "z"], "one": ["i2"]}


def interactions(path: Path, taken: dict[str, list[str]] | None = None) -> Path:
    """In the order of time from the last row to the first."""
    rows = [
        f"{user},{item},{time}"
        for user, items in (taken or TAKEN | SHORT).items()
        for time, item in enumerate(items, 1_000)
    ]
    path.write_text("\n".join(["user,item,time", *reversed(rows)]) + "\n")
    return path


def taken(corpus: Corpus) -> dict[str, list[str]]:
    """What each user takes, oldest first."""
    ends = zip(corpus.user_ids, corpus.offsets[:-1], corpus.offsets[1:], strict=True)
    return {str(user): [str(corpus.item_ids[item - 1]) for item in corpus.flat[a:b]] for user, a, b in ends}


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("ratings.csv", "ratings"),
        ("My Shop-2024.v2.jsonl.gz", "my_shop_2024_v2"),
        ("u.data", "u"),
        ("Läden.parquet", "l_den"),
    ],
)
def test_a_corpus_is_named_by_its_file(file: str, name: str) -> None:
    assert OwnFile(Path("folder") / file).name == name


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("planted.csv", "would name its corpus planted, which is a name of ours; expected another file name"),
        ("All_Beauty.tsv", "would name its corpus all_beauty, which"),
        ("mine_unseen_users.csv", "would name its corpus mine_unseen_users, which"),
        ("index.csv", "would name its corpus index, which is a name of ours"),
        ("店.csv", "names no corpus; expected another file name"),
    ],
)
def test_names_that_a_file_cannot_give(file: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        _ = OwnFile(Path(file)).name


def test_a_path_is_told_from_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert given("planted") is given("plantd") is None
    interactions(tmp_path / "planted")
    interactions(tmp_path / "plantd")
    assert given("planted") is None, "a name of ours"
    assert given("plantd", ["user=who"], Path("i"), 3) == OwnFile(Path("plantd"), {"user": "who"}, Path("i"), 3)
    assert [given(path) is None for path in ("a/b", "./planted", "a.csv")] == [False] * 3


@pytest.mark.parametrize("columns", [["usr=u"], ["user"], ["user="], ["user=a", "item=a"], ["user=a", "user=b"]])
def test_a_mapping_of_another_form(columns: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^columns are '.*'; expected user=NAME item=NAME time=NAME, each another$"):
        given("a.csv", columns)


def test_what_is_told_of_a_corpus_of_ours() -> None:
    with pytest.raises(ValueError, match="columns and items are told of files of your own; planted is named"):
        given("planted", ["user=u"])
    with pytest.raises(ValueError, match="core is 0; expected a whole number above 0"):
        given("a.csv", core=0)
    with pytest.raises(ValueError, match=r"^source is local; a\.csv is a file of your own, which comes from nowhere"):
        given("a.csv", source="local")


def test_the_core_and_who_cannot_be_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = interactions(tmp_path / "shop.csv")
    with caplog.at_level(logging.WARNING):
        corpus = prepare(OwnFile(path), tmp_path)
    assert taken(corpus) == TAKEN
    assert "2 users have fewer than 3 interactions, which cannot be split, and are left out" in caplog.text
    assert [tuple(step.values()) for step in corpus.card["steps"]] == [
        ("rows read", 9, 9, 42),
        ("after duplicates", 9, 9, 42),
        ("users of 3 or more", 7, 8, 39),
        ("5-core, round 1", 6, 6, 36),
    ]
    whole = prepare(OwnFile(path, core=1), tmp_path)
    assert taken(whole) == TAKEN | {"few": SHORT["few"]}
    assert (whole.card["k"], own_corpus.too_short(whole.card)) == (1, 2)
    assert whole.fingerprint != corpus.fingerprint


def test_users_who_cannot_be_split_go_with_a_small_core_too(tmp_path: Path) -> None:
    """Of three items of "few" two go in the 2-core, which leaves one that cannot be split."""
    corpus = prepare(OwnFile(interactions(tmp_path / "shop.csv"), core=2), tmp_path)
    assert taken(corpus) == TAKEN
    assert corpus.card["steps"][-1] == {"step": "2-core, round 2", "users": 6, "items": 6, "interactions": 36}


def test_sequences_are_taken_as_they_are_but_for_short_ones(tmp_path: Path) -> None:
    path = tmp_path / "walks.tsv"
    path.write_text("b\tz y z y\na\tx y\nc\ty x w\n")
    corpus = prepare(OwnFile(path), tmp_path)
    assert taken(corpus) == {"b": list("zyzy"), "c": list("yxw")}
    assert (corpus.card["layout"], corpus.card["k"], own_corpus.too_short(corpus.card)) == ("sequences", 1, 1)
    with pytest.raises(ValueError, match="holds sequences, a user a line; expected no columns, for it has none"):
        prepare(OwnFile(path, {"user": "b"}), tmp_path)


@pytest.mark.parametrize(
    ("rows", "core", "said"),
    [
        ({"u": ["a", "b"], "v": ["a"]}, 1, "the 1-core is empty"),
        (SHORT, 5, "the 5-core is empty; expected some of its 3 users and 6 items to have 5"),
        ({"u": ["a", "b", "c"]}, 1, "corpus shop: 1 user is left of .*shop.csv; expected at least 2"),
    ],
)
def test_too_little_is_left(tmp_path: Path, rows: dict[str, list[str]], core: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        prepare(OwnFile(interactions(tmp_path / "shop.csv", rows), core=core), tmp_path)
    assert not list(tmp_path.rglob("flat.arrow"))


def test_a_folder_in_a_files_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "planted_cold_items").mkdir()
    for ours in ("planted_cold_items", "planted", "nothing-there", ""):
        assert given(ours) is None
    folder = given("mine")
    assert folder is not None
    with pytest.raises(IsADirectoryError, match=r"mine is a folder; expected a file of interactions, or a name of"):
        prepare(folder, tmp_path)
    with pytest.raises(IsADirectoryError, match=r"mine is a folder; expected a file that tells of the items"):
        prepare(OwnFile(interactions(tmp_path / "shop.csv"), items=Path("mine")), tmp_path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.csv is missing; expected a file of interactions, or a name of"):
        prepare(OwnFile(tmp_path / "none.csv"), tmp_path)
    path = interactions(tmp_path / "shop.csv")
    with pytest.raises(FileNotFoundError, match=r"none\.csv is missing; expected a file that tells of the items"):
        prepare(OwnFile(path, items=tmp_path / "none.csv"), tmp_path)


def test_text_and_what_it_changes(tmp_path: Path) -> None:
    path, items = interactions(tmp_path / "shop.csv"), tmp_path / "items.csv"
    items.write_text("item,title\n" + "".join(f"i{n},Thing {n}\n" for n in range(6)))
    bare, told = prepare(OwnFile(path), tmp_path), prepare(OwnFile(path, items=items), tmp_path)
    assert bare.item_text is None
    assert [str(text) for text in told.item_text or ()] == [f"Thing {n}." for n in range(6)]
    assert bare.sequences_sha256 == told.sequences_sha256
    assert bare.fingerprint != told.fingerprint
    assert sorted(told.card["files"]) == ["items.csv (items)", "shop.csv"]


def test_a_prepared_corpus_is_found_again_by_its_content(tmp_path: Path) -> None:
    path = interactions(tmp_path / "shop.csv")
    first = prepare(OwnFile(path), tmp_path)
    interactions(path, TAKEN | {"u6": TAKEN["u0"]})
    second = prepare(OwnFile(path), tmp_path)
    path.unlink()
    assert first.name == second.name == "shop"
    for corpus in (first, second):
        assert reopen("shop", source_of(corpus), tmp_path).fingerprint == corpus.fingerprint
    with pytest.raises(FileNotFoundError, match=r"has 2 corpora of the fingerprint .*; expected one, after `make data"):
        reopen("shop", own_corpus.SOURCE, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"has 0 corpora of the fingerprint 0123\.\.\."):
        reopen("shop", f"{own_corpus.SOURCE}0123", tmp_path)


def test_of_two_contents_of_a_name_none_is_taken_where_one_is_there_twice(tmp_path: Path) -> None:
    for name, taken in (("shop.csv", TAKEN), ("shop.csv", TAKEN | {"u6": TAKEN["u0"]}), ("Shop.csv", TAKEN)):
        prepare(OwnFile(interactions(tmp_path / name, taken)), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"has 3 corpora of the fingerprint"):
        reopen("shop", own_corpus.SOURCE, tmp_path)


def test_of_several_that_find_it_damaged_one_prepares_it(tmp_path: Path) -> None:
    own = OwnFile(interactions(tmp_path / "shop.csv"))
    corpus = prepare(own, tmp_path)
    (flat,) = tmp_path.rglob("flat.arrow")
    for _ in range(3):
        flat.unlink()
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: prepare(own, tmp_path).fingerprint, range(4)))
        assert found == [corpus.fingerprint] * 4


def test_a_damaged_one_is_prepared_again_and_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = OwnFile(interactions(tmp_path / "shop.csv"))
    corpus = prepare(own, tmp_path)
    (flat,) = tmp_path.rglob("flat.arrow")
    made = flat.stat().st_mtime_ns
    prepare(own, tmp_path)
    assert flat.stat().st_mtime_ns == made
    flat.unlink()
    with caplog.at_level(logging.WARNING):
        assert prepare(own, tmp_path).fingerprint == corpus.fingerprint
    assert "is damaged, or of an earlier version; it is prepared again" in caplog.text


def test_what_the_system_says_has_the_files_name_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    assert main([str(interactions(tmp_path / "shop.csv")), "--cache", str(tmp_path / "file")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_a_terminal_without_a_letter_ends_nothing(tmp_path: Path) -> None:
    path = interactions(tmp_path / "shop.csv")
    path.write_text(path.read_text().replace("user,item,time", "użytkownik,item,time"))
    command = [sys.executable, "-m", "data_prep", str(path), "--columns", "user=użytkownik", "--cache", str(tmp_path)]
    environment = os.environ | {"PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert (done.returncode, "user=u\\u017cytkownik" in done.stdout) == (0, True), done.stderr


def test_the_card_as_the_command_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = interactions(tmp_path / "shop.csv")
    path.write_text(path.read_text().replace("user,item,time", "who,item,time"))
    command = [str(path), "--cache", str(tmp_path), "--core", "4"]
    assert main([*command, "--columns", "user=who"]) == 0
    lines = [re.split(" {2,}", line) for line in capsys.readouterr().out.splitlines()]
    for line in (
        ["source", "own, layout csv, 4-core"],
        ["columns", "user=who, item=item, time=time"],
        ["users left out", "2 of fewer than 3 interactions"],
        ["rows read", "9", "9", "42"],
        ["4-core, round 1", "6", "6", "36"],
    ):
        assert line in lines
    assert main(command) == 2
    assert capsys.readouterr().err.startswith(f"error: {path} has no column for the user; found who, item, time; ")
