"""All that is rendered of a corpus and committed beside its records, and the ledger of them."""

from __future__ import annotations

from pathlib import Path

from data_prep.atomic import write_text
from leaderboards import board_table, codes, ledger, paper
from leaderboards.rows import Board
from leaderboards.store import read_board


def corpora(folder: Path) -> list[str]:
    """Names of the corpora that the board in a folder has records, code cards or sweeps of, or had: a ledger lists
    what may be gone."""
    return sorted(
        {*board_table.corpora(folder), *codes.corpora(folder), *ledger.swept(folder), *ledger.corpora(folder)}
    )


def rendered(folder: Path, corpus: str, board: Board | None) -> dict[Path, str]:
    """The tables: file -> content; the same records give the same bytes.

    Args:
        board: of the corpus, as from `board_of`.

    Raises:
        FileNotFoundError: there is nothing of that corpus.
        ValueError: a card is damaged.
    """
    contents: dict[Path, str] = {}
    if board is not None:
        contents |= {
            folder / f"{corpus}.md": board_table.markdown(board),
            folder / f"{corpus}.csv": board_table.csv(board),
            folder / f"{corpus}.tex": paper.latex(board),
        }
    if corpus in codes.corpora(folder):
        contents[folder / f"{corpus}.codes.md"] = codes.markdown(codes.read_all(folder, corpus))
    if not contents and corpus not in ledger.swept(folder):
        raise FileNotFoundError(f"no record of a run on {corpus!r} in {folder}")
    return contents


def board_of(folder: Path, corpus: str) -> Board | None:
    """The rows of a corpus, as `read_board` reads them; None where there are code cards or sweeps alone."""
    return Board(read_board(folder, corpus)) if corpus in board_table.corpora(folder) else None


def render(folder: Path, corpus: str, board: Board | None = None) -> list[Path]:
    """Writes `rendered` and lists new evidence in the ledger; returns the files.

    Args:
        board: of the corpus, where its records have been read already.

    Raises:
        FileNotFoundError, ValueError: as `rendered` and `board_of`.
        ValueError: evidence that the ledger lists has changed or vanished.
    """
    contents = rendered(folder, corpus, board or board_of(folder, corpus))
    for target, content in contents.items():
        write_text(target, content)
    return [*contents, list_evidence(folder, corpus)]


def check(folder: Path, corpus: str) -> None:
    """Reads what `render` will read, so that who trains first hears of damage before that.

    Raises:
        FileNotFoundError, ValueError: as `board_of` and `render`.
    """
    board_of(folder, corpus)
    codes.read_all(folder, corpus)
    ledger.extended(folder, corpus)


def list_evidence(folder: Path, corpus: str) -> Path:
    """Lists what came since in the ledger, and returns it.

    Raises:
        ValueError: evidence that it lists has changed or vanished.
    """
    content = ledger.extended(folder, corpus)
    write_text(ledger.path(folder, corpus), content)
    return ledger.path(folder, corpus)
