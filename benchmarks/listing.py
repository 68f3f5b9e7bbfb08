"""Models, experiments and corpora, as `python -m benchmarks list` prints them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from typing import Any

from tabulate import tabulate

import data_prep
from benchmarks import experiments
from leaderboards.published import stated

# The corpus of whose published numbers those are shown that papers state.
LISTED = "musical_instruments"


def listing() -> str:
    """What can be run, and what papers say of it."""
    lines: list[list[Any]] = []
    for name in experiments.names():
        variant = experiments.variant(name)
        changed = [variant.description, experiments.described(variant.changes())]
        first = [name, variant.model, "; ".join(filter(None, changed))]
        papers_say = stated(name, LISTED).astype(object)
        said = [
            [_short(papers), *numbers] for papers, *numbers in papers_say.where(papers_say.notna(), None).to_numpy()
        ]
        lines += [[*first, *said[0]], *(["", "", "", *more] for more in said[1:])] if said else [first]
    columns = ("Experiment", "Model", "Changed", f"Papers on {LISTED}", "R@5", "R@10", "N@5", "N@10")
    table = tabulate(lines, columns, floatfmt=".4f", maxcolwidths=[None, None, 37], disable_numparse=[0, 1, 2, 3])
    unseen = f"Any name may end in {experiments.UNSEEN}: graded on users that the model never saw."
    return f"{table}\n\n{unseen}\n" + textwrap.fill(f"Corpora: {', '.join(data_prep.names())}", 120)


def _short(papers: Iterable[str]) -> str:
    """`ETEGRec (SIGIR 2025, arXiv 2409.05546v3)` -> `ETEGRec (SIGIR)`."""
    return ", ".join(re.sub(r"\((\w+).*", r"(\1)", paper) for paper in papers)
