"""Ids, times and unread fields of reviews, in CSV and JSON lines: kept, counted, or told with their line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.json as pa_json
import pytest

from data_prep import columns
from data_prep.amazon2023 import COLUMNS, Source, read_interactions
from data_prep.columns import csv_columns, json_columns
from data_prep.fields import ID, TEXT
from data_prep.files import Malformed
from data_prep.filtering import Interactions

START = 1_600_000_000_000
HEADER = "user_id,parent_asin,rating,timestamp\n"


def review(number: int, **change: Any) -> bytes:
    said = {"user_id": f"u{number % 7}", "parent_asin": f"i{number % 5}", "timestamp": START + number, "text": "Nice."}
    return json.dumps({**said, **change}).encode() + b"\n"


def raw(path: Path, sixth: bytes, count: int = 1000) -> Interactions:
    lines = [review(number) for number in range(count)]
    path.write_bytes(b"".join([*lines[:5], sixth, *lines[6:]]))
    return read_interactions(Source("local", "raw", {"raw": path}))


def rated(path: Path, rows: bytes) -> Interactions:
    path.write_bytes(HEADER.encode() + f"u,i,5.0,{START}\n".encode() * 3 + rows)
    return read_interactions(Source("local", "rating_only", {"csv": path}))


NO_IDS = [
    None,
    "",
    " ",
    " u",
    3,
    1.5,
    float("nan"),
    True,
    ["u"],
    {"u": 1},
    "u\n",
    "u\t",
    "u\0",
    "\ud83c",
    "nan",
    "None",
]


@pytest.mark.parametrize("field", ["user_id", "parent_asin"])
@pytest.mark.parametrize("value", [*NO_IDS, "x" * 10_000_000], ids=lambda value: ascii(value)[:20])
def test_a_review_without_an_id_is_counted_and_merges_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, field: str, value: object
) -> None:
    read = raw(tmp_path / "r.jsonl", review(5, **{field: value}))
    assert (len(read.user), read.malformed_lines) == (999, 1)
    assert sorted(read.user_ids.to_pylist()) == [f"u{n}" for n in range(7)]
    assert sorted(read.item_ids.to_pylist()) == [f"i{n}" for n in range(5)]
    assert f"1 of 1000 lines are malformed (lines 6) and left out; line 6: {field} is " in caplog.text
    assert len(caplog.text) < 600


@pytest.mark.parametrize("value", [None, "", "2014-05-01", str(START), 1.5e12, 1.5, -1, 2**63, float("nan"), True])
def test_a_review_without_a_time_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture, value: object) -> None:
    read = raw(tmp_path / "r.jsonl", review(5, timestamp=value))
    assert (len(read.user), read.malformed_lines) == (999, 1)
    assert "line 6: timestamp is " in caplog.text
    assert "expected a whole number of milliseconds since 1970" in caplog.text


UNREAD = ["\ud83c", float("nan"), float("inf"), 10**4000, "a\0b", None, {"a": [{}]}]
BYTES = [b'"\xff\xfe"', b'"\x01"', b'"a\tb"', b"1e999", b"-" + b"9" * 5000, b"-Infinity"]


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize(
    "value", [*(json.dumps(value).encode() for value in UNREAD), *BYTES], ids=lambda value: value[:9]
)
def test_what_nothing_reads_costs_no_review(tmp_path: Path, value: bytes, alone: bool) -> None:
    """Nor does it where another line makes Arrow refuse their block."""
    line = review(5).replace(b'"Nice."', value)
    read = raw(tmp_path / "r.jsonl", line if alone else line + b"{\n" + review(7))
    assert (len(read.user), read.malformed_lines) == ((1000, 0) if alone else (1001, 1))
    assert read.timestamp[5] == START + 5


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (review(5).strip() + review(5), "no JSON (Extra data"),
        (b'{"user_id": "u",\n', "no JSON (Expecting property name"),
        (b"[1]\n", "[1] is no JSON object"),
        (b"\0\0\0\n", "no JSON (Expecting value"),
        (review(5).replace(b"Nice.", b"\\x"), "no JSON (Invalid \\\\escape"),
    ],
)
def test_a_line_is_one_review_or_malformed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line: bytes, why: str
) -> None:
    assert raw(tmp_path / "r.jsonl", line).malformed_lines == 1
    assert f"line 6: {why}".replace("\\\\", "\\") in caplog.text


def test_marks_returns_and_blank_lines_are_no_reviews(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"".join(review(n).strip() + b"\r\n \n" for n in range(50)))
    read = read_interactions(Source("local", "raw", {"raw": path}))
    assert (len(read.user), read.malformed_lines) == (50, 0)
    path.write_bytes(b"\n\n \n")
    with pytest.raises(ValueError, match=r"r\.jsonl holds blank lines alone"):
        read_interactions(Source("local", "raw", {"raw": path}))


def test_a_last_line_without_an_end_may_be_malformed(tmp_path: Path) -> None:
    """It is a block of its own, of which nothing is left."""
    path, malformed = tmp_path / "r.jsonl", Malformed(tmp_path / "r.jsonl")
    path.write_bytes(review(1) * 2_000 + b'{"user_id"')
    table = pa.concat_tables(json_columns(path, COLUMNS, malformed)).unify_dictionaries()
    assert (table.num_rows, malformed.bad) == (2_000, 1)


def test_a_block_that_arrow_refuses_is_given_to_it_once(tmp_path: Path) -> None:
    """Else a file of another kind would take hours to be told."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(review(1, user_id=3) * 2_000)
    with (
        mock.patch.object(pa_json, "read_json", wraps=pa_json.read_json) as arrow,
        pytest.raises(ValueError, match=r"2000 of 2000 lines are malformed .*; line 1: user_id is 3; expected an id"),
    ):
        list(json_columns(path, COLUMNS, Malformed(path)))
    assert arrow.call_count == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (b",i,5,1", "user_id is ''; expected an id"),
        (b"u, ,5,1", "parent_asin is ' '; expected an id"),
        (b"nan,i,5,1", "user_id is 'nan'; expected an id"),
        (b"a\0b,i,5,1", r"user_id is 'a\\x00b'"),
        (b"\xed\xa0\xbc,i,5,1", r"user_id is '\\udced"),
        (b"x" * 300 + b",i,5,1", "user_id is 'xxx"),
        (b"x" * 10_000_000 + b",i,5,1", "user_id is 'xxx"),
        (b"u,i,5", "3 fields; expected 4, as the header names them"),
        (b"u,i,5,1.0", "timestamp is '1.0'; expected a whole number of milliseconds"),
        (b"u,i,5,1.5e12", "timestamp is '1.5e12'"),
        (b"u,i,5,2014-05-01", "timestamp is '2014-05-01'"),
        (b"u,i,5,-1", "timestamp is -1"),
        (b"u,i,5,", "timestamp is ''"),
        (b"u,i,5,99999999999999999999", "timestamp is 99999999999999999999"),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_a_row_that_does_not_fit_is_told_with_its_line(tmp_path: Path, row: bytes, said: str) -> None:
    good = f"u,i,5.0,{START}\n".encode()
    with pytest.raises(ValueError, match=rf"r\.csv, line 6: {said}") as caught:
        rated(tmp_path / "r.csv", b"\n" + row + b"\n" + good)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_csv_columns_that_nothing_reads(tmp_path: Path) -> None:
    rows = b"".join(b"u,i," + rating + b",1600000000001\n" for rating in (b"", b"five", b"\xff", b"\0", b'"a\nb"'))
    assert len(rated(tmp_path / "r.csv", rows).user) == 8


