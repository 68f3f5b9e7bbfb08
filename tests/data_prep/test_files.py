"""Damaged and unusual files: each gives one sentence that says what and where."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from data_prep import files
from data_prep.amazon2023 import COLUMNS
from data_prep.columns import csv_columns, json_columns
from data_prep.files import Malformed, content_sha256, lines, records, sha256_of
from tests.damage import flipped

HEADER = "user_id,parent_asin,rating,timestamp\n"
ROWS = HEADER + "".join(f"u{n % 7},i{n % 5},5.0,{n}\n" for n in range(5000))


def review(number: int) -> str:
    return json.dumps({"user_id": f"u{number}", "parent_asin": "é", "timestamp": number, "text": {"any": [number]}})


def reviews(path: Path, bad: dict[int, str], count: int = 3000) -> Path:
    path.write_text("".join(f"{bad.get(number, review(number))}\n" for number in range(1, count + 1)))
    return path


def read_reviews(path: Path) -> tuple[list[int], Malformed]:
    malformed = Malformed(path)
    tables = list(json_columns(path, COLUMNS, malformed))
    return pa.concat_tables(tables)["timestamp"].to_pylist(), malformed


@pytest.mark.parametrize("name", ["plain.csv.gz", "packed.csv"])
def test_gzip_is_known_by_its_first_bytes_not_its_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(ROWS.encode() if name.startswith("plain") else gzip.compress(ROWS.encode()))
    table = csv_columns(path, COLUMNS)
    assert table["timestamp"].to_pylist() == list(range(5000))
    assert table["user_id"].cast(pa.string()).to_pylist()[:8] == ["u0", "u1", "u2", "u3", "u4", "u5", "u6", "u0"]


def test_gzip_of_several_members_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "members.tsv"
    path.write_bytes(gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    assert [text for _, text in lines(path)] == ["one", "two"]


@pytest.mark.parametrize("cut", [30, -4])
@pytest.mark.parametrize("reader", ["csv", "json", "lines"])
def test_truncated_gzip(tmp_path: Path, cut: int, reader: str) -> None:
    path = tmp_path / "cut.gz"
    text = "".join(review(n) + "\n" for n in range(500)) if reader == "json" else ROWS
    path.write_bytes(gzip.compress(text.encode())[:cut])
    readers: dict[str, Callable[[], object]] = {
        "csv": lambda: csv_columns(path, COLUMNS),
        "json": lambda: read_reviews(path),
        "lines": lambda: list(lines(path)),
    }
    with pytest.raises(ValueError, match=r"cut\.gz: the gzip is truncated or damaged"):
        readers[reader]()


def test_gzip_with_a_flipped_byte(tmp_path: Path) -> None:
    packed = gzip.compress(ROWS.encode())
    path = tmp_path / "flipped.gz"
    path.write_bytes(flipped(packed, len(packed) // 2))
    with pytest.raises(ValueError, match=r"flipped\.gz: "):
        list(lines(path))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is empty; expected a header"),
        (HEADER, "has a header but no rows"),
        ("user_id,asin,timestamp\nu,i,1\n", "has no column parent_asin; found user_id, asin, timestamp"),
        (HEADER + "u,i,5.0,soon\n", "line 2: timestamp is 'soon'; expected a whole number of milliseconds"),
        (HEADER + "u,i,5.0,1\nu,i\n", "line 3: 2 fields; expected 4, as the header names them"),
        (HEADER + "u,i,5.0,\n", "line 2: timestamp is ''; expected a whole number"),
        (HEADER + "u,i,5.0,1\n,i,5.0,1\n", "line 3: user_id is ''; expected an id"),
        ((HEADER + "ué,i,5.0,1\n").encode("latin-1"), r"line 2: user_id is 'u\\udce9'; expected an id"),
        ((HEADER + "u,i,5.0,1\n").encode("utf-16"), "is not UTF-8"),
    ],
)
def test_damaged_csv(tmp_path: Path, content: str | bytes, sentence: str) -> None:
    path = tmp_path / "damaged.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ValueError, match=sentence) as caught:
        csv_columns(path, COLUMNS)
    assert "damaged.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


BAD_LINES = [
    "{oops",
    "[1, 2]",
    '{"user_id": "u", "parent_asin": "i"}',
    '{"user_id": 3, "parent_asin": "i", "timestamp": 1}',
]


@pytest.mark.parametrize("bad", BAD_LINES)
def test_malformed_lines_are_left_out_counted_and_located(tmp_path: Path, bad: str) -> None:
    times, malformed = read_reviews(reviews(tmp_path / "r.jsonl", {7: bad, 2000: bad}))
    assert times == [n for n in range(1, 3001) if n not in (7, 2000)]
    assert str(malformed).endswith("r.jsonl: 2 of 3000 lines are malformed (lines 7, 2000)")


HALF = r"\ud83c"


def test_what_nothing_reads_costs_no_row(tmp_path: Path) -> None:
    """Half an emoji, as JSON may hold it and Arrow refuses it, in more lines than may be malformed."""
    text = json.dumps({"user_id": "u1", "parent_asin": "é", "timestamp": 0, "text": ["nice "]})
    broken = {n: text.replace(": 0", f": {n}").replace("nice ", f"nice {HALF}") for n in range(5, 2000, 50)}
    times, malformed = read_reviews(reviews(tmp_path / "r.jsonl", broken))
    assert times == list(range(1, 3001))
    assert (malformed.bad, malformed.read) == (0, 3000)


@pytest.mark.parametrize(
    "fields", [f'"parent_asin": "{HALF}", "timestamp": 1', '"parent_asin": "i", "timestamp": 1.5',
               '"parent_asin": null, "timestamp": 1', '"parent_asin": "i", "timestamp": true',
               '"parent_asin": "i", "timestamp": 99999999999999999999']
)  # fmt: skip
def test_such_a_line_is_judged_by_its_own_fields(tmp_path: Path, fields: str) -> None:
    bad = f'{{"user_id": "u", {fields}, "text": "{HALF}"}}'
    times, malformed = read_reviews(reviews(tmp_path / "r.jsonl", {7: bad}))
    assert 7 not in times
    assert (len(times), malformed.numbers) == (2999, [7])


def test_line_numbers_go_on_over_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BLOCK_BYTES", 1000)
    times, malformed = read_reviews(reviews(tmp_path / "r.jsonl", {1: "{", 2900: "{"}))
    assert times == [n for n in range(2, 3001) if n != 2900]
    assert malformed.numbers == [1, 2900]


@pytest.mark.parametrize("reader", ["columns", "records"])
def test_more_than_one_malformed_line_in_a_thousand_fails(tmp_path: Path, reader: str) -> None:
    path = reviews(tmp_path / "r.jsonl", dict.fromkeys((3, 5, 8, 13, 21, 34), "{"))
    sentence = r"r\.jsonl: 6 of 3000 lines are malformed \(lines 3, 5, 8, 13, 21, \.\.\.\); expected at most 1 in 1,000"
    with pytest.raises(ValueError, match=sentence):
        read_reviews(path) if reader == "columns" else list(records(path, Malformed(path)))


def test_exactly_one_malformed_line_in_a_thousand_passes(tmp_path: Path) -> None:
    path = reviews(tmp_path / "r.jsonl", dict.fromkeys((3, 5, 8), "{"))
    assert len(list(records(path, Malformed(path)))) == 2997


@pytest.mark.parametrize("line", ["null", " \tnull", "nullify", "[" * 100_000, '{"a":' * 100_000, "9" * 5_000])
def test_lines_that_crash_parsers_are_malformed_lines(tmp_path: Path, line: str) -> None:
    """Arrow ends the process at a first line that is null; Python's own parser gives up at deep nesting."""
    path = tmp_path / "r.jsonl"
    path.write_text(f"{line}\n" * 2)
    malformed = Malformed(path)
    with pytest.raises(ValueError, match=r"2 of 2 lines are malformed \(lines 1, 2\)"):
        list(json_columns(path, COLUMNS, malformed))
    with pytest.raises(ValueError, match=r"2 of 2 lines are malformed \(lines 1, 2\)"):
        list(records(path, Malformed(path)))


