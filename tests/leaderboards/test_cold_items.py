"""Cold items: numbers over the users whose target nobody trained on, by hand."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from leaderboards import findings
from leaderboards.board_table import markdown
from leaderboards.cold_items import cold_items
from leaderboards.page import html
from leaderboards.record import RANKS_SCHEMA
from leaderboards.rows import Board
from leaderboards.store import Run
from tests.leaderboards.test_record import ranks_of, run_of

COLD = "## Cold items: the targets of 4 of 8 users"


def run(name: str, rank: list[int], counts: list[int]) -> Run:
    """A run with these test ranks, and so often each target in training."""
    drawn = ranks_of(len(rank), seed=0)
    columns = {column: drawn[column].to_numpy() for column in drawn.column_names}
    columns |= {"rank": np.array(rank, np.uint8), "target_count": np.array(counts, np.int32)}
    return run_of(ranks=pa.table(columns, schema=RANKS_SCHEMA), experiment=name, model=name)


@pytest.fixture
def board() -> Board:
    counts = [0, 3, 0, 1, 0, 2, 0, 1]
    first = run("sasrec", [0, 1, 0, 1, 0, 1, 0, 1], counts)
    second = run("tiger", [1, 0, 3, 0, 20, 0, 0, 2], counts)
    return Board([first, second])


def test_by_hand(board: Board) -> None:
    found = cold_items(board)
    assert found is not None
    assert found.title == COLD.removeprefix("## ")
    tiger, sasrec = found.lines
    gain = (1 + 1 / math.log2(4)) / 4
    assert [tiger[name] for name in ("Experiment", "Recall@50", "Recall@10", "NDCG@10")] == [
        "tiger", "0.7500", "0.5000", f"{gain:.4f}",
    ]  # fmt: skip
    assert tiger["NDCG@10 of the others"] == f"{1 / math.log2(3) / 4:.4f}"
    low, high = map(float, tiger["Interval"].split("-"))
    assert 0 <= low < gain < high <= 1
    assert list(sasrec.values())[2:] == ["0.0000", "0.0000", "0.0000", "0.0000-0.6024", "1.0000"]


def test_where_every_target_is_trained_on_there_is_no_section() -> None:
    known = Board([run("sasrec", [1, 0], [1, 2])])
    assert cold_items(known) is None
    assert "Cold items" not in markdown(known)
    assert "Cold items" not in html(known)


def test_where_all_are_cold_there_are_no_others() -> None:
    found = cold_items(Board([run("sasrec", [1, 0], [0, 0])]))
    assert found is not None
    assert (found.lines[0]["NDCG@10"], found.lines[0]["NDCG@10 of the others"]) == ("0.5000", "")


def test_it_stands_on_the_board_and_on_its_page(board: Board) -> None:
    section = markdown(board).partition(COLD)[2].partition("\n## ")[0]
    assert "| tiger" in section
    assert "0.7500" in section
    page = html(board).partition('<h2 id="cold">')[2].partition("<h2")[0]
    assert "the targets of 4 of 8 users" in page
    assert "<td>0.7500</td>" in page


def test_findings_name_the_rows_that_find_some(board: Board) -> None:
    (line,) = findings.cold({"toys": board})
    assert (line["Corpus"], line["Experiment"], line["Recall@10"]) == ("toys", "tiger", "0.5000")
