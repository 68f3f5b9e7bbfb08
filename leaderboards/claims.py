"""Claims: what records of a released board say of the code that made them, of their seeds, of stand-ins and of sweeps,
held against the repository, against each other and against the sweeps on the board."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from leaderboards import cards, codes, ledger, source
from leaderboards.codes import CodeCard
from leaderboards.git import files_at, git, root_of
from leaderboards.record import OPEN, STAND_IN, TUNED, UNKNOWN, Record
from leaderboards.rows import OVERRIDDEN
from leaderboards.store import Run, path

# Kinds of item vectors that stand in for nothing: the papers' text embeddings, and what SASRec learned.
TRUE_VECTORS = re.compile(r"sentence-t5-base|sasrec-\d+")


# States of a sweep's trials that ended for good.
COMPLETE = "complete"
ENDED = (COMPLETE, "pruned", "failed")


class Code(NamedTuple):
    """Attributes: sha256, of the packages' Python files at a commit; models, text of each file in `models/`."""

    sha256: str
    models: Mapping[str, bytes]


class Trial(BaseModel):
    """What is held against rows, of a trial of a sweep."""

    number: int
    state: str = COMPLETE
    value: float | None = None
    params: dict[str, Any]


class Study(BaseModel):
    """The same of a sweep; `benchmarks.sweeps.study_ledger` has the whole."""

    study: str
    corpus: str
    model: str
    trials: list[Trial]
    default: Trial | None = None


def unchecked(board: Path) -> str | None:
    """Why the commits that a board quotes cannot be looked up; None where they can."""
    try:
        shallow = git(board, "rev-parse", "--is-shallow-repository").strip() == b"true"
    except ValueError as error:
        return str(error)
    return "this checkout is shallow; `git fetch --unshallow` brings its history" if shallow else None


def problems(board: Path, runs: Sequence[Run], whole: bool) -> Iterator[str]:
    """What does not hold of a released board's records.

    Args:
        whole: `runs` are all of the board, so that a row's seeds can be counted.
    """
    root = root_of(board.resolve()) if unchecked(board) is None else None
    for record in (run.record for run in runs):
        said = [*cards.problems(record), *_of_vectors(record), *_of_sweep(board, record)]
        if root is not None and record.provenance.git_commit != UNKNOWN:
            said += _of_code(root, record)
        yield from (f"{_place(board, record)}: {problem}" for problem in said)
    if whole:
        for card in (card for corpus in codes.corpora(board) for card in codes.read_all(board, corpus)):
            place = codes.path(board, card.corpus.name, card.experiment, card.key, card.seed)
            yield from (f"{place}: {problem}" for problem in (_of_code(root, card) if root else ()))
        yield from _of_seeds(board, runs)
        project = board.resolve().parents[1:2]  # none of a board at the file system's root
        yield from _of_winners(*project) if project else ()


def _place(board: Path, record: Record) -> Path:
    return path(board, record.corpus.name, record.model, record.key, record.seed)


@cache
def code_at(root: Path, commit: str) -> Code | None:
    """The code of a commit; None where the repository does not have it."""
    try:
        models = files_at(root, commit, "models")
        return Code(source.of_commit(root, commit), models)
    except ValueError:
        return None


def _of_code(root: Path, record: Record | CodeCard) -> Iterator[str]:
    origin, name = record.provenance, f"models/{record.model}.py"
    code = code_at(root, origin.git_commit)
    if code is None:
        yield f"its commit {origin.git_commit} is not in this repository"
        return
    if origin.source_sha256 != code.sha256:
        yield f"the code that ran has the hash {origin.source_sha256}; that of its commit has {code.sha256}"
    if name not in code.models:
        yield f"its commit has no {name}"
        return
    left_open = _constant(code.models[name], "OPEN")
    if left_open is not None and f"{OPEN} {left_open}" not in record.notes:
        yield f"no note says what {name} says is open in its paper"


def _constant(code: bytes, name: str) -> str | None:
    """The text that a module binds to a name."""
    for line in ast.parse(code).body:
        match line:
            case ast.Assign(targets=[ast.Name(id=found)], value=ast.expr() as value) if found == name:
                return str(ast.literal_eval(value))
    return None


def _of_vectors(record: Record) -> Iterator[str]:
    """Item vectors that are not the paper's say so."""
    vectors = record.vectors
    if vectors is None or TRUE_VECTORS.fullmatch(vectors.kind):
        return
    if not vectors.stand_in or f"{STAND_IN} {vectors.name}" not in record.notes:
        yield f"no note says that its item vectors, {vectors.kind}, are a stand-in"