def test_a_line_without_an_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gzip of 64 MiB in 64 KiB: read block by block, and given up."""
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gzip.compress(b"[" * (1 << 26), mtime=0))
    assert path.stat().st_size < 1 << 17
    monkeypatch.setattr(files, "LONGEST_LINE_BYTES", 1 << 25)
    with pytest.raises(ValueError, match=r"bomb.jsonl.gz has a line of more than 33,554,432 bytes; expected lines"):
        list(lines(path))


def test_json_without_the_column(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"user_id": "u", "asin": "i", "timestamp": 1}\n')
    with pytest.raises(ValueError, match=r"r\.jsonl has no column parent_asin; found user_id, asin, timestamp"):
        read_reviews(path)


def test_json_that_is_not_utf8_names_the_line(tmp_path: Path) -> None:
    path = reviews(tmp_path / "r.jsonl", {})
    path.write_bytes(path.read_bytes() + '{"user_id": "é"}\n'.encode("latin-1"))
    for read in (lambda: read_reviews(path), lambda: list(records(path, Malformed(path)))):
        with pytest.raises(ValueError, match=r"r\.jsonl, line 3001: byte 0xe9 is not UTF-8"):
            read()


def test_empty_and_absent_files(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with pytest.raises(FileNotFoundError, match=r"r\.jsonl is missing"):
        list(lines(path))
    for content in (b"", gzip.compress(b"")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"r\.jsonl is empty"):
            list(lines(path))


def test_hashes_are_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, memory = tmp_path / "file", tmp_path / "memory"
    path.write_text("a")
    stat = path.stat()
    known = sha256_of(path, memory)
    with monkeypatch.context() as patched:
        patched.setattr(files, "content_sha256", None)
        assert sha256_of(path, memory) == known, "it is not read again"
    path.write_text("b")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert sha256_of(path, memory) == content_sha256(path) != known, "as a copy may have kept size and time"
    path.write_text("bb")
    assert sha256_of(path, memory) == "3b64db95cb55c763391c707108489ae18b4112d783300de38e033b4c98c3deaf"
