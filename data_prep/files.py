"""Files as they come: gzip or plain, CSV or JSON lines, whole or damaged. One sentence for each damage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from data_prep.atomic import write_json

GZIP_MAGIC = b"\x1f\x8b"
# What some editors put before UTF-8.
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
BLOCK_BYTES = 1 << 24
# A longer line is no line: a file of another kind, or gzip made to fill the memory.
LONGEST_LINE_BYTES = 1 << 27
# More malformed lines than one in this many, and the file is not the one we think it is.
MALFORMED_ONE_IN = 1000
MALFORMED_SHOWN = 5
# Python refuses to read a number of thousands; nothing that is read here has so many.
MOST_DIGITS = 1000


def is_gzip(path: Path) -> bool:
    """True where the file's first bytes say gzip, whatever its name says."""
    with path.open("rb") as file:
        return file.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def check_file(path: Path, expected: str) -> None:
    """
    Args:
        expected: what is to lie there.

    Raises:
        FileNotFoundError: nothing does.
        IsADirectoryError: a folder does.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected {expected}")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; expected {expected}")


@contextmanager
def stream(path: Path) -> Iterator[Any]:
    """The file's content as an Arrow input stream, unpacked where it is gzip.

    Raises:
        ValueError: a truncated or damaged gzip.
        OSError: as `check_file`.
    """
    check_file(path, "a data file there")
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
    """The content in blocks of whole lines, without a byte order mark, with a progress bar.

    Raises:
        ValueError: the file is empty, a line has no end, or the gzip is truncated or damaged.
    """
    rest, size = b"", 0
    with (
        stream(path) as opened,
        tqdm(desc=f"reading {path.name}", unit="B", unit_scale=True, delay=2, disable=None) as bar,
    ):
        while data := opened.read(BLOCK_BYTES):
            size += len(data)
            bar.update(len(data))
            data = data.removeprefix(BYTE_ORDER_MARK) if size == len(data) else data
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
    """Numbered lines (from 1) as text without blanks at their end, blank ones left out.

    Raises:
        ValueError: a line is not UTF-8; the file is empty; its gzip is truncated or damaged.
    """
    number = 0
    for block in blocks(path):
        for line in block.removesuffix(b"\n").split(b"\n"):
            number += 1
            text = decoded(line, path, number)
            if text.strip():
                yield number, text.rstrip(" \r")


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
    """Counts the lines of one JSON-lines file that say nothing usable; where the first ones are, why the first is."""

    path: Path
    read: int = 0
    bad: int = 0
    numbers: list[int] = field(default_factory=list)
    why: str = ""

    def add(self, number: int, why: str) -> None:
        self.bad += 1
        self.why = self.why or f"line {number}: {why}"
        if self.bad <= MALFORMED_SHOWN:
            self.numbers.append(number)

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.numbers)) + (", ..." if self.bad > len(self.numbers) else "")
        return f"{self.path}: {self.bad} of {self.read} lines are malformed (lines {shown})"

    def check(self) -> None:
        """Raises ValueError above one malformed line in a thousand."""
        if self.bad * MALFORMED_ONE_IN > self.read:
            raise ValueError(f"{self}; expected at most 1 in {MALFORMED_ONE_IN:,}; {self.why}")


def records(path: Path, malformed: Malformed) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects of a JSON-lines file with their lines' numbers; a line that is none is counted in `malformed`.

    Raises:
        ValueError: more than one line in a thousand is malformed; a line is not UTF-8; the file is empty or damaged.
    """
    for number, text in lines(path):
        malformed.read += 1
        try:
            record = parse_object(text)
        except ValueError as error:
            malformed.add(number, str(error))
        else:
            yield number, record
    malformed.check()


def sha256_of(path: Path, memory: Path) -> str:
    """SHA-256 of a file; big files are read once: `memory` is a folder that remembers hashes by size, times and inode,
    of which no copy or archive keeps all."""
    stat = path.stat()
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()
    times = {"mtime_ns": stat.st_mtime_ns, "ctime_ns": stat.st_ctime_ns}
    known, state = memory / f"{name}.json", {"bytes": stat.st_size, "inode": stat.st_ino, **times}
    if known.is_file():
        # What is damaged is no memory.
        with suppress(ValueError):
            remembered = parse_object(known.read_text(errors="replace"))
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


def need_columns(path: Path, needed: Iterable[str], found: Collection[str]) -> None:
    """
    Raises:
        ValueError: a column is not among those found.
    """
    missing = [name for name in needed if name not in found]
    if missing:
        names = repr(", ".join(found))[1:-1]
        raise ValueError(f"{path} has no column {', '.join(missing)}; found {names or 'none':.500}")


def parse_json(text: str) -> Any:
    """The value of a JSON text. NaN and Infinity, which are no JSON but what Python writes, are no value; nor is a
    whole number of more digits than any that is read.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, strict=False, parse_constant=lambda _: None, parse_int=_whole)


def _whole(digits: str) -> int | None:
    return int(digits) if len(digits) <= MOST_DIGITS else None


def parse_object(text: str) -> dict[str, Any]:
    """
    Raises:
        ValueError: the text is no JSON object.
    """
    try:
        value = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{value!r:.50} is no JSON object")
    return value
