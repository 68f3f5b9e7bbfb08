"""Item metadata -> one sentence per item. The template is versioned and hashed: it is part of a row's identity."""

from __future__ import annotations

import hashlib
import html
import json
import logging
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.fields import ID, fault, is_id
from data_prep.files import Malformed, need_columns, parse_json, records

logger = logging.getLogger(__name__)

# Raise the version with any change to the sentence, in TEMPLATE or in the rules below.
TEMPLATE_VERSION = 2
# Field -> how it joins the sentence; a field that an item does not have leaves no trace. These four are TIGER's. The
# longer features and descriptions, which some code bases add, would push the others out of an encoder's window.
TEMPLATE = {"title": "{}", "price": ", {}", "brand": ", by {}", "categories": ", in {}"}
SEPARATOR = " > "
TEMPLATE_SHA256 = hashlib.sha256(json.dumps([TEMPLATE_VERSION, TEMPLATE, SEPARATOR]).encode()).hexdigest()

# Names need their semicolon: HTML would read "Wash&Notes" as "Wash\u00aces".
ENTITY = re.compile(r"&(?:#[0-9]{1,7}(?![0-9]);?|#[xX][0-9a-fA-F]{1,6}(?![0-9a-fA-F]);?|[A-Za-z][A-Za-z0-9]*;)")
# Some shops escape what is escaped already: "&amp;#8482" is a trademark sign.
TIMES_ENCODED = 2
TAG = re.compile(r"</?[A-Za-z][^<>]*>")
# Half of a character beyond U+FFFF, as a limit of UTF-16 units leaves it; no file can hold it.
HALF_CHARACTER = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\ufffd"
SHOWN = 5


# Numbered records of a file, whose malformed lines it counts, as `files.records` does.
Reader = Callable[[Path, Malformed], Iterator[tuple[int, dict[str, Any]]]]


class ItemText(NamedTuple):
    """`[N]` sentences and categories ("" and none where the metadata do not name the item, or say nothing of it), and
    what to tell about them on the card."""

    sentences: list[str]
    categories: list[list[str]]
    card: dict[str, Any]


class _Said(NamedTuple):
    """What a metadata record says of its item."""

    sentence: str
    categories: list[str]


def read_item_text(path: Path, item_ids: Sequence[str], read: Reader = records) -> ItemText:
    """One sentence for each of `item_ids`, and its categories, from a metadata file (`parent_asin` and any of the
    template's fields), of which `read` gives the records.

    Of several lines for one item the first is kept; they are counted, with those whose sentence differs, and warned of.
    A line whose `parent_asin` is no id is malformed.

    Raises:
        ValueError: none of the items is in the file; the file has no `parent_asin`; an item's details are a text that
            is no JSON; and what `files.records` raises for a damaged file.
    """
    malformed, wanted = Malformed(path), set(item_ids)
    found = _sentences(read(path, malformed), path, wanted, malformed)
    if not found.by_item:
        raise ValueError(f"{path} names none of the corpus's {len(wanted):,} items; expected their metadata")
    _warn(path, malformed, found, len(wanted) - len(found.by_item), len(wanted))
    said = [found.by_item.get(item, _Said("", [])) for item in item_ids]
    card = {
        "template": TEMPLATE_VERSION,
        "template_sha256": TEMPLATE_SHA256,
        "duplicate_lines": len(found.repeated),
        "conflicting_lines": found.conflicting,
        "malformed_lines": malformed.bad,
        "items_with_half_characters": len(found.halved),
        "items_without_text": sum(not each.sentence for each in said),
    }
    return ItemText([each.sentence for each in said], [each.categories for each in said], card)


class _Sentences(NamedTuple):
    """What a metadata file says of the items that are wanted.

    Attributes:
        by_item: what the first line of each says.
        repeated: items of further lines.
        conflicting: how many of those lines say something else.
        halved: items whose text held half a character.
    """

    by_item: dict[str, _Said]
    repeated: list[str]
    conflicting: int
    halved: list[str]


