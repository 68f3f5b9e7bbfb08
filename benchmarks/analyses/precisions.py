"""What bf16 costs: banks of runs of the gate's board in both precisions, held against each other as the gate does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analyses import Finding, Lab, proven_run
from benchmarks.analyses.batching import NAMES
from benchmarks.checks.regress import BANK, CORPUS, bank, experiment, held
from benchmarks.execution.cell import Cell
from leaderboards.plots import panels
from leaderboards.rows import Row


def precision(lab: Lab) -> Finding:
    """A row of each model. The runs in float32 are the gate's references; those in bf16 are trained where no record is.

    Raises:
        ValueError: the corpus is not the gate's, or a training failed.
    """
    if lab.corpus.name != CORPUS:
        raise ValueError(f"the gate's board is of {CORPUS}, not of {lab.corpus.name}; expected CORPUS={CORPUS}")
    rows: list[dict[str, Any]] = []
    intervals = []
    for name in lab.chosen(*NAMES):
        exact, near = Row([proven_run(run) for run in bank(name)], ranked=True), trained(lab, name)
        found, margin, p = held(near, exact)
        row = {"Model": name, "NDCG@10 in float32": float(exact.gains.mean()), "in bf16": float(near.gains.mean())}
        row |= {"Difference": found.difference, "p of none": found.p, "Margin": margin, "p of more than that": p}
        rows.append(row)
        intervals.append(found.interval)
    table = pd.DataFrame(rows)
    says = (
        f"bf16 against float32 on the gate's board, {BANK} runs of each; NDCG@10 on the test part. Difference: bf16 "
        "less float32, with the p of none, paired by user, seeds counted; margin of equivalence and its test as in the "
        "gate of changes: where its p is below .05, the two are shown to be equal within the margin, which is as wide "
        "as the noise of so many runs asks for. The runs in float32 are the gate's references."
    )
    return Finding(table, _figure(table, intervals), says)


def trained(lab: Lab, name: str) -> Row:
    """The model's runs in bf16.

    Raises:
        ValueError: a training failed, or there are settings, with which the references were not made.
    """
    if lab.settings:
        raise ValueError(f"precision compares the gate's references; expected no settings ({', '.join(lab.settings)})")
    bench = replace(lab.bench, hardware=replace(lab.bench.hardware, precision="bf16-mixed"))
    cells = [Cell(experiment(name), seed) for seed in range(BANK)]
    return Row(replace(lab, bench=bench).runs(cells), ranked=True)


def _figure(table: pd.DataFrame, intervals: Sequence[tuple[float, float]]) -> Any:
    figure, (axis,) = panels("NDCG@10, bf16 less float32")
    places, (low, high) = np.arange(len(table)), np.array(intervals).T
    difference = table["Difference"].to_numpy()
    axis.errorbar(places, difference, (difference - low, high - difference), fmt="o", capsize=3)
    for sign in (-1, 1):
        axis.plot(places, sign * table["Margin"], "_", color="grey", markersize=20)
    axis.axhline(0, color="grey", linewidth=0.8, linestyle=":")
    axis.set_xticks(places, table["Model"])
    return figure
