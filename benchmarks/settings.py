"""What the cells of a bench share, and the corpora that they are on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import data_prep
from benchmarks.hardware import Hardware
from data_prep import own_corpus
from data_prep.corpus import UNSEEN_USERS, Corpus
from data_prep.embed import WITH_PATH
from leaderboards.record import Record


@dataclass(frozen=True)
class Bench:
    """What the cells of a bench share.

    Attributes:
        board: folder of the records.
        work: folder for trainings in progress and finished ones that another cell can share, prepared corpora and item
            vectors.
        vectors_path: a `.npz` file or a sentence-transformers folder, for those kinds of item vectors.
        track: how runs are followed, one of `benchmarks.tracking.wandb_run.MODES`.
        until: seconds since the epoch, after which no training begins, and those that are at work end at their next
            look; they can be gone on with.
    """

    board: Path
    work: Path
    vectors_path: Path | None = None
    hardware: Hardware = field(default_factory=Hardware)
    track: str = "off"
    until: float | None = None

    def for_vectors(self, kind: object) -> Bench:
        """For a row of such item vectors among others: the path goes to a kind that takes one; others refuse it."""
        return self if kind in WITH_PATH else replace(self, vectors_path=None)


def prepared(work: Path, corpus: str, source: str) -> Corpus:
    """A corpus, prepared beneath the folder of trainings. Raises what `data_prep.load` and `own_corpus.reopen` do.

    Args:
        source: where it is from, as `data_prep.load` has it, or what `own_corpus.source_of` gave for a user's own.
    """
    if source.startswith(own_corpus.SOURCE):
        return own_corpus.reopen(corpus, source, work / "corpora")
    return data_prep.load(corpus, source, work / "corpora")


def source_of(record: Record, source: str) -> str:
    """Where the corpus of a record is from: the source that is told, but of a user's own file its fingerprint; of
    unseen users' records, which have another, the file's name must tell it."""
    if not record.corpus.source.startswith(f"{own_corpus.OWN}: "):
        return source
    return own_corpus.SOURCE + ("" if record.corpus.name.endswith(UNSEEN_USERS) else record.corpus.fingerprint)
