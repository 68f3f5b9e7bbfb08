"""Where records lie: a JSON and a table of ranks per run, written whole, checked when read, never edited."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ValidationError

from data_prep.atomic import atomic_file, write_text
from leaderboards import curves, ledger
from leaderboards.metrics import MAX_RANK, UNSEEN, metrics
from leaderboards.record import Record, Section


class Run(NamedTuple):
    """A record with its per-user ranks: the columns of `record.ranks_schema`, user `u` in row `u`."""

    record: Record
    ranks: pa.Table


def path(board: Path, corpus: str, model: str, key: str, seed: int) -> Path:
    """Where a run's record lies; its ranks lie beside it as `seed-<n>.ranks.parquet`."""
    return board / corpus / model / key / f"seed-{seed}.json"


def board_of(target: Path) -> Path:
    """The board on which a record lies, from its `path`."""
    return Path(*target.absolute().parts[:-4])


def content_sha256(ranks: pa.Table) -> str:
    """Hash of the ranks' values, the same whichever library version wrote the file."""
    digest = hashlib.sha256()
    for name in ranks.column_names:
        values = ranks[name].to_numpy()
        digest.update(name.encode() + values.astype(values.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def write(board: Path, record: Record, ranks: pa.Table) -> Path:
    """Store a run, the ranks first, so that no record lies there without them; a repeated run changes nothing.

    Args:
        board: folder of the board, e.g. `leaderboards/v2`.
        record: of one run.
        ranks: as the record's `ranks_schema` has them, one row per user of the corpus.

    Returns:
        Where the record lies.

    Raises:
        ValueError: the ranks do not fit the record, or a record with another result already lies there.
    """
    target = path(board, record.corpus.name, record.model, record.key, record.seed)
    check(Run(record, ranks), target)
    stored = read(target) if target.exists() else None
    other = list(differences(stored.result(), record.result())) if stored else []
    if other:
        raise ValueError(f"record {target} already exists with another result: {'; '.join(other[:4])}")
    if stored is None or not _ranks_path(target).exists():
        with atomic_file(_ranks_path(target)) as file:
            _write_parquet(ranks, file)
    if stored is None:
        if (learned := curves.table(record)) is not None:
            write_text(curves.path(target), learned)
        write_text(target, record.model_dump_json(indent=2) + "\n")
    return target


R = TypeVar("R", bound=Section)
Places = NDArray[np.integer[Any]]


def read(target: Path) -> Record:
    """One record; raises what `parse` does."""
    return parse(Record, target)


def parse(kind: type[R], target: Path) -> R:
    """The file's content, checked.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is a folder, or the file is damaged or does not fit the schema; the message names the field.
    """
    if not target.is_file():
        what, kind_of = ("a folder", ValueError) if target.is_dir() else ("missing", FileNotFoundError)
        raise kind_of(f"{target} is {what}; expected a record, <corpus>/<model>/<key>/seed-<n>.json on a board")
    try:
        return kind.model_validate_json(target.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["loc"] == ("schema_version",):
            raise ValueError(
                f"{target} is of schema version {first['input']!r}, which this code does not read; update the checkout"
            ) from error
        field = ".".join(str(part) for part in first["loc"]) or "the file as a whole"
        raise ValueError(f"{target} does not fit the schema at {field:.200}: {first['msg']}") from error


def read_board(board: Path, corpus: str) -> list[Run]:
    """All runs on a corpus with their ranks, in the order of their paths.

    Raises:
        FileNotFoundError: the board has no record on that corpus, or a record has no ranks beside it.
        ValueError: a record or its ranks are damaged, do not fit each other or their place, or are links.
    """
    ledger.check_regular(board / corpus)
    targets = ledger.records(board, corpus=corpus)
    if not targets:
        raise FileNotFoundError(f"no record of a run on {corpus!r} in {board}")
    return [read_run(board, target) for target in targets]


def check(run: Run, target: Path) -> None:
    """Hold a record against its ranks, of which every metric must come out again.

    Raises:
        ValueError: columns, users, hash or metrics differ; the message names `target`, the record's path.
    """
    record, ranks = run
    if not ranks.schema.equals(record.ranks_schema):
        expected = _columns(record.ranks_schema)
        raise ValueError(f"ranks of {target} have the columns {_columns(ranks.schema)}; expected {expected}")
    if len(ranks) != record.corpus.users or (ranks["user"].to_numpy() != np.arange(len(ranks))).any():
        raise ValueError(f"ranks of {target} are not those of users 0..{record.corpus.users - 1} in order")
    if content_sha256(ranks) != record.ranks_sha256:
        raise ValueError(
            f"ranks of {target} have the hash {content_sha256(ranks)}; its record says {record.ranks_sha256}"
        )
    history = ranks["history_length"].to_numpy()
    parts = (("test", "rank", record.test, history), ("valid", "valid_rank", record.valid, history - 1))
    for part, column, stated, seen in parts:
        every = ranks[column].to_numpy()
        unseen = ranks[f"{column}{UNSEEN}"].to_numpy() if f"{column}{UNSEEN}" in ranks.column_names else None
        other = list(differences(stated, metrics(every, unseen), part))
        if other:
            raise ValueError(f"metrics of {target} are not those of its ranks: {'; '.join(other[:4])}")
        if unseen is not None:
            _check_unseen(every.astype(int), unseen.astype(int), seen, f"ranks of {target}, {part}")


def _check_unseen(every: Places, unseen: Places, seen: Places, where: str) -> None:
    """
    Args:
        every: `[U]` places of the targets among all items, 0 beyond the last one that is kept.
        unseen: `[U]` the same among unseen items.
        seen: `[U]` items of the histories.

    Raises:
        ValueError: a user's two places cannot both be.
    """
    before = np.where(every > 0, every, MAX_RANK + 1) - unseen
    if ((before < 0) & (unseen > 0)).any():
        raise ValueError(f"{where}: a target has a lower place among unseen items than among all")
    if ((before > seen) & (unseen > 0)).any():
        raise ValueError(f"{where}: more items stand before a target among all than among unseen ones and the history")


def read_run(board: Path, target: Path) -> Run:
    """The run whose record is `target`; raises what `read_board` does."""
    record = read(target)
    place = path(board, record.corpus.name, record.model, record.key, record.seed)
    if target != place:
        of = f"{record.corpus.name}/{record.model}/{record.key}, seed {record.seed}"
        raise ValueError(f"record {target} is of {of}; expected it as {place.relative_to(board)} on a board")
    beside = _ranks_path(target)
    if not beside.is_file():
        raise FileNotFoundError(
            f"record {target} has no ranks; expected {beside.name} beside it: restore that file, or remove the record "
            "and run its seed again"
        )
    run = Run(record, _read_parquet(beside))
    check(run, target)
    return run


def _ranks_path(target: Path) -> Path:
    return target.with_suffix(".ranks.parquet")


def _read_parquet(target: Path) -> pa.Table:
    content = target.read_bytes()
    try:
        return pq.ParquetFile(pa.BufferReader(content)).read()
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"ranks {target} are no readable Parquet file: {reason}") from error


def _write_parquet(ranks: pa.Table, file: IO[bytes]) -> None:
    pq.write_table(
        ranks,
        file,
        compression="zstd",
        compression_level=19,
        use_dictionary=[name for name in ranks.column_names if name not in ("user", "transition_seen")],
        column_encoding={"user": "DELTA_BINARY_PACKED"},
        write_statistics=False,
    )


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}{'?' if field.nullable else ''}" for field in schema)


def differences(stored: object, given: object, where: str = "") -> Iterator[str]:
    """Where two JSON values differ; floats may differ by rounding, since another processor sums in another order."""
    if isinstance(stored, dict) and isinstance(given, dict):
        for name in sorted(stored.keys() | given.keys()):
            yield from differences(stored.get(name), given.get(name), f"{where}.{name}".lstrip("."))
    elif isinstance(stored, list) and isinstance(given, list) and len(stored) == len(given):
        for place, pair in enumerate(zip(stored, given, strict=True)):
            yield from differences(*pair, f"{where}[{place}]")
    elif isinstance(stored, float) and isinstance(given, float):
        if not math.isclose(stored, given, rel_tol=1e-6, abs_tol=1e-9):
            yield f"{where} is {stored} stored, {given} given"
    elif stored != given:
        yield f"{where} is {stored!r} stored, {given!r} given"