def _sentences(
    read: Iterator[tuple[int, dict[str, Any]]], path: Path, wanted: set[str], malformed: Malformed
) -> _Sentences:
    by_item: dict[str, _Said] = {}
    repeated, halved, conflicting = list[str](), list[str](), 0
    for number, record in read:
        if number == 1:
            need_columns(path, ["parent_asin"], record)
        item = record.get("parent_asin")
        if not is_id(item):
            malformed.add(number, fault("parent_asin", item, ID))
            continue
        if item not in wanted:
            continue
        try:
            said = sentence(record)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
        text = HALF_CHARACTER.sub(REPLACEMENT, said)
        if item in by_item:
            repeated.append(item)
            conflicting += text != by_item[item].sentence
        else:
            by_item[item] = _Said(text, [HALF_CHARACTER.sub(REPLACEMENT, name) for name in categories(record)])
            if text != said:
                halved.append(item)
    return _Sentences(by_item, repeated, conflicting, halved)


def _warn(path: Path, malformed: Malformed, found: _Sentences, missing: int, wanted: int) -> None:
    """Of everything in the file, and of what it lacks, that costs an item its sentence or changes it."""
    repeated, halved = found.repeated, found.halved
    if malformed.bad:
        logger.warning("%s and left out; %s", malformed, malformed.why)
    if repeated:
        logger.warning(
            "%s: %d duplicate lines for items (first %s), %d with another sentence; the first line of an item is kept",
            path, len(repeated), repeated[0], found.conflicting,
        )  # fmt: skip
    if halved:
        shown = ", ".join(halved[:SHOWN])
        if len(halved) > SHOWN:
            shown += ", ..."
        logger.warning(
            "%s: the text of %d items holds half a character (%s); U+FFFD takes its place", path, len(halved), shown
        )
    if missing:
        logger.warning("%s: %d of %d items are not in the metadata and have no sentence", path, missing, wanted)


def sentence(record: dict[str, Any]) -> str:
    """Title, price, store or brand, and categories of one metadata record in one sentence on one line."""
    values = {
        "title": _words(record.get("title")),
        "price": _price(record.get("price")),
        "brand": _words(record.get("store")) or _words(_details(record).get("Brand")),
        "categories": SEPARATOR.join(categories(record)),
    }
    said = "".join(form.format(values[name]) for name, form in TEMPLATE.items() if values[name])
    return said.lstrip(" ,").rstrip(".") + "." if said else ""


def categories(record: dict[str, Any]) -> list[str]:
    """Those of one metadata record, the widest first."""
    value = record.get("categories")
    parts = value if isinstance(value, list) else [value]
    return [text for part in parts if (text := _words(part))]


def _price(value: Any) -> str:
    """`$9.99` for a number, be it text or not; other text with a digit in it ("from 9.99") as it is."""
    text = _words(value)
    try:
        dollars = float(text.removeprefix("$"))
    except ValueError:
        return text if any(sign.isdigit() for sign in text) else ""
    return f"${dollars:.2f}" if math.isfinite(dollars) else ""


def _details(record: dict[str, Any]) -> dict[str, Any]:
    """`details` is an object in the site's files and the same as a JSON string in the hub's."""
    details = record.get("details") or {}
    if isinstance(details, str):
        try:
            details = parse_json(details)
        except (ValueError, RecursionError) as error:
            item = record.get("parent_asin")
            raise ValueError(f"metadata of item {item}: details is no JSON ({error}); expected an object") from error
    return details if isinstance(details, dict) else {}


def _words(value: Any) -> str:
    """The value as plain text on one line with single spaces, no HTML left; "" for None."""
    text = str(value) if value is not None else ""
    for _ in range(TIMES_ENCODED):
        text = ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    return " ".join(TAG.sub(" ", text).split())
