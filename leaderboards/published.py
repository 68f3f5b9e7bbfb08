"""What the papers say: their tables as one long one, `published.csv`, each row with the experiment of ours it is of."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

METRICS = ("recall@5", "recall@10", "ndcg@5", "ndcg@10")


class Paper(NamedTuple):
    """What decides whether a paper's numbers can be set beside others; None or empty where that is not known.

    Attributes:
        history: most items of a history.
        beam: width of its beam search.
        trie: whether the beam was held to codes of items, `yes` or `no`.
        vectors: the item vectors behind its codes.
        split: data and split.
        source: where in the paper, or from what else, this is known.
        seen_masked: whether items of the history are left out of the ranking, `yes` or `no`.
        valid_in_training: whether the validation item is trained on before the test, `yes` or `no`.
        transcribed_by: who wrote the numbers down, where they were not read in the paper itself.
        caveat: what else forbids to set its numbers beside ours.
    """

    name: str
    history: int | None
    beam: int | None
    trie: str
    vectors: str
    split: str
    source: str
    seen_masked: str
    valid_in_training: str
    transcribed_by: str
    caveat: str

    @property
    def url(self) -> str | None:
        """Where the paper is, by the arXiv number or DOI in its name; None where it has neither."""
        if number := re.search(r"arXiv (\d{4}\.\d{5}(v\d+)?)", self.name):
            return f"https://arxiv.org/abs/{number[1]}"
        doi = re.search(r"doi (10\.[\w./]+)", self.name)
        return f"https://doi.org/{doi[1]}" if doi else None

    @property
    def short(self) -> str:
        """Its name without what stands in brackets."""
        return self.name.partition(" (")[0]


@cache
def papers() -> dict[str, Paper]:
    """The papers of `published` by name; of those that state the same numbers of a model the first is their source."""
    frame = pd.read_csv(Path(__file__).with_name("papers.csv"), keep_default_na=False, dtype="str")
    rows = [Paper(*row) for row in frame.itertuples(index=False)]
    return {
        row.name: row._replace(history=int(row.history or 0) or None, beam=int(row.beam or 0) or None) for row in rows
    }


@cache
def published() -> pd.DataFrame:
    """One row per number, in the papers' order.

    Returns:
        Columns `paper`, `table`, `kind` (main, ablation, reproduction), `corpus` (our name of the dataset),
        `experiment` (ours that the row is of: one, several with spaces between, or none), `model` (the paper's name),
        `loss` (that of a baseline as `models.parts.losses.Loss`, where it is known), `metric`, `value`, `note` (what a
        reader of the number must know).
    """
    file = Path(__file__).with_name("published.csv")
    texts = dict.fromkeys(("table", "experiment", "loss", "note"), "str")
    frame = pd.read_csv(file, keep_default_na=False, dtype=texts)
    frame["dataset"] = frame["dataset"].str.lower()
    return frame.rename(columns={"dataset": "corpus"})


def rows(experiment: str, corpus: str | None = None) -> pd.DataFrame:
    """Those rows of `published` that an experiment stands for, on one corpus or on all."""
    frame = published()
    chosen = frame["experiment"].str.split().map(lambda names: experiment in names)
    return frame[chosen if corpus is None else chosen & (frame["corpus"] == corpus)]


@cache
def stated(experiment: str, corpus: str) -> pd.DataFrame:
    """What papers state of an experiment on a corpus, in the order of `published`.

    Returns:
        One row per set of numbers: `papers` that state it (an array), the `loss` behind it, empty where it is not
        known, and `METRICS`, NaN where one is missing.
    """
    found = rows(experiment, corpus)
    wide = found.pivot_table("value", ["paper", "table", "model", "loss"], "metric", sort=False)
    lines = wide.reindex(columns=list(METRICS)).reset_index()
    records = lines.to_dict("records")
    again = [any(_is_part(line, other) for other in records) for line in records]
    alike = lines[~np.array(again, dtype=bool)].groupby(["loss", *METRICS], sort=False, dropna=False)["paper"]
    return alike.unique().rename("papers").reset_index()[["papers", "loss", *METRICS]]


def leads() -> pd.DataFrame:
    """How far each model of a paper's table is ahead of the next one; of tables of three models and more.

    Returns:
        Columns `kind`, `metric`, `paper`, and `lead`, in shares of the lower number.
    """
    ordered = published().sort_values("value", ascending=False)
    of_tables = ordered.groupby(["kind", "metric", "paper", "table", "corpus"])["value"]
    ordered["lead"] = ordered["value"] / of_tables.shift(-1) - 1
    return ordered[of_tables.transform("size") >= 3].dropna(subset="lead")[["kind", "metric", "paper", "lead"]]


def _is_part(line: dict[Hashable, Any], other: dict[Hashable, Any]) -> bool:
    """Whether another line of the same paper has all of a line's numbers and more; tables of ablations repeat some."""
    known, others = ([metric for metric in METRICS if not math.isnan(of[metric])] for of in (line, other))
    more = line["paper"] == other["paper"] and len(others) > len(known)
    return more and all(line[metric] == other[metric] for metric in known)


def utilisation(corpus: str) -> dict[str, list[float]]:
    """Shares of the codes in use that papers state of a corpus (DECOR's table 3): by method, one of each level."""
    frame = pd.read_csv(Path(__file__).with_name("published_utilisation.csv"))
    found = frame[frame["dataset"].str.lower() == corpus].groupby("method", sort=False)["share"]
    return {f"{method} (published)": shares.tolist() for method, shares in found}
