"""Metrics of a training are those worked out by hand, and measuring changes nothing and fails nothing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

import models
from benchmarks.tracking import training_metrics
from benchmarks.tracking.metric_names import METRICS, NUMBERED
from benchmarks.tracking.training_metrics import TrainingMetrics
from benchmarks.training.fit import Fit
from data_prep.corpus import Batch
from models.api import Budget
from models.cost import CostTokenizer
from models.letter import LetterTokenizer
from models.parts.rqvae import RqVae

# 240 training pairs: four steps an epoch.
BATCH = 60


@dataclass(frozen=True)
class Sizes:
    rates: tuple[float, ...] = (0.1, 0.1)


class Slope(pl.LightningModule):
    """Loss 3 a + 4 b: a gradient of norm 5, clipped to 1, under which a step of rate .1 lowers the loss by .5."""

    def __init__(self) -> None:
        super().__init__()
        self.config, self.history_length = Sizes(), 5
        self.a, self.b = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        return 3 * self.a + 4 * self.b

    def configure_optimizers(self) -> Any:
        first, second = self.config.rates
        return torch.optim.SGD([{"params": [self.a], "lr": first}, {"params": [self.b], "lr": second}])


class Namer(Slope):
    """A tokenizer of 40 items: every epoch gives two of them the code that nobody has had before."""

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.quantizer = SimpleNamespace(sizes=(4, 2))
        items = torch.arange(40)
        self.register_buffer("table", torch.stack([items % 2, torch.zeros_like(items)], 1))

    def item_codes(self) -> Tensor:
        return self.table

    def on_train_epoch_end(self) -> None:
        first = 2 * self.current_epoch
        self.table[first : first + 2, 1] = 1


@dataclass
class Logger:
    """Keeps what is logged."""

    is_on: bool = True
    logged: list[dict[str, float]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def log(self, values: Mapping[str, float]) -> None:
        self.logged.append(dict(values))

    def fail(self, reason: object) -> None:
        self.is_on = False
        self.reasons.append(str(reason))

    def curve(self, name: str) -> list[float]:
        return [values[name] for values in self.logged if name in values]


@pytest.fixture
def logger() -> Logger:
    return Logger()


def train(
    fit: Fit, logger: Logger, make: type[pl.LightningModule] = Slope, every: float = 0.0, **budget: Any
) -> pl.LightningModule:
    fit.watch = lambda stage: [TrainingMetrics(stage, logger, every)]
    return fit("slope", make, Budget(**{"epochs": 2, "batch_size": BATCH, **budget}))


def test_every_step_is_read_where_no_time_lies_between(in_memory: Fit, logger: Logger) -> None:
    train(in_memory, logger)
    assert logger.curve("slope/loss") == pytest.approx([-0.5 * step for step in range(8)])
    assert logger.curve("slope/gradient_norm") == pytest.approx([5.0] * 8), "as it is before clipping"
    assert logger.curve("slope/lr/1") == logger.curve("slope/lr/2") == [0.1] * 8
    assert [values["step"] for values in logger.logged] == [1, 2, 3, 4, 4, 5, 6, 7, 8, 8]
    assert [values["epoch"] for values in logger.logged] == [1] * 5 + [2] * 5
    assert all(value > 0 for value in logger.curve("slope/peak_memory_bytes"))


def test_between_readings_the_loss_is_a_mean_and_a_check_reads_the_rest(in_memory: Fit, logger: Logger) -> None:
    train(in_memory, logger, every=math.inf)
    # The first step is read at once, and then what lies before each check.
    assert logger.curve("slope/loss") == pytest.approx([0.0, -0.5 * (1 + 2 + 3) / 3, -0.5 * (4 + 5 + 6 + 7) / 4])
    assert logger.curve("slope/quality") == pytest.approx(in_memory.stages[0].quality)
    assert logger.curve("slope/quality") == pytest.approx([0.5 * 1.5, 0.5 * 5.5])
    assert len(logger.curve("slope/gradient_norm")) == 1


def test_accumulated_batches_do_not_shrink_the_loss(in_memory: Fit, logger: Logger) -> None:
    train(in_memory, logger, every=math.inf, accumulate=2)
    # Two batches at -.5 times the steps before; read after the first step, then at the checks.
    assert logger.curve("slope/loss") == pytest.approx([0.0, -0.5, -0.5 * 2.5])


def test_pace_is_that_of_training_without_its_checks(
    in_memory: Fit, logger: Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(training_metrics, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    class Slow(Slope):
        def training_step(self, batch: Batch, batch_index: int) -> Tensor:
            now[0] += 2
            return super().training_step(batch, batch_index)

    def check(module: pl.LightningModule) -> float:
        now[0] += 1_000
        return 0.0

    in_memory.watch = lambda stage: [TrainingMetrics(stage, logger, 3.0)]
    in_memory("slope", Slow, Budget(epochs=2, batch_size=BATCH), quality=check)
    # At 2 s a step: read after the first and every other one since, and what is left of an epoch at its check.
    assert logger.curve("step") == [1, 3, 4, 6, 8, 8]
    assert logger.curve("slope/samples_per_second") == [30.0] * 5


def test_facts_about_codes(in_memory: Fit, logger: Logger) -> None:
    train(in_memory, logger, Namer)
    assert logger.curve("slope/codes/churn") == pytest.approx([2 / 40, 2 / 40])
    assert logger.curve("slope/codes/utilisation/1") == [0.5, 0.5]
    assert logger.curve("slope/codes/utilisation/2") == [1.0, 1.0]
    assert logger.curve("slope/codes/entropy/1") == pytest.approx([math.log(2)] * 2)
    shares = [(2 / 40, 38 / 40), (4 / 40, 36 / 40)]
    assert logger.curve("slope/codes/entropy/2") == pytest.approx(
        [-sum(p * math.log(p) for p in pair) for pair in shares]
    )
    # After an epoch two items have names of their own, 0-1 and 1-1; after another nobody has.
    assert logger.curve("slope/codes/duplicates_before") == pytest.approx([38 / 40, 1.0])
    assert logger.curve("slope/codes/duplicates_after") == pytest.approx([38 / 40, 1.0])


def test_a_training_that_goes_on_counts_changes_since_its_last_check(in_memory: Fit, logger: Logger) -> None:
    class StopError(Exception):
        pass

    class Stop(TrainingMetrics):
        def checked(self, stage: Any, module: pl.LightningModule) -> None:
            raise StopError

    in_memory.watch = lambda stage: [Stop(stage, logger)]
    with pytest.raises(StopError):
        in_memory("slope", Namer, Budget(epochs=2, batch_size=BATCH))
    again = Logger()
    train(in_memory, again, Namer)
    assert again.curve("slope/codes/churn") == pytest.approx([2 / 40])
    assert again.curve("epoch")[-1] == 2


def test_what_is_logged_is_what_is_named(in_memory: Fit, logger: Logger) -> None:
    train(in_memory, logger, Namer)
    logged = {name.removeprefix("slope/") for values in logger.logged for name in values} - {"step", "epoch"}
    plain = {name.rpartition("/")[0] if name.rpartition("/")[0] in NUMBERED else name for name in logged}
    assert plain == set(METRICS)


@pytest.mark.parametrize("name", ["tiger", "cost", "letter", "etegrec"])
def test_a_tokenizer_is_followed_by_its_codes(name: str, in_memory: Fit, logger: Logger) -> None:
    config = models.load(name).SMALL
    vectors = torch.randn(41, 8)
    small = dataclasses.replace(config.tokenizer, codes=4, hidden=(8,))
    build: dict[str, Callable[[], pl.LightningModule]] = {
        "tiger": lambda: RqVae(small, vectors),
        "etegrec": lambda: RqVae(small, vectors),
        "cost": lambda: CostTokenizer(small, vectors),
        "letter": lambda: LetterTokenizer(small, vectors, None),
    }
    in_memory.watch = lambda stage: [TrainingMetrics(stage, logger)]
    in_memory("tokenizer", build[name], Budget(1, BATCH), in_memory.corpus.examples("items"), lambda module: 0.0)
    assert (logger.is_on, logger.reasons) == (True, [])
    assert len(logger.curve("tokenizer/codes/utilisation/1")) == 1


def test_a_module_without_codes_has_no_facts_about_them(in_memory: Fit, logger: Logger) -> None:
    train(in_memory, logger)
    assert not any("codes" in name for values in logger.logged for name in values)


@pytest.mark.parametrize("hook", ["on_train_start", "on_before_optimizer_step", "on_train_batch_end", "checked"])
def test_a_training_does_not_fail_because_it_cannot_be_measured(
    in_memory: Fit, logger: Logger, monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    broken = {
        "on_train_start": (training_metrics, "codes_of"),
        "on_before_optimizer_step": (torch.nn.utils, "get_total_norm"),
        "on_train_batch_end": (training_metrics, "peak_memory_bytes"),
        "checked": (training_metrics, "facts"),
    }

    def fails(*given: Any) -> None:
        raise RuntimeError("out of order")

    place, name = broken[hook]
    monkeypatch.setattr(place, name, fails)
    train(in_memory, logger, Namer)
    assert in_memory.stages[0].epochs == 2
    assert logger.reasons == ["RuntimeError: out of order"]


def test_measuring_changes_no_number(in_memory: Fit, logger: Logger) -> None:
    """The same training under another root, unwatched, has the same weights."""
    watched = train(in_memory, logger, Namer)
    plain = Fit(in_memory.corpus, 0, in_memory.root / "plain", "test")
    other = plain("slope", Namer, Budget(epochs=2, batch_size=BATCH))
    assert plain.stages[0].quality == in_memory.stages[0].quality
    state = other.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in watched.state_dict().items())
