"""What of new transitions is known code by code, and who makes use of it (Ding et al., KDD 2026, arXiv 2603.19809).

A transition from a user's last item to the target that training does not have may still be one that it has of other
items whose first codes are the same. The paper holds that this is what generative models generalise by. A model that
knows items by number alone is the proof against it: where it gains as much by the same support, codes are not why.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Int64

from benchmarks.analyses import Finding, Lab
from data_prep.corpus import Corpus
from leaderboards import formats
from leaderboards.findings import BESIDE
from leaderboards.plots import grouped, panels
from leaderboards.rows import Board, Row
from leaderboards.store import Run, read_board

SUPPORT = "support"
# Users of the deepest support; fewer are counted with the next.
FEWEST = 100


def support(lab: Lab) -> Finding:
    """NDCG@10 of a board's rows, by how many first codes of an experiment's tokenizer training supports.

    Raises:
        ValueError: an item has several code sequences; the board is of another content of the corpus, or has no row of
            SASRec or no new transition; what `Lab.index` raises.
        FileNotFoundError: the corpus has no board.
    """
    name = lab.one("letter-authors-codes")
    codes = lab.index(name).codes.numpy()
    if codes.shape[1] > 1:
        raise ValueError(f"{name} names an item by up to {codes.shape[1]} code sequences; expected one")
    depth = supported(lab.corpus, codes[:, 0])
    new_users = supported(lab.corpus, np.arange(len(codes))[:, None]) == 0
    held = [length for length in range(codes.shape[2] + 1) if (depth[new_users] >= length).sum() >= FEWEST]
    deepest = max(held, default=0)
    new, beside = _new_transitions(lab, depth.clip(max=deepest))
    lengths = {f"{length} code" + "s" * (length != 1): new.where(SUPPORT, length) for length in range(deepest)}
    lengths[f"{deepest} codes" + " or more" * (deepest < codes.shape[2])] = new.where(SUPPORT, deepest)
    parts = {f"{title}, {part.ranked[0].gains.shape[1]:,} users": part for title, part in lengths.items() if part}
    rows = [{"Experiment": row.title, "Seeds": len(row.runs), **_cells(row, beside, parts)} for row in new.ranked]
    figure, (axis,) = panels("New transitions", width=6.4)
    shown = (new.ranked[0], beside, *(row for row in new.ranked if row.name == name))
    heights = {row.title: [part.own(row).gains.mean() for part in parts.values()] for row in shown}
    grouped(axis, np.arange(len(parts)), heights)
    axis.set_xticks(np.arange(len(parts)), [title.partition(",")[0] for title in parts])
    axis.set_ylabel("NDCG@10")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower left", fontsize=8, frameon=False)
    says = (
        "NDCG@10 of users whose last item was nowhere in training followed by their target, by how many first codes of "
        f"both, as {name} names items, follow each other there: of all codes, of items alike. Behind it the difference "
        f"from {BESIDE} with its 95% interval, for all pairs of those users at once. The picture has the best row on "
        f"all such users, {BESIDE} and those of {name}."
    )
    return Finding(pd.DataFrame(rows), figure, says, name)


def supported(corpus: Corpus, codes: Int64[np.ndarray, "I L"]) -> Int64[np.ndarray, "U"]:
    """Of each user, the length of the longest prefix by which the last item is followed by the target in training."""
    test = corpus.examples("test")
    last, target = corpus.flat[test.stop - 1], corpus.flat[test.stop]
    steps = corpus.examples("train")
    before, after = corpus.flat[steps.stop - 1], corpus.flat[steps.stop]
    depth = np.zeros(len(test), dtype=np.int64)
    for length in range(1, codes.shape[1] + 1):
        _, prefix = np.unique(codes[:, :length], axis=0, return_inverse=True)
        number = prefix.reshape(-1).astype(np.int64)
        known = number[before] * len(codes) + number[after]
        depth[np.isin(number[last] * len(codes) + number[target], known)] = length
    return depth


def _new_transitions(lab: Lab, depth: Int64[np.ndarray, "U"]) -> tuple[Board, Row]:
    """A corpus's board on the users of new transitions, whose ranks tell of their support, and its row of SASRec."""
    runs, corpus = read_board(lab.bench.board, lab.corpus.name), lab.corpus
    if Board(runs).subject.corpus.fingerprint != corpus.fingerprint:
        raise ValueError(f"{lab.bench.board} is of another content of {corpus.name}; expected that of this corpus")
    told = [_told(run, depth) for run in runs if run.record.corpus.fingerprint == corpus.fingerprint]
    new = Board(told).where("transition_seen", False)
    beside = [row for row in new.ranked if row.title == BESIDE] if new else []
    if new is None or not beside:
        missing = f"row of {BESIDE}" if new else "new transition"
        raise ValueError(f"{lab.bench.board} has no {missing} on {corpus.name}; expected one")
    return new, beside[0]


def _told(run: Run, depth: Int64[np.ndarray, "U"]) -> Run:
    return run._replace(ranks=run.ranks.append_column(SUPPORT, pa.array(depth[run.ranks["user"].to_numpy()])))


def _cells(row: Row, beside: Row, parts: dict[str, Board]) -> dict[str, float | str]:
    cells = dict[str, float | str]()
    for title, part in parts.items():
        found = part.apart(row, beside)
        cells[title] = float(part.own(row).gains.mean())
        difference = f"{formats.signed(found.difference)} ({formats.signed_interval(found.interval)})" if found else ""
        cells[f"from {BESIDE}, {title.partition(',')[0]}"] = difference
    return cells
