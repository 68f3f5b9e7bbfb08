"""Rows compared: p that no draw decides, and each pair compared once."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy import stats

from leaderboards import cards
from leaderboards import rows as rows_module
from leaderboards.board_table import markdown
from leaderboards.page import html
from leaderboards.paper import latex
from leaderboards.rows import Board, rows_of, subject
from leaderboards.statistics import SIGNIFICANT, Comparison, Interval, Sample, Values, compare_samples, family, interval
from leaderboards.store import Run, read_board
from tests.leaderboards.test_record import at_first, ranks_of, run_of, run_of_v1

BOARD = Path(__file__).resolve().parents[2] / "leaderboards/v1"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Sample]:
    """The better rows of the comparisons that are made."""
    calls = list[Sample]()

    def noted(first: Sample, second: Sample) -> Comparison:
        calls.append(first)
        return compare_samples(first, second)

    monkeypatch.setattr(rows_module, "compare_samples", noted)
    monkeypatch.setattr(rows_module, "_known", {})
    return calls


def runs_of(*hits: float) -> list[Run]:
    return [
        run_of(seed, ranks_of(200, seed, share), experiment=f"m{place}", config={"of": place})
        for place, share in enumerate(hits)
        for seed in range(3)
    ]


def test_a_config_has_one_row_whatever_its_seeds_were_asked_for_by() -> None:
    (row,) = rows_of([run_of(2, experiment="sasrec"), run_of(0, experiment="sasrec-bce"), run_of(1)])
    assert (row.name, [run.record.seed for run in row.runs]) == ("sasrec-bce", [0, 1, 2])


@pytest.mark.slow
def test_a_pair_is_compared_once_for_all_tables(counted: list[Sample]) -> None:
    board = Board(runs_of(0.9, 0.5, 0.2))
    for render in (markdown, latex, html):
        render(board)
    assert len(counted) == 3
    # Rows of the same ranks are the same, whoever read them; others are others.
    markdown(Board(runs_of(0.9, 0.5, 0.2)))
    assert len(counted) == 3
    markdown(Board(runs_of(0.9, 0.5, 0.1)))
    assert len(counted) == 5, "two pairs of three have another row in them"


def test_of_two_rows_no_other_pair_is_computed(counted: list[Sample]) -> None:
    board = Board(runs_of(0.9, 0.5, 0.2))
    best, _, last = board.rows
    found = board.apart(last, best)
    assert len(counted) == 1
    assert found is not None
    assert found == board.to_best(last)
    pair = next(pair for pair in board.pairs if pair.worse is last)
    assert found == (-pair.found.difference, -pair.interval, pair.p)
    assert board.apart(best, last) == (pair.found.difference, pair.interval, pair.p)


def test_p_is_adjusted_for_all_pairs() -> None:
    board = Board(runs_of(0.5, 0.45, 0.4, 0.38))
    found, common = board.pairs, family([row.sample for row in board.rows])
    assert [pair.p for pair in found] == [common.adjusted(pair.found.p) for pair in found]
    assert len({pair.found.p for pair in found}) == 6
    assert all(pair.p > pair.found.p for pair in found)


def test_no_interval_of_a_board_contradicts_its_p() -> None:
    for folder in (BOARD, BOARD.with_name("v2")):
        board = Board(read_board(folder, "all_beauty"))
        assert {pair.differs for pair in board.pairs} == {True, False}
        for pair in board.pairs:
            assert pair.differs == (pair.p < SIGNIFICANT) == (pair.interval.low > 0 or pair.interval.high < 0)
            assert pair.interval.low <= pair.found.difference <= pair.interval.high
        floor, first = board.best_floor, board.rows[0]
        for row in board.ranked:
            for found, other in ((board.to_best(row), first), (board.over_best_floor(row), floor)):
                assert (found is None) == (row is other or other is None)
                if found is not None and other is not None:
                    assert found.difference == pytest.approx(row.gains.mean() - other.gains.mean())
                    assert found.differs == (found.interval.low > 0 or found.interval.high < 0)


def test_the_interval_of_a_row_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = list[Interval]()

    def noted(values: Values) -> Interval:
        drawn.append(interval(values))
        return drawn[-1]

    monkeypatch.setattr(rows_module, "interval", noted)
    monkeypatch.setattr(rows_module, "_bounds", {})
    for _ in range(2):
        assert [row.bounds for row in rows_of(runs_of(0.9, 0.5))] == drawn


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


def test_p_of_a_real_board_is_that_of_a_million_draws() -> None:
    """Of 10,000 draws, the third came out from .0018 to .0027."""
    rows = {row.title: row.sample for row in rows_of(read_board(BOARD, "all_beauty"))}
    expected = {"sasrec, tuned": 0.324181, "pit": 0.0126202, "letter": 0.00189214, "tiger": 1.7686e-05}
    for title, p in expected.items():
        assert compare_samples(rows["sasrec"], rows[title]).p == pytest.approx(p, rel=3e-3)


def test_what_is_detectable_is_that_among_all_pairs() -> None:
    board = Board(runs_of(0.5, 0.45, 0.4, 0.38))
    level = family([row.sample for row in board.rows]).level
    assert level < 0.03
    for pair in board.pairs:
        t = stats.t(pair.found.dof)
        assert pair.detectable == pytest.approx((t.ppf(0.8) - t.ppf(level / 2)) * pair.found.standard_error)


def test_beside_more_rows_the_interval_of_a_pair_is_wider() -> None:
    """In one process: what is known of the pair from another board is not taken for this one's."""
    (alone,) = Board(runs_of(0.51, 0.41)).pairs
    among = Board(runs_of(0.51, 0.41, 0.3, 0.2, 0.1)).pairs[0]
    assert among.found == alone.found
    assert among.interval.low < alone.interval.low < alone.interval.high < among.interval.high


def test_no_hit_among_so_many_users_is_not_taken_for_another_rows() -> None:
    """400 zeros of one seed, and of two seeds of 200 users: the same bytes."""
    many, few = run_of(0, ranks_of(400, 0, 0.0)), [run_of(seed, ranks_of(200, 0, 0.0)) for seed in range(2)]
    high = [rows_of(runs)[0].bounds.high for runs in ([many], few)]
    assert high == pytest.approx([1 - 0.025 ** (1 / users) for users in (400, 200)])


def test_equal_rows_stand_in_order_of_their_names() -> None:
    one, other = (run_of(0, ranks_of(200, 0), experiment=name, config={"of": name}) for name in ("b", "a"))
    assert [row.name for row in rows_of([one, other])] == [row.name for row in rows_of([other, one])] == ["a", "b"]


def test_rows_are_ranked_by_the_metric_that_is_asked_for() -> None:
    """Among unseen items the one with fewer hits among all is the better one."""
    one, other = at_first("one", set(range(50))), at_first("other", set(range(60)), column="rank_unseen")
    assert [row.name for row in rows_of([one, other])] == ["one", "other"]
    assert [row.name for row in rows_of([one, other], "ndcg@10_unseen")] == ["other", "one"]


def test_a_board_is_about_what_its_latest_run_tells() -> None:
    runs = [run_of(seed) for seed in range(3)]
    assert subject(runs).seed == subject(runs[::-1]).seed == 2
