"""Models, experiments and corpora, as `python -m benchmarks list` prints them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from typing import Any

from tabulate import tabulate

import data_prep
from benchmarks import experiments
from benchmarks.config import described
from data_prep.corpus import COLD_ITEMS, GLOBAL_TIME, SHUFFLED_TIES
from leaderboards.published import stated

# The corpus whose published numbers stand beside the experiments, and those that have a table of their own.
LISTED = "musical_instruments"
MORE = ("beauty_2014", "toys_2014")
NUMBERS = ("R@5", "R@10", "N@5", "N@10")


def listing() -> str:
    """What can be run, and what papers say of it."""
    lines: list[list[Any]] = []
    for name in experiments.names():
        variant = experiments.variant(name)
        changed = [variant.description, described(variant.changes())]
        first = [name, variant.model, "; ".join(filter(None, changed))]
        said = _said(name, LISTED)
        # tabulate counts the columns of the first line.
        nothing = [None] * (1 + len(NUMBERS))
        lines += [[*first, *said[0]], *(["", "", "", *more] for more in said[1:])] if said else [[*first, *nothing]]
    columns = ("Experiment", "Model", "Changed", f"Papers on {LISTED}", *NUMBERS)
    table = tabulate(lines, columns, floatfmt=".4f", maxcolwidths=[None, None, 30], disable_numparse=[0, 1, 2, 3])
    unseen = f"Any name may end in {experiments.UNSEEN}: graded on users that the model never saw."
    tables = "\n\n".join([table, *map(_papers_on, MORE)])
    ties = f"with {SHUFFLED_TIES} behind a name items at equal times are in a drawn order"
    cut = f"with {GLOBAL_TIME} all are trained on what came before one moment and graded on what came after"
    cold = f"with {COLD_ITEMS} the targets are items that no model has seen"
    tracks = f"{cold}; where times are known, {ties}, {cut}"
    corpora = textwrap.fill(f"Corpora: {', '.join(data_prep.names())}; {tracks}.", 120)
    return f"{tables}\n\n{unseen}\n{corpora}"


def _papers_on(corpus: str) -> str:
    """The experiments that papers state numbers of on a corpus."""
    found = [(name, _said(name, corpus)) for name in experiments.names()]
    lines = [[name if not place else "", *said] for name, all_said in found for place, said in enumerate(all_said)]
    return tabulate(lines, ("Experiment", f"Papers on {corpus}", *NUMBERS), floatfmt=".4f", disable_numparse=[0, 1])


def _said(experiment: str, corpus: str) -> list[list[Any]]:
    """What papers state of an experiment on a corpus: a line per set of numbers, None where one is missing."""
    lines = stated(experiment, corpus).astype(object)
    return [[_short(papers, loss), *numbers] for papers, loss, *numbers in lines.where(lines.notna(), None).to_numpy()]


def _short(papers: Iterable[str], loss: str) -> str:
    """`ETEGRec (SIGIR 2025, arXiv 2409.05546v3)` -> `ETEGRec (SIGIR)`; with a baseline's loss, where it is known."""
    return ", ".join([*(re.sub(r"\((\w+).*", r"(\1)", paper) for paper in papers), *[f"loss {loss}"] * bool(loss)])
