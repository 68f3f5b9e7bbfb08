"""Files of a user's own in every form, against the same five interactions, and what is said of those that are none."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.files import Malformed
from data_prep.filtering import Interactions
from data_prep.item_text import ItemText, read_item_text
from data_prep.own_files import columns_of, item_records, look, plain, read_interactions

# User, item and time; the rating beside them is nobody's affair.
ROWS = [("17", "i3", 1_000), ("4", "i1", 900), ("17", "i1", 1_000), ("4", "i3", 2_000), ("u9", "i2", 30)]
NAMES = ("userId", "movieId", "timestamp")


def read(path: Path, **mapped: str) -> Interactions:
    seen = look(path, mapped.values())
    return read_interactions(path, seen, {} if seen.form == "sequences" else columns_of(path, seen.columns, mapped))


def triples(found: Interactions) -> list[tuple[str, str, int]]:
    ids = (np.asarray(found.user_ids)[found.user], np.asarray(found.item_ids)[found.item])
    return list(zip(*(column.tolist() for column in (*ids, found.timestamp)), strict=True))


def delimited(path: Path, delimiter: str = ",", names: tuple[str, ...] = NAMES) -> None:
    lines = [delimiter.join([*names, "rating"])]
    lines += [delimiter.join([*map(str, row), "3.5"]) for row in ROWS]
    path.write_text("\n".join(lines) + "\n")


def jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps({"rating": None, **dict(zip(NAMES, row, strict=True))}) + "\n" for row in ROWS))


def parquet(path: Path, types: tuple[pa.DataType, ...] = (pa.string(), pa.large_string(), pa.int32())) -> None:
    columns = zip(NAMES, zip(*ROWS, strict=True), types, strict=True)
    pq.write_table(pa.table({name: pa.array(values, kind) for name, values, kind in columns}), path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("write", "form"),
    [
        (delimited, "csv"),
        (lambda path: delimited(path, "\t"), "csv"),
        (lambda path: delimited(path, ";"), "csv"),
        (lambda path: delimited(path, "\t", ("user_id:token", "item_id:token", "timestamp:float")), "csv"),
        (lambda path: delimited(path, ",", ("reviewerID", "asin", "unixReviewTime")), "csv"),
        (lambda path: delimited(path, ",", ("UID", "Item ID", "TS")), "csv"),
        (jsonl, "jsonl"),
        (parquet, "parquet"),
        (lambda path: parquet(path, (pa.dictionary(pa.int8(), pa.string()), pa.string(), pa.uint64())), "parquet"),
        (lambda path: parquet(path, (pa.string(), pa.string(), pa.timestamp("ms"))), "parquet"),
    ],
)
def test_every_form_gives_the_same_whatever_the_file_is_called(
    tmp_path: Path, write: Callable[[Path], None], form: str, packed: bool
) -> None:
    path = tmp_path / "interactions.dat"
    write(path)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    assert look(path).form == form
    assert triples(read(path)) == ROWS


def test_columns_under_names_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    delimited(path, names=("who", "what", "when"))
    assert triples(read(path, user="who", item="what", time="when")) == ROWS
    delimited(path, names=("user", "what", "time"))
    assert triples(read(path, item="what")) == ROWS


def test_of_several_usual_names_the_first_of_the_list() -> None:
    found = ("asin", "parent_asin", "user_id", "date", "Timestamp")
    assert columns_of(Path("x"), found, {}) == {"user": "user_id", "item": "parent_asin", "time": "Timestamp"}
    assert [plain(name) for name in ("user_id:token", "User ID", "movieId")] == ["userid", "userid", "movieid"]


@pytest.mark.parametrize(
    ("times", "order"),
    [
        (["2.0", "1.0", "3.0"], [2, 1, 3]),
        (["1.5", "1.25", "1e3"], [1, 0, 2]),
        (["2024-05-01", "2023-01-31", "2024-05-02"], None),
        (["2024-05-01 12:30:00", "2024-05-01 12:29:59.5", "2024-05-02 00:00"], None),
        (["2024-05-01T12:00:00Z", "2024-05-01T13:00:00+02:00", "2024-05-02T00:00:00Z"], None),
        (["-5", "-7", "0"], [-5, -7, 0]),
    ],
)
def test_times_in_any_usual_writing(tmp_path: Path, times: list[str], order: list[int] | None) -> None:
    path = tmp_path / "a.csv"
    path.write_text("user,item,time\n" + "".join(f"u,i{n},{time}\n" for n, time in enumerate(times)))
    found = read(path).timestamp
    assert found.dtype == np.int64
    assert found.argsort().tolist() == [1, 0, 2]
    assert order is None or found.tolist() == order


@pytest.mark.parametrize(
    "values",
    [
        [date(2024, 5, 1), date(1969, 5, 1), date(2024, 5, 2)],
        [datetime(2024, 5, 1, tzinfo=UTC), datetime(1971, 5, 1, tzinfo=UTC), datetime(2024, 5, 2, tzinfo=UTC)],
        pa.array([1.5e9 + 1, 1.5e9 + 0.5, 1.5e9 + 2], pa.float64()),
        pa.array([5, 4, 6], pa.timestamp("ns")),
    ],
)
def test_typed_times_of_parquet(tmp_path: Path, values: Any) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"user": [7, 7, 8], "item": [1, 2, 3], "time": values}), path)
    found = read(path)
    assert found.timestamp.argsort().tolist() == [1, 0, 2]
    assert found.user_ids.to_pylist() == ["7", "8"], "numbers are ids, too"


def test_ids_of_json_lines_may_be_numbers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"user": n % 7, "item": f"i{n}", "time": n / 2}) for n in range(2_000)]
    path.write_text("\n".join([*lines, '{"user": "seven", "item": "i", "time": 3}']))
    with caplog.at_level(logging.WARNING):
        found = read(path)
    assert triples(found)[:3] == [("0", "i0", 0), ("1", "i1", 1), ("2", "i2", 2)]
    assert found.malformed_lines == 1
    assert "line 2001: user is 'seven'; expected a whole number below 2^63, as on the first line" in caplog.text


def test_sequences_are_known_by_their_form(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_text("u2\tc a b\nu1\ta\n")
    assert look(path).form == "sequences"
    assert triples(read(path)) == [("u2", "c", 0), ("u2", "a", 1), ("u2", "b", 2), ("u1", "a", 3)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty; expected a header"),
        (b"\nuser,item,time\n", "begins with a blank line; expected a header"),
        (b"{broken\n", "line 1: no JSON"),
        (
            b"user,item,rating\nu,i,3\n",
            "has no column for the time; found user, item, rating; expected one named like ",
        ),
        (b"user\titem\nu\ti\n", "has no column for the time; found user, item; "),
        (b"who,item,time\nu,i,3\n", 'for the user; found who, item, time; .*COLUMNS="user=NAME item=NAME time=NAME"'),
        (b"user_id,userId,item,time\nu,v,i,3\n", "has user_id, userId for the user; found"),
        (b"196\t242\t3\t881250949\n", "has no column for the user; found 196, 242, 3, 881250949; "),
        (b"user,item,time\n", "has a header but no rows"),
        (b"user,item,time\nu,i,3\n,i,4\n", "line 3: user is ''; expected an id"),
        (b"user,item,time\nu,1.0,3\n", "line 2: item is '1.0'; expected an id"),
        (b"user,item,time\nu,i,3\nu,j,\n", "line 3: time is ''; expected a number, or a date"),
        (b"user,item,time\nu,i,3\nu,j,soon\n", "row 2: time is 'soon'; expected a number, or a date"),
        (
            b"user,item,time\nu,i,1500000000000.5\nu,j,1500000004.25\n",
            "row 2: time is 1500000004.25, where the first is",
        ),
        (b"user,item,time\nu,i,3\nu,j,inf\n", "row 2: time is 'inf'; expected a number, or a date"),
        (b"user,item,time\nu,i,3\nu,j,2024-05-01\n", "row 1: time is '3'; expected .* in all rows alike"),
        (b"user,item,time\nu,i,1700000000\nu,j,1700000000000\n", "row 2: time is 1700000000000, where the first is 17"),
        (b"user,item,time\nu,i,3,4\n", "line 2: 4 fields; expected 3"),
        (b'{"user": 1.5, "item": "i", "time": 3}\n', "line 1: user is 1.5; expected an id"),
        (b'{"user": null, "item": "i", "time": 3}\n', "line 1: user is missing; expected an id"),
        (b'{"user": "u", "item": "i", "time": [3]}\n', r"line 1: time is \[3\]; expected a number, or a date"),
        (
            b"u a b c " * 50_000,
            "has no column for the user; found u a b c u",
        ),
        (b"PAR1 and no more", "the Parquet file is damaged"),
        (b"u\ta b\nu\tc d\n", "line 2: user u has a line already"),
        (gzip.compress(b"user,item,time\nu,i,3\n" * 99, mtime=0)[:-9], "the gzip is truncated or damaged"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("time", pa.array([3, 1 << 63], pa.uint64()), "row 2: time is 9223372036854775808; expected a number"),
        ("time", pa.array([1.5, 2.5], pa.float32()), "column time holds float; expected a number"),
        ("time", [True, False], "column time holds bool; expected"),
        ("time", pa.array([1, 2], pa.time64("us")), r"column time holds time64\[us\]; expected"),
        ("time", [None, 3], "row 1: time is missing"),
        ("user", [["u"], ["v"]], "column user holds list"),
        ("user", ["u", None], "row 2: user is missing"),
        ("item", [1.0, 2.0], "column item holds double; expected an id"),
    ],
)
def test_parquet_columns_of_other_types(tmp_path: Path, column: str, values: Any, said: str) -> None:
    path, columns = tmp_path / "a.parquet", {"user": ["u", "v"], "item": ["i", "j"], "time": [1, 2]}
    pq.write_table(pa.table(columns | {column: values}), path)
    with pytest.raises(ValueError, match=said):
        read(path)


def test_a_parquet_file_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({name: pa.array([], pa.string()) for name in NAMES}), path)
    with pytest.raises(ValueError, match="has no rows; expected at least one interaction"):
        read(path)


# Items


ITEMS = [
    {"movieId": 1, "title": "Oak & Elm", "genres": "Drama|Silent Film", "price": "3.5", "brand": "Studio"},
    {"movieId": 2, "title": "", "description": "Two <b>friends</b>", "genres": "", "price": None, "brand": ""},
]


def items(path: Path, item: str | None = None) -> ItemText:
    return read_item_text(path, ["1", "2"], lambda path, malformed: item_records(path, malformed, item))


def items_csv(path: Path, delimiter: str = ",") -> None:
    names = list(ITEMS[1])
    rows = [delimiter.join(str(row.get(name) or "") for name in names) for row in ITEMS]
    path.write_text("\n".join([delimiter.join(names), *rows]))


@pytest.mark.parametrize(
    "write",
    [
        items_csv,
        lambda path: items_csv(path, "\t"),
        lambda path: path.write_bytes(gzip.compress("\n".join(map(json.dumps, ITEMS)).encode())),
        lambda path: pq.write_table(pa.Table.from_pylist([{"description": None, **row} for row in ITEMS]), path),
    ],
)
def test_items_in_every_form_give_the_template(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "items"
    write(path)
    text = items(path)
    assert text.sentences == ["Oak & Elm, $3.50, by Studio, in Drama > Silent Film.", "Two friends."]
    assert text.categories == [["Drama", "Silent Film"], []]


def test_texts_in_lists_are_texts(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    records: list[dict[str, Any]] = [
        {"parent_asin": "1", "title": None, "description": [], "categories": [["Beauty", "Hair"], ["Toys"]]},
        {"parent_asin": "2", "title": "", "description": ["Two", "friends"], "categories": None},
    ]
    path.write_text("\n".join(map(json.dumps, records)))
    text = items(path)
    assert text.sentences == ["in Beauty > Hair > Toys.", "Two friends."]
    assert text.categories == [["Beauty", "Hair", "Toys"], []]


def test_the_interactions_name_of_the_item_wins(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text('id,film,name\n2,1,"One, two"\n1,2,Three\n')
    assert items(path, "film").sentences == ["One, two.", "Three."]
    assert items(path).sentences == ["Three.", "One, two."]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("film,title\n1,One\n", "has no column for the item; found film, title; expected an id"),
        ("id,rating\n1,3\n", "has no column of text; found id, rating; expected an id .* title, description, brand"),
        ("id,title\n1,One,more\n", "line 2: 3 fields; expected 2, as the header names them"),
        ("id,title\n7,Seven\n", "names none of the corpus's 2 items"),
        ("id,title\n1.0,One\n", "1 of 1 lines are malformed"),
    ],
)
def test_what_is_wrong_with_items(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "items.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=said):
        items(path)


def test_lines_of_items_that_say_nothing_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("id,title\n" + "".join(f"{n},Film {n}\n" for n in range(2_000)) + "nan,None\n")
    malformed = Malformed(path)
    assert len(list(item_records(path, malformed))) == malformed.read == 2_001
    assert items(path).card["malformed_lines"] == 1


@pytest.mark.parametrize(
    "times",
    [
        # One with a decimal point would make all of them floats, which have no such digits.
        ["1700000000000000003", "1700000000000000001", "1700000000000000002.5"],
        ["1.71457E+12", "1.71458E+12", "1.71459E+12"],
    ],
)
def test_times_whose_digits_are_lost_are_refused(tmp_path: Path, times: list[str]) -> None:
    path = tmp_path / "a.csv"
    path.write_text("user,item,time\n" + "".join(f"u,i{n},{time}\n" for n, time in enumerate(times)))
    with pytest.raises(ValueError, match=r"row \d: time is '1.*'; expected a number, or a date"):
        read(path)


def test_times_of_nanoseconds(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    times = [f"2024-05-01 12:30:00.00000000{digit}" for digit in (2, 1, 3)]
    path.write_text("user,item,time\n" + "".join(f"u,i{n},{time}\n" for n, time in enumerate(times)))
    assert read(path).timestamp.argsort().tolist() == [1, 0, 2]


def test_the_first_bad_time_of_many_is_found_by_halves(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = "".join(f"u,i{n},{'soon' if n in (7_000, 9_000) else n}\n" for n in range(10_000))
    path.write_text("user,item,time\n" + rows)
    with pytest.raises(ValueError, match="row 7001: time is 'soon'"):
        read(path)


def test_a_dictionary_may_have_values_that_no_row_has(tmp_path: Path) -> None:
    users = pa.DictionaryArray.from_arrays(pa.array([0, 0], pa.int32()), pa.array(["u", "not used"]))
    pq.write_table(pa.table({"user": users, "item": ["a", "b"], "time": [1, 2]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet").user_ids.to_pylist() == ["u"]


@pytest.mark.parametrize("header", ["user\tsequence", "user_id\titem_ids", "uid:token\titems"])
def test_sequences_have_no_header(tmp_path: Path, header: str) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(f"{header}\nu1\ta b c\n")
    with pytest.raises(ValueError, match=r"line 1: .* is a header; expected sequences to have none"):
        look(path)


def of_items(path: Path, content: str | bytes, ids: Sequence[str] = ("1", "2")) -> tuple[list[str], list[list[str]]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = read_item_text(path, ids, item_records)
    return found.sentences, found.categories


@pytest.mark.parametrize(
    ("content", "sentences"),
    [
        ('{"id": "1"}\n{"id": "2", "title": "B"}\n', ["", "B."]),
        ('{"id": "1", "title": null, "name": "A"}\n{"id": "2", "title": " ", "description": "D"}\n', ["A.", "D."]),
        ('{"id": "1", "title": ["A", "B"], "brand": ["X"]}\n{"id": "2", "title": 7}\n', ["A B, by X.", "7."]),
        (f"id,title,description\n1,A,{'x' * 140_000}\n2,B,c\n", ["A.", "B."]),
    ],
    ids=["first line without text", "columns without a value", "lists", "a long field"],
)
def test_what_items_say(tmp_path: Path, content: str, sentences: list[str]) -> None:
    assert of_items(tmp_path / "items", content)[0] == sentences


def test_a_sentence_tells_its_categories(tmp_path: Path) -> None:
    """Item text is in a corpus's fingerprint; what two fingerprints share, no model may read otherwise."""
    path = tmp_path / "items"
    one = of_items(path, '{"id": "1", "title": "A", "categories": ["X > Y"]}\n{"id": "2", "title": "B"}\n')
    other = of_items(path, '{"id": "1", "title": "A", "categories": ["X", "Y"]}\n{"id": "2", "title": "B"}\n')
    assert one == other == (["A, in X > Y.", "B."], [["X", "Y"], []])


def test_items_that_are_not_utf8_are_told_with_their_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line 2: byte 0xe9 is not UTF-8"):
        of_items(tmp_path / "items.csv", "id,title\n1,Mis\xe9rables\n2,B\n".encode("latin-1"))


def test_of_parquet_items_only_what_is_needed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[list[str]]()
    batches = pq.ParquetFile.iter_batches

    def noted(file: pq.ParquetFile, columns: list[str]) -> Any:
        asked.append(columns)
        return batches(file, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", noted)
    pq.write_table(pa.table({"id": ["1", "2"], "title": ["A", "B"], "embedding": [[0.5], [1.5]]}), tmp_path / "items")
    assert read_item_text(tmp_path / "items", ["1", "2"], item_records).sentences == ["A.", "B."]
    assert asked == [["id", "title"]]
