"""Item metadata -> one sentence per item. The template is versioned and hashed: it is part of a row's identity."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.files import Malformed, records

logger = logging.getLogger(__name__)

# Raise the version with any change to the sentence, in TEMPLATE or in the rules below.
TEMPLATE_VERSION = 1
# Field -> how it joins the sentence; a field that an item does not have leaves no trace.
TEMPLATE = {"title": "{}", "store": " by {}", "categories": ", in {}", "features": ": {}"}
SEPARATORS = {"categories": " > ", "features": "; "}
TEMPLATE_SHA256 = hashlib.sha256(json.dumps([TEMPLATE_VERSION, TEMPLATE, SEPARATORS]).encode()).hexdigest()


class ItemText(NamedTuple):
    """`[N]` sentences ("" where the metadata do not name the item) and what to tell about them on the card."""

    sentences: list[str]
    card: dict[str, Any]


def read_item_text(path: Path, item_ids: Sequence[str]) -> ItemText:
    """One sentence for each of `item_ids` from a metadata file (`parent_asin` and any of the template's fields).

    Of several lines for one item the first is kept; they are counted, with those whose sentence differs, and warned of.

    Raises:
        ValueError: none of the items is in the file; an item's line has no `parent_asin`; and what `files.records`
            raises for a damaged file.
    """
    malformed = Malformed(path)
    wanted = set(item_ids)
    sentences: dict[str, str] = {}
    repeated: list[str] = []
    conflicting = 0
    for record in records(path, malformed):
        item = record.get("parent_asin")
        if not isinstance(item, str):
            raise ValueError(f"{path} has no text in column parent_asin of a line; found {', '.join(record):.500}")
        if item not in wanted:
            continue
        text = sentence(record)
        if item in sentences:
            repeated.append(item)
            conflicting += text != sentences[item]
        else:
            sentences[item] = text
    if not sentences:
        raise ValueError(f"{path} names none of the corpus's {len(wanted):,} items; expected their metadata")
    missing = len(wanted) - len(sentences)
    if malformed.bad:
        logger.warning("%s; they are left out", malformed)
    if repeated:
        logger.warning(
            "%s: %d duplicate lines for items (first %s), %d with another sentence; the first line of an item is kept",
            path, len(repeated), repeated[0], conflicting,
        )  # fmt: skip
    if missing:
        logger.warning("%s: %d of %d items are not in the metadata and have no sentence", path, missing, len(wanted))
    card = {
        "template": TEMPLATE_VERSION,
        "template_sha256": TEMPLATE_SHA256,
        "duplicate_lines": len(repeated),
        "conflicting_lines": conflicting,
        "malformed_lines": malformed.bad,
        "items_without_text": missing,
    }
    return ItemText([sentences.get(item, "") for item in item_ids], card)


def sentence(record: dict[str, Any]) -> str:
    """Title, store or brand, categories and features of one metadata record in one sentence on one line."""
    values = {
        "title": _words(record.get("title")),
        "store": _words(record.get("store")) or _words(_details(record).get("Brand")),
        "categories": _joined(record, "categories"),
        "features": _joined(record, "features"),
    }
    said = "".join(form.format(values[name]) for name, form in TEMPLATE.items() if values[name])
    return said.lstrip(" ,:").rstrip(".") + "." if said else ""


def _joined(record: dict[str, Any], name: str) -> str:
    value = record.get(name) or []
    parts = value if isinstance(value, list) else [value]
    return SEPARATORS[name].join(text.rstrip(".;") for part in parts if (text := _words(part)))


def _details(record: dict[str, Any]) -> dict[str, Any]:
    """`details` is an object in the site's files and the same as a JSON string in the hub's."""
    details = record.get("details") or {}
    if isinstance(details, str):
        try:
            details = json.loads(details)
        except (ValueError, RecursionError) as error:
            item = record.get("parent_asin")
            raise ValueError(f"metadata of item {item}: details is no JSON ({error}); expected an object") from error
    return details if isinstance(details, dict) else {}


def _words(value: Any) -> str:
    """The value as text on one line with single spaces; "" for None."""
    return " ".join(str(value).split()) if value is not None else ""
