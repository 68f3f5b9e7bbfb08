"""Verify: every number of a board again, from its ranks; hashes, places, the laws that metrics obey, the tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leaderboards import claims, codes, curves, history, laws, ledger, tables
from leaderboards.codes import CodeCard
from leaderboards.metrics import MAX_UNSEEN_RANK, UNSEEN
from leaderboards.record import RANKS_SCHEMA, UNKNOWN, CorpusInfo, Provenance, Record
from leaderboards.rows import Board
from leaderboards.store import Run, differences, read_run

# Columns of a rank file that tell of users and targets, not of a model.
FACTS = [name for name in RANKS_SCHEMA.names if "rank" not in name]
# How the options end that say when a training stops, and who chooses its epoch.
BUDGETS = ("epochs", "patience", "valid_users")
# What follows from the content of a corpus.
COUNTED = ("users", "items", "interactions", "ceiling")


def verify(board: Path, row: str | None = None, base: str | None = None) -> tuple[list[str], int]:
    """Checks a board, or those of its rows whose path holds `row`.

    Args:
        board: folder of the board.
        row: part of a record's path: corpus, model, key or seed; None for the whole board, with its tables.
        base: a git revision; nothing of a released board that the merge-base with it had may have changed.

    Returns:
        What is wrong, one sentence each, and how many records were checked.

    Raises:
        FileNotFoundError: no record fits.
    """
    elsewhere = list(ledger.irregular(board))
    runs, found = list[Run](), [f"{path} {ledger.IRREGULAR}" for path in elsewhere]
    # What lies beside a link may be a link to it.
    around = {path.parent for path in elsewhere} - {board}
    targets = [file for file in ledger.records(board, row) if not any(map(file.is_relative_to, around))]
    named, version = tables.corpora(board) if row is None else [], history.released(board)
    if not targets and not named:
        raise FileNotFoundError(f"no record in {board}" + (f" whose path holds {row!r}" if row else ""))
    for target in targets:
        try:
            runs.append(read_run(board, target))
            found += [f"{target}: {problem}" for problem in _of_run(runs[-1], version)]
            found += _of_curves(runs[-1].record, target)
        except (ValueError, OSError) as error:
            found.append(str(error))
    found += _among(board, runs)
    found += (said for column in ("rank", "valid_rank") for said in _of_seen_targets(board, runs, column))
    if version is not None:
        found += _told(claims.problems(board, runs, whole=row is None))
    files = Counter(target.relative_to(board).parts[0] for target in targets)
    for corpus in sorted(files.keys() | set(named)):
        read = [run for run in runs if run.record.corpus.name == corpus]
        # Of which one is damaged, no table can be made.
        found += _of_corpus(board, corpus, row, read if len(read) == files[corpus] else None, version)
    if base is not None:
        found += history.problems(board, base)
    return list(dict.fromkeys(found)), len(targets)


def _told(problems: Iterator[str]) -> Iterator[str]:
    """Problems, and what kept the rest from being looked for."""
    try:
        yield from problems
    except ValueError as error:
        yield str(error)


def _of_run(run: Run, version: str | None) -> Iterator[str]:
    """
    Args:
        version: of the protocol of a released board, None of others.
    """
    if version is not None and run.record.protocol != version:
        yield f"protocol is {run.record.protocol}; this board is that of {version}"
    yield from _of_provenance(run.record.provenance, version)
    yield from laws.problems(run)


def _of_provenance(origin: Provenance, version: str | None) -> Iterator[str]:
    if version is not None and origin.git_commit == UNKNOWN:
        yield "its commit is unknown; a row of a released board names the code that made it"
    if origin.started_at > datetime.now(UTC) + timedelta(days=1):
        yield f"it was started at {origin.started_at:%Y-%m-%d}, which has not come yet"


def _of_curves(record: Record, target: Path) -> Iterator[str]:
    """Whether the learning curves beside a record are those in it."""
    file, expected = curves.path(target), curves.table(record)
    if expected is not None and not file.is_file():
        yield f"{file} is missing; {target.name} holds the curves"
    elif file.is_file() and file.read_bytes() != (expected or "").encode():
        yield f"{file} does not hold the curves of {target.name}"


def _among(board: Path, runs: Sequence[Run]) -> Iterator[str]:
    """What several records must agree on."""
    places: dict[tuple[str, str, int], str] = {}
    first: dict[str, Run] = {}
    ranked: dict[tuple[str, str], Run] = {}
    alike: dict[tuple[str, str, str], Run] = {}
    for run in runs:
        record = run.record
        name = _name(record)
        same_ranks = ranked.setdefault((record.corpus.name, record.ranks_sha256), run).record
        trained = record.is_trained or same_ranks.is_trained
        if same_ranks is not record and trained and not _one_training(record, same_ranks):
            yield f"{board}: {record.corpus.name}/{name} has the ranks of {_name(same_ranks)}; a training has its own"
        other = places.setdefault((record.corpus.name, record.key, record.seed), name)
        if other != name:
            yield f"{board}: {record.corpus.name}/{name} has the key of {other}"
        row = alike.setdefault((record.corpus.name, record.model, record.key), run).record
        if (has := _measured(record)) != (theirs := _measured(row)):
            yield f"{board}: {record.corpus.name}/{name} has the diagnostics {has}; seed {row.seed} has {theirs}"
        same = first.setdefault(record.corpus.fingerprint, run)
        if others := _told_otherwise(record.corpus, same.record.corpus):
            yield (
                f"{board}: {record.corpus.name}/{name} tells other {', '.join(others)} than {_name(same.record)}, "
                "on the same corpus"
            )
        if not run.ranks.select(FACTS).equals(same.ranks.select(FACTS)):
            yield (
                f"{board}: ranks of {record.corpus.name}/{name} tell other facts of users and targets than those of "
                f"{_name(same.record)}, on the same corpus"
            )


def _one_training(one: Record, other: Record) -> bool:
    """Whether two rows are of one training, which would have gone on longer, or asked more users, in vain."""
    changed = {name for name in one.config | other.config if one.config.get(name) != other.config.get(name)}
    return (
        (one.model, one.seed, one.inputs) == (other.model, other.seed, other.inputs)
        and all(name.endswith(BUDGETS) for name in changed)
        and _weights(one) == _weights(other)
        and None not in _weights(one)
    )


def _weights(record: Record) -> list[str | None]:
    return [stage.weights_sha256 for stage in record.cost.stages]


def _of_seen_targets(board: Path, runs: Sequence[Run], column: str) -> Iterator[str]:
    """A target in its user's history has no place among unseen items; whose is, all runs on a corpus agree on."""
    among_unseen = f"{column}{UNSEEN}"
    runs = [run for run in runs if among_unseen in run.ranks.column_names]
    placed = dict[str, NDArray[np.bool_]]()
    for run in runs:
        here = run.ranks[among_unseen].to_numpy() > 0
        placed[run.record.corpus.fingerprint] = placed.get(run.record.corpus.fingerprint, here) | here
    for run in runs:
        place, unseen = run.ranks[column].to_numpy(), run.ranks[among_unseen].to_numpy()
        lost = (place > 0) & (place <= MAX_UNSEEN_RANK) & (unseen == 0) & placed[run.record.corpus.fingerprint]
        if lost.any():
            yield (
                f"{board}: {run.record.corpus.name}/{_name(run.record)} has {lost.sum()} targets in {column} among the "
                f"first {MAX_UNSEEN_RANK} and in {among_unseen} nowhere, where another run has a place for them"
            )


