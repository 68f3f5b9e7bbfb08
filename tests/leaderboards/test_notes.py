"""Floors: how each row stands to those that train nothing, and where a reader is told."""

from __future__ import annotations

import io
import re

import numpy as np
import pandas as pd
import pytest

from leaderboards import formats
from leaderboards.board_table import OVER_FLOOR, csv, legend, markdown, table
from leaderboards.notes import BEATS_NO_FLOOR, BEST_FLOOR, FLOOR, badge
from leaderboards.page import html
from leaderboards.paper import latex
from leaderboards.rows import Board, Row
from leaderboards.statistics import compare
from leaderboards.store import Run
from tests.leaderboards.test_record import ranks_of, run_of

# Of the users who have the target in their list; the draws are the same for all, so more is nowhere worse.
HITS = {"strong": 0.6, "high floor": 0.4, "near": 0.39, "low floor": 0.1, "weak": 0.09}


def run(name: str, **changes: object) -> Run:
    made = run_of(0, ranks_of(2_000, 0, HITS[name]), experiment=name, config={"of": name}, **changes)
    if "floor" not in name:
        return made
    untrained = made.record.cost.model_copy(update={"stages": []})
    return made._replace(record=made.record.model_copy(update={"cost": untrained}))


@pytest.fixture(scope="module")
def board() -> Board:
    return Board([run(name) for name in HITS])


def by_name(board: Board) -> dict[str, Row]:
    return {row.name: row for row in board.rows}


def test_a_row_is_set_beside_the_best_floor_on_the_same_users(board: Board) -> None:
    rows = by_name(board)
    assert board.best_floor is rows["high floor"]
    for name in ("strong", "near", "low floor", "weak"):
        expected = compare(rows[name].gains, rows["high floor"].gains)
        over = board.over_best_floor(rows[name])
        assert over is not None
        assert over.difference == pytest.approx(rows[name].gains.mean() - rows["high floor"].gains.mean())
        assert over.interval.low < expected.interval.low < over.difference < expected.interval.high < over.interval.high
        assert over.p > expected.p
    assert board.over_best_floor(rows["high floor"]) is None


def test_who_beats_no_floor_says_so(board: Board) -> None:
    notes = table(board).set_index("experiment")["notes"].to_dict()
    assert notes == {
        "strong": [],
        "high floor": [BEST_FLOOR],
        "near": [],
        "low floor": [FLOOR],
        "weak": [BEATS_NO_FLOOR],
    }
    barely = Board([run(name) for name in ("near", "high floor")])
    assert barely.beats_no_floor(by_name(barely)["near"])


@pytest.mark.slow
def test_all_tables_show_the_difference(board: Board) -> None:
    over = board.over_best_floor(by_name(board)["strong"])
    assert over is not None
    low, high = over.interval
    text = f"{over.difference:+.4f} ({low:+.4f} to {high:+.4f}, p &lt; .001)"
    told = markdown(board)
    (line,) = [line for line in told.splitlines() if line.startswith("| strong")]
    assert text in line
    assert re.search(r"^\| weak .*\), beats none \|", told, flags=re.MULTILINE)
    assert re.search(r"^\| high floor .*\| +best floor \|", told, flags=re.MULTILINE)
    assert re.search(rf"^\d\. {BEATS_NO_FLOOR}$", told, flags=re.MULTILINE)
    page = html(board)
    assert (
        f"{over.difference:+.4f}<small>{low:+.4f} to {high:+.4f}, {formats.p_is(over.p).replace('<', '&lt;')}</small>"
        in page
    )
    assert f"<li>{BEATS_NO_FLOOR}</li>" in page
    assert f'title="{BEATS_NO_FLOOR}">beats no floor</span>' in page
    assert f"% weak: {BEATS_NO_FLOOR}" in latex(board)
    assert rf"${over.difference:+.4f}$ {{\tiny $[{low:+.4f}, {high:+.4f}]$}}" in latex(board)
    lines = {line["experiment"]: line for line in pd.read_csv(io.StringIO(csv(board))).to_dict("records")}
    columns = ("over_floor", "over_floor_low", "over_floor_high", "over_floor_p")
    expected = [over.difference, low, high, over.p]
    assert [lines["strong"][name] for name in columns] == pytest.approx(expected, abs=1e-6)
    assert all(np.isnan(lines["high floor"][name]) for name in columns)
    assert np.isnan(lines["strong"]["to_best"])
    assert lines["high floor"]["to_best"] == pytest.approx(-over.difference, abs=1e-6)


def test_a_note_has_a_badge() -> None:
    notes = ("small sizes", "tuned with 3 trials (study s-1)", "overridden: epochs=3", "run outside a checkout", FLOOR)
    assert [badge(note) for note in notes] == ["small sizes", "tuned", "overridden", "note", "floor"]


def test_without_floors_nothing_is_said_of_them() -> None:
    alone = Board([run("strong"), run("weak")])
    told = markdown(alone)
    assert OVER_FLOOR not in told + latex(alone)
    assert f">{OVER_FLOOR}<" not in html(alone)
    assert "floor" not in legend(table(alone)) + csv(alone)
    assert not alone.beats_no_floor(alone.rows[1])


def test_floors_of_another_corpus_are_no_measure() -> None:
    foreign = run("high floor", corpus={"fingerprint": "e" * 64})
    mixed = Board([run("weak"), run("near"), foreign])
    assert mixed.best_floor is None
    assert OVER_FLOOR not in markdown(mixed)
    with_floor = Board([run("weak"), run("low floor"), run("near", corpus={"fingerprint": "e" * 64})])
    notes = table(with_floor).set_index("experiment")["notes"].to_dict()
    assert (notes["weak"], notes["near"]) == ([BEATS_NO_FLOOR], [])


def test_who_is_not_shown_to_be_better_than_a_floor_beats_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HITS, "close floor", 0.385)
    board = Board([run(name) for name in ("near", "close floor")])
    row, floor = board.rows
    assert (row.name, row.gains.mean() > floor.gains.mean()) == ("near", True)
    assert board.beats_no_floor(row)
