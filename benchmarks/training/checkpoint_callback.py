"""What happens between the epochs of a training, so that it can be killed at any moment."""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.device import give_back_memory
from leaderboards.record import Stage
from models.api import Budget

# The files of a stage's folder: best weights and log when it is done, before that the trainer's last state.
BEST, DONE, LAST = "best.safetensors", "done.json", "last.ckpt"
# A state is as large as three sets of weights: to save one after every epoch costs more than a short epoch does.
SAVE_SECONDS = 60.0
# Between two lines on a stage where no bar is drawn.
LINE_SECONDS = 60.0


def save_seconds() -> float:
    """Seconds of training that a kill may cost: between two states that are saved.

    Raises:
        ValueError: the variable that sets them is no number of seconds.
    """
    given = os.environ.get("GRBENCH_SAVE_SECONDS", str(SAVE_SECONDS))
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise ValueError(f"GRBENCH_SAVE_SECONDS is {given!r}; expected a number of seconds, 0 for every epoch")
    return seconds


def derive(seed: int, *labels: object) -> int:
    """A 31-bit seed from a run's seed and labels, so that adding a stage shifts no other stage's randomness."""
    digest = hashlib.sha256(json.dumps([seed, *map(str, labels)]).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def seed_all(seed: int) -> None:
    """Of every generator that a model may draw from without naming it."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


class Watcher(pl.Callback):
    """Looks on while a stage trains, and may end it by an exception; it changes no number."""

    def known(self, stage: Stage, module: pl.LightningModule) -> None:
        """Called where the quality after an epoch is known: `stage.quality[-1]`, after `stage.epochs` epochs. A kill in
        here, or behind it, makes the epoch once more, and then this call."""

    def checked(self, stage: Stage, module: pl.LightningModule) -> None:
        """Called after `known`, and after the training's state was saved, if it was its turn."""


class CheckpointCallback(pl.callbacks.Checkpoint):
    """Checks quality, keeps the best weights and the last state, stops early, shows progress.

    Lightning runs `Checkpoint` callbacks last, when the trainer's state is complete; so a run that resumes from
    `last.ckpt` goes on exactly where an uninterrupted one would be. The best weights are part of that state. It is that
    of the first epoch that ends `save_seconds` after the state before; a kill costs what came after it.

    Attributes:
        done: what the stage has cost up to its last look; its seconds go on.
        since: losses of the epochs after it.
        best: parameters and persistent buffers of the best epoch.
    """

    def __init__(
        self,
        done: Stage,
        seed: int,
        budget: Budget,
        quality: Callable[[Any], float] | None,
        folder: Path,
        title: str,
    ) -> None:
        self.done, self.seed, self.budget, self.quality, self.folder = done, seed, budget, quality, folder
        self.title, self.clock = title, time.perf_counter()
        self.saved = self.told = self.clock
        self.best: dict[str, Tensor] = {}
        self.since: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        self._stop_clock()
        return {"done": self.done.model_dump(), "best": self.best, "since": self.since}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.done = Stage(**state_dict["done"])
        self.best, self.since = state_dict["best"], state_dict["since"]

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.clock = self.saved = time.perf_counter()
        # Killed after its last epoch, a training that lost its patience must not go on.
        trainer.should_stop = self._patience_is_lost()
        steps = int(trainer.num_training_batches)
        self.bar = tqdm(
            desc=self.title,
            total=self.budget.epochs * steps,
            initial=trainer.current_epoch * steps,
            unit="step",
            leave=False,
            # None: where there is no terminal, as in a worker, `_tell` has lines in its place.
            disable=None if trainer.is_global_zero else True,
            mininterval=0.5,
        )

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        # Randomness of an epoch depends on its number alone, so no generator state has to survive a kill.
        seed_all(derive(self.seed, "epoch", trainer.current_epoch, trainer.global_rank))
        self.loss = torch.zeros((), device=module.device)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Lightning divides a batch's loss by the batches of a step.
        self.loss += outputs["loss"] * trainer.accumulate_grad_batches
        self.bar.update()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        # Of all processes, each of which has seen its share of the batches: they stop together.
        loss = self._mean(trainer, self.loss.double() / int(trainer.num_training_batches))
        self._finite("loss", loss, epoch)
        self.since.append(loss)
        if epoch % self.budget.check_every and epoch < self.budget.epochs:
            self._save(trainer)
            return
        # What the epoch's last step did no loss has seen yet.
        largest = torch.stack([weight.detach().abs().max().double() for weight in module.parameters()]).max()
        self._finite("largest weight", float(largest), epoch)
        done = self.done
        done.losses += self.since
        self.since = []
        value = self.quality(module) if self.quality else -loss
        value = self._mean(trainer, torch.tensor(value, dtype=torch.float64, device=module.device))
        self._finite("quality", value, epoch)
        if not done.quality or value > max(done.quality):
            done.best_epoch = epoch
            self.best = {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
        done.quality.append(value)
        done.checked.append(epoch)
        done.epochs = epoch
        self._tell(trainer, f"quality {value:.4f}, best {max(done.quality):.4f}")
        trainer.should_stop = self._patience_is_lost()
        watchers = [each for each in trainer.callbacks if isinstance(each, Watcher)]  # type: ignore[attr-defined]
        for watcher in watchers:
            watcher.known(done, module)
        self._save(trainer)
        for watcher in watchers:
            watcher.checked(done, module)

    def _save(self, trainer: pl.Trainer) -> None:
        """Saves the state when its turn has come. All processes do, when the first one says so: their clocks differ."""
        if trainer.strategy.broadcast(time.perf_counter() - self.saved >= save_seconds()):
            trainer.save_checkpoint(self.folder / LAST, weights_only=False)
            give_back_memory()
            self.saved = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._stop_clock()
        self.bar.close()

    def _tell(self, trainer: pl.Trainer, quality: str) -> None:
        """How far the stage is: behind the bar, or in a line now and then."""
        now = time.perf_counter()
        self.bar.set_postfix_str(f"epoch {self.done.epochs}, {quality}", refresh=False)
        if self.bar.disable and trainer.is_global_zero and now - self.told >= LINE_SECONDS:
            self.told = now
            tqdm.write(f"{self.title}: epoch {self.done.epochs} of {self.budget.epochs}, {quality}", file=sys.stderr)

    def _mean(self, trainer: pl.Trainer, value: Tensor) -> float:
        return float(trainer.strategy.reduce(value, reduce_op="mean"))

    def _finite(self, what: str, value: float, epoch: int) -> None:
        if not math.isfinite(value):
            raise ValueError(f"the training of {self.title} has diverged: its {what} is {value} in epoch {epoch}")

    def _patience_is_lost(self) -> bool:
        return (self.done.epochs - self.done.best_epoch) // self.budget.check_every >= self.budget.patience

    def _stop_clock(self) -> None:
        now = time.perf_counter()
        self.done.seconds += now - self.clock
        self.clock = now
