"""LaTeX: what is bold, underlined and marked."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from data_prep import corpus
from leaderboards.__main__ import main
from leaderboards.paper import GLOBAL_TIME, MARK, latex
from leaderboards.rows import Board
from leaderboards.store import Run, write
from tests.leaderboards.test_record import at_first, ranks_of, run_of


def run(name: str, hits: float, seed: int, **changes: object) -> Run:
    # The same draws for all, so that a row with more hits is nowhere worse.
    return run_of(seed, ranks_of(2_000, seed, hits), experiment=name, config={"of": name}, **changes)


def cells(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(name)]
    return [cell.strip() for cell in line.removesuffix(r" \\").split("&")]


def test_best_second_and_marks() -> None:
    runs = [
        run(name, hits, seed) for name, hits in [("best", 0.6), ("near_it", 0.58), ("far", 0.1)] for seed in range(3)
    ]
    text = latex(Board(runs))
    best, near, far = cells(text, "best"), cells(text, r"near\_it"), cells(text, "far")
    assert all(cell.startswith(r"\textbf{0.") for cell in best[1:5])
    assert all(cell.startswith(r"\underline{0.") for cell in near[1:5])
    assert far[0] == r"far$^{\dagger}$"
    assert near[0] == r"near\_it"
    values = [run.record.test["ndcg@10"] for run in runs[6:]]
    assert far[4] == rf"{np.mean(values):.4f} {{\tiny $\pm${np.std(values, ddof=1):.4f}}}"
    assert best[5] == "3"
    assert r"\label{tab:toys}" in text
    assert "adjusted for all pairs" in text


def test_equal_rows_are_marked_alike_and_few_seeds_have_no_deviation() -> None:
    text = latex(Board([run("one", 0.3, 0), run("two", 0.3, 0), run("less", 0.1, 0, notes=["small sizes"])]))
    assert cells(text, "one")[1:5] == cells(text, "two")[1:5]
    assert all(re.fullmatch(r"\\textbf\{0\.\d{4}\}", cell) for cell in cells(text, "one")[1:5])
    assert all(cell.startswith(r"\underline") for cell in cells(text, "less")[1:5])
    assert "% less: small sizes" in text


def test_rows_of_another_corpus_are_left_out() -> None:
    foreign = run("foreign", 0.9, 1, corpus={"fingerprint": "e" * 64})
    assert "foreign" not in latex(Board([foreign, run("ours", 0.1, 0)]))


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, *run("one", 0.3, 0))
    assert main(["paper", "--board", str(tmp_path)]) == 0
    assert r"\begin{tabular}" in capsys.readouterr().out
    assert main(["paper", "--board", str(tmp_path), "--corpus", "other"]) == 2


def test_the_caption_says_no_more_than_was_done() -> None:
    assert "leave-one-out, full ranking, exact. Mean" in latex(Board([run_of()]))
    assert GLOBAL_TIME == corpus.GLOBAL_TIME
    cut = latex(Board([run_of(corpus={"name": f"toys{GLOBAL_TIME}"})]))
    assert "the first item after a moment, full ranking, exact. Mean" in cut
    shares = [{"certified_share": share, "mean_expansions": 7.0, "max_expansions": 9} for share in (1.0, 0.5)]
    some = latex(Board([run_of(seed, search=share) for seed, share in enumerate(shares)]))
    assert r"full ranking, exact for 50.0\% of the users or more. Mean" in some
    nearly = latex(Board([run_of(search=shares[0] | {"certified_share": 0.9999})]))
    assert r"exact for 99.9\% of the users or more" in nearly, "100% is said of all users alone"


def test_a_row_is_marked_where_it_differs_from_the_first_alone() -> None:
    """`third` is worse than `second` for 8 users and better for none; beside `first` it wins 50 and loses 60."""
    first, third = set(range(60)), set(range(100, 150))
    board = Board(
        [at_first("first", first), at_first("second", third | set(range(150, 158))), at_first("third", third)]
    )
    assert [row.name for row in board.rows] == ["first", "second", "third"]
    assert [pair.differs for pair in board.pairs] == [False, False, True]
    assert MARK not in latex(board)
