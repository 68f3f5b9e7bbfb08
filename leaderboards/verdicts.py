"""Verdicts: a paper's number beside ours, how far apart they are, and whether that can be said at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tabulate import tabulate

from leaderboards.published import Paper, papers, stated
from leaderboards.record import Record
from leaderboards.rows import Row
from leaderboards.statistics import standard_error

# A row reproduces a number when its true value is shown to lie within this share of it.
REPRODUCED_WITHIN = 0.05
SIGNIFICANT = 1.96
SHOWN = ("recall@10", "ndcg@10")

REPRODUCED, WITHIN_NOISE, BELOW, ABOVE = "reproduced", "within noise", "below", "above"
NOT_COMPARABLE = "not comparable"


class Verdict(NamedTuple):
    """One published number beside one row.

    Attributes:
        paper: that states the number.
        z: our mean less the number, over our standard error: of users, and of seeds where there are enough.
        verdict: `reproduced` where our 90% interval lies within 5% of the number (TOST), else `within noise` where z is
            below 1.96 either way, else `below` or `above`; `not comparable: ...` with the reasons.
    """

    row: Row
    paper: str
    metric: str
    published: float
    ours: float
    z: float
    verdict: str

    @property
    def difference(self) -> float:
        return self.ours - self.published


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """What papers state of the rows of a board, in the order of the rows."""
    return [found for row in rows for found in _of_row(row)]


def table(found: Sequence[Verdict], style: str) -> str:
    """One line per published number."""
    lines = [
        {
            "Experiment": verdict.row.title,
            "Key": verdict.row.record.key,
            "Paper": verdict.paper,
            "Metric": verdict.metric.replace("ndcg", "NDCG").replace("recall", "Recall"),
            "Published": f"{verdict.published:.4f}",
            "Ours": f"{verdict.ours:.4f}",
            "Difference": f"{verdict.difference:+.4f}",
            "z": f"{verdict.z:+.1f}",
            "Verdict": verdict.verdict,
        }
        for verdict in found
    ]
    return tabulate(lines, headers="keys", tablefmt=style, disable_numparse=True)


def _of_row(row: Row) -> list[Verdict]:
    known, said = papers(), stated(row.name, row.record.corpus.name).explode("papers").to_dict("records")
    return [
        _verdict(row, known[line["papers"]], metric, line[metric])
        for line in said
        for metric in SHOWN
        if not math.isnan(line[metric])
    ]


def _verdict(row: Row, paper: Paper, metric: str, published: float) -> Verdict:
    values, reasons = row.values(metric), reasons_against(row.record, paper)
    ours, error = float(values.mean()), standard_error(values)
    z = (ours - published) / error if error else math.copysign(math.inf, ours - published)
    if reasons:
        verdict = f"{NOT_COMPARABLE}: {'; '.join(reasons)}"
    elif abs(ours - published) + 1.645 * error <= REPRODUCED_WITHIN * published:
        verdict = REPRODUCED
    elif abs(z) < SIGNIFICANT:
        verdict = WITHIN_NOISE
    else:
        verdict = BELOW if z < 0 else ABOVE
    return Verdict(row, paper.name, metric, published, ours, float(np.clip(z, -999, 999)), verdict)


def reasons_against(record: Record, paper: Paper) -> list[str]:
    """Why a paper's number and a row are not of the same experiment; a beam is no reason, but the paper's own error."""
    found = [note for note in record.notes if note.startswith(("small sizes", "reconstruction"))]
    found = [note.partition(":")[0] for note in found]
    if record.vectors and record.vectors.stand_in:
        found.append(f"item vectors are {record.vectors.kind}, the paper's {paper.vectors}")
    history = record.config.get("history")
    if paper.history and history and history != paper.history:
        found.append(f"history of {history} items, the paper's {paper.history}")
    return found
