"""Cold items: how rows do where no user's training part holds the target, so that only what it is made of can tell.

A model that knows items by number alone has never had a reason to rank such a target; one that generates the codes of
an item's text can. TIGER's own setting keeps some items from training and gives them a share of each list; here lists
are as everywhere on the board.
"""

from __future__ import annotations

from typing import NamedTuple

from leaderboards import formats
from leaderboards.rows import RANKED_BY, Board, Row
from leaderboards.slices import Mask
from leaderboards.statistics import interval

NUMBERS = {"Recall@50": "recall@50", "Recall@10": "recall@10", "NDCG@10": RANKED_BY}
OTHERS = "NDCG@10 of the others"
SAYS = (
    "Of the users whose target is in no user's training part, NDCG@10 with its 95% interval, over them alone; beside "
    "it that of all other users."
)


class ColdItems(NamedTuple):
    """A board's section: the cells of each ranked row by column, the best on cold items first."""

    title: str
    lines: list[dict[str, str]]


def cold_items(board: Board) -> ColdItems | None:
    """None where every target is in some user's training part."""
    # A fact of the corpus, the same in the ranks of every run.
    cold: Mask = board.ranked[0].runs[0].ranks["target_count"].to_numpy() == 0
    if not cold.any():
        return None
    rows = sorted(board.ranked, key=lambda row: -row.gains[:, cold].mean())
    title = f"Cold items: the targets of {cold.sum():,} of {len(cold):,} users"
    return ColdItems(title, [_line(row, cold) for row in rows])


def _line(row: Row, cold: Mask) -> dict[str, str]:
    means = {title: formats.plain(row.values(metric)[:, cold].mean()) for title, metric in NUMBERS.items()}
    others = formats.plain(row.gains[:, ~cold].mean()) if not cold.all() else ""
    bounds = formats.interval(interval(row.gains[:, cold]))
    return {"Experiment": row.title, "Key": row.record.key, **means, "Interval": bounds, OTHERS: others}
