"""A board as a LaTeX table, to be put into a paper."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from leaderboards import escape
from leaderboards.board import SHOWN, SIGNIFICANT
from leaderboards.rows import Row, pairs, rows_of, subject, titles
from leaderboards.statistics import SEEDS_FOR_VARIANCE
from leaderboards.store import Run

MARK = r"$^{\dagger}$"


def latex(runs: Sequence[Run]) -> str:
    r"""The ranked rows: best of a column in bold, second best underlined, rows that differ from the best marked.

    Needs the package `booktabs`. The mark is by NDCG@10, adjusted for all pairs of the board.
    """
    rows = [row for row in rows_of(runs) if row.ranked]
    differing = {pair.worse.record.key for pair in pairs(rows) if pair.better is rows[0] and pair.p < SIGNIFICANT}
    columns = {title: _column(rows, metric) for metric, title in SHOWN.items()}
    called = titles(rows)
    names = [
        escape.latex(title) + (MARK if row.record.key in differing else "")
        for title, row in zip(called, rows, strict=True)
    ]
    frame = pd.DataFrame({"Model": names, **columns, "Seeds": [len(row.runs) for row in rows]})
    corpus = subject(runs).corpus
    marks = (
        f"; {MARK}: differs from the first row ($p<{SIGNIFICANT}$, Holm over all pairs, NDCG@10)" if differing else ""
    )
    caption = (
        f"{escape.latex(corpus.name)}: {corpus.users:,} users, {corpus.items:,} items, leave-one-out, full ranking, "
        f"exact. Mean over seeds, $\\pm$ standard deviation from {SEEDS_FOR_VARIANCE} seeds on{marks}."
    )
    notes = [
        f"% {escape.line(f'{title}: {note}')}"
        for title, row in zip(called, rows, strict=True)
        for note in row.record.notes
    ]
    head = ["% Rendered from the records by `make paper`. Do not edit.", f"% fingerprint {corpus.fingerprint}", *notes]
    table = frame.to_latex(
        index=False,
        escape=False,
        column_format="l" + "r" * (len(frame.columns) - 1),
        caption=caption,
        label=_label(corpus.name),
    )
    return "\n".join(head) + "\n" + table


def _column(rows: list[Row], metric: str) -> list[str]:
    means = [float(row.values(metric).mean()) for row in rows]
    # By what is printed: rows that read alike are marked alike.
    distinct = sorted({round(mean, 4) for mean in means}, reverse=True)
    texts = []
    for row, mean in zip(rows, means, strict=True):
        text, place = f"{mean:.4f}", distinct.index(round(mean, 4))
        text = rf"\textbf{{{text}}}" if place == 0 else rf"\underline{{{text}}}" if place == 1 else text
        if len(row.runs) >= SEEDS_FOR_VARIANCE:
            text += rf" {{\tiny $\pm${np.std([run.record.test[metric] for run in row.runs], ddof=1):.4f}}}"
        texts.append(text)
    return texts


def _label(corpus: str) -> str:
    return f"tab:{corpus.replace('_', '-')}"
