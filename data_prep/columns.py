"""Columns of CSV and JSON-lines files, parsed by Arrow; where it refuses, the line at fault is found by Python."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json

from data_prep.fields import Field, fault, fit
from data_prep.files import (
    BLOCK_BYTES,
    BYTE_ORDER_MARK,
    LONGEST_LINE_BYTES,
    Malformed,
    blocks,
    decoded,
    need_columns,
    parse_object,
    stream,
)

# Characters of a parser's own words, which quote what they could not read.
QUOTED = 300
# A description of 140,000 letters is one value, too.
csv.field_size_limit(LONGEST_LINE_BYTES)


def json_columns(path: Path, fields: dict[str, Field], malformed: Malformed) -> Iterator[pa.Table]:
    """Columns of a JSON-lines file, block by block; every line must have a value for each of `fields`.

    Arrow parses a block at once. One that it refuses is read line by line for these fields alone: what nothing reads
    (half an emoji in a review's text, a byte that is not UTF-8) costs no row. A line whose own fields say nothing
    usable is counted in `malformed` and left out.

    Raises:
        ValueError: a column is missing from the whole file; more than one line in a thousand is malformed; a line
            whose own fields are not UTF-8; the file is empty or damaged.
    """
    first_line = 1
    for block in blocks(path):
        if first_line == 1:
            need_columns(path, fields, _first(block) or fields)
        table = _parse_block(block, fields)
        if table is None:
            table = _parse_lines(path, block, first_line, fields, malformed)
        malformed.read += table.num_rows
        yield table
        first_line += block.count(b"\n")
    malformed.read += malformed.bad
    if not malformed.read:
        raise ValueError(f"{path} holds blank lines alone; expected JSON objects, one a line")
    malformed.check()


def csv_columns(path: Path, fields: dict[str, Field], delimiter: str = ",") -> pa.Table:
    """Named columns of a CSV file with a header; each row must have a value that fits each of them.

    Raises:
        ValueError: a missing column, or one named twice; a row with a value that does not fit, or of another length, or
            a quoted value that holds rows (the sentence names its line); not UTF-8; an empty file; a damaged gzip.
    """
    _check_header(path, fields, delimiter)
    read = pa_csv.ReadOptions(block_size=BLOCK_BYTES)
    types = {name: field.type for name, field in fields.items()}
    convert = pa_csv.ConvertOptions(
        include_columns=list(types), column_types=types, null_values=[""], strings_can_be_null=True
    )

    def parsed(newlines_in_values: bool) -> pa.Table:
        with stream(path) as opened:
            parse = pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=newlines_in_values)
            return pa_csv.read_csv(opened, read, parse, convert)

    try:
        table = _fitting(lambda: parsed(newlines_in_values=False), fields)
        if table is None:
            if said := _row_fault(path, fields, delimiter):
                raise ValueError(said)
            # The end of a block was within a quoted value; the slower way knows of them.
            table = parsed(newlines_in_values=True)
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split("\n", 1)[0].split()).rstrip(".")[:QUOTED]
        raise ValueError(f"{path}: {reason}; expected UTF-8 CSV rows as the header names them") from error
    if not table.num_rows:
        raise ValueError(f"{path} has a header but no rows; expected at least one")
    if _lines(path) > 1 + table.num_rows:
        # Values have line breaks, or a quote that nothing ends has taken rows for its value: Arrow does not tell.
        _check_quotes(path, fields, delimiter)
    if not fit(table, fields):
        raise ValueError(f"{path} has a row without {', '.join(fields)} as expected")
    return table


def _fitting(parse: Callable[[], pa.Table], fields: dict[str, Field]) -> pa.Table | None:
    """A table whose values are what is expected; None where Arrow refuses it, or some are not."""
    try:
        table = parse()
    except pa.ArrowInvalid:
        return None
    return table if fit(table, fields) else None


def _check_quotes(path: Path, fields: dict[str, Field], delimiter: str) -> None:
    """
    Raises:
        ValueError: a quoted value does not end, or all that it holds behind its first line are rows: its first quote is
            a sign of inches or a title's, and was never meant to begin it.
    """
    rows = csv_rows(path, delimiter)
    before, header = next(rows)
    for number, row in rows:
        for place, value in enumerate(row) if number > before + 1 else ():
            _, *within = value.split("\n")
            if within and _are_rows(within, place, header, fields, delimiter):
                begun = number - sum(text.count("\n") for text in row[place:])
                raise ValueError(
                    f"{path}, line {begun}: a quoted value runs on to line {begun + len(within)}, over lines that are "
                    "rows; expected a value with a quote in it to be quoted, and that quote doubled"
                )
        before = number


def _are_rows(lines: list[str], place: int, header: list[str], fields: dict[str, Field], delimiter: str) -> bool:
    """Whether lines have the values of rows, the last one up to a place, where a quote ended it."""
    needed = [(header.index(name), field) for name, field in fields.items()]
    *whole, last = ([text.strip("\r") for text in line.split(delimiter)] for line in lines)
    asked = [(row, len(header), needed) for row in whole]
    asked.append((last, place + 1, [(at, field) for at, field in needed if at < place]))
    return any(fitting for _, _, fitting in asked) and all(
        len(row) == length and all(field.fits(_typed(row[at], field)) for at, field in fitting)
        for row, length, fitting in asked
    )


def csv_rows(path: Path, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """All rows of a CSV file, header first, with the line that each ends on: slow, to say where something is.

    Raises:
        ValueError: a row that is no CSV, or has a quoted value that does not end.
    """
    text = (line.decode(errors="surrogateescape") for block in blocks(path) for line in block.splitlines(keepends=True))
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    read = 0
    try:
        for row in reader:
            read = reader.line_num
            if row:
                yield read, row
    except csv.Error as error:
        several = f" (read on to line {reader.line_num})" if reader.line_num > read + 1 else ""
        raise ValueError(f"{path}, line {read + 1}: {error}{several}; expected a CSV row") from error


def _lines(path: Path) -> int:
    """Lines of a file that are not blank."""
    return sum(bool(line.strip()) for block in blocks(path) for line in block.splitlines())


def codes_of(column: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """Codes and the dictionary of a column whose chunks share one dictionary."""
    codes = [chunk.indices.to_numpy() for chunk in column.chunks]
    return np.concatenate(codes), column.chunk(0).dictionary


def _first(block: bytes) -> dict[str, Any] | None:
    """The object on the first line of a block, if it is one."""
    try:
        return parse_object(block.split(b"\n", 1)[0].decode())
    except ValueError:
        return None


def _parse_block(block: bytes, fields: dict[str, Field]) -> pa.Table | None:
    """The block's columns, or None where a line does not parse, or has a value that does not fit."""
    # Arrow 26 crashes where this is the first line; further on it is a row of nulls.
    if re.match(rb"\s*null", block):
        return None
    # One Arrow block for the whole: a line cut by Arrow's own block border would be refused.
    read = pa_json.ReadOptions(block_size=len(block) + 1)
    parse = pa_json.ParseOptions(explicit_schema=pa.schema(_plain(fields)), unexpected_field_behavior="ignore")
    try:
        # Arrow looks at no byte of what it ignores, and at some of what it reads.
        block.decode()
        table = pa_json.read_json(pa.BufferReader(block), read_options=read, parse_options=parse)
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None
    # To Arrow two objects on a line are two rows, and one on two lines is one.
    if table.num_rows != block.count(b"\n") + (not block.endswith(b"\n")):
        return None
    table = _encoded(table, fields)
    return table if fit(table, fields) else None


def _parse_lines(path: Path, block: bytes, first_line: int, fields: dict[str, Field], malformed: Malformed) -> pa.Table:
    """The usable lines of a block that Arrow refuses."""
    rows = []
    for number, line in enumerate(block.split(b"\n"), first_line):
        if not line.strip():
            continue
        try:
            rows.append(_needed(line.decode(errors="surrogateescape"), fields))
        except ValueError as error:
            decoded(line, path, number)
            malformed.add(number, str(error))
    columns = zip(*rows, strict=True) if rows else [[]] * len(fields)
    arrays = zip(_plain(fields).items(), columns, strict=True)
    return _encoded(pa.table({name: pa.array(values, kind) for (name, kind), values in arrays}), fields)


def _plain(fields: dict[str, Field]) -> dict[str, pa.DataType]:
    """Types of the fields before they are encoded."""
    return {name: pa.string() if pa.types.is_dictionary(field.type) else field.type for name, field in fields.items()}


def _needed(line: str, fields: dict[str, Field]) -> list[Any]:
    """The values of the fields in a line of JSON; a ValueError says why it has none that fit."""
    record = parse_object(line)
    for name, expected in fields.items():
        if not expected.fits(record.get(name)):
            raise ValueError(fault(name, record.get(name), expected))
    return [record[name] for name in fields]


def _encoded(table: pa.Table, fields: dict[str, Field]) -> pa.Table:
    """Encoded block by block, so that the strings of all rows are never in memory together."""
    return pa.table({
        name: table[name].dictionary_encode() if pa.types.is_dictionary(field.type) else table[name].cast(field.type)
        for name, field in fields.items()
    })  # fmt: skip


def _check_header(path: Path, fields: dict[str, Field], delimiter: str) -> None:
    with stream(path) as opened:
        content = opened.read(BLOCK_BYTES).removeprefix(BYTE_ORDER_MARK)
    header = re.split(rb"[\r\n]", content, maxsplit=1)[0]
    if not header:
        found = "begins with a blank line" if content else "is empty"
        raise ValueError(f"{path} {found}; expected a header with the columns {', '.join(fields)}")
    try:
        names = next(csv.reader([decoded(header, path, 1)], delimiter=delimiter))
    except csv.Error as error:
        raise ValueError(f"{path}, line 1: {error}; expected a header with the columns {', '.join(fields)}") from error
    need_columns(path, fields, names)
    if twice := [name for name in fields if names.count(name) > 1]:
        raise ValueError(f"{path} has {names.count(twice[0])} columns {twice[0]}; expected one")


def _row_fault(path: Path, fields: dict[str, Field], delimiter: str) -> str | None:
    """What is wrong with the first row that does not fit."""
    rows = csv_rows(path, delimiter)
    _, header = next(rows)
    places = [(header.index(name), name, field) for name, field in fields.items()]
    try:
        for number, row in rows:
            if len(row) != len(header):
                return f"{path}, line {number}: {len(row)} fields; expected {len(header)}, as the header names them"
            for place, name, expected in places:
                value = _typed(row[place], expected)
                if not expected.fits(value):
                    return f"{path}, line {number}: {fault(name, value, expected)}"
    except ValueError as error:
        return str(error)
    return None


def _typed(text: str, expected: Field) -> int | str:
    """What a cell holds: a number where one is expected and it is one."""
    whole = pa.types.is_integer(expected.type) and re.fullmatch("-?[0-9]{1,20}", text.strip())
    return int(text) if whole else text
