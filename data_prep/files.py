"""Files as they come: gzip or plain, CSV or JSON lines, whole or damaged. One sentence for each damage."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
from tqdm import tqdm

from data_prep.atomic import write_json

GZIP_MAGIC = b"\x1f\x8b"
BLOCK_BYTES = 1 << 24
# A longer line is no line: a file of another kind, or gzip made to fill the memory.
LONGEST_LINE_BYTES = 1 << 27
# More malformed lines than one in this many, and the file is not the one we think it is.
MALFORMED_ONE_IN = 1000
MALFORMED_SHOWN = 5
# Characters of a parser's own words, which quote what they could not read.
QUOTED = 300


def is_gzip(path: Path) -> bool:
    """True where the file's first bytes say gzip, whatever its name says."""
    with path.open("rb") as file:
        return file.read(len(GZIP_MAGIC)) == GZIP_MAGIC


@contextmanager
def stream(path: Path) -> Iterator[Any]:
    """The file's content as an Arrow input stream, unpacked where it is gzip.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a truncated or damaged gzip.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; expected a data file there")
    compression = "gzip" if is_gzip(path) else None
    try:
        with pa.input_stream(path, compression=compression) as opened:
            yield opened
    except OSError as error:
        # Arrow's own errors carry no errno; those of the machine do.
        if compression is None or error.errno is not None:
            raise
        raise ValueError(f"{path}: the gzip is truncated or damaged ({error}); get a complete copy") from error


def blocks(path: Path) -> Iterator[bytes]:
    """The content in blocks of whole lines, with a progress bar.

    Raises:
        ValueError: the file is empty, a line has no end, or the gzip is truncated or damaged.
    """
    rest, size = b"", 0
    with stream(path) as opened, tqdm(desc=f"reading {path.name}", unit="B", unit_scale=True, delay=2) as bar:
        while data := opened.read(BLOCK_BYTES):
            size += len(data)
            bar.update(len(data))
            lines, newline, tail = data.rpartition(b"\n")
            if newline:
                yield rest + lines + newline
                rest = tail
            else:
                rest += data
            if len(rest) > LONGEST_LINE_BYTES:
                raise ValueError(f"{path} has a line of more than {LONGEST_LINE_BYTES:,} bytes; expected lines of text")
    if not size:
        raise ValueError(f"{path} is empty; expected at least one line")
    if rest:
        yield rest


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines (from 1) as text, blank ones left out.

    Raises:
        ValueError: a line is not UTF-8; the file is empty; its gzip is truncated or damaged.
    """
    number = 0
    for block in blocks(path):
        for line in block.removesuffix(b"\n").split(b"\n"):
            number += 1
            if text := decoded(line, path, number).strip():
                yield number, text


