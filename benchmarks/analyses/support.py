"""What of new transitions is known code by code, and who makes use of it (Ding et al., KDD 2026, arXiv 2603.19809).

A transition to the target that training does not have may still be one that it has of other items whose first codes
are the same. The paper holds that this is what generative models generalise by. A model that knows items by number
alone is the proof: where it gains as much by the same support, codes are not why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Int32, Int64

from benchmarks.analyses import Finding, Lab, proven_run
from data_prep.corpus import Corpus
from leaderboards import findings, formats
from leaderboards.plots import panels
from leaderboards.rows import Board, titles
from leaderboards.store import read_board

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUPPORT = "support"
# Steps from one item of a transition to the other, at most, as the paper's code has it.
STEPS = 4
# Users of the deepest support; fewer are counted with the next.
FEWEST = 100


def support(lab: Lab) -> Finding:
    """NDCG@10 of a board's rows, by how many first codes of an experiment's tokenizer training supports.

    Raises:
        ValueError: the board is of another content of the corpus, or has no row of SASRec or no new transition; an item
            has several code sequences; what `Lab.index` raises.
        FileNotFoundError: the corpus has no board.
    """
    name, corpus = lab.one("letter-authors-codes"), lab.corpus
    board = _board(lab)
    codes = lab.index(name).codes.numpy()
    if codes.shape[1] > 1:
        raise ValueError(f"{name} names an item by up to {codes.shape[1]} code sequences; expected one")
    target = corpus.examples("test").target
    new = supported(corpus, np.arange(len(codes))[:, None], target, steps=1) == 0
    depth = supported(corpus, codes[:, 0], target)
    held = [length for length in range(codes.shape[2] + 1) if (depth[new] >= length).sum() >= FEWEST]
    deepest = max(held, default=0)
    names = [f"{length} code" + "s" * (length != 1) for length in range(deepest + 1)]
    names[-1] += " or more" * (deepest < codes.shape[2])
    told = _told(board, depth.clip(max=deepest)).where("transition_seen", False)
    if told is None:
        raise ValueError(f"{lab.bench.board} has no user with a new transition on {corpus.name}; expected one")
    found = {title: told.where(SUPPORT, length) for length, title in enumerate(names)}
    parts = {title: part for title, part in found.items() if part}
    chance = supported(corpus, codes[:, 0], np.random.default_rng(lab.seed).permutation(target))
    says = (
        f"NDCG@10 of the {new.sum():,} users whose last item was nowhere in training followed by their target, by how "
        f"many first codes of a transition to it training has: from one of the last {STEPS} items, and there between "
        f"items at most {STEPS} steps apart. Codes are those of {name}, seed {lab.seed}. Behind each number is the "
        f"difference from {findings.BESIDE} with its 95% interval, which holds for all pairs of rows at once. Of "
        f"{new.sum():,} users {(depth[new] > 1).mean():.0%} have two codes or more, with the targets of other users "
        f"{(chance[new] > 1).mean():.0%}. The picture has the best row on all these users, {findings.BESIDE} and those "
        f"of {name}."
    )
    return Finding(_table(told, parts), _figure(told, parts, name), says, name)


def supported(
    corpus: Corpus, codes: Int64[np.ndarray, "I L"], target: Int32[np.ndarray, "U"], steps: int = STEPS
) -> Int64[np.ndarray, "U"]:
    """Of each user, how many first codes training has of a transition from one of the last items to the target.

    Args:
        codes: of items, row 0 for padding, which no history has.
        steps: that two items of a transition are apart at most, in training and before the target.
    """
    test = corpus.examples("test")
    trained = np.where(corpus.in_training(), corpus.user_index(), -1)
    depth = np.zeros(len(test), dtype=np.int64)
    for length in range(1, codes.shape[1] + 1):
        _, prefix = np.unique(codes[:, :length], axis=0, return_inverse=True)
        number = prefix.reshape(-1).astype(np.int64)
        known = np.zeros(0, dtype=np.int64)
        for step in range(1, steps + 1):
            one_user = (trained[step:] == trained[:-step]) & (trained[step:] >= 0)
            before, after = corpus.flat[:-step][one_user], corpus.flat[step:][one_user]
            known = np.union1d(known, number[before] * len(codes) + number[after])
        for step in range(1, steps + 1):
            there = test.stop - step >= test.start
            pair = number[corpus.flat[test.stop[there] - step]] * len(codes) + number[target[there]]
            depth[np.flatnonzero(there)[np.isin(pair, known)]] = length
    return depth


def _board(lab: Lab) -> Board:
    """The board of the corpus, which has a row of SASRec."""
    board, corpus = Board(read_board(lab.bench.board, lab.corpus.name)), lab.corpus
    if board.subject.corpus.fingerprint != corpus.fingerprint:
        raise ValueError(f"{lab.bench.board} is of another content of {corpus.name}; expected that of this corpus")
    if findings.beside(board) is None:
        raise ValueError(f"{lab.bench.board} has no row of {findings.BESIDE} on {corpus.name}; expected one")
    for row in board.ranked:
        for run in row.runs:
            proven_run(run)
    return board


def _told(board: Board, depth: Int64[np.ndarray, "U"]) -> Board:
    """The ranked rows, whose ranks tell of each user's support."""
    column = pa.array(depth)
    runs = [run for row in board.ranked for run in row.runs]
    return Board([run._replace(ranks=run.ranks.append_column(SUPPORT, column)) for run in runs])


def _table(board: Board, parts: dict[str, Board]) -> pd.DataFrame:
    beside, lines = findings.beside(board), []
    for title, row in zip(titles(board.ranked), board.ranked, strict=True):
        line: dict[str, str | int | float] = {"Experiment": title, "Seeds": len(row.runs)}
        for name, part in parts.items():
            own = part.own(row).gains
            found = part.apart(row, beside)
            line[f"{name}, {own.shape[1]:,} users"] = float(own.mean())
            line[f"from {findings.BESIDE}, {name}"] = (
                f"{formats.signed(found.difference)} ({formats.signed_interval(found.interval)})" if found else ""
            )
        lines.append(line)
    return pd.DataFrame(lines)


def _figure(board: Board, parts: dict[str, Board], name: str) -> Figure:
    figure, (axis,) = panels("New transitions", width=6.4)
    beside = findings.beside(board)
    for title, row in zip(titles(board.ranked), board.ranked, strict=True):
        if row is board.ranked[0] or row is beside or row.name == name:
            axis.plot([part.own(row).gains.mean() for part in parts.values()], marker="o", label=title)
    axis.set_xticks(np.arange(len(parts)), list(parts))
    axis.set_ylabel("NDCG@10")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower left", fontsize=8, frameon=False)
    return figure
