"""DECOR's sensitivity to the part of the composed vector and to the number of start-token queries (figure 3)."""

from __future__ import annotations

import dataclasses

import pandas as pd

from benchmarks.analyses import Finding, Lab
from benchmarks.bench import Cell, run_all
from benchmarks.run import target
from leaderboards import store
from leaderboards.metrics import ndcg
from leaderboards.plots import panels
from leaderboards.statistics import interval
from models.api import SEARCH_RANGE
from models.decor import Config

OPTIONS = {"alpha": "part of the composed vector", "bos_queries": "start-token queries"}
METRICS = {"ndcg@10": "NDCG@10", "recall@10": "Recall@10"}


def sensitivity(lab: Lab) -> Finding:
    """A row of each value in the paper's grids, all else as configured; trained where its record is missing.

    Raises:
        ValueError: a training failed.
    """
    (name,) = lab.names or ("decor",)
    fields = {field.name: field.metadata for field in dataclasses.fields(Config)}
    grid = [(option, value) for option in OPTIONS for value in fields[option][SEARCH_RANGE]["choices"]]
    cells = [Cell(lab.experiment(name, f"{option}={value}"), lab.seed) for option, value in grid]
    paths = [target(lab.bench, lab.corpus, *cell) for cell in cells]
    missing = {path: cell for path, cell in zip(paths, cells, strict=True) if not path.exists()}
    if run_all(lab.bench, lab.corpus.name, lab.source, list(missing.values()), lab.jobs):
        raise ValueError("a training of the grid failed, so there is no picture; the same command goes on from there")
    runs = {(run.record.key, run.record.seed): run for run in store.read_board(lab.bench.board, lab.corpus.name)}
    rows = []
    for (option, value), path in zip(grid, paths, strict=True):
        run = runs[path.parent.name, lab.seed]
        low, high = interval(ndcg(run.ranks["rank"].to_numpy(), 10)[None])
        found = {title: run.record.test[metric] for metric, title in METRICS.items()}
        rows.append({"Option": option, "Value": value, **found, "Low": low, "High": high})
    table = pd.DataFrame(rows)
    figure, axes = panels(*OPTIONS.values())
    for axis, option in zip(axes, OPTIONS, strict=True):
        part = table[table["Option"] == option]
        places = range(len(part))
        spread = (part["NDCG@10"] - part["Low"], part["High"] - part["NDCG@10"])
        axis.errorbar(places, part["NDCG@10"], spread, marker="o", capsize=3, label="NDCG@10, 95% interval")
        axis.plot(places, part["Recall@10"], marker="s", linestyle="--", label="Recall@10")
        axis.set_xticks(places, [str(value) for value in part["Value"]])
        axis.set(xlabel=option, ylim=(0, None))
    axes[0].legend(fontsize=8, frameon=False)
    says = (
        f"Test metrics of {name}, seed {lab.seed}, over the grids of the paper's figure 3, one option at a time. "
        "Intervals: 95%, of NDCG@10, bootstrap over users. A picture of what a choice costs, not a way to choose: "
        "that is done on validation."
    )
    return Finding(table, figure, says)