def _of_sweep(board: Path, record: Record) -> Iterator[str]:
    """What is called tuned has the settings of the best trial of that sweep, but for what the row overrides; and what
    has those settings is called tuned."""
    corpus = record.corpus.name
    of_model = [study for study in _studies(board) if study.model == record.model and serves(study.corpus, corpus)]
    tuned = [note for note in record.notes if note.startswith(TUNED)]
    for note in tuned:
        studies = [study for study in of_model if f"(study {study.study})" in note]
        if not studies:
            yield f"its note says {note!r}, and no such study lies on the board"
        elif not any(_within(_kept(trial, record), record.config) for trial in _winners(studies[0], note)):
            yield f"its note says {note!r}, and no trial that was the study's best by then has its settings"
    for study in of_model:
        if study.default is not None and study.default not in study.trials:
            yield f"the default of study {study.study}, trial {study.default.number}, is none of its trials"
    for study in of_model if not tuned else ():
        best = _best(study.trials)
        if best is None or (study.default and best.params == study.default.params):
            continue
        if _within(best.params, record.config):
            yield f"it has the settings of the best trial of study {study.study}, and no note says so"


def serves(swept: str, corpus: str) -> bool:
    """Whether what a sweep of one corpus has found is for rows of another: itself, or what was cut from it, whose name
    ends in `_cold_items`, `_unseen_users` and the like."""
    return f"{corpus}_".startswith(f"{swept}_")


def _winners(study: Study, note: str) -> Iterator[Trial]:
    """The trials that were the best when as many had ended as a note says, or later."""
    ended = sorted((trial for trial in study.trials if trial.state in ENDED), key=lambda trial: trial.number)
    several = re.match(rf"{TUNED} (\d+) trials", note)
    for count in range(int(several[1]) if several else 1, len(ended) + 1):
        if (best := _best(ended[:count])) is not None:
            yield best


def _best(trials: Sequence[Trial]) -> Trial | None:
    """Of the complete ones, the first of equal ones."""
    complete = [trial for trial in trials if trial.state == COMPLETE]
    return max(complete, key=lambda trial: trial.value or 0.0, default=None)


def _kept(trial: Trial, record: Record) -> dict[str, Any]:
    """A trial's settings without those that a row says it overrides."""
    said = " ".join(note.removeprefix(OVERRIDDEN) for note in record.notes if note.startswith(OVERRIDDEN))
    own = {text.partition("=")[0] for text in said.split()}
    return {name: value for name, value in trial.params.items() if name not in own}


def _of_winners(root: Path) -> Iterator[str]:
    """Whether what benches call tuned by now, `benchmarks/best/`, is what a trial on one of the boards had."""
    for file in sorted((root / "benchmarks/best").glob("*/*.toml")):
        try:
            winner = tomllib.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file} is no TOML: {error}") from None
        name, said = winner.get("study"), (winner.get("trial"), winner.get("value"), winner.get("params"))
        studies = [study for board in sorted((root / "leaderboards").glob("v*")) for study in _studies(board)]
        trials = [trial for study in studies if study.study == name for trial in study.trials]
        if said not in [(trial.number, trial.value, trial.params) for trial in trials]:
            yield f"{file} is of trial {said[0]} of study {name}; no board has such a trial"


def _studies(board: Path) -> list[Study]:
    """
    Raises:
        ValueError: what lies there is no ledger of a sweep.
    """
    found = []
    for file in ledger.matching(board, f"*{ledger.SWEEPS}/*.json"):
        try:
            found.append(Study.model_validate_json(file.read_bytes()))
        except ValidationError as error:
            raise ValueError(f"{file} is no ledger of a sweep: {error.errors()[0]['msg']}") from None
    return found


def _within(params: Mapping[str, Any], config: Any) -> bool:
    """Whether a config has these values at dotted options."""
    for name, value in params.items():
        found = config
        for step in name.split("."):
            found = found.get(step) if isinstance(found, dict) else None
        if found != value:
            return False
    return True


def _of_seeds(board: Path, runs: Sequence[Run]) -> Iterator[str]:
    """Seeds are 0, 1, 2, ...: who leaves some out, or takes others, may have chosen them by their result."""
    for folder in dict.fromkeys(_place(board, run.record).parent for run in runs):
        # By their names: that one is damaged is told elsewhere.
        files = ledger.matching(board, f"{folder.relative_to(board)}/seed-*.json")
        found = sorted(int(file.stem.removeprefix("seed-")) for file in files)
        if found != list(range(len(found))):
            yield f"{folder} has the seeds {', '.join(map(str, found))}; expected 0 to {len(found) - 1}"
