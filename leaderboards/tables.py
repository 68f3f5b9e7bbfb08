"""All that is rendered of a corpus and committed beside its records, and the ledger of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_prep.atomic import write_text
from leaderboards import board as rows
from leaderboards import codes, ledger, paper
from leaderboards.store import Run, read_board


def corpora(board: Path) -> list[str]:
    """Names of the corpora that the board has records, code cards or sweeps of."""
    return sorted({*rows.corpora(board), *codes.corpora(board), *ledger.swept(board)})


def rendered(board: Path, corpus: str, runs: Sequence[Run]) -> dict[Path, str]:
    """The tables: file -> content; the same records give the same bytes.

    Args:
        runs: all of the corpus, as from `runs_of`.

    Raises:
        FileNotFoundError: there is nothing of that corpus.
        ValueError: a card is damaged.
    """
    contents: dict[Path, str] = {}
    if runs:
        contents |= {
            board / f"{corpus}.md": rows.markdown(runs),
            board / f"{corpus}.csv": rows.csv(runs),
            board / f"{corpus}.tex": paper.latex(runs),
        }
    if corpus in codes.corpora(board):
        contents[board / f"{corpus}.codes.md"] = codes.markdown(codes.read_all(board, corpus))
    if not contents and corpus not in ledger.swept(board):
        raise FileNotFoundError(f"no record of a run on {corpus!r} in {board}")
    return contents


def runs_of(board: Path, corpus: str) -> list[Run]:
    """As `read_board`, but none of a corpus that the board has code cards or sweeps alone of."""
    return read_board(board, corpus) if corpus in rows.corpora(board) else []


def render(board: Path, corpus: str, runs: Sequence[Run] | None = None) -> list[Path]:
    """Writes `rendered` and lists new evidence in the ledger; returns the files.

    Args:
        runs: all of the corpus, where they have been read already.

    Raises:
        FileNotFoundError, ValueError: as `rendered` and `runs_of`.
        ValueError: evidence that the ledger lists has changed or vanished.
    """
    contents = rendered(board, corpus, runs_of(board, corpus) if runs is None else runs)
    for target, content in contents.items():
        write_text(target, content)
    return [*contents, list_evidence(board, corpus)]


def list_evidence(board: Path, corpus: str) -> Path:
    """Lists what came since in the ledger, and returns it.

    Raises:
        ValueError: evidence that it lists has changed or vanished.
    """
    content = ledger.extended(board, corpus)
    write_text(ledger.path(board, corpus), content)
    return ledger.path(board, corpus)
