"""The cells of a bench: one after the other, or in several processes, under one bar."""

from __future__ import annotations

import multiprocessing
import sys
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import closing
from multiprocessing.context import SpawnContext
from pathlib import Path

from tqdm import tqdm

from benchmarks.execution import worker_lines, worker_process
from benchmarks.execution.cell import Cell, Results, run_cell
from benchmarks.execution.cell_progress import OutOfTimeError
from benchmarks.settings import Bench
from benchmarks.training.fit import process_rank
from benchmarks.user_errors import sendable, user_message


def run_all(
    setting: Bench, corpus: str, source: str, cells: list[Cell], jobs: int, cluster: str | None = None
) -> list[Cell]:
    """Runs cells in `jobs` processes; returns those that failed, after saying why. One job runs in this process. How
    many are left when `setting.until` has come, is said in one line.

    Args:
        cluster: address of a Ray cluster to run them on instead, as `benchmarks.execution.ray_cluster.tasks` has it.
    """
    failed, left, quiet = [], 0, not cells or process_rank(setting.hardware) > 0
    jobs = min(jobs, len(cells))
    if cluster and cells:
        from benchmarks.execution.ray_cluster import cells_in_cluster

        ended = cells_in_cluster(cluster, setting, corpus, source, cells)
    elif jobs <= 1:
        ended = _in_turn(setting, corpus, source, cells)
    else:
        ended = _in_pool(setting, corpus, source, cells, jobs)
    # Closed, for a signal may come here as well as within.
    with (
        closing(ended),
        tqdm(total=len(cells), desc="bench", unit="run", disable=True if quiet else None) as bar,
    ):
        for number, (cell, error) in enumerate(ended, start=1):
            bar.update()
            if bar.disable and not quiet:
                tqdm.write(f"{cell} has ended, {number} of {len(cells)}", file=sys.stderr)
            if isinstance(error, OutOfTimeError):
                left += 1
            elif error is not None:
                failed.append(cell)
                text = user_message(error) or "".join(traceback.format_exception(error))
                tqdm.write(f"error: {cell}: {text}", file=sys.stderr)
    if left:
        tqdm.write(f"the hours are over: {left} runs are left, with which the same command goes on", file=sys.stderr)
    return failed


def _in_turn(setting: Bench, corpus: str, source: str, cells: Iterable[Cell]) -> Results:
    for cell in cells:
        try:
            run_cell(setting, corpus, source, cell)
        except Exception as error:
            yield cell, error
        else:
            yield cell, None


def _in_worker(run: Callable[..., Path], *given: object) -> Path:
    """A run whose error reaches the process that waits for it."""
    try:
        return run(*given)
    except Exception as error:
        raise sendable(error) from None


def _in_pool(setting: Bench, corpus: str, source: str, cells: list[Cell], jobs: int) -> Results:
    context: SpawnContext = multiprocessing.get_context("spawn")
    with worker_lines.shown() as lines:
        pool = ProcessPoolExecutor(jobs, context, initializer=worker_process.begin, initargs=(lines,))
        try:
            with worker_process.postponed():
                waiting: dict[Future[Path], Cell] = {
                    pool.submit(_in_worker, run_cell, setting, corpus, source, cell): cell for cell in cells
                }
            while waiting:
                for future in wait(waiting, worker_process.WAKE_SECONDS, FIRST_COMPLETED).done:
                    yield waiting.pop(future), future.exception()
        except BaseException:
            # After an interrupt, what has not begun must not begin, and what has can be killed at any moment.
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.kill()
            raise
        pool.shutdown()
