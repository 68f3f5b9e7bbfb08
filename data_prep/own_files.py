"""Files of a user's own: CSV, TSV, JSON lines, Parquet or ordered sequences, with columns under any usual name.

What a file is, and whether it is packed, its first bytes say, whatever its name says. The readers give interactions,
and records of items in the names that `item_text` knows.
"""

from __future__ import annotations

import csv
import itertools
import logging
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int64, Real

from data_prep.amazon2023 import UNITS
from data_prep.columns import codes_of, csv_columns, csv_rows, json_columns
from data_prep.fields import ID, Field, fault, fit
from data_prep.files import BLOCK_BYTES, BYTE_ORDER_MARK, Malformed, decoded, is_gzip, parse_object, records, stream
from data_prep.filtering import Interactions
from data_prep.item_text import SEPARATOR
from data_prep.sequences import sequence_rows

logger = logging.getLogger(__name__)

Form = Literal["csv", "jsonl", "parquet", "sequences"]

# Usual names of the columns, without case, signs and what follows a colon; of several in one file the first here.
ROLES: Mapping[str, tuple[str, ...]] = {
    "user": ("user", "userid", "uid", "reviewerid", "customerid", "visitorid"),
    "item": ("item", "itemid", "iid", "parentasin", "asin", "movieid", "productid", "bookid", "trackid", "businessid"),
    "time": ("time", "timestamp", "ts", "unixreviewtime", "datetime", "date"),
}
# The same of a file of items, by the names of Amazon's metadata.
ITEM_FIELDS: Mapping[str, tuple[str, ...]] = {
    "title": ("title", "name", "itemname", "movietitle"),
    "price": ("price",),
    "store": ("brand", "store"),
    "categories": ("categories", "category", "genres", "genre"),
    "description": ("description",),
}
# Of what a file of sequences has no header for.
SEQUENCE_NAMES = ("sequence", "sequences", "items", "history", "itemids", "itemsequence", "itemidlist")
# Lines of JSON that tell which names a file has.
FIRST_LINES = 100
ITEM_IDS = (*ROLES["item"], "id")
KNOWN = {*sum(ROLES.values(), ()), *sum(ITEM_FIELDS.values(), ()), "id"}
MAPPING = 'COLUMNS="user=NAME item=NAME time=NAME" (--columns)'

PARQUET_MAGIC = b"PAR1"
DELIMITERS = "\t,;"
# What parts the categories of one text.
BETWEEN = re.compile(r"\s*\|\s*| > ")
# What text of a date may be.
MOMENTS = tuple(pa.timestamp(unit, zone) for unit in ("us", "ns") for zone in (None, "UTC"))
# Above it not every whole number is one of 64 bits with a decimal point.
EXACT = 2.0**53
# As spreadsheets write moments since 1970: fewer digits behind the point than the exponent asks for.
LONG = 9
EXPONENT = re.compile(r"[+-]?\d*\.?(\d*)[eE]\+?(\d+)")
TIME = Field(
    pa.string(),
    "a number, or a date like 2024-05-01 12:30:00, in all rows alike",
    lambda value: value not in (None, ""),
)
WHOLE = Field(
    pa.int64(), "a whole number below 2^63, as on the first line", lambda value: type(value) is int and _fits(value)
)
# Times of day, and numbers that round a moment to minutes.
NO_TIMES = (pa.types.is_boolean, pa.types.is_time, pa.types.is_float16, pa.types.is_float32)
REAL = Field(pa.float64(), "a number, as on the first line", lambda value: type(value) in (int, float) and _fits(value))


def _fits(number: int | float) -> bool:
    """Whether an Arrow column of whole numbers, or of others, can hold it."""
    return -(1 << 63) <= number < 1 << 63


class Seen(NamedTuple):
    """What the beginning of a file shows. Attributes: form; columns, of a table; delimiter, of a CSV file; first, the
    object on the first line of JSON lines."""

    form: Form
    columns: tuple[str, ...] = ()
    delimiter: str = ","
    first: Mapping[str, Any] = {}


