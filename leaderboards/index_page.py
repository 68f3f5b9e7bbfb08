"""A page over all corpora of a board: which model has which NDCG@10 where, by its tables and their records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from leaderboards import formats, ledger, templates
from leaderboards.board_table import RANKED
from leaderboards.store import read

NAME = "index.html"


class Place(NamedTuple):
    """The best-known row of a model on a corpus.

    Attributes:
        ndcg: its NDCG@10.
        seeds: how many there are.
        address: of the row on the page of its corpus.
        best: no row of that corpus has more, to the digits that are shown.
    """

    ndcg: float
    seeds: int
    address: str
    best: bool


def html(folder: Path, corpora: Mapping[str, str]) -> str:
    """
    Args:
        folder: of the board.
        corpora: name -> file name of its page, for each with a table `<corpus>.csv` in that folder.

    Raises:
        ValueError: a table is damaged, or not that of the records.
    """
    found = {corpus: _places(folder, corpus, file) for corpus, file in corpora.items()}
    models = {model for places in found.values() for model in places}
    # Models that are on many corpora first, of these the better ones.
    order = sorted(models, key=lambda model: (-sum(model in of for of in found.values()), -_best(found, model), model))
    return templates.render(
        "index.html.j2",
        board=folder.resolve().name,
        corpora=corpora,
        models=[(model, [places.get(model) for places in found.values()]) for model in order],
        others=sorted(
            {path.parent.name for path in folder.resolve().parent.glob(f"v*/{NAME}")} - {folder.resolve().name}
        ),
        formats=formats,
    )


def _places(folder: Path, corpus: str, page: str) -> dict[str, Place]:
    """By experiment."""
    # A key of digits is no number, and a model called null is one.
    table = folder / f"{corpus}.csv"
    texts = dict.fromkeys(("experiment", "model", "key"), "str")
    frame = pd.read_csv(table, dtype=texts, keep_default_na=False, na_values=[""])
    missing = {"experiment", "model", "key", "standing", "ndcg@10"} - set(frame.columns)
    if missing:
        raise ValueError(f"{table} has no column {', '.join(sorted(missing))}; `make board` renders it")
    ranked = frame[frame["standing"] == RANKED].sort_values("ndcg@10", ascending=False, kind="stable")
    found = dict[str, Place]()
    for row in ranked.drop_duplicates("experiment").to_dict("records"):
        # A table rounds to other digits than a page.
        files = ledger.matching(folder, f"{corpus}/{row['model']}/{row['key']}/seed-*.json")
        if not files:
            raise ValueError(
                f"{table} has {row['model']}/{row['key']}, of which no record is there; `make board` renders it"
            )
        ndcg = float(np.mean([read(file).test["ndcg@10"] for file in files]))
        address = f"{page}#{row['model']}-{row['key']}"
        found[row["experiment"]] = Place(ndcg, len(files), address, best=False)
    most = formats.plain(max((place.ndcg for place in found.values()), default=0.0))
    return {name: place._replace(best=formats.plain(place.ndcg) == most) for name, place in found.items()}


def _best(found: Mapping[str, Mapping[str, Place]], model: str) -> float:
    return max(places[model].ndcg for places in found.values() if model in places)
