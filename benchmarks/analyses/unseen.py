"""Users whom a model never saw, beside those it has learned from (ETEGRec's figure 2)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analyses import Finding, Lab
from benchmarks.execution.cell import Cell
from benchmarks.experiments import UNSEEN
from benchmarks.resolved_row import resolve
from leaderboards.metrics import per_user
from leaderboards.plots import grouped, panels
from leaderboards.statistics import interval

MODELS = ("tiger", "letter", "etegrec")
METRICS = {"recall@10": "Recall@10", "ndcg@10": "NDCG@10"}


def unseen(lab: Lab) -> Finding:
    """Test metrics of the same weights on both kinds of users.

    Raises:
        ValueError: a training failed.
    """
    whole = [lab.experiment(name) for name in lab.chosen(*MODELS)]
    runs = lab.runs([Cell(replace(each, name=each.whole + UNSEEN, unseen_users=True), lab.seed) for each in whole])
    rows = []
    for experiment, (record, ranks) in zip(whole, runs, strict=True):
        row: dict[str, Any] = {"Experiment": experiment.whole}
        for metric, title in METRICS.items():
            row[f"{title}, seen"] = record.diagnostics["seen_users"][metric]
            row[f"{title}, unseen"] = record.test[metric]
            low, high = interval(per_user(metric, ranks["rank"].to_numpy())[None])
            row |= {f"{title}, low": low, f"{title}, high": high}
        rows.append(row)
    table = pd.DataFrame(rows)
    figure, axes = panels(*METRICS.values())
    places = np.arange(len(table))
    for axis, title in zip(axes, METRICS.values(), strict=True):
        new = table[f"{title}, unseen"]
        spread = np.stack([new - table[f"{title}, low"], table[f"{title}, high"] - new])
        series = {"seen": table[f"{title}, seen"], "unseen": new}
        grouped(axis, places, series, {"unseen": spread.clip(min=0)})
        axis.set_xticks(places, table["Experiment"])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", fontsize=8, frameon=False, ncols=2)
    split = resolve(lab.bench, lab.corpus, replace(whole[0], unseen_users=True))
    says = (
        f"Test metrics on users whom the model has seen and on users whom it has not, seed {lab.seed}: the same "
        f"weights, learned from {split.train_corpus.users:,} users without the {split.eval_corpus.users:,} of the "
        "least history. Low and high: 95% interval on the unseen users, bootstrap. The two kinds differ in the length "
        "of their histories, too."
    )
    return Finding(table, figure, says)
