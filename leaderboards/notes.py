"""Notes: what a reader of a row must know, as its records and the rows around it tell."""

from __future__ import annotations

from collections import defaultdict

from leaderboards.record import OPEN, SMALL_SIZES, STAND_IN, TUNED, UNKNOWN, VALIDATION, Record
from leaderboards.rows import OVERRIDDEN, Board, Row

FLOOR = "a floor: nothing is trained"
BEST_FLOOR = "the best floor: nothing is trained"
BEATS_NO_FLOOR = "beats no floor: no row that trains nothing is shown to be worse"


# How a note begins -> what a table with little room says of it.
BADGES = {
    SMALL_SIZES: "small sizes",
    "reconstruction": "reconstruction",
    STAND_IN: "stand-in",
    OPEN: "open in paper",
    OVERRIDDEN: "overridden",
    TUNED: "tuned",
    BEST_FLOOR: "best floor",
    FLOOR: "floor",
    BEATS_NO_FLOOR: "beats no floor",
}


def badge(note: str) -> str:
    """A note in one or two words; `note` where it is of no known kind."""
    return next((short for begin, short in BADGES.items() if note.startswith(begin)), "note")


def row_notes(board: Board, row: Row) -> list[str]:
    """The notes of all seeds, where their item vectors are not the same to the last digit, how it stands to floors."""
    notes = [note for run in row.runs for note in notes_of(run.record) if _of_its_name(note, run.record, row)]
    notes += _of_vectors(row)
    if row.is_floor:
        notes.append(BEST_FLOOR if row is board.best_floor else FLOOR)
    elif board.beats_no_floor(row):
        notes.append(BEATS_NO_FLOOR)
    return list(dict.fromkeys(notes))


def _of_its_name(note: str, record: Record, row: Row) -> bool:
    """Whether a row may have a seed's note: what a seed of another name has otherwise than that one, it may not."""
    return record.experiment == row.name or not note.startswith((OVERRIDDEN, TUNED))


def notes_of(record: Record) -> list[str]:
    """The run's own notes, and what else its record tells."""
    notes = list(record.notes)
    # A row that is not graded on the users of its training says itself who validated.
    if record.valid_users < record.corpus.users and not any(VALIDATION in note for note in notes):
        notes.append(f"{VALIDATION} {record.valid_users:,} of {record.corpus.users:,} users")
    if record.provenance.git_dirty_sha256:
        notes.append("run from a checkout with uncommitted changes")
    if record.provenance.git_commit == UNKNOWN:
        notes.append("made outside a git checkout: commit unknown")
    if record.provenance.git_commit_told:
        notes.append("run outside a checkout; its commit was told, not read")
    return notes


def _of_vectors(row: Row) -> list[str]:
    seeds = defaultdict[str, list[str]](list)
    for record in (run.record for run in row.runs):
        # Trained vectors are each seed's own.
        if record.vectors and record.vectors.recipe and "model" not in record.vectors.recipe:
            seeds[record.vectors.sha256[:12]].append(str(record.seed))
    if len(seeds) < 2:
        return []
    each = "; ".join(f"{digest}, seed {' '.join(of)}" for digest, of in seeds.items())
    return [f"item vectors were computed by several processors, with other last digits: {each}"]
