"""Optimizers with the schedules that the papers use."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import nn

Schedule = Literal["constant", "linear", "cosine", "inverse-sqrt", "hold"]
"""`hold` is T5's own: no warm-up, but the rate is held for as many steps, and falls by 1/sqrt(step) after them."""


def factor(step: int, schedule: Schedule, warmup: int, total: int) -> float:
    """Learning-rate factor at a 0-based step: linear warm-up, then constant, to 0 in a line or a cosine, or
    1/sqrt(step)."""
    if step < warmup:
        return 1.0 if schedule == "hold" else (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    if schedule == "linear":
        return 1.0 - progress
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    if schedule in ("inverse-sqrt", "hold"):
        return math.sqrt(max(1, warmup) / (step + 1))
    return 1.0


@dataclass(frozen=True)
class Turns:
    """Cosine factors of two sides that learn by turns: one has the first epoch of each cycle, the second the others.

    Each counts the steps of its own turns. As in ETEGRec's code, the first has a cycle's share of warm-up and length,
    the second the length of all steps, of which it takes a part. With a cycle of 1 both learn in every step.
    """

    cycle: int
    warmup: int
    total: int
    steps_per_epoch: int

    def first(self, step: int) -> float:
        return factor(self._of_first(step), "cosine", self.warmup // self.cycle, self.total // self.cycle)

    def second(self, step: int) -> float:
        taken = step - self._of_first(step) if self.cycle > 1 else step
        return factor(taken, "cosine", self.warmup, self.total)

    def _of_first(self, step: int) -> int:
        """Steps that the first side has taken before this one."""
        epoch, within = divmod(step, self.steps_per_epoch)
        cycle, turn = divmod(epoch, self.cycle)
        return cycle * self.steps_per_epoch + (self.steps_per_epoch if turn else within)


def adamw(
    module: pl.LightningModule,
    lr: float,
    weight_decay: float,
    schedule: Schedule = "constant",
    warmup: int = 0,
    own_lr: Mapping[nn.Module, float] | None = None,
    betas: tuple[float, float] = (0.9, 0.999),
) -> Any:
    """AdamW over the trainable parameters, stepped per batch; `warmup` is in steps. For `configure_optimizers`.

    Args:
        own_lr: submodules whose parameters have another learning rate.
        betas: decay of the running means of the gradient and of its square.
    """
    own = {weight: rate for part, rate in (own_lr or {}).items() for weight in part.parameters()}
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    rates = {rate: [weight for weight in weights if own.get(weight, lr) == rate] for rate in (lr, *own.values())}
    groups = [{"params": group, "lr": rate} for rate, group in rates.items() if group]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)
    total = int(module.trainer.estimated_stepping_batches)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step, schedule, warmup, total))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
