"""Files of item codes: what is whole is read in the corpus's order; what is not is told in one sentence."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep import codes_file
from data_prep.codes_file import find_codes, read_codes
from data_prep.corpus import Corpus

ITEMS = ["7806397051", "B00A", "B00B"]
ROWS = [[1, 0, 3], [0, 2, 0], [1, 0, 3]]
CORPUS = Corpus(
    "toys", np.array([1, 2, 3, 1], dtype=np.int32), np.array([0, 4]), ["u0"], ITEMS, card={"origin": "generated"}
)


def tsv(rows: dict[str, list[int]]) -> bytes:
    return "".join(f"{item}\t{' '.join(map(str, codes))}\n" for item, codes in rows.items()).encode()


def index(rows: dict[str, list[int]]) -> bytes:
    letters = "abcdefgh"
    named = {
        item: [f"<{letter}_{code}>" for letter, code in zip(letters, codes, strict=False)]
        for item, codes in rows.items()
    }
    return json.dumps(named, indent=1).encode()


# In another order than the corpus's, with an item that it does not have.
WHOLE = {"B00B": ROWS[2], "B00Z": [4, 4, 4], "7806397051": ROWS[0], "B00A": ROWS[1]}


@pytest.mark.parametrize("form", [tsv, index])
@pytest.mark.parametrize("packed", [False, True])
def test_codes_come_in_the_corpus_order(form: Any, packed: bool, tmp_path: Path) -> None:
    """The name says nothing of what is inside: gzip and JSON are known by their content."""
    content = gzip.compress(form(WHOLE)) if packed else form(WHOLE)
    file = tmp_path / "codes.dat"
    file.write_bytes(content)
    found = read_codes(CORPUS, file)
    assert found.values.tolist() == ROWS
    assert found.values.dtype == np.int64
    assert found.sizes == (5, 5, 5), "of all codes in the file, alike on all levels"
    assert (found.name, found.sha256) == ("codes.dat", hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"B00A 1 2\n", "line 1 has no tab; expected item<TAB>code code"),
        (b"B00A\t1 2\n\nB00B\t1 2 3\n", r"line 3: 3 codes; expected 2, as in .*line 1"),
        (b"B00A\t\n", "line 1: 0 codes; expected 1 to 64"),
        (b"B00A\t1 2\t3 4\n", "line 1 has several sequences of codes; expected one, item<TAB>code code"),
        (b"B00A\t1 2\nB00A\t1 2\n", "line 2: item 'B00A' has codes already; expected each item once"),
        (b"B00Z\t1 2\nB00Z\t1 2\n", "line 2: item 'B00Z' has codes already"),
        (b"B00Z\t1 2\n\t1 2\n", "line 2: an item is ''; expected an id"),
        (b"nan\t1 2\n", "line 1: an item is 'nan'; expected an id"),
        (b"B" * 10_000_000 + b"\t1 2\n", "line 1: an item is 'BB"),
        (b'{"": ["<a_1>"]}', "item '': an item is ''; expected an id"),
        (b"B00A\t1 -2\n", "line 1: code '-2'; expected a whole number from 0 to 65,535"),
        (b"B00A\t1 2.5\n", "line 1: code '2.5'; expected a whole number"),
        (b"B00A\t1 65536\n", "line 1: code '65536'; expected a whole number"),
        ("B00A\t1 ²\n".encode(), "line 1: code '²'; expected a whole number"),
        ("B00A\t1 ٣\n".encode(), "line 1: code '٣'; expected a whole number"),
        (b"B00A\t" + b"9" * 100_000 + b"\n", "line 1: code '9+; expected a whole number"),
        (b"B00A\t" + b"1 " * 65 + b"\n", "line 1: 65 codes; expected 1 to 64"),
        (b"B00A\t1 2\nB00B\t1 \xff\n", "line 2: byte 0xff is not UTF-8"),
        (b"B00A\t1 2\nB00Y\t1 2\n", r"misses 2 of the 3 items of corpus toys \(first: 7806397051, B00B\) and names 1 "),
        # Without the time, which would give the case another name in every process.
        (gzip.compress(tsv(WHOLE), mtime=0)[:-9], "gzip is truncated or damaged"),
        (b"{}", "misses 3 of the 3 items"),
        (b'{"B00A": ["<a_1>", "<b_2>"]\n"B00B"}', "line 2: Expecting ',' delimiter; expected a JSON index"),
        (b'{"B00A": ["<a_1>"]} x', "line 1: Extra data; expected a JSON index"),
        (b'{"B00A": ["<a_1>"], "B00A": ["<a_1>"]}', "item 'B00A': item 'B00A' has codes already"),
        (b'{"B00A": []}', "item 'B00A': 0 codes; expected 1 to 64"),
        (b'{"B00A": ["<a_1>", "<a_2>"]}', "item 'B00A': level 2 is '<a_2>'; expected a code like <b_12>"),
        (b'{"B00A": ["<a_-1>"]}', "item 'B00A': level 1 is '<a_-1>'; expected a code like <a_12>"),
        (b'{"B00A": ["<a_65536>"]}', "item 'B00A': code '65536'; expected a whole number"),
        (b'{"B00A": [1, 2]}', "item 'B00A': its value is no list of texts; expected codes like <a_12>"),
        (b'{"B00A": {"a": 1}}', "item 'B00A': its value is no list of texts"),
        (b'{"B00A": "<a_1>"}', "item 'B00A': its value is no list of texts"),
        (b'{"B00A": null}', "item 'B00A': its value is no list of texts"),
        (b'{"B\\nA": null}', r"item 'B\\nA': its value"),
        (b'{"B00A": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "expected a JSON index of items"),
        (b'{"B00A": ' + b"9" * 10_000 + b"}", "expected a JSON index of items"),
        (b'{"B00A": "\xff"}', "byte 0xff is not UTF-8"),
    ],
)
def test_what_is_not_whole_is_told_in_one_sentence(content: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "codes.tsv"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=said) as error:
        read_codes(CORPUS, file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("write", [tsv, index])
def test_a_byte_order_mark_is_no_part_of_the_first_item(tmp_path: Path, write: Any) -> None:
    file = tmp_path / "codes"
    file.write_bytes(b"\xef\xbb\xbf" + write(dict(zip(ITEMS, ROWS, strict=True))))
    assert read_codes(CORPUS, file).values.tolist() == ROWS


def test_numbers_of_items_are_not_guessed_at(tmp_path: Path) -> None:
    """But a parent_asin may be a number, as one of the corpus's is."""
    file = tmp_path / "toys.index.json"
    file.write_bytes(index({"0": [1, 2], "1": [1, 2], "2": [1, 2]}))
    with pytest.raises(ValueError, match=r"names 3 that it does not have; its items are numbers, in an order that the"):
        read_codes(CORPUS, file)


