"""A file of item codes from elsewhere: one line per item, or the JSON index that LETTER and its descendants publish.

    B000123456<TAB>110 228 51 223
    {"B000123456": ["<a_110>", "<b_228>", "<c_51>", "<d_223>"], ...}

Items are named by parent_asin. Published JSON indices often number items instead, in an order that only their authors'
files tell: these are refused, not guessed at. Codes count from 0; all levels have one size, the largest code plus one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_prep.corpus import Corpus, ItemCodes, source_name
from data_prep.data_folder import beside_sequences, data_folder
from data_prep.fields import check_id
from data_prep.files import BYTE_ORDER_MARK, check_file, content_sha256, decoded, lines, stream

ENDING = ".tsv.gz"
NAME = re.compile(r"[\w-]+")
# More is no semantic ID; a model would make a table of so many vectors.
MOST_LEVELS, MOST_CODES = 64, 1 << 16
# A JSON file is read whole.
MOST_BYTES = 1 << 28
SHOWN = 3


class Entry(NamedTuple):
    """Attributes: where, the file and place to tell of; item, its id; codes, as the file writes them."""

    where: str
    item: str
    codes: list[str]


def find_codes(corpus: Corpus, name_or_path: str) -> Path:
    """The file that a config's `codes` names.

    Args:
        name_or_path: a bare name like `letter` means `<Corpus>.codes.letter.tsv.gz`, in any case of letters, in
            `$GRBENCH_DATA/sequences`; anything else is a path.

    Raises:
        ValueError: a bare name, but GRBENCH_DATA is not set.
        OSError: there is no such file or folder.
    """
    if not NAME.fullmatch(name_or_path):
        path = Path(name_or_path)
        check_file(path, "a file of item codes (option codes)")
        return path
    data = data_folder()
    if data is None:
        raise ValueError(
            f"option codes is {name_or_path!r}, a file in GRBENCH_DATA, but that is not set; expected a path, or "
            "GRBENCH_DATA to name a folder that has such a file"
        )
    return beside_sequences(data, f"{source_name(corpus.name)}.codes.{name_or_path}{ENDING}")


def read_codes(corpus: Corpus, file: Path) -> ItemCodes:
    """The codes of all items of a corpus; items that it does not have may be in the file, too.

    Raises:
        ValueError: the file is damaged or of another kind, names an item by what is no id, twice or not at all, has
            codes that are no whole numbers from 0, or another number of them for one item than for another.
        FileNotFoundError: there is no such file.
    """
    row = {str(item): number for number, item in enumerate(corpus.item_ids)}
    with stream(file) as opened:
        as_json = opened.read(64).removeprefix(BYTE_ORDER_MARK).lstrip()[:1] == b"{"
    values, seen, first, largest = np.zeros((0, 0), dtype=np.int64), set[str](), None, 0
    for entry in _json_entries(file) if as_json else _lines(file):
        check_id("an item", entry.item, entry.where)
        codes = [_code(entry, text) for text in entry.codes]
        if first is None:
            if not 1 <= len(codes) <= MOST_LEVELS:
                raise ValueError(f"{entry.where}: {len(codes)} codes; expected 1 to {MOST_LEVELS}")
            first, values = entry, np.zeros((corpus.items, len(codes)), dtype=np.int64)
        if len(codes) != values.shape[1]:
            raise ValueError(f"{entry.where}: {len(codes)} codes; expected {values.shape[1]}, as in {first.where}")
        if entry.item in seen:
            raise ValueError(f"{entry.where}: item {entry.item!r:.50} has codes already; expected each item once")
        seen.add(entry.item)
        largest = max(largest, *codes)
        if entry.item in row:
            values[row[entry.item]] = codes
    _check_all_there(corpus, file, row.keys(), seen)
    return ItemCodes(values, (largest + 1,) * values.shape[1], file.name, content_sha256(file))


def _check_all_there(corpus: Corpus, file: Path, items: Any, seen: set[str]) -> None:
    missing = [item for item in items if item not in seen]
    if not missing:
        return
    unknown = len(seen - items)
    numbered = unknown == len(seen) and all(item.isdigit() for item in seen)
    says = "; its items are numbers, in an order that the file does not tell" if numbered else ""
    raise ValueError(
        f"{file} misses {len(missing)} of the {len(items)} items of corpus {corpus.name} (first: "
        f"{', '.join(missing[:SHOWN])}) and names {unknown} that it does not have{says}; expected codes for each "
        "parent_asin"
    )


def _lines(file: Path) -> Iterator[Entry]:
    for number, line in lines(file):
        where = f"{file}, line {number}"
        item, tab, codes = line.partition("\t")
        if not tab:
            raise ValueError(f"{where} has no tab; expected item<TAB>code code ...")
        if "\t" in codes:
            raise ValueError(f"{where} has several sequences of codes; expected one, item<TAB>code code ...")
        yield Entry(where, item, codes.split())


def _json_entries(file: Path) -> Iterator[Entry]:
    with stream(file) as opened:
        content = opened.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"{file} unpacks to more than {MOST_BYTES:,} bytes; expected a JSON index of items")
    text = decoded(content.removeprefix(BYTE_ORDER_MARK), file, 1)
    try:
        # As pairs, for an object would hide an item that comes twice.
        pairs = json.loads(text, object_pairs_hook=list)
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}, line {error.lineno}: {error.msg}; expected a JSON index of items") from error
    except (RecursionError, ValueError) as error:  # nested too deeply; a number of thousands of digits
        raise ValueError(f"{file}: {error}; expected a JSON index of items") from error
    for item, tokens in pairs:
        where = f"{file}, item {item!r:.50}"
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise ValueError(f"{where}: its value is no list of texts; expected codes like <a_12>")
        yield Entry(where, item, [_inside(where, level, token) for level, token in enumerate(tokens)])


def _inside(where: str, level: int, token: str) -> str:
    """The number in a token like `<b_3>`, whose letter is its level's."""
    letter = chr(ord("a") + level)
    found = re.fullmatch(rf"<{re.escape(letter)}_(\d+)>", token)
    if not found:
        raise ValueError(f"{where}: level {level + 1} is {token!r:.50}; expected a code like <{letter}_12>")
    return found[1]


def _code(entry: Entry, text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) >= MOST_CODES:
        raise ValueError(f"{entry.where}: code {text!r:.50}; expected a whole number from 0 to {MOST_CODES - 1:,}")
    return int(text)