def look(path: Path, mapped: Iterable[str] = ()) -> Seen:
    """What a file is.

    A first line with one tab is a user's sequence unless both sides of it are names of columns, usual ones or `mapped`.

    Raises:
        ValueError: the file is empty, or its first line cannot be read.
        FileNotFoundError: there is none.
    """
    with stream(path) as opened:
        start = opened.read(BLOCK_BYTES).removeprefix(BYTE_ORDER_MARK)
    if start.startswith(PARQUET_MAGIC):
        with _parquet(path) as file:
            return Seen("parquet", tuple(file.schema_arrow.names))
    line = decoded(re.split(rb"[\r\n]", start, maxsplit=1)[0], path, 1).strip(" ")
    if not line:
        found = "begins with a blank line" if start else "is empty"
        raise ValueError(f"{path} {found}; expected a header with columns, a JSON object or user<TAB>item item ...")
    if line.startswith("{"):
        try:
            first = parse_object(line)
        except ValueError as error:
            raise ValueError(f"{path}, line 1: {error}; expected a JSON object") from error
        return Seen("jsonl", tuple(first), first=first)
    user, _, rest = line.partition("\t")
    if line.count("\t") == 1 and plain(user) in ROLES["user"] and plain(rest) in SEQUENCE_NAMES:
        raise ValueError(
            f"{path}, line 1: {line!r} is a header; expected sequences to have none, user<TAB>item item ..."
        )
    if line.count("\t") == 1 and not all(plain(name) in KNOWN or name in mapped for name in line.split("\t")):
        return Seen("sequences")
    delimiter = max(DELIMITERS, key=line.count)
    try:
        return Seen("csv", tuple(next(csv.reader([line], delimiter=delimiter))), delimiter)
    except csv.Error as error:
        raise ValueError(
            f"{path}, line 1: {error}; expected a header with columns, or user<TAB>item item ..."
        ) from error


def plain(name: str) -> str:
    """A column's name as the tables of usual names have it: `user_id:token` is `userid`."""
    return re.sub("[^a-z0-9]", "", name.partition(":")[0].lower())


def columns_of(path: Path, found: tuple[str, ...], mapped: Mapping[str, str]) -> dict[str, str]:
    """Which column holds user, item and time: the one that is `mapped` to it, else one under a usual name.

    Raises:
        ValueError: there is none, or two whose names differ in case and signs alone.
    """
    chosen = {}
    for role, usual in ROLES.items():
        named = [name for name in found if name == mapped[role]] if role in mapped else _usual(found, usual)
        if len(named) != 1:
            expected = repr(mapped[role]) if role in mapped else f"one named like {', '.join(usual[:4])}, or {MAPPING}"
            raise ValueError(
                f"{path} has {', '.join(named) or 'no column'} for the {role}; found {_listed(found)}; "
                f"expected {expected}"
            )
        chosen[role] = named[0]
    return chosen


def read_interactions(path: Path, seen: Seen, columns: Mapping[str, str]) -> Interactions:
    """Users, items and times of a file in its order; of sequences a time is a place in the file.

    Args:
        columns: of `columns_of`; nothing else is read of a table.

    Raises:
        ValueError: the file is damaged, or a row has no usable user, item or time; more than one line of JSON in a
            thousand is malformed; times are of several units.
    """
    if seen.form == "sequences":
        return sequence_rows(path)
    malformed = Malformed(path)
    if seen.form == "csv":
        fields = {columns["user"]: ID, columns["item"]: ID, columns["time"]: TIME}
        table = csv_columns(path, fields, seen.delimiter)
    else:
        table = _parquet_table(path, columns) if seen.form == "parquet" else _jsonl(path, seen, columns, malformed)
    if not table.num_rows:
        raise ValueError(f"{path} has no rows; expected at least one interaction")
    user, item = (codes_of(_ids(path, columns[role], table[columns[role]])) for role in ("user", "item"))
    times = _times(path, columns["time"], table[columns["time"]])
    if malformed.bad:
        logger.warning("%s and left out; %s", malformed, malformed.why)
    return Interactions(user[0], item[0], times, user[1], item[1], malformed.bad)


