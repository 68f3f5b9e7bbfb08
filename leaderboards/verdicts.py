"""Verdicts: a paper's number beside ours, how far apart they are, and whether that can be said at all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from leaderboards import escape, formats
from leaderboards.metrics import UNSEEN
from leaderboards.published import Paper, papers, stated
from leaderboards.record import SMALL_SIZES, STAND_IN, Record, VectorsInfo
from leaderboards.rows import Row, loss
from leaderboards.statistics import SIGNIFICANT, interval, standard_error

# A row reproduces a number when its true value is shown to lie within this share of it.
REPRODUCED_WITHIN = 0.05
SHOWN = ("recall@10", "ndcg@10")

# Text encoder of most papers, and what `papers.csv` says where a paper does not name its own.
T5, NOT_STATED = "sentence-t5", "not stated"
# How the notes begin of rows that are no paper's.
UNLIKE_ANY = (SMALL_SIZES, "reconstruction")
SEEN_ITEMS = {"yes": "masked", "no": "kept", "": "not said"}
TRANSCRIBED = "\u2020"

REPRODUCED, WITHIN_NOISE, BELOW, ABOVE = "reproduced", "within noise", "below", "above"
NOT_COMPARABLE = "not comparable"
SET_APART = "another content of the corpus than the board's, or another protocol"


class Verdict(NamedTuple):
    """One published number beside one row.

    Attributes:
        paper: that states the number; one that quotes it has the facts of its source.
        ours: the row's mean, ranked among unseen items where the paper masks the others and the row has both ranks.
        z: our mean less the number, over our standard error: of users, and of seeds where there are enough.
        verdict: `reproduced` where our 90% interval lies within 5% of the number (TOST), else `within noise` where the
            number lies in our 95% interval, else `below` or `above`; `not comparable: ...` with the reasons. Both
            intervals are Student's t, of as many degrees of freedom as users and seeds give.
    """

    row: Row
    paper: Paper
    metric: str
    published: float
    ours: float
    z: float
    verdict: str

    @property
    def difference(self) -> float:
        return self.ours - self.published

    @property
    def source(self) -> str:
        """The paper, marked where its numbers were not read in it."""
        return f"{self.paper.name} {TRANSCRIBED}" if self.paper.transcribed_by else self.paper.name

    @property
    def seen_items(self) -> str:
        """What the paper does with items of the history: `kept`, `masked` or `not said`."""
        return SEEN_ITEMS[self.paper.seen_masked]


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """What papers state of the rows of a board, in the order of the rows."""
    return [found for row in rows for found in _of_row(row)]


def table(found: Sequence[Verdict], style: str) -> str:
    """One line per published number."""
    lines = [
        {
            "Experiment": verdict.row.title,
            "Key": verdict.row.record.key,
            "Paper": verdict.source,
            "Seen items": verdict.seen_items,
            "Metric": verdict.metric.replace("ndcg", "NDCG").replace("recall", "Recall"),
            "Published": formats.plain(verdict.published),
            "Ours": formats.plain(verdict.ours),
            "Difference": formats.signed(verdict.difference),
            "z": formats.signed(verdict.z, 1),
            "Verdict": verdict.verdict,
        }
        for verdict in found
    ]
    if style == "github":
        lines = [{title: escape.markdown(text) for title, text in line.items()} for line in lines]
    return tabulate(lines, headers="keys", tablefmt=style, disable_numparse=True)


def _of_row(row: Row) -> list[Verdict]:
    return [
        _verdict(row, paper, line["loss"], metric, line[metric])
        for line in stated(row.name, row.record.corpus.name).to_dict("records")
        for paper in _with_the_facts_of_the_source(line["papers"])
        for metric in SHOWN
        if not math.isnan(line[metric])
    ]


def _with_the_facts_of_the_source(names: Sequence[str]) -> Iterator[Paper]:
    """Papers that state the same numbers: what the first did is behind all of them."""
    known = papers()
    source = next(paper for name, paper in known.items() if name in names)
    return (source._replace(name=name, transcribed_by=known[name].transcribed_by) for name in names)


def _verdict(row: Row, paper: Paper, their_loss: str, metric: str, published: float) -> Verdict:
    masked = paper.seen_masked == "yes" and metric + UNSEEN in row.record.test
    values, reasons = row.values(metric + UNSEEN * masked), reasons_against(row.record, paper, their_loss)
    reasons = [*reasons, *[SET_APART] * (not row.ranked)]
    z, verdict = judged(values, published)
    if reasons:
        verdict = f"{NOT_COMPARABLE}: {'; '.join(reasons)}"
    return Verdict(row, paper, metric, published, float(values.mean()), float(np.clip(z, -999, 999)), verdict)


def judged(values: NDArray[np.floating[Any]], published: float) -> tuple[float, str]:
    """z and verdict of `[S, U]` values of a metric beside a published number, as `Verdict` has them."""
    ours, error = float(values.mean()), standard_error(values)
    apart = abs(ours - published)
    z = (ours - published) / error.value if error.value else math.copysign(math.inf, ours - published)
    if error.value and apart + error.half_width(2 * SIGNIFICANT) <= REPRODUCED_WITHIN * published:
        return z, REPRODUCED
    if apart < error.half_width(SIGNIFICANT) or (not error.value and _may_be(values, published)):
        return z, WITHIN_NOISE
    return z, BELOW if z < 0 else ABOVE


def _may_be(values: NDArray[np.floating[Any]], published: float) -> bool:
    """Whether a number may be the mean of which all users have one value, who tell no standard error."""
    low, high = interval(values)
    return low <= published <= high


def reasons_against(record: Record, paper: Paper, their_loss: str = "") -> list[str]:
    """Why a paper's number and a row are not of the same experiment; a beam is no reason, but the paper's own error.

    Args:
        their_loss: by which the paper trained, empty where it is not known.
    """
    return [*_of_the_row(record, paper, their_loss), *_of_the_protocol(record, paper)]


def reasons_against_any(record: Record) -> list[str]:
    """Why a row is of no paper's experiment, whichever paper it is."""
    return _noted(record, (*UNLIKE_ANY, STAND_IN))


def _noted(record: Record, beginnings: tuple[str, ...]) -> list[str]:
    return [note.partition(":")[0] for note in record.notes if note.startswith(beginnings)]


def _of_the_row(record: Record, paper: Paper, their_loss: str) -> list[str]:
    found = _noted(record, UNLIKE_ANY)
    if their_loss and (own := loss(record)) != their_loss:
        found.append(f"loss {own}, the paper's {their_loss}")
    if record.vectors and _are_others(record.vectors, paper):
        found.append(f"item vectors are {record.vectors.kind}, the paper's {paper.vectors or 'are not said'}")
    history = record.config.get("history")
    if paper.history and history and history != paper.history:
        found.append(f"history of {history} items, the paper's {paper.history}")
    return found


def _are_others(vectors: VectorsInfo, paper: Paper) -> bool:
    """Whether a row's vectors are known not to be the paper's: a stand-in, or text by another encoder than it names."""
    by_t5 = vectors.kind.startswith(T5)
    named = bool(paper.vectors) and NOT_STATED not in paper.vectors
    return vectors.stand_in or (by_t5 and named and T5 not in paper.vectors)


def _of_the_protocol(record: Record, paper: Paper) -> list[str]:
    found = []
    if paper.valid_in_training == "yes":
        found.append("the paper trains on the validation item")
    if paper.seen_masked == "yes" and not any(name.endswith(UNSEEN) for name in record.test):
        found.append("the paper skips seen items, this row does not")
    return found + [paper.caveat] * bool(paper.caveat)