def test_a_block_may_end_within_a_quoted_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "BLOCK_BYTES", 1000)
    text = b'"' + b"a line\n" * 30 + b'"'
    assert len(rated(tmp_path / "r.csv", b"".join(b"u,i,%b,%d\n" % (text, START + n) for n in range(50))).user) == 53


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\n" + HEADER.encode(), "begins with a blank line; expected a header"),
        (HEADER.encode().replace(b"\n", b" \n"), "has no column timestamp; found .*, timestamp $"),
        (b"x" * 200_000 + b"\n", "has no column user_id, parent_asin, timestamp; found xxx"),
        (b"user_id,user_id,parent_asin,timestamp\nu,v,i,1\n", "has 2 columns user_id; expected one"),
        (b"user_id\tparent_asin\n", r"has no column user_id, .*; found user_id\\tparent_asin"),
    ],
    ids=["blank", "blank at the end", "long", "twice", "tabs"],
)
def test_headers(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        csv_columns(path, COLUMNS)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ({3: '"good', 30: '"bad'}, r"line 4: .* \(read on to line 31\); expected a CSV row"),
        ({30: '"good'}, r"line 31: unexpected end of data \(read on to line 41\); expected a CSV row"),
        ({3: '"good"', 30: '"two\nlines"', 31: 'an 8" pan'}, None),
    ],
)
def test_a_quote_that_does_not_end_takes_no_row(tmp_path: Path, lines: dict[int, str], said: str | None) -> None:
    """In a column that nothing reads: to Arrow all up to the next quote is one value."""
    path = tmp_path / "q.csv"
    rows = [f"u{line},i,5.0,{line},{lines.get(line, 'fine')}" for line in range(1, 41)]
    path.write_text(HEADER.replace("\n", ",comment\n") + "\n".join(rows) + "\n")
    if said is None:
        assert csv_columns(path, COLUMNS).num_rows == 40
    else:
        with pytest.raises(ValueError, match=said):
            csv_columns(path, COLUMNS)


