"""All that is rendered of a corpus and committed beside its records, and the ledger of them."""

from __future__ import annotations

from pathlib import Path

from leaderboards import board as rows
from leaderboards import codes, ledger, paper
from leaderboards.store import read_board, write_text


def corpora(board: Path) -> list[str]:
    """Names of the corpora that the board has records, code cards or sweeps of."""
    return sorted({*rows.corpora(board), *codes.corpora(board), *ledger.swept(board)})


def rendered(board: Path, corpus: str) -> dict[Path, str]:
    """The tables: file -> content; the same records give the same bytes.

    Raises:
        FileNotFoundError: there is nothing of that corpus.
        ValueError: one is damaged.
    """
    if corpus not in corpora(board):
        raise FileNotFoundError(f"no record of a run on {corpus!r} in {board}")
    contents: dict[Path, str] = {}
    if corpus in rows.corpora(board):
        runs = read_board(board, corpus)
        contents |= {
            board / f"{corpus}.md": rows.markdown(runs),
            board / f"{corpus}.csv": rows.csv(runs),
            board / f"{corpus}.tex": paper.latex(runs),
        }
    if corpus in codes.corpora(board):
        contents[board / f"{corpus}.codes.md"] = codes.markdown(codes.read_all(board, corpus))
    return contents


def render(board: Path, corpus: str) -> list[Path]:
    """Writes `rendered` and lists new evidence in the ledger; returns the files.

    Raises:
        FileNotFoundError, ValueError: as `rendered`.
        ValueError: evidence that the ledger lists has changed or vanished.
    """
    contents = rendered(board, corpus)
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
