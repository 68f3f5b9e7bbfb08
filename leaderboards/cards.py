"""Cards: what the committed card of a corpus says that its preparation gives, in each layout of its source."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from leaderboards.record import PROTOCOL, Record

# Data of the floor below, whose code is not needed to read it.
CARDS = Path(__file__).resolve().parent.parent / "data_prep" / "cards"


def expected(corpus: str) -> dict[str, dict[str, Any]]:
    """Counts, and the fingerprint where it is known, by layout; empty of a corpus without a card."""
    found: dict[str, dict[str, Any]] = _card(corpus).get("expected", {})
    return found


def diagnostics(corpus: str) -> dict[str, str]:
    """What of a corpus decides scores before any model is trained, label -> text; empty where its card says nothing."""
    found: dict[str, str] = _card(corpus).get("diagnostics", {})
    return found


@cache
def _card(corpus: str) -> dict[str, Any]:
    file = CARDS / f"{corpus}.json"
    try:
        found: dict[str, Any] = json.loads(file.read_bytes()) if file.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {error}") from None
    return found


def fingerprints(corpus: str) -> set[str]:
    """Those that the preparation gives by now, empty where none is known."""
    return {layout["fingerprint"] for layout in expected(corpus).values() if "fingerprint" in layout}


def problems(record: Record) -> Iterator[str]:
    """Where a record's corpus is another one than its card says."""
    corpus, layouts = record.corpus, expected(record.corpus.name).values()
    counts, carded = _counts(corpus.model_dump()), sorted({_counts(layout) for layout in layouts})
    if carded and counts not in carded:
        yield f"its corpus has {counts}; the card of {corpus.name} says {' or '.join(carded)}"
    known = sorted(fingerprints(corpus.name))
    # The item text of an earlier protocol was another one.
    if record.protocol == PROTOCOL and known and corpus.fingerprint not in known:
        says = " or ".join(known)
        yield f"its corpus has the fingerprint {corpus.fingerprint}; the card of {corpus.name} says {says}"


def _counts(corpus: Mapping[str, Any]) -> str:
    return ", ".join(f"{corpus[name]:,} {name}" for name in ("users", "items", "interactions"))
