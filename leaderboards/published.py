"""What the papers say: their tables as one long one, `published.csv`, each row with the experiment of ours it is of."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

METRICS = ("recall@5", "recall@10", "ndcg@5", "ndcg@10")


class Paper(NamedTuple):
    """What decides whether a paper's numbers can be set beside others; None or empty where it does not say.

    Attributes:
        history: most items of a history.
        beam: width of its beam search.
        trie: whether the beam was held to codes of items, `yes` or `no`.
        vectors: the item vectors behind its codes.
        split: data and split.
        source: where in the paper, or from what else, this is known.
    """

    name: str
    history: int | None
    beam: int | None
    trie: str
    vectors: str
    split: str
    source: str


@cache
def papers() -> dict[str, Paper]:
    """The papers of `published` by name."""
    frame = pd.read_csv(Path(__file__).with_name("papers.csv"), keep_default_na=False, dtype="str")
    rows = [Paper(*row) for row in frame.itertuples(index=False)]
    return {
        row.name: row._replace(history=int(row.history or 0) or None, beam=int(row.beam or 0) or None) for row in rows
    }


@cache
def published() -> pd.DataFrame:
    """One row per number, in the papers' order.

    Returns:
        Columns `paper`, `table`, `kind` (main, ablation), `corpus` (our name of the dataset), `experiment` (ours, empty
        where none stands for the row), `model` (the paper's name), `metric`, `value`.
    """
    file = Path(__file__).with_name("published.csv")
    frame = pd.read_csv(file, keep_default_na=False, dtype=dict.fromkeys(("table", "experiment"), "str"))
    frame["dataset"] = frame["dataset"].str.lower()
    return frame.rename(columns={"dataset": "corpus"})


def rows(experiment: str, corpus: str | None = None) -> pd.DataFrame:
    """Those rows of `published` that an experiment stands for, on one corpus or on all."""
    frame = published()
    chosen = (frame["experiment"] == experiment) & (experiment != "")
    return frame[chosen if corpus is None else chosen & (frame["corpus"] == corpus)]


def stated(experiment: str, corpus: str) -> pd.DataFrame:
    """What papers state of an experiment on a corpus, in the order of `published`.

    Returns:
        One row per set of numbers: `papers` that state it (an array), and `METRICS`, NaN where one is missing.
    """
    found = rows(experiment, corpus)
    tables = found.pivot_table("value", ["paper", "table"], "metric", sort=False).reindex(columns=list(METRICS))
    alike = tables.reset_index().groupby(list(METRICS), sort=False, dropna=False)["paper"]
    return alike.unique().rename("papers").reset_index()[["papers", *METRICS]]


def utilisation(corpus: str) -> dict[str, list[float]]:
    """Shares of the codes in use that papers state of a corpus (DECOR's table 3): by method, one of each level."""
    frame = pd.read_csv(Path(__file__).with_name("published_utilisation.csv"))
    found = frame[frame["dataset"].str.lower() == corpus].groupby("method", sort=False)["share"]
    return {f"{method} (published)": shares.tolist() for method, shares in found}