def test_a_file_that_unpacks_beyond_measure_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes_file, "MOST_BYTES", 1 << 16)
    file = tmp_path / "bomb.json.gz"
    file.write_bytes(gzip.compress(b"{" + b" " * (1 << 24)))
    with pytest.raises(ValueError, match="unpacks to more than 65,536 bytes"):
        read_codes(CORPUS, file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none.tsv is missing"):
        read_codes(CORPUS, tmp_path / "none.tsv")


class TestFinding:
    def test_a_bare_name_is_a_file_beside_the_sequences(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GRBENCH_DATA", str(tmp_path))
        folder = tmp_path / "sequences"
        folder.mkdir()
        for name in ("Toys.codes.letter.tsv.gz", "toys.codes.other.tsv.gz", "Toys_2.codes.letter.tsv.gz"):
            (folder / name).touch()
        assert find_codes(CORPUS, "letter") == folder / "Toys.codes.letter.tsv.gz"
        assert find_codes(CORPUS, "LETTER") == folder / "Toys.codes.letter.tsv.gz"
        cold = replace(CORPUS, name=f"{CORPUS.name}_cold_items")
        assert find_codes(cold, "letter") == folder / "Toys.codes.letter.tsv.gz", "it has the same items"
        with pytest.raises(FileNotFoundError, match=r"has no toys.codes.tiger.tsv.gz in any case of letters"):
            find_codes(CORPUS, "tiger")

    def test_anything_else_is_a_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("GRBENCH_DATA", raising=False)
        file = tmp_path / "index.json"
        file.touch()
        assert find_codes(CORPUS, str(file)) == file
        monkeypatch.chdir(tmp_path)
        assert find_codes(CORPUS, "index.json") == Path("index.json")
        for missing in ("none.json", "a/b"):
            with pytest.raises(FileNotFoundError, match=r"is missing; expected a file of item codes \(option codes\)"):
                find_codes(CORPUS, missing)
        with pytest.raises(IsADirectoryError, match=r"is a folder; expected a file of item codes \(option codes\)"):
            find_codes(CORPUS, str(tmp_path))

    def test_the_kept_file_of_a_bare_name_is_found(self, tmp_path: Path) -> None:
        (tmp_path / "letter").touch()
        assert find_codes(CORPUS, str(tmp_path / "letter")) == tmp_path / "letter"

    def test_a_bare_name_without_a_folder_of_data(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("GRBENCH_DATA", raising=False)
        with pytest.raises(ValueError, match=r"option codes is 'letter', a file in GRBENCH_DATA, but that is not set"):
            find_codes(CORPUS, "letter")