def item_records(path: Path, malformed: Malformed, item: str | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Records of a file of items, numbered, as `item_text.read_item_text` reads them.

    The description stands where there is no title; of a list its texts are one. Categories that are one text are parted
    at `|` and ` > `, those that are lists of lists, from the widest on, follow each other, each parted at ` > `: the
    sentence then tells them. Of several columns for one thing the first that says something counts.

    Args:
        item: the interactions' name of the item column, which wins over the usual ones here.

    Raises:
        ValueError: the file has no column for the item, or none that says anything of it; it is damaged.
    """
    seen = look(path, [item] if item else [])
    shown = _shown(path, seen)
    named, fields = _item_columns(shown, item)
    if not named or not fields:
        raise ValueError(
            f"{path} has no column {'of text' if named else 'for the item'}; found {_listed(shown)}; "
            f"expected an id ({', '.join(ITEM_IDS[:6])}, ...) and any of title, description, brand, categories, price"
        )
    read = [named, *(name for names in fields.values() for name in names)]
    for number, record in _rows(path, seen, malformed, read):
        named, fields = _item_columns(tuple(record), item)
        given = {field: _first_said(record[name] for name in names) for field, names in fields.items()}
        item_id, categories = record.get(named), given.get("categories")
        given["parent_asin"] = str(item_id) if type(item_id) is int else item_id
        given["title"] = " ".join(_texts(given.get("title")) or _texts(given.get("description")))
        given["store"] = " ".join(_texts(given.get("store")))
        between = BETWEEN if isinstance(categories, str) else re.escape(SEPARATOR)
        given["categories"] = [part for text in _texts(categories) for part in re.split(between, text)]
        yield number, given


def _shown(path: Path, seen: Seen) -> tuple[str, ...]:
    """Columns of a table; of JSON lines the names on the first lines, for a line has those alone that it says."""
    if seen.form != "jsonl":
        return seen.columns
    first = itertools.islice(records(path, Malformed(path)), FIRST_LINES)
    return tuple(dict.fromkeys(name for _, record in first for name in record))


def _first_said(values: Iterable[Any]) -> Any:
    """The first value that holds some text, or a number."""
    return next((value for value in values if _texts(value)), None)


def _texts(value: Any) -> list[str]:
    """The texts of a value, of a list, or of lists in it; none for None and for blanks."""
    if isinstance(value, list):
        return [text for part in value for text in _texts(part)]
    return [] if value is None or not str(value).strip() else [str(value)]


def _listed(found: tuple[str, ...]) -> str:
    """Names of columns on one line, whatever they hold."""
    return f"{repr(', '.join(found))[1:-1]:.500}"


@cache
def _item_columns(found: tuple[str, ...], item: str | None) -> tuple[str, dict[str, list[str]]]:
    """The column of the item, "" where there is none, and which columns may hold which of `ITEM_FIELDS`."""
    named = item if item is not None and item in found else next(iter(_usual(found, ITEM_IDS)), "")
    holding = {field: [name for one in usual for name in _usual(found, [one])] for field, usual in ITEM_FIELDS.items()}
    return named, {field: names for field, names in holding.items() if names}


def _usual(found: Iterable[str], usual: Iterable[str]) -> list[str]:
    """The columns under the first of the usual names that there is."""
    return next(filter(None, ([name for name in found if plain(name) == known] for known in usual)), [])


def _jsonl(path: Path, seen: Seen, columns: Mapping[str, str], malformed: Malformed) -> pa.Table:
    fields = {}
    for role, name in columns.items():
        kinds: dict[type, Field] = {str: TIME, int: WHOLE, float: REAL} if role == "time" else {str: ID, int: WHOLE}
        value = seen.first[name]
        if type(value) not in kinds:
            raise ValueError(f"{path}, line 1: {fault(name, value, kinds[str])}")
        fields[name] = kinds[type(value)]
    return pa.concat_tables(json_columns(path, fields, malformed)).unify_dictionaries()


def _parquet_table(path: Path, columns: Mapping[str, str]) -> pa.Table:
    with _parquet(path) as file:
        return file.read(list(columns.values()))


@contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """
    Raises:
        ValueError: the file is damaged, be it found when it is opened or when it is read.
    """
    with stream(path) as opened:
        packed = pa.BufferReader(opened.read()) if is_gzip(path) else None
    try:
        with pq.ParquetFile(packed or path) as file:
            yield file
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        # Arrow's own errors carry no errno; those of the machine do.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        said = " ".join(str(error).split())
        raise ValueError(f"{path}: the Parquet file is damaged ({said:.200}); get a complete copy") from error


def _rows(path: Path, seen: Seen, malformed: Malformed, read: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """All rows of a table as records, numbered by line, or from 1 where there are no lines.

    Args:
        read: columns that are needed; others may be large.
    """
    if seen.form == "jsonl":
        yield from records(path, malformed)
    elif seen.form == "parquet":
        with _parquet(path) as file:
            rows = (row for batch in file.iter_batches(columns=read) for row in batch.to_pylist())
            yield from _counted(enumerate(rows, 1), malformed)
    else:
        lines = csv_rows(path, seen.delimiter)
        next(lines)
        yield from _counted(((number, _record(path, number, seen.columns, row)) for number, row in lines), malformed)


def _record(path: Path, number: int, columns: tuple[str, ...], row: list[str]) -> dict[str, Any]:
    if len(row) != len(columns):
        raise ValueError(f"{path}, line {number}: {len(row)} fields; expected {len(columns)}, as the header names them")
    decoded("\t".join(row).encode(errors="surrogateescape"), path, number)
    return dict(zip(columns, row, strict=True))


def _counted(rows: Iterable[tuple[int, dict[str, Any]]], malformed: Malformed) -> Iterator[tuple[int, dict[str, Any]]]:
    for numbered in rows:
        malformed.read += 1
        yield numbered
    malformed.check()


def _ids(path: Path, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column as dictionaries of text, one dictionary for all of it.

    Raises:
        ValueError: a value is no id.
    """
    text = _cast(column, pa.string())
    if text is None or pa.types.is_floating(column.type):
        raise ValueError(f"{path}: column {name} holds {column.type!s:.100}; expected {ID.expected}")
    if not column.type.equals(ID.type):
        column = text.dictionary_encode()
    if not fit(pa.table({name: column}), {name: ID}):
        # A dictionary may have values that no row has.
        column = text.dictionary_encode()
    if not fit(pa.table({name: column}), {name: ID}):
        row, value = _first_odd(column, ID.fits)
        raise ValueError(f"{path}, row {row}: {fault(name, value, ID)}")
    return column.unify_dictionaries()


def _times(path: Path, name: str, column: pa.ChunkedArray) -> Int64[np.ndarray, "M"]:
    """Whole numbers in the order of the times.

    Raises:
        ValueError: a value is no time; numbers are of several units, or of 32 bits with a decimal point.
    """
    if any(is_kind(column.type) for is_kind in NO_TIMES):
        raise ValueError(f"{path}: column {name} holds {column.type}; expected {TIME.expected}")
    found = None if column.null_count else _ordered(column)
    if found is None:
        row, value = _first_unordered(column)
        raise ValueError(f"{path}, row {row}: {fault(name, value, TIME)}")
    times = found.to_numpy()
    if not pa.types.is_temporal(found.type) and not pa.types.is_temporal(column.type):
        _check_unit(path, name, times)
    # Whatever else can be ordered, by its place in the order.
    return times if pa.types.is_integer(found.type) else np.unique(times, return_inverse=True)[1]


def _ordered(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """The column as whole numbers, finite numbers or moments, the first of these that all its values are."""
    whole, numbers = _cast(column, pa.int64()), _cast(column, pa.float64())
    if whole is None and numbers is not None:
        largest = np.abs(numbers.to_numpy()).max(initial=0)
        as_text = not pa.types.is_floating(column.type)
        if not np.isfinite(largest) or (as_text and (largest > EXACT or _rounded(column))):
            return None
        whole = _cast(numbers, pa.int64())
        if whole is None:
            return numbers
    moments = (_cast(column, kind) for kind in MOMENTS)
    return whole if whole is not None else next((found for found in moments if found is not None), None)


def _rounded(column: pa.ChunkedArray) -> bool:
    """Whether a number that is text has lost digits, as 1.71457E+12 has, so that moments have become one."""
    text = _cast(column, pa.string())
    assert text is not None
    found = (EXPONENT.fullmatch(each) for each in text.filter(pc.match_substring_regex(text, "[eE]")).to_pylist())
    return any(match and len(match[1]) < int(match[2]) >= LONG for match in found)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | None:
    try:
        return column.cast(kind)
    except pa.ArrowException:
        return None


def _check_unit(path: Path, name: str, times: Real[np.ndarray, "M"]) -> None:
    units = np.searchsorted(UNITS, times, side="right")
    odd = int((units != units[0]).argmax())
    if odd:
        raise ValueError(
            f"{path}, row {odd + 1}: {name} is {times[odd]}, where the first is {times[0]}; expected all of one unit, "
            "seconds or milliseconds since 1970"
        )


def _first_odd(column: pa.ChunkedArray, fits: Callable[[Any], Any]) -> tuple[int, Any]:
    """Number, from 1, and value of the first row that does not fit. Slow, to say where it is."""
    return next((number, value) for number, value in enumerate(column.to_pylist(), 1) if not fits(value))


def _first_unordered(column: pa.ChunkedArray) -> tuple[int, Any]:
    """Number, from 1, and value of the row up to which the rows before it can be ordered, by halves; of the first row
    where it can be by itself, so that they do not fit together."""

    def ordered(rows: pa.ChunkedArray) -> bool:
        return not rows.null_count and _ordered(rows) is not None

    row = bisect_left(range(1, len(column)), True, key=lambda count: not ordered(column.slice(0, count)))
    alone = column.slice(row, 1)
    return (1, column[0].as_py()) if ordered(alone) else (row + 1, alone[0].as_py())
