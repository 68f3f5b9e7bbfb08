"""Commands that make a row again, to be copied from a page."""

from __future__ import annotations

import shlex
from pathlib import Path

from leaderboards.record import BOARD, TUNED, UNKNOWN, Record
from leaderboards.rows import OVERRIDDEN, Row

# As data_prep has them: how the name of a corpus ends that is some users of another, and how the source of a user's own
# file begins; the kinds of item vectors that are read from a path, and how the name of a file of them ends that lies
# where it is looked for.
UNSEEN_USERS, OWN = "_unseen_users", "own: "
WITH_PATH, FROM_DATA = ("npz", "folder"), "of GRBENCH_DATA"


def reproduce(row: Row, board: Path) -> str | None:
    """Trains the row again with the code of its commit, and compares; None where no commit holds its code."""
    origins = [run.record.provenance for run in row.runs]
    if any(origin.git_commit == UNKNOWN or origin.git_dirty_sha256 for origin in origins):
        return None
    place = f"{row.record.corpus.name}/{row.record.model}/{row.record.key}/"
    return _make("reproduce", {"ROW": place, **_of(board), **_vectors(row.record)})


def bench(row: Row, board: Path) -> str | None:
    """Trains the row's experiment with the code and the defaults of now; None of a user's own files of interactions or
    codes, for a record does not say where they lie."""
    record = row.record
    if record.corpus.source.startswith(OWN) or "." in str(record.config.get("codes")):
        return None
    # Whose users are kept from the model, the experiment's name says.
    corpus = record.corpus.name.removesuffix(UNSEEN_USERS)
    options = {"CORPUS": corpus, "MODELS": row.name, "SEEDS": str(len(row.runs)), **_of(board), **_vectors(record)}
    for note in record.notes:
        if note.startswith(OVERRIDDEN):
            options["SET"] = note.removeprefix(OVERRIDDEN).strip()
    if record.precision:
        options["PRECISION"] = record.precision
    if not any(note.startswith(TUNED) for note in record.notes):
        options["ARGS"] = "--untuned"
    return _make("bench", options)


def _vectors(record: Record) -> dict[str, str]:
    """The last part of the path that item vectors were read from, where no data folder stands for it."""
    vectors = record.vectors
    if vectors is None or vectors.kind not in WITH_PATH or vectors.name.endswith(FROM_DATA):
        return {}
    return {"VECTORS": vectors.name.split(" (sha256 ")[0]}


def _of(board: Path) -> dict[str, str]:
    return {} if board == BOARD else {"BOARD": str(board)}


def _make(target: str, options: dict[str, str]) -> str:
    return " ".join(["make", target, *(f"{name}={shlex.quote(value)}" for name, value in options.items())])
