"""A board as a LaTeX table, to be put into a paper."""

from __future__ import annotations

import numpy as np
import pandas as pd

from leaderboards import escape, formats
from leaderboards.board_table import OVER_FLOOR, SHOWN, percent
from leaderboards.notes import row_notes
from leaderboards.rows import Board, Row, titles
from leaderboards.statistics import SEEDS_FOR_VARIANCE, SIGNIFICANT

MARK = r"$^{\dagger}$"
# As data_prep has it: how the name of a corpus ends that is cut at a moment, where no last item is left out.
GLOBAL_TIME = "_global_time"


def latex(board: Board) -> str:
    r"""The ranked rows: best of a column in bold, second best underlined, rows that differ from the best marked.

    Needs the package `booktabs`. The mark is by NDCG@10, adjusted for all pairs of the board.

    Raises:
        ValueError: there is no run.
    """
    rows, corpus = board.ranked, board.subject.corpus
    called = titles(rows)
    differing = [pair.worse for pair in board.pairs if pair.better is rows[0] and pair.differs]
    names = []
    for title, row in zip(called, rows, strict=True):
        marked = any(row is other for other in differing)
        names.append(escape.latex(title) + MARK * marked)
    columns = {title: _column(rows, metric) for metric, title in SHOWN.items()}
    over_floor = [_over_floor(board, row) for row in rows]
    if any(over_floor):
        columns[OVER_FLOOR] = over_floor
    frame = pd.DataFrame({"Model": names, **columns, "Seeds": [len(row.runs) for row in rows]})
    head = ["% Rendered from the records by `make paper`. Do not edit.", f"% fingerprint {corpus.fingerprint}"]
    for title, row in zip(called, rows, strict=True):
        head += [f"% {escape.line(f'{title}: {note}')}" for note in row_notes(board, row)]
    table = frame.to_latex(
        index=False,
        escape=False,
        column_format="l" + "r" * (len(frame.columns) - 1),
        caption=_caption(board, marks=bool(differing), floors=any(over_floor)),
        label=f"tab:{corpus.name.replace('_', '-')}",
    )
    return "\n".join(head) + "\n" + table


def _caption(board: Board, marks: bool, floors: bool) -> str:
    corpus = board.subject.corpus
    split = "the first item after a moment" if GLOBAL_TIME in corpus.name else "leave-one-out"
    certified = min(run.record.search.certified_share for row in board.ranked for run in row.runs)
    exact = "exact" if certified == 1 else f"exact for {escape.latex(percent(certified))} of the users or more"
    says = (
        f"{escape.latex(corpus.name)}: {corpus.users:,} users, {corpus.items:,} items, {split}, full ranking, {exact}. "
        f"Mean over seeds, $\\pm$ standard deviation from {SEEDS_FOR_VARIANCE} seeds on"
    )
    if floors:
        says += (
            f"; {OVER_FLOOR.lower()}: NDCG@10 less that of the best row that trains nothing, 95\\% interval, for all "
            "pairs at once"
        )
    if marks:
        says += f"; {MARK}: differs from the first row ($p<{SIGNIFICANT}$, adjusted for all pairs, NDCG@10)"
    return f"{says}."


def _column(rows: list[Row], metric: str) -> list[str]:
    means = [float(row.values(metric).mean()) for row in rows]
    # By what is printed: rows that read alike are marked alike.
    distinct = sorted({round(mean, 4) for mean in means}, reverse=True)
    commands = {0: r"\textbf{%s}", 1: r"\underline{%s}"}
    texts = []
    for row, mean in zip(rows, means, strict=True):
        text = commands.get(distinct.index(round(mean, 4)), "%s") % formats.plain(mean)
        if len(row.runs) >= SEEDS_FOR_VARIANCE:
            text += rf" {{\tiny $\pm${np.std([run.record.test[metric] for run in row.runs], ddof=1):.4f}}}"
        texts.append(text)
    return texts


def _over_floor(board: Board, row: Row) -> str:
    over = board.over_best_floor(row)
    if over is None:
        return ""
    low, high = map(formats.signed, over.interval)
    return rf"${formats.signed(over.difference)}$ {{\tiny $[{low}, {high}]$}}"
