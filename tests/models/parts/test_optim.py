"""Learning-rate factors by hand, and that a training takes one per step."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from models.parts.optim import Schedule, adamw, factor


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]),
        # Four of eight steps are left after the warm-up: (1 + cos(0, 45, 90, 135 degrees)) / 2.
        ("cosine", [0.25, 0.5, 0.75, 1.0, 1.0, 0.8535534, 0.5, 0.1464466]),
        # The root of 4/5, 4/6, 4/7 and 4/8.
        ("inverse-sqrt", [0.25, 0.5, 0.75, 1.0, 0.8944272, 0.8164966, 0.7559289, 0.7071068]),
    ],
)
def test_factor_by_hand(schedule: Schedule, expected: list[float]) -> None:
    assert [factor(step, schedule, 4, 8) for step in range(8)] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", [1, 1, 1]), ("cosine", [1, 0.75, 0.25]), ("inverse-sqrt", [1, 0.7071, 0.5774])],
)
def test_without_warm_up(schedule: Schedule, expected: list[float]) -> None:
    assert [factor(step, schedule, 0, 3) for step in range(3)] == pytest.approx(expected, abs=1e-4)


def test_cosine_stays_at_zero_after_its_end() -> None:
    assert factor(8, "cosine", 4, 8) == factor(11, "cosine", 4, 8) == 0.0
    assert factor(3, "cosine", 3, 3) == 1.0  # a run that is all warm-up


class Recorder(pl.LightningModule):
    """Two weights, of which one is frozen; notes the learning rate of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.free, self.frozen = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1), requires_grad=False)
        self.rates: list[float] = []

    def training_step(self, batch: Tensor, batch_index: int) -> Tensor:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return (self.free - batch).square().mean()

    def configure_optimizers(self) -> Any:
        return adamw(self, lr=0.1, weight_decay=0.3, schedule="cosine", warmup=2)


def test_a_training_takes_one_factor_per_step(caplog: pytest.LogCaptureFixture) -> None:
    module = Recorder()
    with caplog.at_level(logging.ERROR, logger="pytorch_lightning"):
        trainer = pl.Trainer(
            max_epochs=2,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, DataLoader(range(3)))  # type: ignore[arg-type]
    # Two epochs of three batches: six steps in all, two of warm-up.
    assert module.rates == pytest.approx([0.1 * factor(step, "cosine", 2, 6) for step in range(6)])
    optimizer = trainer.optimizers[0]
    assert [weight for group in optimizer.param_groups for weight in group["params"]] == [module.free]
    assert optimizer.param_groups[0]["weight_decay"] == 0.3
