"""Laws that hold within every run, whatever was trained: of its metrics, its stages and its users.

That its metrics are those of its ranks is checked wherever a run is read (`store.check`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from leaderboards.metrics import CUTOFFS, UNSEEN
from leaderboards.record import OWN_QUALITY, VALIDATION, Cost, Record, Stage
from leaderboards.rows import RANKED_BY
from leaderboards.store import Run

# Of a user whom leave-one-out grades: one item to train on, one to validate.
SHORTEST_HISTORY = 2
# Digits that sums in another order, or on another processor, may lose.
SAME = 1e-6


def problems(run: Run) -> Iterator[str]:
    """What of a run cannot be."""
    record, ranks = run
    if record.search.certified_share < 1:
        yield f"certified_share is {record.search.certified_share}; the protocol asks for an exact list for every user"
    for part, values in {"valid": record.valid, "test": record.test, **record.diagnostics}.items():
        yield from (f"{part}: {problem}" for problem in _out_of_order(values))
    yield from _of_cost(record.cost)
    yield from _of_validation(record)
    yield from _of_users(record, ranks)


def _out_of_order(values: dict[str, float]) -> Iterator[str]:
    """NDCG is at most Recall, and neither falls as the list grows."""
    for name, of in itertools.product(("recall", "ndcg"), ("", UNSEEN)):
        known = [(k, values[f"{name}@{k}{of}"]) for k in CUTOFFS if f"{name}@{k}{of}" in values]
        for (k, value), (wider, more) in itertools.pairwise(known):
            if value > more:
                yield f"{name}@{k}{of} is {value}, above {name}@{wider}{of}, {more}"
    for k, of in itertools.product(CUTOFFS, ("", UNSEEN)):
        recall, ndcg = values.get(f"recall@{k}{of}"), values.get(f"ndcg@{k}{of}")
        if recall is not None and ndcg is not None and ndcg > recall:
            yield f"ndcg@{k}{of} is {ndcg}, above recall@{k}{of}, {recall}"


def _of_cost(cost: Cost) -> Iterator[str]:
    spent = sum(stage.seconds for stage in cost.stages)
    if not math.isclose(spent, cost.train_seconds, rel_tol=SAME, abs_tol=SAME):
        yield f"train_seconds is {cost.train_seconds}; its stages took {spent}"
    for stage in cost.stages:
        best = _kept(stage)
        if stage.checked and (best is None or best < max(stage.quality)):
            kept = "was never looked at" if best is None else f"has {best}, another one {max(stage.quality)}"
            yield f"stage {stage.name} kept epoch {stage.best_epoch}, which {kept}"


def _kept(stage: Stage) -> float | None:
    """Quality of the epoch whose weights a stage kept; None where that was not asked for."""
    return dict(zip(stage.checked, stage.quality, strict=False)).get(stage.best_epoch)


def _of_validation(record: Record) -> Iterator[str]:
    """The kept epoch has what the record says of validation, where the same users were asked by the same search: one
    that generates codes is searched less far between epochs."""
    # Of a row that is graded on others than those of its training, who may be fewer, a note says who validated, and of
    # one whose epoch something else chose, that it did.
    if any(VALIDATION in note or note.startswith(OWN_QUALITY) for note in record.notes):
        return
    if record.valid_users > record.corpus.users:
        yield f"valid_users is {record.valid_users}, of {record.corpus.users} users"
    chosen = _kept(record.cost.stages[-1]) if record.cost.stages else None
    if record.valid_users != record.corpus.users or record.code_card is not None or chosen is None:
        return
    if not math.isclose(chosen, record.valid[RANKED_BY], rel_tol=SAME, abs_tol=SAME):
        yield f"valid {RANKED_BY} is {record.valid[RANKED_BY]}; the kept epoch had {chosen}"


def _of_users(record: Record, ranks: pa.Table) -> Iterator[str]:
    history = ranks["history_length"].to_numpy()
    # Of every user all items but the last one are the history.
    told = int(history.sum()) + len(history)
    if told != record.corpus.interactions:
        yield f"its users have {told} interactions by their histories; its corpus has {record.corpus.interactions}"
    if history.min() < SHORTEST_HISTORY:
        yield f"a user has a history of {history.min()}; leave-one-out needs {SHORTEST_HISTORY}"
    never = ranks["target_count"].to_numpy() == 0
    if np.any(never & ranks["transition_seen"].to_numpy()):
        yield "a target that is in no training part followed an item in one"
