"""A cell of a bench: one experiment under one seed, run in this process."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

from benchmarks.experiments import Experiment
from benchmarks.resolved_row import resolve
from benchmarks.run import run_seed
from benchmarks.settings import Bench, prepared
from benchmarks.tracking import wandb_run
from benchmarks.user_errors import tell_place


class Cell(NamedTuple):
    """One run that a bench is made of."""

    experiment: Experiment
    seed: int

    def __str__(self) -> str:
        return f"{self.experiment.name} seed {self.seed}"


Ended = tuple[Cell, BaseException | None]
Results = Generator[Ended, None, None]


def run_cell(setting: Bench, corpus: str, source: str, cell: Cell) -> Path:
    """Runs a cell in this process; returns where its record lies."""
    silence_lightning()
    try:
        row = resolve(setting, prepared(setting.work, corpus, source), cell.experiment)
        with wandb_run.follow(row, cell.seed) as tracker:
            path = run_seed(row, cell.seed, watch=tracker.watch)
            tracker.record(path)
    except Exception as error:
        tell_place(error)
        raise
    return path


def silence_lightning() -> None:
    """Lightning's advice on worker processes and loggers does not fit tensors that are in memory already."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
