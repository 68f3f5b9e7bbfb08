"""Commands that make a row again, to be copied from a page."""

from __future__ import annotations

import shlex
from pathlib import Path

from leaderboards.record import BOARD, UNKNOWN
from leaderboards.rows import OVERRIDDEN, Row

# As data_prep has them: how the name of a corpus ends that is some users of another, and how the source of a user's own
# file begins.
UNSEEN_USERS, OWN = "_unseen_users", "own: "


def reproduce(row: Row, board: Path) -> str | None:
    """Trains the row again with the code of its commit, and compares; None where no commit holds its code."""
    origins = [run.record.provenance for run in row.runs]
    if any(origin.git_commit == UNKNOWN or origin.git_dirty_sha256 for origin in origins):
        return None
    place = f"{row.record.corpus.name}/{row.record.model}/{row.record.key}/"
    return _make("reproduce", {"ROW": place, **_of(board)})


def bench(row: Row, board: Path) -> str | None:
    """Trains the row's experiment with the code and the defaults of now; None of a user's own file, for its record does
    not say where it lies."""
    record = row.record
    if record.corpus.source.startswith(OWN):
        return None
    # Whose users are kept from the model, the experiment's name says.
    corpus = record.corpus.name.removesuffix(UNSEEN_USERS)
    options = {"CORPUS": corpus, "MODELS": row.name, "SEEDS": str(len(row.runs)), **_of(board)}
    for note in record.notes:
        if note.startswith(OVERRIDDEN):
            options["SET"] = note.removeprefix(OVERRIDDEN).strip()
    return _make("bench", options)


def _of(board: Path) -> dict[str, str]:
    return {} if board == BOARD else {"BOARD": str(board)}


def _make(target: str, options: dict[str, str]) -> str:
    return " ".join(["make", target, *(f"{name}={shlex.quote(value)}" for name, value in options.items())])
