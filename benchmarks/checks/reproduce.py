"""Reproduce: a row trained again from its record alone, with the code of its commit, and held against it.

Whatever a record says of itself can be made up so that all of it fits together; a training cannot.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import stats

from benchmarks import provenance
from benchmarks.checks.rerank import NotHereError, hardware_of, platform
from benchmarks.checks.train_again import ABSENT
from benchmarks.hardware import Hardware
from benchmarks.model_inputs import kept_codes
from benchmarks.settings import Bench, prepared, source_of
from data_prep.atomic import owned
from data_prep.codes_file import NAME
from data_prep.corpus import UNSEEN_USERS
from data_prep.data_folder import VARIABLE, data_folder
from data_prep.embed import item_vectors
from leaderboards import ledger, store
from leaderboards.git import git, root_of
from leaderboards.record import TUNED, UNKNOWN, Provenance, Record
from leaderboards.rows import OVERRIDDEN, RANKED_BY, Row, rows_of
from leaderboards.store import Run, read_run

SCRIPT = Path(__file__).with_name("train_again.py")
# Item vectors that the code of a commit cannot make alone, and what their recipe knows of a path.
FROM_ELSEWHERE = ("npz", "folder", "sentence-t5-base")
OF_A_PATH = ("file_sha256", "encoder_sha256")
# Of new runs of a true row this share lies where it is expected.
LEVEL = 0.99


class Verdict(NamedTuple):
    """Attributes: target, the record; good, whether the training gave it again, None where it cannot be made here;
    says, how far, or why not."""

    target: Path
    good: bool | None
    says: str


def drawn(board: Path, row: str | None, count: int | None, minutes: float | None, base: str | None) -> list[Path]:
    """The records that are to be made again.

    Args:
        row: part of a record's path.
        count: so many of those that fit, drawn by the hash of the checkout's commit; None for all.
        minutes: only those that were trained in so many, by their own word.
        base: a git revision; records that came since its merge-base are drawn before all others.

    Raises:
        FileNotFoundError: none fits.
    """
    records = ledger.records(board, row)
    fits = [target for target in records if minutes is None or _train_seconds(target) <= 60 * minutes]
    if not fits:
        within = f" that was trained in {minutes:g} minutes" if minutes else ""
        raise FileNotFoundError(f"no record in {board}" + (f" whose path holds {row!r}" if row else "") + within)
    if count is None:
        return fits
    new, head = _new(board, base) if base else set(), git(board, "rev-parse", "HEAD")
    lot = {target: hashlib.sha256(head + str(target.relative_to(board)).encode()).hexdigest() for target in fits}
    return sorted(fits, key=lambda target: (target.resolve() not in new, lot[target]))[:count]


def _train_seconds(target: Path) -> float:
    """By a record's own word; none of a damaged one, which is told of where it is made again."""
    try:
        return store.read(target).cost.train_seconds
    except (ValueError, OSError):
        return 0.0


def _new(board: Path, base: str) -> set[Path]:
    """Files of a board that came, or became others, since the merge-base with a revision."""
    # A new row that is much like one that has gone would pass for its new name.
    how = ("--name-only", "--no-relative", "--no-renames", "--diff-filter=AM", "-z")
    names = git(board, "diff", *how, f"{base}...HEAD", "--", ".").decode()
    root = root_of(board)
    return {root / name for name in names.split("\0") if name}


def reproduce(bench: Bench, target: Path, source: str = "auto") -> Verdict:
    """Trains the run of a record again and compares; a killed one goes on where it was.

    Args:
        bench: `board` holds the record; beneath `work` the training is made.
    """
    try:
        return _again(bench, target, source)
    except NotHereError as missing:
        return Verdict(target, None, str(missing))
    except (ValueError, OSError) as error:
        return Verdict(target, False, f"cannot be made again: {error}")


