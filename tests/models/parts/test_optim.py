"""Learning-rate factors and lengths of trainings by hand, and that a training takes one factor per step."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from models.api import whole_epochs
from models.parts.optim import AlternatingSchedule, Schedule, adamw, factor
from tests.factories import corpus_of


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]),
        # Four of eight steps are left after the warm-up.
        ("linear", [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]),
        # (1 + cos(0, 45, 90, 135 degrees)) / 2.
        ("cosine", [0.25, 0.5, 0.75, 1.0, 1.0, 0.8535534, 0.5, 0.1464466]),
        # The root of 4/5, 4/6, 4/7 and 4/8.
        ("inverse-sqrt", [0.25, 0.5, 0.75, 1.0, 0.8944272, 0.8164966, 0.7559289, 0.7071068]),
        ("hold", [1.0, 1.0, 1.0, 1.0, 0.8944272, 0.8164966, 0.7559289, 0.7071068]),
        # A fifth of eight steps are 1.6.
        ("trapezoid", [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 0.625]),
    ],
)
def test_factor_by_hand(schedule: Schedule, expected: list[float]) -> None:
    assert [factor(step, schedule, 4, 8) for step in range(8)] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1, 1, 1]),
        ("linear", [1, 0.6667, 0.3333]),
        ("cosine", [1, 0.75, 0.25]),
        ("inverse-sqrt", [1, 0.7071, 0.5774]),
        ("hold", [1, 0.7071, 0.5774]),
    ],
)
def test_without_warm_up(schedule: Schedule, expected: list[float]) -> None:
    assert [factor(step, schedule, 0, 3) for step in range(3)] == pytest.approx(expected, abs=1e-4)


def test_a_trapezoid_falls_in_a_line_over_the_last_fifth() -> None:
    assert [factor(step, "trapezoid", 2, 20) for step in (1, 2, 15, 16, 17, 18, 19)] == pytest.approx(
        [1, 1, 1, 1, 0.75, 0.5, 0.25]
    )
    assert factor(20, "trapezoid", 2, 20) == factor(25, "trapezoid", 2, 20) == 0.0


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_falling_rate_stays_at_zero_after_its_end(schedule: Schedule) -> None:
    assert factor(8, schedule, 4, 8) == factor(11, schedule, 4, 8) == 0.0
    assert factor(3, schedule, 3, 3) == 1.0  # a run that is all warm-up


@pytest.mark.parametrize(
    ("steps", "batch_size", "epochs"),
    # Users of 6 and of 5 items train on 3 and on 2 pairs: five batches of 1, three of 2, two of 3, one of 5 or more.
    [(1, 1, 1), (5, 1, 1), (6, 1, 2), (9, 2, 3), (10, 2, 4), (4, 3, 2), (5, 3, 3), (7, 5, 7), (7, 1000, 7)],
)
def test_steps_are_rounded_up_to_whole_epochs(steps: int, batch_size: int, epochs: int) -> None:
    corpus = corpus_of([range(1, 7), range(7, 12)], 11)
    assert whole_epochs(steps, corpus, batch_size) == epochs


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


def outside_a_training(module: pl.LightningModule, *arguments: Any, **options: Any) -> torch.optim.Optimizer:
    """What `adamw` makes for a training of ten steps."""
    trainer = pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(trainer), "estimated_stepping_batches", 10)
        module.trainer = trainer
        made: torch.optim.Optimizer = adamw(module, *arguments, **options)["optimizer"]
    return made


# AdamW: 2 * (1 - .5 * .25) + .5. Adam: 2 - .5, for the decay turns the gradient's sign.
@pytest.mark.parametrize(("decoupled", "weight"), [(True, 2.25), (False, 1.5)])
def test_decay_shrinks_a_weight_or_joins_its_gradient(decoupled: bool, weight: float) -> None:
    module = Recorder()
    with torch.no_grad():
        module.free.fill_(2.0)
    made = outside_a_training(module, 0.5, 0.25, decoupled=decoupled)
    # A first step has the length of the rate, whatever the gradient.
    module.free.grad = torch.full_like(module.free, -0.3)
    made.step()
    assert float(module.free.detach()) == pytest.approx(weight)


def test_a_part_may_have_a_rate_of_its_own() -> None:
    class Halves(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.quick, self.slow, self.frozen = nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1)
            self.frozen.requires_grad_(False)

    module = Halves()
    made = outside_a_training(module, 0.5, 0.1, part_lr={module.slow: 0.25, module.frozen: 0.1})
    rates = {id(weight): group["lr"] for group in made.param_groups for weight in group["params"]}
    assert rates == {id(module.quick.weight): 0.5, id(module.quick.bias): 0.5} | {
        id(weight): 0.25 for weight in module.slow.parameters()
    }


class TestAlternatingSchedule:
    def test_two_epochs_to_a_cycle(self) -> None:
        # Two steps to an epoch; steps of the first group: 0 1 2 2 2 3 4 4, the second: 0 0 0 1 2 2 2 3.
        schedule = AlternatingSchedule(cycle=2, warmup=2, total=8, steps_per_epoch=2)
        # One step of warm-up, four in all: 1, then the cosine at 0, 1/3, 2/3, 1.
        expected = [1, 1, 0.75, 0.75, 0.75, 0.25, 0, 0]
        assert [schedule.first(step) for step in range(8)] == pytest.approx(expected)
        # Two steps of warm-up, and a cosine over the other six of eight, at 0 and 1/6.
        expected = [0.5, 0.5, 0.5, 1, 1, 1, 1, 0.5 + 3**0.5 / 4]
        assert [schedule.second(step) for step in range(8)] == pytest.approx(expected)

    def test_four_epochs_to_a_cycle(self) -> None:
        # Steps of the first group: 0 1 1 1 1 2 2 2, the second: 0 0 1 2 3 3 4 5.
        schedule = AlternatingSchedule(cycle=4, warmup=4, total=8, steps_per_epoch=1)
        assert [schedule.first(step) for step in range(8)] == pytest.approx([1, 1, 1, 1, 1, 0, 0, 0])
        expected = [0.25, 0.25, 0.5, 0.75, 1, 1, 1, 0.5 + 2**0.5 / 4]
        assert [schedule.second(step) for step in range(8)] == pytest.approx(expected)

    def test_without_alternation_both_count_every_step(self) -> None:
        schedule = AlternatingSchedule(cycle=1, warmup=2, total=8, steps_per_epoch=2)
        expected = [0.5, 1, 1, 0.5 + 3**0.5 / 4, 0.75, 0.5, 0.25, 0.5 - 3**0.5 / 4]
        for factors in (schedule.first, schedule.second):
            assert [factors(step) for step in range(8)] == pytest.approx(expected)