def test_lines_of_a_csv_may_end_with_a_return_alone(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes((HEADER + "u,i,5.0,1\nv,i,5.0,2\n").replace("\n", "\r").encode())
    assert csv_columns(path, COLUMNS)["user_id"].to_pylist() == ["u", "v"]


READERS: dict[str, Callable[[Path, int], Interactions]] = {
    "r.jsonl": lambda path, time: raw(path, review(5, timestamp=time)),
    "r.csv": lambda path, time: rated(path, f"\nu,i,5.0,{time}\n".encode()),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("time", [0, 1_600_000_000, 1_600_000_000_000_000, 1_600_000_000_000_000_000])
def test_times_of_two_units_are_told(tmp_path: Path, name: str, time: int) -> None:
    said = rf"{name}, line 6: timestamp is {time}, where the first is {START}; expected all of one unit, milliseconds"
    with pytest.raises(ValueError, match=said):
        READERS[name](tmp_path / name, time)


def test_times_of_one_other_unit_are_in_the_same_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "r.csv"
    path.write_text(HEADER + "u,i,5.0,1600000009\nv,i,5.0,1600000001\n")
    assert read_interactions(Source("local", "rating_only", {"csv": path})).timestamp.tolist() == [
        1600000009,
        1600000001,
    ]
    assert "timestamps like 1600000009 are no milliseconds; their order is used all the same" in caplog.text


def with_titles(path: Path, titles: dict[int, str], rows: int = 60, separator: str = "\t") -> Path:
    """A table whose last column is a title, `t` where none is told."""
    lines = [separator.join((f"u{n % 5}", f"i{n}", str(n), titles.get(n, "t"))) for n in range(rows)]
    path.write_text("\n".join([separator.join(("user", "item", "time", "title")), *lines]) + "\n")
    return path


OWN = {"user": ID, "item": ID, "time": TEXT}


@pytest.mark.parametrize("separator", ["\t", ","])
@pytest.mark.parametrize("end", [11, 12, 50])
def test_a_quote_that_was_never_meant_takes_no_rows(tmp_path: Path, separator: str, end: int) -> None:
    path = with_titles(tmp_path / "a.tsv", {10: '"Tis the season', end: 'TV 55"'}, separator=separator)
    said = f"a.tsv, line 12: a quoted value runs on to line {end + 2}, over lines that are rows"
    with pytest.raises(ValueError, match=said):
        csv_columns(path, OWN, separator)


@pytest.mark.parametrize("text", ["one, two, three\nfour, five, six, seven\neight", "a\n\nb", "x,y,z,w\n", "\n1,2"])
def test_a_value_of_several_lines_is_a_value(tmp_path: Path, text: str) -> None:
    path = with_titles(tmp_path / "a.csv", {10: f'"{text}"', 30: '"say ""so"""'}, separator=",")
    assert csv_columns(path, OWN).num_rows == 60


def test_values_of_several_lines_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow may cut within a value and not say so: the next row then begins with the value's end."""
    monkeypatch.setattr(columns, "BLOCK_BYTES", 300)
    path = tmp_path / "a.csv"
    rows = [[f"u{n}", f"i{n}", str(n), "good " * (n % 7) + "\n"] for n in range(400)]
    with path.open("w", newline="") as file:
        table = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        table.writerows([["user", "item", "time", "review"], *rows])
    assert csv_columns(path, OWN)["user"].to_pylist() == [f"u{n}" for n in range(400)]
