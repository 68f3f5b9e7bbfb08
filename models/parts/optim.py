"""Optimizers with the schedules that the papers use."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import nn

Schedule = Literal["constant", "linear", "cosine", "inverse-sqrt", "hold", "trapezoid"]
"""`hold` is T5's own: no warm-up, but the rate is held for as many steps, and falls by 1/sqrt(step) after them.
`trapezoid` stays constant and falls to 0 in a line over the last `COOLDOWN` of all steps (Hägele et al., arXiv
2405.18392): for trainings that are shorter than their recipe's."""
COOLDOWN = 0.2


def factor(step: int, schedule: Schedule, warmup: int, total: int) -> float:
    """Learning-rate factor at a 0-based step: linear warm-up, then constant, to 0 in a line or a cosine, 1/sqrt(step),
    or constant and at last to 0 in a line."""
    if step < warmup:
        return 1.0 if schedule == "hold" else (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    if schedule == "linear":
        return 1.0 - progress
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    if schedule == "trapezoid":
        return min(1.0, max(0, total - step) / (COOLDOWN * total))
    if schedule in ("inverse-sqrt", "hold"):
        return math.sqrt(max(1, warmup) / (step + 1))
    return 1.0


@dataclass(frozen=True)
class AlternatingSchedule:
    """Cosine factors of two parameter groups trained in alternation: the first in the first epoch of each cycle, the
    second in the cycle's other epochs. With a cycle of 1 both are trained in every step.

    Each group counts its own steps only. As in ETEGRec's code, warm-up and length are divided by the cycle for the
    first; the second has those of all steps, although it takes only a part of them.

    Attributes:
        cycle: epochs.
        warmup, total: steps.
    """

    cycle: int
    warmup: int
    total: int
    steps_per_epoch: int

    def first(self, step: int) -> float:
        return factor(self._first_steps(step), "cosine", self.warmup // self.cycle, self.total // self.cycle)

    def second(self, step: int) -> float:
        own_steps = step - self._first_steps(step) if self.cycle > 1 else step
        return factor(own_steps, "cosine", self.warmup, self.total)

    def _first_steps(self, step: int) -> int:
        """Steps of the first group among the first `step` steps of training."""
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        cycles, epoch_in_cycle = divmod(epoch, self.cycle)
        in_this_cycle = step_in_epoch if epoch_in_cycle == 0 else self.steps_per_epoch
        return cycles * self.steps_per_epoch + in_this_cycle


def adamw(
    module: pl.LightningModule,
    lr: float,
    weight_decay: float,
    schedule: Schedule = "constant",
    warmup: int = 0,
    part_lr: Mapping[nn.Module, float] | None = None,
    betas: tuple[float, float] = (0.9, 0.999),
    decoupled: bool = True,
) -> Any:
    """AdamW over the trainable parameters, stepped per batch; `warmup` is in steps. For `configure_optimizers`.

    Args:
        part_lr: learning rates of submodules that have another than `lr`.
        betas: decay of the running means of the gradient and of its square.
        decoupled: weight decay is; otherwise the optimizer is Adam, whose decay is a part of the gradient.
    """
    part_rates = {weight: rate for part, rate in (part_lr or {}).items() for weight in part.parameters()}
    weights_of_rate: dict[float, list[nn.Parameter]] = {rate: [] for rate in (lr, *part_rates.values())}
    for weight in module.parameters():
        if weight.requires_grad:
            weights_of_rate[part_rates.get(weight, lr)].append(weight)
    groups = [{"params": weights, "lr": rate} for rate, weights in weights_of_rate.items() if weights]
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    optimizer = kind(groups, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)
    total = int(module.trainer.estimated_stepping_batches)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step, schedule, warmup, total))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
