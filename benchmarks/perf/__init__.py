"""Speed in pairs: our path beside what one would use without it, in turn, on one machine and the same data.

`python -m benchmarks perf [--only NAME ...]` measures them, prints a table and writes `runs/perf/latest.json`.
"""

from __future__ import annotations

import importlib
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from data_prep.atomic import write_json

# Name -> module of this package in which a function of that name measures it; imported when its turn comes.
PAIRS = {
    "rank_cpu": "rank",
    "rank_decor_cpu": "rank",
    "catalogue": "catalogue",
    "train_cpu": "train",
    "huge_pages": "train",
    "step_cpu": "step",
    "loss_cpu": "loss",
    "filters_cpu": "filters",
    "stage_overhead": "find",
    "track_cpu": "track",
    "grade": "grade",
    "kcore": "kcore",
    "rank_cuda": "rank",
    "train_cuda": "train",
}
# Of the module `rank` as well; what is measured is one row's, not everybody's.
OF_A_ROW = "rank_row"
NEED_GPU = ("rank_cuda", "train_cuda")
NOTE_COLUMNS = 70


@dataclass(frozen=True)
class Pair:
    """Attributes: ours and baseline, medians in `unit`; ratio, how many times better ours is; note, on the baseline."""

    name: str
    ours: float
    baseline: float
    ratio: float
    unit: str
    note: str


class Turns(NamedTuple):
    """What the two sides of a pair measured, one value per repetition."""

    ours: list[float]
    baseline: list[float]


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turn(ours: Callable[[], float], baseline: Callable[[], float], repeats: int) -> Turns:
    """Both sides alternately, each first in every other turn, so that a change of the machine's pace meets both; each
    returns what it measured."""
    turns = Turns([], [])
    for number in range(repeats):
        sides = [(turns.ours, ours), (turns.baseline, baseline)]
        for measured, side in sides if number % 2 == 0 else reversed(sides):
            measured.append(side())
    return turns


def pair(name: str, turns: Turns, unit: str, note: str) -> Pair:
    """The medians of `turns`, with their spread behind `note`.

    Args:
        unit: a rate, which ends in `/s`, is better the larger it is; all else (`s`, `GiB`) the smaller.
        note: what the baseline is.
    """
    ours, baseline = (statistics.median(side) for side in turns)
    ratio = ours / baseline if unit.endswith("/s") else baseline / ours
    spread = ", ".join(f"{side} {min(of):.4g}..{max(of):.4g}" for side, of in turns._asdict().items())
    repeats = f"median of {len(turns.ours)} ({spread})" if len(turns.ours) > 1 else "measured once"
    return Pair(name, ours, baseline, ratio, unit, f"{note}; {repeats}")


def run(only: Sequence[str], path: Path, row: Path | None = None, vectors_path: Path | None = None) -> None:
    """Measures the pairs named `only`, or all that this machine can, on all its cores; prints them.

    Args:
        row: a record, whose model's ranking is timed instead.
        vectors_path: the item vectors that it was given, where they came from a file or a folder.
        path: file of the JSON list of pairs, rewritten after each name: it holds what this run measured.

    Raises:
        ValueError: a name is none of `PAIRS`, needs a GPU where there is none, or the sides of a pair disagree.
    """
    import torch

    from benchmarks.execution.cell import silence_lightning

    silence_lightning()
    names = _names(only, torch.cuda.is_available()) if row is None else [OF_A_ROW]
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    print(_machine())
    pairs: list[Pair] = []
    for name in names:
        print(f"measuring {name}", flush=True)
        measure = getattr(importlib.import_module(f"{__name__}.{PAIRS.get(name, 'rank')}"), name)
        pairs += measure() if row is None else measure(row, vectors_path)
        write_json(path, [asdict(made) for made in pairs])
    rows = [
        [made.name, f"{made.ours:.4g}", f"{made.baseline:.4g}", f"x{made.ratio:.3g}", made.unit, made.note]
        for made in pairs
    ]
    align = ["left", "right", "right", "right", "left", "left"]
    widths = [*[None] * 5, NOTE_COLUMNS]
    print("\n" + tabulate(rows, list(Pair.__annotations__), disable_numparse=True, colalign=align, maxcolwidths=widths))
    print(f"\nwritten: {path}")


def _names(only: Sequence[str], gpu: bool) -> list[str]:
    """The names to measure; says which are left out."""
    if unknown := [name for name in only if name not in PAIRS]:
        raise ValueError(f"no pair {unknown[0]!r}; possible: {', '.join(PAIRS)}")
    names = list(only or PAIRS)
    left_out = [] if gpu else [name for name in names if name in NEED_GPU]
    if only and left_out:
        possible = ", ".join(name for name in PAIRS if name not in NEED_GPU)
        raise ValueError(f"{left_out[0]} needs a GPU and torch finds none; without one: {possible}")
    if left_out:
        print("left out, since torch finds no GPU: " + ", ".join(left_out))
    return [name for name in names if name not in left_out]


def _machine() -> str:
    """The line above all figures: threads, processor, GPU, versions."""
    import torch

    from benchmarks import provenance
    from benchmarks.hardware import Hardware

    facts = provenance.of(Hardware("cpu", threads=torch.get_num_threads()))
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    versions = ", ".join(f"{library} {version}" for library, version in facts.versions.items())
    return f"{facts.threads} threads of {facts.device}{gpu}; Python {facts.python}, {versions}"
