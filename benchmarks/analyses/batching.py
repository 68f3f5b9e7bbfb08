"""What batches of similar length cost: random batches, as all trainings have them, against pools cut by length."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

import data_prep.batches
from benchmarks.analyses import Finding, Lab
from benchmarks.checks.regress import COMPARED, CORPUS, QUICK, held
from benchmarks.execution.cell import Cell
from benchmarks.experiments import Experiment
from data_prep.batches import Batches
from data_prep.corpus import Corpus, Examples
from leaderboards.plots import panels
from leaderboards.rows import Row
from leaderboards.statistics import Comparison
from models.parts.ragged import ROWS, packing

NAMES = ("sasrec", "tiger", "letter", "etegrec", "decor", "pit")
SEEDS = 5
# Batches that are sorted by length together, as trainings of board v1 had them.
POOL = 64


def batching(lab: Lab) -> Finding:
    """A row of each model; on the embedded corpus at the gate's sizes. Trains what has no record, one after the other.

    Raises:
        ValueError: an experiment is not of `NAMES`' models or its histories begin anywhere, or a training failed.
    """
    rows: list[dict[str, Any]] = []
    comparisons = []
    for experiment in [sized(lab, name) for name in lab.chosen(*NAMES)]:
        name = experiment.name
        ours, pooled = (trained(lab, experiment, pool) for pool in (data_prep.batches.POOL, POOL))
        found, margin, p = held(ours, pooled)
        row = {"Experiment": name, "NDCG@10": float(ours.gains.mean()), "in pools": float(pooled.gains.mean())}
        row |= {"Difference": found.difference, "p": found.p}
        row |= {"Margin": margin, "p of more than the margin": p}
        row |= {"Padding": computed(lab.corpus, experiment)}
        row |= {"untrimmed": padding(lab.corpus, experiment, data_prep.batches.POOL, rows=None)}
        row |= {"in pools, untrimmed": padding(lab.corpus, experiment, POOL, rows=None)}
        row |= {"Seconds of an epoch": pace(ours), "those in pools": pace(pooled)}
        rows.append(row)
        comparisons.append(found)
    table = pd.DataFrame(rows)
    says = (
        f"Random batches against batches cut from pools of {POOL} that are sorted by length; NDCG@10 on the test part, "
        f"{seeds(lab)} seeds. Difference: random less pools, with the p of none, paired by user, seeds counted; margin "
        "of equivalence and its test as in the gate of changes. Padding: share of the positions of an epoch that hold "
        f"no item; without `untrimmed`, as a CPU computes them: SASRec {ROWS} rows of similar length at a time, the "
        "others with histories side by side in full rows. Seconds of an epoch: of the last stage, with its validation, "
        "mean over seeds."
    )
    return Finding(table, _figure(table, comparisons), says)


def sized(lab: Lab, name: str) -> Experiment:
    """The experiment, on the embedded corpus at the size of seconds that the gate has for its model."""
    experiment = lab.experiment(name)
    if experiment.model not in NAMES or getattr(experiment.config, "starts", "first") != "first":
        raise ValueError(
            f"batches of {name} are not known here; expected one of {', '.join(NAMES)}, from first items on"
        )
    return lab.experiment(name, usual=QUICK.get(experiment.model, [])) if lab.corpus.name == CORPUS else experiment


def seeds(lab: Lab) -> int:
    return COMPARED if lab.corpus.name == CORPUS else SEEDS


@contextmanager
def pools_of(batches: int) -> Iterator[None]:
    """Trainings in this process draw so many batches at a time and cut them by length."""
    before, data_prep.batches.POOL = data_prep.batches.POOL, batches
    try:
        yield
    finally:
        data_prep.batches.POOL = before


def trained(lab: Lab, experiment: Experiment, pool: int) -> Row:
    """Runs on such batches. A key does not know of pools: other ones than all trainings have get folders of their own.

    Raises:
        ValueError: a training failed.
    """
    apart = lab.bench.work / f"pools-of-{pool}"
    bench = lab.bench if pool == data_prep.batches.POOL else replace(lab.bench, board=apart / "board", work=apart)
    cells = [Cell(experiment, seed) for seed in range(seeds(lab))]
    with pools_of(pool):  # in this process only, so one job
        return Row(replace(lab, bench=bench, jobs=1).runs(cells), ranked=True)


def computed(corpus: Corpus, experiment: Experiment) -> float:
    """Share of the positions that a CPU computes in an epoch which hold no item."""
    pool = data_prep.batches.POOL
    if experiment.model == "sasrec":
        return padding(corpus, experiment, pool, rows=ROWS)
    masks = (torch.arange(int(width.max())) < width[:, None] for width in widths(corpus, experiment, pool))
    empty = torch.cat([packing(mask).owner.flatten() == 0 for mask in masks])
    return float(empty.double().mean())


def padding(corpus: Corpus, experiment: Experiment, pool: int, rows: int | None) -> float:
    """Share of the positions of an epoch that hold no item, where `rows` of a batch, or all, are computed together."""
    parts = [part for width in widths(corpus, experiment, pool) for part in width.split(rows or len(width))]
    return 1 - sum(int(part.sum()) for part in parts) / sum(len(part) * int(part[-1]) for part in parts)


def widths(corpus: Corpus, experiment: Experiment, pool: int) -> list[Int[Tensor, "_"]]:
    """Lengths of the histories of each batch of an epoch, ascending."""
    examples, config = _examples(corpus, experiment), experiment.config
    with pools_of(pool):
        batches = Batches(examples, config.batch_size, config.history, epoch=lambda: 0)
        return [batches.width[batch].sort().values for batch in batches.rows()]


def _examples(corpus: Corpus, experiment: Experiment) -> Examples:
    """What the recommender's training goes through: SASRec's has a user's prefixes in one example."""
    pairs = corpus.examples("train")
    return pairs.longest_per_user() if experiment.model == "sasrec" else pairs


def pace(row: Row) -> float:
    """Seconds of an epoch."""
    stages = [run.record.cost.stages[-1] for run in row.runs]
    return float(np.mean([stage.seconds / stage.epochs for stage in stages]))


def _figure(table: pd.DataFrame, comparisons: list[Comparison]) -> Any:
    figure, (quality, width) = panels("NDCG@10, random less pools", "Padding")
    places = np.arange(len(table))
    low, high = np.array([found.interval for found in comparisons]).T
    quality.errorbar(
        places, table["Difference"], (table["Difference"] - low, high - table["Difference"]), fmt="o", capsize=3
    )
    quality.axhline(0, color="grey", linewidth=0.8, linestyle=":")
    titles = {"Padding": "random, as computed", "untrimmed": "random", "in pools, untrimmed": "pools"}
    for place, (column, title) in enumerate(titles.items()):
        width.bar(places + (place - 1) * 0.27, table[column], 0.27, label=title)
    width.set(ylabel="share of positions", ylim=(0, 1))
    width.legend(fontsize=8, frameon=False)
    for axis in (quality, width):
        axis.set_xticks(places, table["Experiment"])
    return figure
