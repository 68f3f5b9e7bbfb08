"""A released board in a repository of its own, whose records quote its commit: what forgers would begin with."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from leaderboards import cards, source
from leaderboards.record import BOARD
from leaderboards.store import Run, write
from leaderboards.tables import render
from tests.leaderboards.test_record import ranks_of, run_of

CORPUS = "all_beauty"
CODE = {
    "models/sasrec.py": "",
    "models/tiger.py": 'OPEN = "the batch"\n',
    "data_prep/corpus.py": "x = 1\n",
}
# What the committed card says of the corpus.
LAYOUT = next(iter(cards.expected(CORPUS).values()))
VECTORS = {
    "kind": "tfidf-256",
    "name": "TF-IDF + SVD, 256-d",
    "sha256": "e" * 64,
    "stand_in": True,
    "recipe": {"kind": "tfidf-256"},
}
OPEN_NOTE, STAND_IN_NOTE = (
    "open in the paper: the batch",
    "item vectors are a stand-in for sentence-t5: TF-IDF + SVD, 256-d",
)


class Project(NamedTuple):
    """Attributes: root, of the repository; commit, of the code that made its rows."""

    root: Path
    commit: str

    @property
    def board(self) -> Path:
        return self.root / BOARD

    def run(self, seed: int, draw: int | None = None, **changes: Any) -> Run:
        """A run that quotes this project's code and the committed card; `draw` decides its ranks."""
        corpus = {name: LAYOUT[name] for name in ("users", "items", "interactions", "fingerprint")}
        corpus |= {"name": CORPUS, "source": "official files: rating_only"} | changes.pop("corpus", {})
        origin = run_of(seed).record.provenance.model_dump(mode="json")
        origin |= {"git_commit": self.commit, "source_sha256": source.of_folder(self.root)}
        origin |= changes.pop("provenance", {})
        ranks = changes.pop("ranks", None) or with_facts(corpus["users"], seed if draw is None else draw)
        return run_of(seed, ranks, corpus=corpus, provenance=origin, **changes)

    def tiger(self, seed: int, **changes: Any) -> Run:
        """A run of a model that is given item vectors and leaves something open."""
        own = {"model": "tiger", "experiment": "tiger", "vectors": VECTORS, "notes": [OPEN_NOTE, STAND_IN_NOTE]}
        return self.run(seed, draw=100 + seed, **own | changes)

    def add(self, *runs: Run) -> None:
        """Writes runs with all that follows from them, and commits."""
        for run in runs:
            write(self.board, *run)
        self.seal()

    def seal(self) -> None:
        """Tables, ledger and commit anew, so that nothing on the board contradicts itself."""
        (self.board / f"{CORPUS}.sha256").unlink(missing_ok=True)
        render(self.board, CORPUS)
        self.commit_all()

    def commit_all(self) -> str:
        git(self.root, "add", "--all")
        git(self.root, "commit", "--quiet", "--message", "change")
        return git(self.root, "rev-parse", "HEAD")


def project(root: Path) -> Project:
    """Three seeds of a row and two of another on a released board at `main`; a branch `change` is checked out."""
    for name, text in CODE.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    git(root, "init", "--quiet", "--initial-branch", "main")
    made = Project(root, "")
    made = made._replace(commit=made.commit_all())
    made.board.mkdir(parents=True)
    (made.board / "protocol.toml").write_text('version = "v2"\nreleased = true\n')
    made.add(*(made.run(seed) for seed in range(3)), *(made.tiger(seed) for seed in range(2)))
    git(root, "checkout", "--quiet", "-b", "change")
    return made


def with_facts(users: int, seed: int) -> pa.Table:
    """Ranks of a seed; facts of users and targets are those of seed 0, as on one corpus, and fit the committed card."""
    facts, own = ranks_of(users, 0), ranks_of(users, seed)
    columns = {name: (own if "rank" in name else facts)[name].to_numpy().copy() for name in facts.column_names}
    if users == LAYOUT["users"]:
        lengths = columns["history_length"]
        lengths[0] += LAYOUT["interactions"] - users - lengths.sum()
    return pa.table(columns, schema=facts.schema)


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
