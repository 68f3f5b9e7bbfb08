"""What is measured of a stage while it trains. Measuring changes no number."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, Protocol, runtime_checkable

import pytorch_lightning as pl
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from benchmarks.device import peak_memory_bytes
from benchmarks.tracking.metric_names import EPOCH, STEP
from benchmarks.training.checkpoint_callback import Watcher
from leaderboards.record import Stage
from models.parts.index import ItemIndex

# Seconds between two readings while a stage trains. A reading waits for the device, and costs time.
EVERY = 1.0

P = ParamSpec("P")


@runtime_checkable
class Logger(Protocol):
    """Where readings go.

    Attributes:
        is_on: whether anyone still takes them.
    """

    is_on: bool

    def log(self, values: Mapping[str, int | float]) -> None:
        """Takes values by their names."""
        ...

    def fail(self, reason: object) -> None:
        """Measuring has failed; there will be no more."""
        ...


def _harmless(hook: Callable[Concatenate[Any, P], None]) -> Callable[Concatenate[Any, P], None]:
    """A training does not fail because it cannot be measured."""

    @functools.wraps(hook)
    def tried(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if not self.logger.is_on:
            return
        try:
            hook(self, *args, **kwargs)
        except Exception as error:
            self.logger.fail(f"{type(error).__name__}: {error}")

    return tried


@dataclass
class MetricsWindow:
    """What has been gathered since the last reading; the loss, on the device, is a sum over batches."""

    loss: Tensor | float = 0.0
    gradient_norm: Tensor | None = None
    batches: int = 0
    samples: int = 0
    seconds: float = 0.0


class TrainingMetrics(Watcher):
    """Logs what `METRICS` names, at most every so many seconds and whenever quality is looked at.

    Between two readings nothing is asked of the device.
    """

    def __init__(self, stage: str, logger: Logger, every: float = EVERY) -> None:
        self.stage, self.logger, self.every = stage, logger, every
        self.window, self.read_at = MetricsWindow(), -math.inf
        self.clock = 0.0
        self.codes: Tensor | None = None

    @_harmless
    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        # Of a training that goes on, the codes as they were at its last check.
        self.codes = codes_of(module)

    @_harmless
    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.clock = time.perf_counter()

    @_harmless
    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        # Before the check, whose time is not the training's.
        self._stop_clock()

    @_harmless
    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: Any) -> None:
        if time.perf_counter() - self.read_at >= self.every:
            gradients = [weight.grad for weight in module.parameters() if weight.grad is not None]
            self.window.gradient_norm = torch.nn.utils.get_total_norm(gradients)

    @_harmless
    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        window = self.window
        window.loss = window.loss + outputs["loss"]
        window.batches += 1
        window.samples += len(batch.target)
        if window.gradient_norm is not None:
            # Waits for the device, so that the time is that of what it has done.
            window.loss = float(window.loss)
            self._stop_clock()
            self._log(trainer, trainer.current_epoch + 1, self._read(trainer, module))

    @_harmless
    def checked(self, stage: Stage, module: pl.LightningModule) -> None:
        trainer = module.trainer
        read = self._read(trainer, module) if self.window.batches else {}
        self._log(trainer, stage.epochs, read | {"quality": stage.quality[-1]} | self._facts(module))

    def _read(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, float]:
        """The window's figures; the next one begins."""
        window = self.window
        # Lightning divides a batch's loss by the batches of a step.
        loss = float(window.loss) * trainer.accumulate_grad_batches / window.batches
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        read = {
            "loss": loss,
            "samples_per_second": window.samples * trainer.world_size / window.seconds,
            "peak_memory_bytes": float(peak_memory_bytes(str(module.device))),
            **{f"lr/{place}": float(group["lr"]) for place, group in enumerate(groups, start=1)},
        }
        if window.gradient_norm is not None:
            read["gradient_norm"] = float(window.gradient_norm)
        self.window, self.read_at = MetricsWindow(), time.perf_counter()
        return read

    def _stop_clock(self) -> None:
        now = time.perf_counter()
        self.window.seconds += now - self.clock
        self.clock = now

    def _facts(self, module: pl.LightningModule) -> dict[str, float]:
        """About the codes, where the module has some, and how many items have others than at the last check."""
        codes, before = codes_of(module), self.codes
        if codes is None or before is None:
            return {}
        self.codes = codes
        return facts(card_of(module, codes)) | {"codes/churn": float((codes != before).any(1).float().mean())}

    def _log(self, trainer: pl.Trainer, epoch: int, values: dict[str, float]) -> None:
        counted = {STEP: trainer.global_step, EPOCH: epoch}
        self.logger.log(counted | {f"{self.stage}/{name}": value for name, value in values.items()})


def codes_of(module: Any) -> Int[Tensor, "N L"] | None:
    """Codes of items 1..N: those a recommender generates, of each item its first sequence, or a tokenizer's own."""
    index = getattr(getattr(module, "generator", None), "index", None)
    if isinstance(index, ItemIndex):
        return index.codes[1:, 0].clone()
    return module.item_codes().clone() if hasattr(module, "item_codes") else None


def card_of(module: Any, codes: Int[Tensor, "N L"]) -> dict[str, Any]:
    """The code card of a recommender, or of what a tokenizer gives before any repair."""
    if hasattr(module, "generator"):
        return dict(module.generator.card())
    return ItemIndex(F.pad(codes, (0, 0, 1, 0), value=-1), module.quantizer.sizes).card()


def facts(card: dict[str, Any]) -> dict[str, float]:
    """What of a code card is worth a curve."""
    found = {f"codes/{name}": float(card[name]) for name in ("duplicates_before", "duplicates_after")}
    for name in ("utilisation", "entropy"):
        found |= {f"codes/{name}/{level}": float(value) for level, value in enumerate(card[name], start=1)}
    return found
