"""Sensitivity of test metrics to one option at a time: DECOR's figure 3 and ETEGRec's figure 4."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd

from benchmarks.analyses import Finding, Lab
from benchmarks.execution.cell import Cell
from benchmarks.sweeps.search_space import tuned_fields
from leaderboards.metrics import ndcg
from leaderboards.plots import panels
from leaderboards.statistics import interval

METRICS = {"ndcg@10": "NDCG@10", "recall@10": "Recall@10"}


class Axis(NamedTuple):
    """An option of a figure. Attributes: title; also, values beside those that a sweep chooses from."""

    title: str
    also: tuple[int | float, ...] = ()


class Figure(NamedTuple):
    """What a paper's figure shows. Attributes: model; number; axes, by option."""

    model: str
    number: int
    axes: dict[str, Axis]


DECOR = Figure(
    "decor", 3, {"alpha": Axis("Part of the composed vector"), "bos_queries": Axis("Start-token queries", (0,))}
)
ETEGREC = Figure(
    "etegrec",
    4,
    {"sia_weight": Axis("Sequence-item alignment"), "psa_weight": Axis("Preference-semantic alignment", (0.0,))},
)


def sensitivity(lab: Lab) -> Finding:
    """DECOR's: the part of the composed vector in a decoder input, and the queries of which the start is composed."""
    return over(lab, DECOR)


def weights(lab: Lab) -> Finding:
    """ETEGRec's: the weights of both alignments."""
    return over(lab, ETEGREC)


def over(lab: Lab, shown: Figure) -> Finding:
    """A row of each value in the figure's grid, all else as configured.

    Raises:
        ValueError: the experiment is of another model, or a training failed.
    """
    name = lab.one(shown.model)
    base = lab.experiment(name)
    if base.model != shown.model:
        raise ValueError(f"{name} is an experiment of {base.model}; the figure is of {shown.model}'s options")
    grid = grid_of(base.config, shown)
    runs = lab.runs([Cell(lab.experiment(name, f"{option}={value}"), lab.seed) for option, value in grid])
    rows = []
    for (option, value), (record, ranks) in zip(grid, runs, strict=True):
        low, high = interval(ndcg(ranks["rank"].to_numpy(), 10)[None])
        found = {title: record.test[metric] for metric, title in METRICS.items()}
        rows.append({"Option": option, "Value": value, **found, "Low": low, "High": high})
    table = pd.DataFrame(rows)
    figure, axes = panels(*(axis.title for axis in shown.axes.values()))
    for axis, option in zip(axes, shown.axes, strict=True):
        part = table[table["Option"] == option]
        places = range(len(part))
        spread = (part["NDCG@10"] - part["Low"], part["High"] - part["NDCG@10"])
        axis.errorbar(places, part["NDCG@10"], spread, marker="o", capsize=3, label="NDCG@10, 95% interval")
        axis.plot(places, part["Recall@10"], marker="s", linestyle="--", label="Recall@10")
        axis.set_xticks(places, [f"{value:g}" for value in part["Value"]])
        axis.set(xlabel=option, ylim=(0, None))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", fontsize=8, frameon=False, ncols=2)
    says = (
        f"Test metrics of {name}, seed {lab.seed}, over the grids of the paper's figure {shown.number}, one option at "
        "a time. Intervals: 95%, of NDCG@10, bootstrap over users. A picture of what a choice costs, not a way to "
        "choose: that is done on validation."
    )
    return Finding(table, figure, says)


def grid_of(config: Any, shown: Figure) -> list[tuple[str, int | float]]:
    """Options of the figure and their values, ascending."""
    searched = {field.name: field.search for field in tuned_fields(config)}
    return [
        (option, value)
        for option, axis in shown.axes.items()
        for value in sorted({*searched[option]["choices"], *axis.also})
    ]
