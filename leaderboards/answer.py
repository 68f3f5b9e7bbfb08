"""What a reader comes for, in sentences: which row is best, whether that is real, what papers say, what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from leaderboards import formats
from leaderboards.board_table import seconds
from leaderboards.rows import Board, Row
from leaderboards.statistics import SEEDS_FOR_VARIANCE
from leaderboards.verdicts import NOT_COMPARABLE, Verdict

# Names in a sentence; the table has them all.
MOST_NAMES = 4


class Answer(NamedTuple):
    """Attributes: best, the row; the others are sentences: of its quality, and as many as there is to say."""

    best: Row
    quality: list[str]
    real: list[str]
    papers: list[str]
    cost: list[str]


def answer(board: Board, said: Sequence[Verdict]) -> Answer:
    """Of the ranked rows of a board, and what papers `said` of all its rows."""
    best = board.rows[0]
    trained = next((row for row in board.ranked if not row.is_floor), None)
    return Answer(
        best,
        _quality(best, trained),
        _real(board, best, trained),
        _papers(best, said),
        _cost(board, best, trained),
    )


def _quality(best: Row, trained: Row | None) -> list[str]:
    low, high = map(formats.plain, best.bounds)
    of = "nothing is trained" if best.is_floor else _count(len(best.runs), "seed")
    told = [f"NDCG@10 {_mean(best)}, 95% interval {low} to {high}; {of}."]
    if best.is_floor and trained is not None:
        told.append(f"The best trained row, {trained.title}: {_mean(trained)}.")
    return told


def _real(board: Board, best: Row, trained: Row | None) -> list[str]:
    others, floor = board.ranked[1:], board.best_floor
    if not others:
        return ["It is the only row: there is nothing to set it against."]
    close = _not_worse(board, best)
    if close:
        told = [
            f"Not from all: of {_count(len(others), 'other row')} {len(close)} not shown to be worse, {_names(close)}."
        ]
    else:
        told = ["Yes: it differs from every other row."]
    of_floor = " (the best floor)" if others[0] is floor else ""
    told.append(f"Over the next row, {others[0].title}{of_floor}: {_says(board, best, others[0])}.")
    if floor is None:
        told.append("No row here trains nothing, so nothing tells what training is worth.")
    elif floor not in (best, others[0]):
        told.append(f"Over the best floor, {floor.title}: {_says(board, best, floor)}.")
    elif floor is best and trained not in (None, others[0]):
        assert trained is not None
        told.append(f"Over the best trained row, {trained.title}: {_says(board, best, trained)}.")
    few = [row for row in (best, others[0]) if len(row.runs) < SEEDS_FOR_VARIANCE and not row.is_floor]
    if few:
        told.append(f"Fewer than {SEEDS_FOR_VARIANCE} seeds of {_names(few)}: about these weights, not the method.")
    return told


def _says(board: Board, row: Row, other: Row) -> str:
    """`+0.0079 (-0.0219 to +0.0378, p = 0.999), not shown to differ`"""
    found = board.apart(row, other)
    assert found is not None
    says = f"{formats.signed(found.difference)} ({formats.signed_interval(found.interval)}, {formats.p_is(found.p)})"
    return says if found.differs else f"{says}, not shown to differ"


def _papers(best: Row, every: Sequence[Verdict]) -> list[str]:
    if not every:
        return ["No paper that we know states a number of these rows."]
    own = [said for said in every if said.row is best]
    told = [f"{best.title}: {_tally(own)}." if own else f"None states a number of {best.title}."]
    if len(every) > len(own):
        told.append(f"All rows: {_tally(every)}.")
    return told


def _tally(said: Sequence[Verdict]) -> str:
    told = Counter(short(one.verdict) for one in said)
    return f"beside {_count(len(said), 'number')} ours is " + ", ".join(
        f"{count} x {what}" for what, count in told.most_common()
    )


def _cost(board: Board, best: Row, trained: Row | None) -> list[str]:
    record = best.record
    origins = [run.record.provenance for run in best.runs]
    machines = [f"{origin.device}, {_count(origin.threads, 'thread')}" for origin in origins]
    where = f"on {' and '.join(dict.fromkeys(machines))}"
    of = "nothing is trained" if best.is_floor else f"{_count(record.cost.parameters, 'parameter')}"
    told = [f"{formats.duration(seconds(best))} a seed {where}; {of}."]
    cheapest = min(_not_worse(board, best), key=seconds, default=best)
    if seconds(cheapest) < seconds(best):
        told.append(f"Cheapest that is not shown to be worse: {cheapest.title}, {formats.duration(seconds(cheapest))}.")
    if best.is_floor and trained is not None:
        told.append(f"The best trained row, {trained.title}: {formats.duration(seconds(trained))} a seed.")
    return told


def _not_worse(board: Board, best: Row) -> list[Row]:
    """The other ranked rows that are not shown to differ from the best."""
    found = [(row, board.apart(best, row)) for row in board.ranked[1:]]
    return [row for row, apart in found if apart is None or not apart.differs]


def short(verdict: str) -> str:
    """A verdict without its reasons."""
    return NOT_COMPARABLE if verdict.startswith(NOT_COMPARABLE) else verdict


def _mean(row: Row) -> str:
    return formats.plain(float(row.gains.mean()))


def _names(rows: Sequence[Row]) -> str:
    names = [row.title for row in rows[:MOST_NAMES]]
    return ", ".join(names) + (f" and {len(rows) - MOST_NAMES} more" if len(rows) > MOST_NAMES else "")


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' if count != 1 else ''}"
