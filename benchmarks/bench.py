"""The cells of a bench, in several processes, each with a progress bar of its own."""

from __future__ import annotations

import logging
import multiprocessing
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

import data_prep
from benchmarks.experiments import Experiment
from benchmarks.run import Bench, run


class Cell(NamedTuple):
    """One run that a bench is made of."""

    experiment: Experiment
    seed: int

    def __str__(self) -> str:
        return f"{self.experiment.name} seed {self.seed}"


def run_all(setting: Bench, corpus: str, source: str, cells: list[Cell], jobs: int) -> Iterator[Cell]:
    """Runs cells in `jobs` processes; yields those that failed, after saying why."""
    jobs = min(jobs, len(cells))
    if jobs == 0:
        return
    context = multiprocessing.get_context("spawn")
    tqdm.set_lock(context.RLock())
    places = context.Queue()
    for place in range(1, jobs + 1):
        places.put(place)
    pool = ProcessPoolExecutor(jobs, context, initializer=_start_worker, initargs=(places, tqdm.get_lock()))
    with pool, tqdm(total=len(cells), desc="bench", unit="run", position=0) as bar:
        waiting: dict[Future[Path], Cell] = {
            pool.submit(_run_cell, setting, corpus, source, cell): cell for cell in cells
        }
        for future in as_completed(waiting):
            bar.update()
            error = future.exception()
            if error is not None:
                tqdm.write(f"error: {waiting[future]}: {error}", file=sys.stderr)
                yield waiting[future]


_place = 0


def _start_worker(places: Any, lock: Any) -> None:
    """Each worker draws its progress bar in a line of its own."""
    global _place
    _place = places.get()
    tqdm.set_lock(lock)
    # Lightning's advice on worker processes and logging does not fit tensors that are in memory already.
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")


def _run_cell(setting: Bench, corpus: str, source: str, cell: Cell) -> Path:
    return run(setting, data_prep.load(corpus, source=source), *cell, bar_position=_place)
