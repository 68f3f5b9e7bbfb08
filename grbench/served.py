"""A trained model to ask: histories of external item ids in, ranked items with scores and certificates out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.checks.rerank import check_ranks, recall_by_hash
from benchmarks.evaluate import check
from benchmarks.hardware import Hardware, users_at_once
from benchmarks.provenance import ROOT
from benchmarks.settings import Bench
from grbench import export
from leaderboards import store
from leaderboards.record import Record
from leaderboards.source import of_folder
from models.api import Recommender


class Recommendation(NamedTuple):
    """The best items for one history.

    Attributes:
        items: ids as in the corpus's files, best first.
        scores: the model's own, log-probabilities of generative models.
        certified: the list provably is the beginning of the ranking of all items.
    """

    items: list[str]
    scores: list[float]
    certified: bool


@dataclass(frozen=True)
class Served:
    """
    Attributes:
        record: the row's, of one seed.
        item_ids: of items 1..N.
    """

    recommender: Recommender
    item_ids: Sequence[str]
    record: Record

    @cached_property
    def numbers(self) -> dict[str, int]:
        """1..N by item id."""
        return {item: number for number, item in enumerate(self.item_ids, 1)}

    def recommend(self, history: Sequence[str], k: int = 10, unseen: bool = False) -> Recommendation:
        """The `k` best items after a history of item ids, oldest first.

        Args:
            unseen: leave out what the history holds.

        Raises:
            ValueError: as `recommend_all`.
        """
        return self.recommend_all([history], k, unseen)[0]

    def recommend_all(
        self, histories: Sequence[Sequence[str]], k: int = 10, unseen: bool = False
    ) -> list[Recommendation]:
        """As `recommend`, of many histories at once; histories of one length are ranked together.

        Raises:
            ValueError: a history is empty or names an item that the model does not know, or k is below 1.
        """
        if k < 1:
            raise ValueError(f"k is {k}; expected at least 1")
        known = [self._known(history, number) for number, history in enumerate(histories, 1)]
        found: list[Recommendation | None] = [None] * len(known)
        size = users_at_once(self.recommender.device)
        order = np.argsort([len(history) for history in known], kind="stable")
        with torch.inference_mode():
            for first in range(0, len(order), size):
                rows = order[first : first + size]
                lists = self._ranked([known[row] for row in rows], k, unseen)
                for row, recommendation in zip(rows, lists, strict=True):
                    found[row] = recommendation
        return [recommendation for recommendation in found if recommendation]

    def _known(self, history: Sequence[str], number: int) -> list[int]:
        # They can be iterated over, but a set has no order, and a mapping is more than a list of items.
        if isinstance(history, str | set | frozenset | Mapping):
            kind = type(history).__name__
            raise ValueError(
                f"history {number} is the {kind} {history!r:.100}; expected item ids in a list, oldest first"
            )
        try:
            # A list, whatever the column of a table is.
            history = list(history)
        except TypeError as error:
            raise ValueError(f"history {number} is {history!r:.100}; expected item ids in a list") from error
        strange = [item for item in history if not isinstance(item, str) or item not in self.numbers]
        if strange or not history:
            what = f"names item {strange[0]!r:.100}, which is not" if strange else "is empty; expected at least one"
            raise ValueError(f"history {number} {what} among the {len(self.item_ids):,} items of the model")
        return [self.numbers[item] for item in history]

    def _ranked(self, histories: list[list[int]], k: int, unseen: bool) -> list[Recommendation]:
        """Lists long enough that `k` items are left of each."""
        more = max(len(set(history)) for history in histories) if unseen else 0
        longest = min(k + more, len(self.item_ids))
        ranking = self.recommender.rank(self._padded(histories), longest)
        check(ranking, len(histories), longest, len(self.item_ids), type(self.recommender).__name__)
        rows = zip(ranking.items.tolist(), ranking.scores.tolist(), ranking.certified.tolist(), histories, strict=True)
        return [
            self._recommendation(items, scores, certified, k, set(history) if unseen else set())
            for items, scores, certified, history in rows
        ]

    def _padded(self, histories: list[list[int]]) -> Tensor:
        """`[B, T]` the last items that the model reads, right-padded with 0."""
        recent = [torch.tensor(history[-self.recommender.history_length :]) for history in histories]
        return torch.nn.utils.rnn.pad_sequence(recent, batch_first=True).to(self.recommender.device)

    def _recommendation(
        self, items: list[int], scores: list[float], certified: bool, k: int, seen: set[int]
    ) -> Recommendation:
        # Item 0 fills lists that are short.
        kept = [(item, score) for item, score in zip(items, scores, strict=True) if item and item not in seen][:k]
        return Recommendation([self.item_ids[item - 1] for item, _ in kept], [score for _, score in kept], certified)


def load(
    path: Path | str,
    work: Path | str = "runs",
    source: str = "auto",
    vectors_path: Path | str | None = None,
    threads: int = 1,
    accelerator: str = "auto",
) -> Served:
    """The model of a row.

    Args:
        path: a folder that `grbench export` wrote, or a record, `leaderboards/v2/<corpus>/<model>/<key>/seed-0.json`,
            whose weights are still in the folder of trainings.
        work: of a record, the folder of trainings and prepared corpora.
        source: of a record, where its corpus comes from.
        vectors_path: of a record, a file or folder of item vectors, where its config asks for one.
        threads: of the CPU.
        accelerator: one of `benchmarks.device.ACCELERATORS`.

    Raises:
        FileNotFoundError: there is nothing under `path`, or the weights of a record are not in `work`.
        ValueError: the files are damaged, or of another version of the model; a record's weights no longer rank as it
            says; this machine has no such accelerator; a source or vectors are told of a folder.
    """
    path, hardware = Path(path), Hardware(accelerator, threads=threads)
    if path.is_dir():
        if source != "auto" or vectors_path:
            raise ValueError(f"{path} is an exported folder, which needs no source and no vectors; expected neither")
        hardware.set_num_threads()
        kept = export.read(path)
        return Served(kept.recommender.to(hardware.device), kept.item_ids, kept.record)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; expected a folder that `export` wrote, or a record of a board")
    bench = Bench(store.board_of(path), Path(work), Path(vectors_path) if vectors_path else None, hardware)
    record = store.read(path)
    recalled = recall_by_hash(bench, record, source)
    if record.provenance.source_sha256 != of_folder(ROOT):
        # Hashes of weights do not tell what is made of them.
        check_ranks(recalled.recommender, recalled.eval_corpus, store.read_run(bench.board, path.absolute()))
    # Of a prepared corpus they are values of Arrow.
    return Served(recalled.recommender.eval(), [str(item) for item in recalled.eval_corpus.item_ids], record)
