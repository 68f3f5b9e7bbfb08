"""The cells of a bench: one after the other, or in several processes, each with a progress bar of its own."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing.context import SpawnContext
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

import data_prep
from benchmarks import terminal, tracking
from benchmarks.errors import sentence
from benchmarks.experiments import Experiment
from benchmarks.fit import process_rank
from benchmarks.progress import OutOfTimeError
from benchmarks.run import Bench, run


class Cell(NamedTuple):
    """One run that a bench is made of."""

    experiment: Experiment
    seed: int

    def __str__(self) -> str:
        return f"{self.experiment.name} seed {self.seed}"


Ended = tuple[Cell, BaseException | None]


def run_all(
    setting: Bench, corpus: str, source: str, cells: list[Cell], jobs: int, cluster: str | None = None
) -> list[Cell]:
    """Runs cells in `jobs` processes; returns those that failed, after saying why. One job runs in this process. How
    many are left when `setting.until` has come, is said in one line.

    Args:
        cluster: address of a Ray cluster to run them on instead, as `benchmarks.cluster.tasks` has it.
    """
    failed, left, quiet = [], 0, not cells or process_rank() > 0
    jobs = min(jobs, len(cells))
    if cluster and cells:
        from benchmarks.cluster import cells_in_cluster

        ended = cells_in_cluster(cluster, setting, corpus, source, cells)
    elif jobs <= 1:
        ended = _in_turn(setting, corpus, source, cells)
    else:
        ended = _in_pool(setting, corpus, source, cells, jobs)
    for cell, error in tqdm(ended, total=len(cells), desc="bench", unit="run", position=0, disable=quiet):
        if isinstance(error, OutOfTimeError):
            left += 1
        elif error is not None:
            failed.append(cell)
            text = sentence(error) or "".join(traceback.format_exception(error))
            tqdm.write(f"error: {cell}: {text}", file=sys.stderr)
    if left:
        tqdm.write(f"the hours are over: {left} runs are left, with which the same command goes on", file=sys.stderr)
    return failed


def _in_turn(setting: Bench, corpus: str, source: str, cells: Iterable[Cell]) -> Iterator[Ended]:
    hush()
    for cell in cells:
        try:
            run_cell(setting, corpus, source, cell)
        except Exception as error:
            yield cell, error
        else:
            yield cell, None


def _in_pool(setting: Bench, corpus: str, source: str, cells: list[Cell], jobs: int) -> Iterator[Ended]:
    context: SpawnContext = multiprocessing.get_context("spawn")
    terminal.join(setting.work)
    places = context.Queue()
    for place in range(1, jobs + 1):
        places.put(place)
    with ProcessPoolExecutor(jobs, context, initializer=_start_worker, initargs=(places, setting.work)) as pool:
        waiting: dict[Future[Path], Cell] = {
            pool.submit(run_cell, setting, corpus, source, cell): cell for cell in cells
        }
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.exception()
        except BaseException:
            # After an interrupt, what has not begun must not begin, and what has can be killed at any moment.
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.kill()
            raise


# The line of the terminal where this process draws its progress bar; the bench's own is line 0.
_place = 1


def _start_worker(places: Any, work: Path) -> None:
    global _place
    _place = places.get()
    terminal.join(work)
    # Ctrl-C ends a worker at once: a training can be killed at any moment, and Lightning would only skip to the next.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    hush()


def hush() -> None:
    """Lightning's advice on worker processes and loggers does not fit tensors that are in memory already."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")


def run_cell(setting: Bench, corpus: str, source: str, cell: Cell) -> Path:
    """Runs a cell in this process; returns where its record lies."""
    loaded = data_prep.load(corpus, source=source)
    with tracking.follow(setting, loaded, *cell) as tracker:
        path = run(setting, loaded, *cell, bar_position=_place, watch=tracker.watch)
        tracker.record(path)
    return path
