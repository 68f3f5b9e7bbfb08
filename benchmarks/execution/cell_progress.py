"""How far a cell has come, in a small file beside its lock, for whoever asks from another process; and when
it must stop."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError
from typing_extensions import override

from benchmarks.training.checkpoint_callback import Watcher
from data_prep.atomic import write_json
from leaderboards.record import Stage


@dataclass(frozen=True)
class Progress:
    """Attributes: stage; epochs that it has trained; of, at most so many; seconds that they took."""

    stage: str
    epochs: int
    of: int
    seconds: float

    @property
    def left(self) -> float:
        """Seconds until the stage ends at the latest."""
        return (self.of - self.epochs) * self.seconds / max(1, self.epochs)


@dataclass(frozen=True)
class Place:
    """The files of a cell in the folder of trainings.

    Attributes:
        stem: their common beginning, of the row's key and the seed.
    """

    stem: Path

    @property
    def lock(self) -> Path:
        """As `benchmarks.training.fit.exclusive_lock` takes it, which puts the process's rank behind it."""
        return self.stem

    @property
    def file(self) -> Path:
        return self.stem.with_name(f"{self.stem.name}.json")

    def read(self) -> Progress | None:
        """None where nothing has been told yet."""
        try:
            return TypeAdapter(Progress).validate_python(json.loads(self.file.read_bytes()))
        except (FileNotFoundError, ValueError, ValidationError):
            return None

    def running(self) -> bool:
        """Whether a living process of this machine works on the cell."""
        lock = self.stem.with_name(f"{self.stem.name}-0")
        if not lock.exists():
            return False
        try:
            with FileLock(lock, blocking=False):
                return False
        except Timeout:
            return True


class Reporter(Watcher):
    """Tells how far a stage has come after every look, and ends it when its time is over."""

    def __init__(self, place: Place, until: float | None) -> None:
        """`until`: in seconds since the epoch; None: as long as it takes."""
        self.place, self.until = place, until
        self.began = time.monotonic()

    @override
    def checked(self, stage: Stage, module: pl.LightningModule) -> None:
        seconds = max(stage.seconds, time.monotonic() - self.began)
        told = Progress(stage.name, stage.epochs, int(module.trainer.max_epochs or stage.epochs), seconds)
        write_json(self.place.file, dataclasses.asdict(told))
        in_time(self.until)


class OutOfTimeError(TimeoutError):
    """A cell has been ended, or not begun, because its hours are over."""


def in_time(until: float | None) -> None:
    """
    Raises:
        OutOfTimeError: the time is over.
    """
    if until is not None and time.time() >= until:
        raise OutOfTimeError("its hours are over")