def _told_otherwise(corpus: CorpusInfo, other: CorpusInfo) -> list[str]:
    """What two records of one content say otherwise of it; its last digits are each processor's own."""
    return [name for name in COUNTED if any(differences(getattr(corpus, name), getattr(other, name)))]


def _measured(record: Record) -> str:
    return ", ".join(f"{name} {key}" for name, values in sorted(record.diagnostics.items()) for key in sorted(values))


def _name(record: Record) -> str:
    return f"{record.model}/{record.key}/seed-{record.seed}"


def _named(card: CodeCard) -> str:
    return f"{card.corpus.name}/codes/{card.experiment}-{card.key}-seed-{card.seed}"


def _of_corpus(
    board: Path, corpus: str, row: str | None, runs: Sequence[Run] | None, version: str | None
) -> Iterator[str]:
    """Hashes, and whether tables are current.

    Args:
        runs: all of the corpus; None where they are not known, which tables need.
    """
    try:
        yield from (problem for problem in ledger.problems(board, corpus) if row is None or row in problem)
        if row is not None:
            return
        for card in codes.read_all(board, corpus):
            yield from (f"{board}: {_named(card)}: {said}" for said in _of_provenance(card.provenance, version))
        if runs is None:
            return
        contents = tables.rendered(board, corpus, Board(runs) if runs else None)
    except (ValueError, OSError) as error:
        yield str(error)
        return
    for target, content in contents.items():
        if not target.is_file():
            yield f"{target} is missing, or no file; `make board` renders it"
        elif target.read_bytes() != content.encode():
            yield f"{target} is not what the records give; `make board` renders it"
