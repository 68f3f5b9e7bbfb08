"""The table of a page: few columns first, those that answer; a cell holds a number, and small what belongs to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from leaderboards import board_table, commands, formats
from leaderboards.answer import short
from leaderboards.notes import BEST_FLOOR, badge, row_notes
from leaderboards.record import TUNED
from leaderboards.rows import Apart, Board, Row
from leaderboards.statistics import Interval
from leaderboards.verdicts import Verdict

# What rows are ranked by comes first, the other metrics after what answers.
FIRST = "ndcg@10"
METRICS = (FIRST, "recall@10", "ndcg@10_unseen", "recall@10_unseen", "ndcg@5", "recall@5")
# Columns with less than a number in each cell.
LEFT = ("Paper", "Vectors", "Evidence", "Command", "Graded on")
# Columns that have no order.
UNSORTED = ("Evidence", "Command")


class Cell(NamedTuple):
    """Attributes:
    text: what is read.
    more: what stands small beneath it.
    value: what a column is sorted by, empty where nothing was measured.
    mark: how it is set off: `best`, `differs`, `close`, `command`.
    links: texts and addresses that stand in place of `more`; a text without an address is no link.
    """

    text: str = ""
    more: str = ""
    value: float | str = ""
    mark: str = ""
    links: tuple[tuple[str, str | None], ...] = ()


class Line(NamedTuple):
    """Attributes: id, of the row in full, empty of the ceiling; badges, short and full text of each note; cells, by the
    title of their column."""

    id: str
    name: str
    key: str
    badges: list[tuple[str, str]]
    cells: dict[str, Cell]


class Table(NamedTuple):
    """Attributes: columns, titles, whether they hold numbers and whether they can be sorted by; ranked, the ceiling
    first, and apart: lines."""

    columns: list[tuple[str, bool, bool]]
    ranked: list[Line]
    apart: list[Line]


def table(
    board: Board, frame: pd.DataFrame, said: Sequence[Verdict], folder: Path, studies: Mapping[str, str]
) -> Table:
    """The rows of a board for its page; columns that nothing is said in are left out.

    Args:
        frame: `board.table` of it.
        said: what papers state of its rows.
        folder: of the board, as a command of a reader is to name it.
        studies: name of a study -> file name of its page or ledger.
    """
    measured = frame.to_dict("records")
    ceiling = [line for line in measured if line["standing"] == board_table.CEILING]
    lines = [Line("", board_table.CEILING, "", [], _metrics(line)) for line in ceiling]
    for row, line in zip(board.rows, measured[len(ceiling) :], strict=True):
        own = [verdict for verdict in said if verdict.row is row]
        command = commands.reproduce(row, folder) or commands.bench(row, folder)
        cells = _cells(board, row, line, own) | {
            "Evidence": Cell(
                "record of seed", links=(*((str(seed), file) for seed, file in records(row)), *_sweep(row, studies))
            ),
            "Command": Cell(command, mark="command") if command else Cell(),
        }
        badges = [(badge(note), note) for note in row_notes(board, row)]
        lines.append(Line(row_id(row), row.title, row.record.key, badges, cells))
    count = len(ceiling) + len(board.ranked)
    ranked, apart = _with_best(lines[:count]), lines[count:]
    # The ceiling has metrics alone: the order of the columns is that of the rows.
    told = [*lines[len(ceiling) :], *lines[: len(ceiling)]]
    titles = dict.fromkeys(title for line in told for title, cell in line.cells.items() if cell.text or cell.links)
    return Table([(title, title not in LEFT, title not in UNSORTED) for title in titles], ranked, apart)


def row_id(row: Row) -> str:
    """Of a row on its page."""
    return f"{row.record.model}-{row.record.key}"


def records(row: Row) -> list[tuple[int, str]]:
    """Seeds, and where their records lie beside the page."""
    first = row.record
    folder = f"{first.corpus.name}/{first.model}/{first.key}"
    return [(run.record.seed, f"{folder}/seed-{run.record.seed}.json") for run in row.runs]


def _cells(board: Board, row: Row, line: Mapping[Any, Any], said: Sequence[Verdict]) -> dict[str, Cell]:
    """All that was measured of a row; what answers comes after the first metric."""
    first, *rest = _metrics(line).items()
    floor = Cell("best floor") if BEST_FLOOR in line["notes"] else _apart(board.over_best_floor(row))
    best = Cell("best row", value=0.0) if row is board.rows[0] else _apart(board.to_best(row))
    answers = {
        "To best row": best if len(board.ranked) > 1 else Cell(),
        "Over best floor": floor if board.best_floor else Cell(),
        "Paper": _paper(said),
        "Cost": Cell(formats.duration(line["seconds"]), value=line["seconds"]),
        "Seeds": Cell(str(line["seeds"]), value=line["seeds"]),
    }
    bounds = Interval(line["ndcg@10_low"], line["ndcg@10_high"])
    search = {
        "Interval": Cell(formats.interval(bounds), value=bounds.low),
        "Certified": Cell(board_table.percent(line["certified_share"]), value=line["certified_share"]),
        "Expansions": _number(line["expansions"], formats.amount),
        "Beam 20": _number(line["beam20_gap"], formats.signed),
        "Vectors": Cell(line["vectors"], value=line["vectors"]),
    }
    graded = {} if row.ranked else {"Graded on": Cell(board_table.graded_on(line))}
    return dict([first]) | answers | dict(rest) | search | graded


def _metrics(line: Mapping[Any, Any]) -> dict[str, Cell]:
    cells = {}
    for name in METRICS:
        mean, std = line.get(name, np.nan), line.get(f"{name}_std", np.nan)
        more = "" if np.isnan(std) else f"± {formats.plain(std)}"
        cells[board_table.EVERY_SHOWN[name]] = _number(mean, formats.plain)._replace(more=more)
    return cells


def _number(value: float, text: Any) -> Cell:
    return Cell() if np.isnan(value) else Cell(text(value), value=value)


def _apart(found: Apart | None) -> Cell:
    if found is None:
        return Cell()
    more = f"{formats.signed_interval(found.interval)}, {formats.p_is(found.p)}"
    return Cell(formats.signed(found.difference), more, found.difference, "differs" if found.differs else "close")


def _paper(said: Sequence[Verdict]) -> Cell:
    """What the papers' numbers come to by the metric that rows are ranked by, by another where they state no such."""
    chosen = [verdict for verdict in said if verdict.metric == FIRST] or said
    if not chosen:
        return Cell()
    text = ", ".join(dict.fromkeys(short(verdict.verdict) for verdict in chosen))
    papers = {verdict.paper.short: verdict.paper.url for verdict in chosen}
    return Cell(text, value=text, links=tuple(papers.items()))


def _sweep(row: Row, studies: Mapping[str, str]) -> list[tuple[str, str]]:
    tuned = [note for note in row.record.notes if note.startswith(TUNED)]
    return [("its sweep", file) for study, file in studies.items() if any(f"(study {study})" in note for note in tuned)]


def _with_best(lines: Sequence[Line]) -> list[Line]:
    """The lines with the best value of each metric marked; by what is printed."""
    best = dict[str, float]()
    for title in (board_table.EVERY_SHOWN[name] for name in METRICS):
        values = [line.cells[title].value for line in lines if line.id]
        best[title] = max((round(value, 4) for value in values if isinstance(value, float)), default=np.nan)
    marked = []
    for line in lines:
        cells = {
            title: cell._replace(mark="best")
            for title, cell in line.cells.items()
            if line.id and title in best and isinstance(cell.value, float) and round(cell.value, 4) == best[title]
        }
        marked.append(line._replace(cells=line.cells | cells))
    return marked