def _again(bench: Bench, target: Path, source: str) -> Verdict:
    stated, folder = read_run(bench.board, target), bench.work.resolve() / "reproduce"
    origin = stated.record.provenance
    if origin.git_commit == UNKNOWN or origin.git_dirty_sha256:
        reason = "its commit is unknown" if origin.git_commit == UNKNOWN else "it ran on code that no commit holds"
        return Verdict(target, False, f"cannot be made again: {reason}")
    folder /= f"{stated.record.model}-{stated.record.key}-{stated.record.seed}"
    # Another process would take the code away from under this one.
    with owned(folder, NotHereError(f"another process makes it again, in {folder}")):
        # Of an earlier time, which would be taken for this one's.
        shutil.rmtree(folder / "board", ignore_errors=True)
        with _work_tree(folder / "code", origin.git_commit) as tree:
            again = read_run(folder / "board", _train(bench, target, tree, folder, source))
        good, says = held(stated, again, rows_of(list(_readable(bench.board, stated.record.corpus.name))))
        if good:
            # The lock in it is held, and some file systems keep what is open.
            shutil.rmtree(folder, ignore_errors=True)
    return Verdict(target, good, says if good else f"{says}; the new record lies in {folder / 'board'}")


def _readable(board: Path, corpus: str) -> Iterator[Run]:
    """The runs on a corpus, but for damaged ones, which are told where they are drawn themselves."""
    for target in ledger.records(board, corpus=corpus):
        with suppress(ValueError, OSError):
            yield read_run(board, target)


@contextmanager
def _work_tree(folder: Path, commit: str) -> Iterator[Path]:
    """The files of a commit, beside this checkout."""
    # Of a run that was killed.
    _remove(folder)
    git(provenance.ROOT, "worktree", "add", "--quiet", "--force", "--detach", str(folder), commit)
    try:
        yield folder
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    git(provenance.ROOT, "worktree", "prune")


