"""Pages of a board and what they lead to: one of each corpus, and the index."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from data_prep.atomic import write_text
from leaderboards import board_table, index_page, ledger, page
from leaderboards.rows import Board


def write_page(folder: Path, corpus: str, board: Board, others: Sequence[str] = ()) -> Path:
    """Writes the page of a corpus; returns the file.

    Args:
        others: corpora whose pages are written by the same command, before it or after it.
    """
    target = folder / f"{corpus}.html"
    shown = {corpus, *others}.intersection([corpus, *board_table.corpora(folder)])
    corpora = _files(folder) | {each: f"{each}.html" for each in shown}
    links = page.Links(folder, index_page.NAME, dict(sorted(corpora.items())), _studies(folder, corpus))
    write_text(target, page.html(board, links))
    return target


def write_index(folder: Path) -> Path:
    """Writes the page over all corpora that have a table; returns the file."""
    target = folder / index_page.NAME
    write_text(target, index_page.html(folder, _files(folder)))
    return target


def _files(folder: Path) -> dict[str, str]:
    """Corpora with a table, and their pages; the table in Markdown, where nobody has rendered a page."""
    found = {}
    for corpus in board_table.corpora(folder):
        if (folder / f"{corpus}.csv").is_file():
            page_there = (folder / f"{corpus}.html").is_file()
            found[corpus] = f"{corpus}.html" if page_there else f"{corpus}.md"
    return found


def _studies(folder: Path, corpus: str) -> dict[str, str]:
    """Names of the studies on a corpus, and the page of each; its ledger, where there is no page.

    Raises:
        ValueError: a ledger is damaged.
    """
    found = {}
    for file in ledger.matching(folder, f"{corpus}{ledger.SWEEPS}/*.json"):
        shown = file.with_suffix(".html") if file.with_suffix(".html").is_file() else file
        try:
            name = str(json.loads(file.read_bytes())["study"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file} is no ledger of a sweep: {error!r}; expected JSON with its study") from None
        found[name] = shown.relative_to(folder).as_posix()
    return found