def decoded(data: bytes, path: Path, first_line: int) -> str:
    """`data` as text; `first_line` is the number of its first line.

    Raises:
        ValueError: it is not UTF-8; the sentence names the line.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = first_line + data.count(b"\n", 0, error.start)
        raise ValueError(f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8; expected UTF-8") from error


@dataclass
class Malformed:
    """Counts the lines of one JSON-lines file that say nothing usable, and remembers where the first ones are."""

    path: Path
    read: int = 0
    bad: int = 0
    numbers: list[int] = field(default_factory=list)

    def add(self, number: int) -> None:
        self.bad += 1
        if self.bad <= MALFORMED_SHOWN:
            self.numbers.append(number)

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.numbers)) + (", ..." if self.bad > len(self.numbers) else "")
        return f"{self.path}: {self.bad} of {self.read} lines are malformed (lines {shown})"

    def check(self) -> None:
        """Raises ValueError above one malformed line in a thousand."""
        if self.bad * MALFORMED_ONE_IN > self.read:
            raise ValueError(f"{self}; expected at most 1 in {MALFORMED_ONE_IN:,}")


def records(path: Path, malformed: Malformed) -> Iterator[dict[str, Any]]:
    """The JSON objects of a JSON-lines file, one a line; a line that is none is counted in `malformed`.

    Raises:
        ValueError: more than one line in a thousand is malformed; a line is not UTF-8; the file is empty or damaged.
    """
    for number, text in lines(path):
        malformed.read += 1
        record = _parsed(text)
        if record is None:
            malformed.add(number)
        else:
            yield record
    malformed.check()


def json_columns(path: Path, schema: pa.Schema, malformed: Malformed) -> Iterator[pa.Table]:
    """Columns of a JSON-lines file, block by block; every field of `schema` must be present in every line.

    Arrow parses a block at once. A block that it refuses is halved until the malformed lines stand alone. Such a line
    is read for the schema's fields alone: what nothing reads (half an emoji in a review's text) costs no row. A line
    whose own fields say nothing usable is counted in `malformed` and left out.

    Raises:
        ValueError: a column is missing from the whole file; more than one line in a thousand is malformed;
            not UTF-8; the file is empty or damaged.
    """
    first_line = 1
    for block in blocks(path):
        text = decoded(block, path, first_line)
        if first_line == 1:
            _need_columns(path, schema.names, _parsed(text.split("\n", 1)[0]) or dict.fromkeys(schema.names))
        table = _parse_block(block, schema)
        if table is None:
            numbered = [(n, line) for n, line in enumerate(text.split("\n"), first_line) if line.strip()]
            table = pa.concat_tables([schema.empty_table(), *_parse_lines(numbered, schema, malformed)])
        malformed.read += table.num_rows
        yield table
        first_line += block.count(b"\n")
    malformed.read += malformed.bad
    malformed.check()


def csv_columns(path: Path, types: dict[str, pa.DataType]) -> pa.Table:
    """Named columns of a CSV file with a header; none of them may hold an empty field.

    Raises:
        ValueError: a missing column, a field that is empty or of another type, a row of another length, not UTF-8,
            an empty file, a damaged gzip.
    """
    with stream(path) as opened:
        header = opened.read(BLOCK_BYTES).split(b"\n", 1)[0]
    if not header:
        raise ValueError(f"{path} is empty; expected a header with the columns {', '.join(types)}")
    _need_columns(path, types, next(csv.reader([decoded(header, path, 1).removeprefix("\ufeff").strip()])))
    read = pa_csv.ReadOptions(block_size=BLOCK_BYTES)
    convert = pa_csv.ConvertOptions(
        include_columns=list(types), column_types=types, null_values=[""], strings_can_be_null=True
    )
    try:
        with stream(path) as opened:
            table = pa_csv.read_csv(opened, read_options=read, convert_options=convert)
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split("\n", 1)[0].split()).rstrip(".")[:QUOTED]
        raise ValueError(f"{path}: {reason}; expected UTF-8 CSV rows as the header names them") from error
    if not table.num_rows:
        raise ValueError(f"{path} has a header but no rows; expected at least one")
    for name in types:
        if table[name].null_count:
            raise ValueError(f"{path}: {table[name].null_count} rows have no {name}; expected one in every row")
    return table


def sha256_of(path: Path, memory: Path) -> str:
    """SHA-256 of a file; big files are read once: `memory` is a folder that remembers hashes by size and time."""
    stat = path.stat()
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()
    known, state = memory / f"{name}.json", {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    if known.is_file():
        # What is damaged is no memory.
        remembered = _parsed(known.read_text(errors="replace")) or {}
        digest = remembered.get("sha256")
        if remembered == {**state, "sha256": digest} and isinstance(digest, str):
            return digest
    digest = content_sha256(path)
    write_json(known, {**state, "sha256": digest})
    return digest


def content_sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _need_columns(path: Path, needed: Iterable[str], found: Collection[str]) -> None:
    missing = [name for name in needed if name not in found]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}; found {', '.join(found) or 'none':.500}")


def _parse_block(block: bytes, schema: pa.Schema) -> pa.Table | None:
    """The block's columns, or None where a line does not parse or lacks a field."""
    # Arrow 26 crashes where this is the first line; further on it is a row of nulls.
    if re.match(rb"\s*null", block):
        return None
    # One Arrow block for the whole: a line cut by Arrow's own block border would be refused.
    read = pa_json.ReadOptions(block_size=len(block) + 1)
    parse = pa_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        table = pa_json.read_json(pa.BufferReader(block), read_options=read, parse_options=parse)
    except pa.ArrowInvalid:
        return None
    return None if any(column.null_count for column in table.columns) else table


def _needed_alone(line: str, schema: pa.Schema) -> bytes:
    """The line with nothing but the schema's fields, text and whole numbers; Arrow judges them as it does others."""
    record = _parsed(line) or {}
    found = {name: record.get(name) for name in schema.names}
    return json.dumps({name: value for name, value in found.items() if isinstance(value, str | int)}).encode()


def _parse_lines(numbered: list[tuple[int, str]], schema: pa.Schema, malformed: Malformed) -> list[pa.Table]:
    """The tables of a block with malformed lines: halves that parse are taken whole, the others halved again."""
    if not numbered:
        return []
    table = _parse_block("\n".join(line for _, line in numbered).encode(), schema)
    if table is not None:
        return [table]
    if len(numbered) == 1:
        number, line = numbered[0]
        table = _parse_block(_needed_alone(line, schema), schema)
        if table is not None:
            return [table]
        malformed.add(number)
        return []
    middle = len(numbered) // 2
    halves = (numbered[:middle], numbered[middle:])
    return [table for half in halves for table in _parse_lines(half, schema, malformed)]


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