def _train(bench: Bench, target: Path, tree: Path, folder: Path, source: str) -> Path:
    """Runs `train_again.py` on the code in `tree`; returns where the new record lies.

    Raises:
        NotHereError: the data, the item vectors, the codes or as many GPUs are not there.
        ValueError: it failed.
    """
    record = store.read(target)
    hardware = _hardware(record.provenance)
    path = bench.for_vectors(record.config.get("vectors")).vectors_path
    vectors = ["--vectors-path", str(path.resolve())] if path else []
    _check_vectors(bench, record, source)
    if (kind := record.config.get("vectors")) in FROM_ELSEWHERE:
        _lend(bench.work / f"vectors/{kind}", folder / f"work/vectors/{kind}")
    _lay_codes(bench, record, tree)
    command = [sys.executable, str(SCRIPT), str(target.resolve()), *vectors]
    command += ["--source", source_of(record, source), "--prepared", str((bench.work / "corpora").resolve())]
    command += ["--board", str(folder / "board"), "--work", str(folder / "work")]
    command += ["--accelerator", hardware.accelerator, "--processes", str(hardware.processes)]
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": str(hardware.threads)}
    # Keeps the script's own folder, which is this checkout's, from the modules that each process can import.
    environment["PYTHONSAFEPATH"] = "1"
    data = data_folder()
    environment |= {VARIABLE: str(data)} if data else {}
    done = subprocess.run(command, cwd=tree, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode == ABSENT:
        raise NotHereError("its corpus is not here; what is missing stands above")
    if done.returncode or not done.stdout.strip():
        raise ValueError(f"the code of its commit ended with status {done.returncode}; what it said stands above")
    return Path(done.stdout.splitlines()[-1])


def _hardware(origin: Provenance) -> Hardware:
    """As many processes as have trained a run together, on devices of its kind where there are some.

    Raises:
        NotHereError: there are some, but fewer.
    """
    hardware, there = hardware_of(origin), torch.cuda.device_count()
    if hardware.accelerator == "auto" and there < origin.processes:
        raise NotHereError(f"{origin.processes} GPUs have trained it together; this machine has {there}")
    return replace(hardware, devices=origin.processes)


def _check_vectors(bench: Bench, record: Record, source: str) -> None:
    """
    Raises:
        NotHereError: what its item vectors are of, a file or an encoder, is not here, or another one is.
    """
    kind, told = record.config.get("vectors"), record.inputs["vectors"] or {}
    if kind not in FROM_ELSEWHERE:
        return
    corpus = record.corpus.name.removesuffix(UNSEEN_USERS)
    try:
        found = prepared(bench.work, corpus, source_of(record, source))
        here = item_vectors(found, kind, bench.for_vectors(kind).vectors_path, bench.work / "vectors").recipe or {}
    except (ValueError, OSError) as error:
        raise NotHereError(str(error)) from error
    # What else a recipe has is the affair of the commit's own code.
    others = [part for part in OF_A_PATH if part in here and told.get(part, here[part]) != here[part]]
    if others:
        raise NotHereError(f"the item vectors here are others than the record's: they differ in {', '.join(others)}")


def _lend(kept: Path, place: Path) -> None:
    """Text that is encoded already: the encoder's packages may be those of another environment. What the commit's code
    encodes does not come back."""
    if kept.is_dir():
        shutil.copytree(kept, place, dirs_exist_ok=True)


def _lay_codes(bench: Bench, record: Record, tree: Path) -> None:
    """Puts a record's file of codes where its config, which names no folder, has it.

    Raises:
        NotHereError: its training has not kept it.
    """
    named = str(record.config.get("codes"))
    if record.codes is None or NAME.fullmatch(named):
        return
    kept = kept_codes(bench.work, record.codes.sha256, named)
    if not kept.is_file():
        raise NotHereError(f"its codes are of the file {named}, SHA-256 {record.codes.sha256}; expected it as {kept}")
    shutil.copyfile(kept, tree / kept.name)


def held(stated: Run, again: Run, rows: Sequence[Row]) -> tuple[bool, str]:
    """Whether a run came out again, and how far.

    On the platform of the record everything but cost and provenance is equal; elsewhere the row's noise is allowed.

    Args:
        rows: of the board that holds `stated`.
    """
    here, there = (platform(run.record.provenance) for run in (again, stated))
    if again.record.key != stated.record.key:
        return False, f"the code of its commit gives its config the key {again.record.key}, not {stated.record.key}"
    missing = [note for note in again.record.notes if note not in stated.record.notes and not _of_sweep(note, stated)]
    if missing:
        return False, f"it lacks the note {missing[0]!r}"
    if here == there:
        other = list(store.differences(_result(stated.record), _result(again.record)))
        if other:
            return False, f"it comes out otherwise on its own platform: {'; '.join(other[:4])}"
        return True, f"equal to the bit, on {here}"
    return _within_noise(stated, again, rows, f"on {here}, not on {there}")


def _of_sweep(note: str, stated: Run) -> bool:
    """Settings that a sweep chose are no overrides; `verify` holds them against the sweep."""
    return note.startswith((OVERRIDDEN, TUNED)) and any(own.startswith(TUNED) for own in stated.record.notes)


def _result(record: Record) -> dict[str, Any]:
    """What must be equal on one platform. Notes are compared before; where the data lay, their hash tells."""
    result = record.result()
    del result["notes"], result["corpus"]["source"]
    return result


def _within_noise(stated: Run, again: Run, rows: Sequence[Row], where: str) -> tuple[bool, str]:
    row = next(row for row in rows if any(run.record == stated.record for run in row.runs))
    value = again.record.test[RANKED_BY]
    says = f"{RANKED_BY} {value:.4f} again, {stated.record.test[RANKED_BY]:.4f} stated, {where}"
    if not stated.record.cost.stages:
        equal = again.record.ranks_sha256 == stated.record.ranks_sha256
        return equal, says + (
            "; equal, as what is not trained must be" if equal else "; it is not trained, so no noise"
        )
    try:
        low, high = expected(row, rows)
    except ValueError as error:
        return False, f"{says}; {error}"
    return low <= value <= high, f"{says}; {LEVEL:.0%} of the runs of its row lie in {low:.4f} to {high:.4f}"


def expected(row: Row, rows: Sequence[Row]) -> tuple[float, float]:
    """Where a new run of a row is expected: its mean, and the spread of its seeds; that of the board's other rows, in
    shares of their means, where it has one seed.

    Raises:
        ValueError: no row of the board has two seeds, so that nothing tells what noise is.
    """
    own = _per_seed(row)
    others = [row] if len(own) > 1 else [other for other in rows if other.ranked and not other.is_floor]
    several = [values for values in map(_per_seed, others) if len(values) > 1 and values.mean()]
    spread = [values / values.mean() - 1 for values in several]
    freedom = sum(len(values) - 1 for values in spread)
    if not freedom:
        raise ValueError(f"no row on the board of {row.record.corpus.name} has two seeds; nothing tells what noise is")
    deviation = np.sqrt(sum((values**2).sum() for values in spread) / freedom) * own.mean()
    reach = stats.t.ppf(0.5 + LEVEL / 2, freedom) * deviation * np.sqrt(1 + 1 / len(own))
    return float(own.mean() - reach), float(own.mean() + reach)


def _per_seed(row: Row) -> np.ndarray:
    return np.array([run.record.test[RANKED_BY] for run in row.runs])
