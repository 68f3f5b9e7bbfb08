"""Rows compared: verdicts that no draw decides, and each pair compared once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leaderboards import cards
from leaderboards import rows as rows_module
from leaderboards.board import markdown
from leaderboards.page import html
from leaderboards.paper import latex
from leaderboards.rows import Pair, pairs, rows_of, subject
from leaderboards.statistics import SIGNIFICANT, Comparison, compare, holm
from leaderboards.store import Run, read_board
from tests.leaderboards.test_record import ranks_of, run_of, run_of_v1

BOARD = Path(__file__).resolve().parents[2] / "leaderboards/v1"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of each comparison of a board's pairs that is made, how many thresholds it was given."""
    calls = list[int]()

    def noted(
        first: np.ndarray, second: np.ndarray, draws: int, seed: int, thresholds: tuple[float, ...]
    ) -> Comparison:
        calls.append(len(thresholds))
        return compare(first, second, draws, seed, thresholds)

    monkeypatch.setattr(rows_module, "compare", noted)
    monkeypatch.setattr(rows_module, "_known", {})
    return calls


def board(*hits: float) -> list[Run]:
    return [
        run_of(seed, ranks_of(200, seed, share), experiment=f"m{place}", config={"of": place})
        for place, share in enumerate(hits)
        for seed in range(3)
    ]


def test_a_pair_is_compared_once_for_all_tables(counted: list[int]) -> None:
    runs = board(0.9, 0.5, 0.2)
    for render in (markdown, latex, html):
        render(runs)
    assert counted == [3] * 3
    # Rows of the same ranks are the same, whoever read them; others are others.
    markdown(board(0.9, 0.5, 0.2))
    assert len(counted) == 3
    markdown(board(0.9, 0.5, 0.1))
    assert len(counted) == 5, "two pairs of three have another row in them"


def test_p_is_adjusted_for_all_pairs(counted: list[int]) -> None:
    found = pairs(rows_of(board(0.5, 0.45, 0.4, 0.38)))
    assert counted == [6] * 6
    assert [pair.p for pair in found] == holm([pair.found.p for pair in found])
    assert len({pair.found.p for pair in found}) == 6


def verdicts(found: list[Pair]) -> list[bool]:
    return [pair.p < SIGNIFICANT for pair in found]


def test_the_verdicts_of_a_real_board_are_those_of_any_draws() -> None:
    """SASRec against LETTER: of 10,000 plain draws, p after Holm came out from .037 to .066 in eight runs."""
    rows = rows_of(read_board(BOARD, "all_beauty"))
    boards = [pairs(rows, 1_000, seed) for seed in range(8)]
    near = [pair.p for found in boards for pair in found if is_close(pair)]
    assert len(near) == 8
    assert all(0.5 * SIGNIFICANT < p < 1.5 * SIGNIFICANT for p in near)
    assert max(near) < 1.03 * min(near)
    assert all(verdicts(found) == verdicts(boards[0]) for found in boards)
    assert len(set(verdicts(boards[0]))) == 2


def is_close(pair: Pair) -> bool:
    return (pair.better.title, pair.worse.title) == ("sasrec", "letter")


def test_the_committed_card_says_what_a_board_is_about() -> None:
    """However many rows a corpus has that was prepared otherwise under its name."""
    (carded,) = cards.fingerprints("all_beauty")
    true = run_of(corpus={"name": "all_beauty", "fingerprint": carded})
    others = [
        run_of(corpus={"name": "all_beauty", "fingerprint": "b" * 64}, config={"width": width}) for width in range(3)
    ]
    assert [row.ranked for row in rows_of([true, *others])] == [True, False, False, False]
    assert subject([true, *others]) == true.record
    assert [row.ranked for row in rows_of(others)] == [True] * 3
    # Rows of the board's own protocol decide, a newer one's do not.
    older = [run_of_v1(config={"width": width}) for width in range(2)]
    assert subject([*older, true]).protocol == "v1"
