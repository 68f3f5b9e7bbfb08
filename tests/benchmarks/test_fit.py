"""Fit: seeds, the best epoch, one training per content, and a kill at any moment that changes no number."""

from __future__ import annotations

import ast
import itertools
import math
import multiprocessing
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from benchmarks.hardware import Hardware
from benchmarks.training import checkpoint_callback, checkpoint_io, stage_key
from benchmarks.training import fit as fit_module
from benchmarks.training.bf16_plugin import Bf16
from benchmarks.training.checkpoint_callback import BEST, DONE, LAST, Watcher, derive
from benchmarks.training.fit import Fit, NotTrainedError
from data_prep.corpus import Batch, Corpus
from leaderboards.record import Stage
from models.api import Budget, Ranking, whole_epochs
from models.sasrec import Config, SasRec
from tests.test_floors import imported

ROOT = Path(__file__).resolve().parents[2]
SMALL = Config(width=16, inner=16, layers=1, heads=1, history=8)
# 60 users in batches of 20: three steps in an epoch.
BUDGET = Budget(epochs=4, batch_size=20)


@dataclass(frozen=True)
class Sizes:
    width: int = 1


class Counter(pl.LightningModule):
    """Its one weight counts training steps, and its buffer holds a random number of its making."""

    steps: Tensor
    noise: Tensor

    def __init__(self, config: Sizes | None = None) -> None:
        super().__init__()
        self.config, self.history_length = config or Sizes(), 5
        self.weight = nn.Parameter(torch.zeros(self.config.width))
        self.register_buffer("noise", torch.rand(3))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        return -self.weight.sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1.0)


class StopError(Exception):
    """Stands for whatever ends a process."""


def sasrec(fit: Fit, config: Config = SMALL, budget: Budget = BUDGET, **more: Any) -> SasRec:
    users = fit.corpus.examples("train").longest_per_user()
    return fit("recommender", lambda: SasRec(config, fit.corpus.items, 1.0), budget, users, **more)


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def qualities(*values: float) -> Callable[[pl.LightningModule], float]:
    left: Iterator[float] = iter(values)
    return lambda module: next(left)


def steps_taken(module: Counter) -> int:
    return round(module.weight[0].item())


@pytest.fixture
def new_fit(tiny_corpus: Corpus, tmp_path: Path) -> Callable[..., Fit]:
    """A `Fit` of the tiny corpus in a fresh folder, or in a folder of that name."""
    numbers = iter(range(100))
    return lambda seed=0, folder="": Fit(tiny_corpus, seed, tmp_path / (folder or str(next(numbers))), "test")


def test_the_same_seed_gives_the_same_numbers_and_another_others(new_fit: Callable[..., Fit]) -> None:
    first, again, other = new_fit(), new_fit(), new_fit(seed=1)
    torch.manual_seed(3)
    trained = weights(sasrec(first))
    torch.manual_seed(4)
    assert equal(trained, weights(sasrec(again)))
    assert not equal(trained, weights(sasrec(other)))
    assert first.stages[0].model_copy(update={"seconds": 0.0}) == again.stages[0].model_copy(update={"seconds": 0.0})


def test_a_step_takes_the_mean_gradient_of_accumulated_batches(new_fit: Callable[..., Fit]) -> None:
    """Batches of 20 of 240 pairs: the gradient is 1 in each, so a sum over four would be 4."""
    assert steps_taken(new_fit()("stage", Counter, Budget(2, 20, clip=0.0))) == 24
    assert steps_taken(new_fit()("stage", Counter, Budget(2, 20, clip=0.0, accumulate=4))) == 6


@pytest.mark.parametrize("accumulate", [1, 4, 16])
def test_losses_are_means_over_batches_however_many_a_step_takes(accumulate: int, new_fit: Callable[..., Fit]) -> None:
    class Constant(Counter):
        def training_step(self, batch: Batch, batch_index: int) -> Tensor:
            return 0 * self.weight.sum() + 3

    fit = new_fit()
    fit("stage", Constant, Budget(2, 20, accumulate=accumulate))
    assert (fit.stages[0].losses, fit.stages[0].quality) == ([3.0, 3.0], [-3.0, -3.0])


def test_a_stages_seed_depends_on_its_label_alone(new_fit: Callable[..., Fit]) -> None:
    assert (
        len({derive(seed, *labels) for seed in (0, 1) for labels in ((), ("a",), ("b",), ("a", "b"), ("b", "a"))}) == 10
    )
    assert 0 <= derive(0, "recommender") < 2**31

    def noise(fit: Fit, *stages: str) -> list[Tensor]:
        return [fit(stage, Counter, Budget(1, 60)).noise for stage in stages]

    (alone,) = noise(new_fit(), "recommender")
    tokenizer, after = noise(new_fit(), "tokenizer", "recommender")
    assert torch.equal(alone, after)
    assert not torch.equal(alone, tokenizer)


class Drawing(Counter):
    """Its one weight takes steps of a size that numpy and `random` draw."""

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        return -self.weight.sum() * float(np.random.rand() + random.random())


def test_what_a_model_draws_by_any_generator_is_the_runs(new_fit: Callable[..., Fit]) -> None:
    """In its own training and between its stages, whether those were trained or found."""

    def drawn(fit: Fit) -> list[float]:
        before = float(torch.rand(()))
        trained = fit("one", Drawing, BUDGET)
        return [before, trained.weight.item(), float(torch.rand(())), float(np.random.rand()), random.random()]

    expected = drawn(new_fit(1, "one"))
    np.random.seed(7)
    assert drawn(new_fit(1, "another")) == expected
    found = new_fit(1, "one")
    assert drawn(found) == expected
    assert [stage.reused for stage in found.stages] == [True]
    assert not set(drawn(new_fit(2))) & set(expected)


def flawed(fit: Fit, **mistakes: Any) -> SasRec:
    """A SASRec with what its author has set beside its weights and buffers."""

    def build() -> SasRec:
        module = SasRec(SMALL, fit.corpus.items, 1.0)
        vars(module).update(mistakes)
        return module

    return fit("recommender", build, BUDGET, fit.corpus.examples("train").longest_per_user())


def test_a_ranking_that_draws_is_told_before_the_training(in_memory: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(history: Tensor, k: int) -> Ranking:
        items = torch.zeros(len(history), k, dtype=torch.long)
        items[:, :40] = torch.stack([torch.randperm(40) + 1 for _ in history])
        return Ranking(items, torch.zeros(items.shape), torch.ones(len(items), dtype=torch.bool))

    monkeypatch.setattr(fit_module.Fit, "_train", lambda *given: pytest.fail("it trained"))
    with pytest.raises(ValueError, match=r"^SasRec.rank ranked the same users twice and gave other places; expected"):
        flawed(in_memory, rank=drawn)


@pytest.mark.parametrize("length", [0, None, 2.5])
def test_how_far_a_recommender_reads_is_asked_before_the_training(in_memory: Fit, length: Any) -> None:
    with pytest.raises(ValueError, match=f"^SasRec has the history_length {length}; expected the number of items"):
        flawed(in_memory, history_length=length)


def test_a_tensor_that_is_neither_weight_nor_buffer_counts_too(in_memory: Fit) -> None:
    for shift in (torch.tensor(0), torch.tensor(1), np.array(2)):
        flawed(replace(in_memory, stages=[]), shift=shift)
    assert len(set(in_memory.folders)) == len(in_memory.folders) == 3


def test_what_is_graded_is_what_was_chosen(in_memory: Fit) -> None:
    trained = flawed(in_memory)
    ndcg = max(in_memory.stages[0].quality)
    assert ndcg > 0
    in_memory.check_chosen(trained, ndcg)
    in_memory.check_chosen(trained, ndcg * 0.991)
    said = f"has the validation NDCG@10 {ndcg / 2:.4f}, and had {ndcg:.4f} in the chosen epoch; expected the same"
    with pytest.raises(ValueError, match=said):
        in_memory.check_chosen(trained, ndcg / 2)
    # What an author makes of it afterwards is another.
    in_memory.check_chosen(SasRec(SMALL, 40, 1.0), 0.0)


def test_the_best_epoch_comes_back_not_the_last(in_memory: Fit) -> None:
    module = in_memory("count", Counter, Budget(4, 1000), quality=qualities(0.1, 0.7, 0.5, 0.6))
    assert steps_taken(module) == 2
    stage = in_memory.stages[0]
    assert (stage.best_epoch, stage.epochs, stage.quality) == (2, 4, [0.1, 0.7, 0.5, 0.6])
    assert not module.training


def test_a_watcher_sees_every_look_at_quality_and_may_end_the_training(in_memory: Fit) -> None:
    seen = []

    class Looker(Watcher):
        def checked(self, stage: Stage, module: pl.LightningModule) -> None:
            assert isinstance(module, Counter)
            seen.append((stage.name, stage.epochs, stage.quality[-1], steps_taken(module)))
            if len(seen) == 2:
                raise StopError

    in_memory.watch = lambda stage: [Looker()]
    with pytest.raises(StopError):
        in_memory("count", Counter, Budget(4, 1000), quality=qualities(0.1, 0.7, 0.5, 0.6))
    assert seen == [("count", 1, 0.1, 1), ("count", 2, 0.7, 2)]
    in_memory.watch = lambda stage: []
    in_memory("count", Counter, Budget(4, 1000), quality=qualities(0.5, 0.6))
    assert in_memory.stages[0].quality == [0.1, 0.7, 0.5, 0.6], "what it ended goes on from there"


def test_of_equal_epochs_the_first_is_kept(in_memory: Fit) -> None:
    assert steps_taken(in_memory("count", Counter, Budget(3, 1000), quality=lambda module: 0.5)) == 1


def test_patience_ends_a_training(in_memory: Fit) -> None:
    falling = qualities(0.1, 0.7, 0.5, 0.5, 0.5, 0.5, 0.5)
    in_memory("count", Counter, Budget(7, 1000, patience=3), quality=falling)
    assert (in_memory.stages[0].epochs, in_memory.stages[0].best_epoch) == (5, 2)


def test_quality_is_looked_at_every_few_epochs_and_at_the_end(in_memory: Fit) -> None:
    module = in_memory("count", Counter, Budget(7, 1000, check_every=3), quality=qualities(0.1, 0.9, 0.3))
    stage = in_memory.stages[0]
    assert (len(stage.quality), stage.best_epoch, stage.epochs) == (3, 6, 7)
    assert steps_taken(module) == 6


def test_patience_counts_looks(in_memory: Fit) -> None:
    in_memory("count", Counter, Budget(20, 1000, patience=2, check_every=3), quality=qualities(0.9, 0.1, 0.1, 1.0))
    assert (in_memory.stages[0].epochs, in_memory.stages[0].best_epoch) == (9, 3)


def test_without_a_quality_the_lowest_training_loss_is_best(in_memory: Fit) -> None:
    module = in_memory("count", Counter, Budget(3, 1000))
    assert steps_taken(module) == 3, "the loss falls with every step"
    assert in_memory.stages[0].quality == pytest.approx([0, 1, 2], abs=1e-5)


def test_a_recommender_is_kept_by_its_validation_ndcg(new_fit: Callable[..., Fit]) -> None:
    fit = new_fit()
    sasrec(fit)
    assert len(fit.stages[0].quality) == 4
    assert all(0 <= value <= 1 for value in fit.stages[0].quality)
    sampled = new_fit()
    sasrec(sampled, budget=replace(BUDGET, valid_users=7))
    assert sampled.stages[0].quality != fit.stages[0].quality


def test_blind_it_keeps_a_recommender_by_its_training_loss(
    new_fit: Callable[..., Fit], monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[list[float]] = []
    step = SasRec.training_step

    def noted(module: SasRec, batch: Batch, number: int) -> Tensor:
        if number == 0:
            losses.append([])
        loss = step(module, batch, number)
        losses[-1].append(loss.item())
        return loss

    monkeypatch.setattr(SasRec, "training_step", noted)
    fit = replace(new_fit(), blind=True)
    sasrec(fit)
    stage = fit.stages[0]
    # Three batches of twenty users in each epoch.
    assert [len(epoch) for epoch in losses] == [3] * 4
    assert stage.quality == pytest.approx([-sum(epoch) / 3 for epoch in losses], rel=1e-4)
    assert stage.best_epoch == 1 + int(np.argmax(stage.quality))


def test_it_keeps_no_test_target(tiny_corpus: Corpus, new_fit: Callable[..., Fit]) -> None:
    fit = new_fit()
    assert np.array_equal(fit.corpus.flat, np.delete(tiny_corpus.flat, tiny_corpus.offsets[1:] - 1))
    assert fit.corpus.fingerprint == tiny_corpus.fingerprint
    assert replace(fit, blind=True).corpus is fit.corpus


def changed_after(corpus: Corpus, training: bool) -> Corpus:
    """Every user's last two items are others, and the training part too if told so."""
    flat = corpus.flat.copy()
    from_end = np.repeat(corpus.offsets[1:], np.diff(corpus.offsets)) - np.arange(len(flat))
    chosen = from_end <= (3 if training else 2)
    flat[chosen] = flat[chosen] % corpus.items + 1
    return replace(corpus, flat=flat)


def test_blind_what_is_held_out_changes_no_number(tiny_corpus: Corpus, tmp_path: Path) -> None:
    def trained(corpus: Corpus, blind: bool) -> tuple[dict[str, Tensor], list[float]]:
        fit = Fit(corpus, 0, tmp_path / corpus.fingerprint, "test", blind=blind)
        return weights(sasrec(fit)), fit.stages[0].quality

    held_out, all_parts = changed_after(tiny_corpus, training=False), changed_after(tiny_corpus, training=True)
    found, quality = trained(tiny_corpus, blind=True)
    again, same = trained(held_out, blind=True)
    assert equal(found, again)
    assert quality == same
    assert not equal(found, trained(all_parts, blind=True)[0])
    assert trained(tiny_corpus, blind=False)[1] != trained(held_out, blind=False)[1]


def test_blind_no_grader_is_made(new_fit: Callable[..., Fit], monkeypatch: pytest.MonkeyPatch) -> None:
    def grader(*args: Any, **kwargs: Any) -> None:
        raise StopError

    monkeypatch.setattr(fit_module, "Grader", grader)
    with pytest.raises(StopError):
        sasrec(new_fit())
    sasrec(replace(new_fit(), blind=True))


def test_blind_and_seeing_share_no_training(in_memory: Fit) -> None:
    blind = replace(in_memory, blind=True, stages=[])
    sasrec(in_memory)
    sasrec(blind)
    sasrec(blind)
    sasrec(in_memory)
    assert [stage.reused for stage in in_memory.stages] == [False, True]
    assert [stage.reused for stage in blind.stages] == [False, True]
    assert in_memory.stages[1].quality == in_memory.stages[0].quality != blind.stages[0].quality


def test_blind_a_quality_that_a_model_names_is_still_its_measure(in_memory: Fit) -> None:
    in_memory.blind = True
    module = in_memory("count", Counter, Budget(3, 1000), quality=qualities(0.1, 0.7, 0.5))
    assert steps_taken(module) == 2


def test_the_same_training_is_done_once(in_memory: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = weights(sasrec(in_memory))
    monkeypatch.setattr(pl, "Trainer", None)
    again = replace(in_memory, label="another", stages=[])
    assert equal(trained, weights(sasrec(again)))
    assert [stage.reused for stage in (*in_memory.stages, *again.stages)] == [False, True]
    assert again.stages[0].model_copy(update={"reused": False}) == in_memory.stages[0]


def test_whatever_changes_the_outcome_trains_anew(in_memory: Fit, tiny_corpus: Corpus) -> None:
    def count(epochs: int = 1, batch: int = 1000, width: int = 1, shift: int = 0, items: bool = False) -> None:
        def build() -> Counter:
            module = Counter(Sizes(width))
            module.noise += shift
            return module

        in_memory("count", build, Budget(epochs, batch), tiny_corpus.examples("items" if items else "train"))

    count()
    count(epochs=2)
    count(batch=30)
    count(width=2)
    count(shift=1)
    count(items=True)
    in_memory("another", Counter, Budget(1, 1000))
    in_memory.seed = 1
    count()
    assert [stage.reused for stage in in_memory.stages] == [False] * 8
    count()
    assert in_memory.stages[-1].reused


def test_a_diverged_quality_is_said(in_memory: Fit) -> None:
    with pytest.raises(ValueError, match=r"^the training of test count has diverged: its quality is nan in epoch 2$"):
        in_memory("count", Counter, Budget(3, 1000), quality=qualities(0.5, float("nan")))


class Diverging(Counter):
    """One loss of its life is of a given value, or the gradient of one step is not a number."""

    def __init__(self, loss_at: int = 0, value: float = math.nan, gradient_at: int = 0) -> None:
        super().__init__()
        self.loss_at, self.value, self.gradient_at, self.taken = loss_at, value, gradient_at, 0

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        self.taken += 1
        loss = super().training_step(batch, batch_index)
        if self.taken == self.gradient_at:
            # The root's slope at 0 is infinite: a loss of 0 whose gradient is nan.
            return loss + (0 * self.weight).square().sum().sqrt()
        return loss + self.value if self.taken == self.loss_at else loss


# 240 pairs in batches of 60: steps 1 to 4 are epoch 1, steps 5 to 8 are epoch 2.
@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Diverging(loss_at=1), "loss is nan in epoch 1"),
        (Diverging(loss_at=7), "loss is nan in epoch 2"),
        (Diverging(loss_at=8, value=math.inf), "loss is inf in epoch 2"),
        (Diverging(loss_at=2, value=-math.inf), "loss is -inf in epoch 1"),
        (Diverging(gradient_at=2), "loss is nan in epoch 1"),
        (Diverging(gradient_at=4), "largest weight is nan in epoch 1"),
        (Diverging(gradient_at=8), "largest weight is nan in epoch 2"),
    ],
)
def test_a_diverged_training_is_never_finished(in_memory: Fit, module: Diverging, said: str) -> None:
    with pytest.raises(ValueError, match=rf"^the training of test count has diverged: its {said}$"):
        in_memory("count", lambda: module, Budget(2, 60), quality=lambda module: 0.5)
    assert in_memory.stages == []
    assert not list(in_memory.root.rglob(BEST))


def test_between_two_looks_at_quality_a_loss_is_looked_at(in_memory: Fit) -> None:
    with pytest.raises(ValueError, match="its loss is nan in epoch 2"):
        in_memory("count", lambda: Diverging(loss_at=5), Budget(9, 60, check_every=3), quality=qualities())


def trained_anew(fit: Fit) -> bool:
    sasrec(fit, budget=Budget(1, 60))
    return not fit.stages[-1].reused


@pytest.mark.parametrize(
    "name",
    [
        "benchmarks/evaluate.py",
        "benchmarks/training/fit.py",
        "benchmarks/training/checkpoint_callback.py",
        "benchmarks/training/checkpoint_io.py",
        "data_prep/batches.py",
        "data_prep/corpus.py",
        "leaderboards/metrics.py",
        "models/__init__.py",
        "models/api.py",
        "models/sasrec.py",
        # However a model imports it: `from models.parts.losses import x`, `from models.parts import losses`, `.parts`.
        "models/parts/losses.py",
        "models/parts/sub/new.py",
    ],
)
def test_code_that_can_change_the_outcome_trains_anew(
    in_memory: Fit, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trained_anew(in_memory)
    assert not trained_anew(in_memory)
    copied(tmp_path / "same", monkeypatch)
    assert not trained_anew(in_memory), "where the code lies is no part of it"
    file = copied(tmp_path / "changed", monkeypatch) / name
    file.parent.mkdir(exist_ok=True)
    with file.open("a") as code:
        code.write("\n")
    assert trained_anew(in_memory)


def copied(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The code in another folder, which is then taken for what runs."""
    for package in ("benchmarks", "data_prep", "leaderboards", "models"):
        shutil.copytree(ROOT / package, root / package, ignore=lambda folder, names: [] if has_code(folder) else names)
    monkeypatch.setattr(fit_module, "sources_sha256", lambda owner: stage_key.sources_sha256(owner, root))
    return root


def has_code(folder: str) -> bool:
    return any(Path(folder).glob("*.py"))


@pytest.mark.parametrize(
    "name", ["models/mine.py", "models/tiger.py", "benchmarks/run.py", "leaderboards/board_table.py"]
)
def test_other_models_and_what_renders_tables_train_nothing_anew(
    in_memory: Fit, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trained_anew(in_memory)
    with (copied(tmp_path / "other", monkeypatch) / name).open("a") as code:
        code.write("\n")
    assert not trained_anew(in_memory)


def test_hashed_code_imports_no_other_code_of_ours() -> None:
    """But for what a training's numbers pass by: where a run comes from, and the form of a record."""
    passed_by = {"benchmarks/device.py", "benchmarks/provenance.py", "leaderboards/record.py"}
    hashed = set(stage_key._contents(ROOT))
    found = set[str]()
    for name in hashed:
        for target in imported(ast.parse((ROOT / name).read_text()), PurePosixPath(name)):
            parts = target.split(".")
            names = ["/".join(parts[:end]) + ".py" for end in range(1, len(parts) + 1)]
            found |= {name for name in names if (ROOT / name).exists()}
    assert {"models/parts/losses.py", "data_prep/corpus.py", "benchmarks/evaluate.py"} < found
    assert found - hashed <= passed_by


@pytest.mark.parametrize("library", ["torch", "transformers", "pytorch-lightning", "numpy"])
def test_another_version_of_a_library_trains_anew(
    in_memory: Fit, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trained_anew(in_memory)
    monkeypatch.setattr(stage_key, "version", lambda name: "0.1" if name == library else version(name))
    monkeypatch.setattr(stage_key, "torch_version", lambda: "2.13.0+cu130" if library == "torch" else torch.__version__)
    assert trained_anew(in_memory)


def test_what_no_checkpoint_holds_counts_too(in_memory: Fit) -> None:
    def count(hidden: float) -> bool:
        def build() -> Counter:
            module = Counter()
            module.register_buffer("hidden", torch.tensor(hidden), persistent=False)
            return module

        in_memory("count", build, Budget(1, 1000))
        return in_memory.stages[-1].reused

    assert [count(1.0), count(2.0), count(1.0)] == [False, False, True]


def test_only_recommenders_train_in_bf16(in_memory: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    trainer = pl.Trainer

    def noted(**options: Any) -> pl.Trainer:
        used.append(any(isinstance(plugin, Bf16) for plugin in options["plugins"]))
        return trainer(**options)

    monkeypatch.setattr(pl, "Trainer", noted)
    in_memory.hardware = replace(in_memory.hardware, precision="bf16-mixed")
    config, budget = replace(SMALL, loss="bce"), Budget(1, 60)
    assert in_memory.hardware.precision_class == "bf16"
    in_memory("count", Counter, Budget(1, 1000))
    sasrec(in_memory, config, budget)
    assert used == [False, True]
    # So a tokenizer is one training for both; a recommender is two.
    in_memory.hardware = replace(in_memory.hardware, precision="32-true")
    assert in_memory.hardware.precision_class == "32"
    in_memory("count", Counter, Budget(1, 1000))
    sasrec(in_memory, config, budget)
    assert [stage.reused for stage in in_memory.stages] == [False, False, True, False]


def test_a_tokenizer_of_another_device_is_found(in_memory: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    config, budget = replace(SMALL, loss="bce"), Budget(1, 60)
    in_memory("count", Counter, Budget(1, 1000))
    sasrec(in_memory, config, budget)
    in_memory.trains = False
    monkeypatch.setattr(Hardware, "device", torch.device("cuda"))
    in_memory("count", Counter, Budget(1, 1000))
    with pytest.raises(NotTrainedError):
        sasrec(in_memory, config, budget)


def test_another_quality_keeps_another_epoch(in_memory: Fit) -> None:
    def rising(module: Counter) -> float:
        return steps_taken(module)

    def falling(module: Counter) -> float:
        return -steps_taken(module)

    assert steps_taken(in_memory("count", Counter, Budget(3, 1000), quality=rising)) == 3
    assert steps_taken(in_memory("count", Counter, Budget(3, 1000), quality=falling)) == 1


def test_a_corpus_without_training_pairs_is_said_before_the_tokenizer(tmp_path: Path) -> None:
    """Three interactions of a user are one each for training history, validation and test."""
    sequences = np.array([[1, 2, 3], [2, 3, 4]], dtype=np.int32)
    corpus = Corpus("gifts", sequences.ravel(), np.array([0, 3, 6]), ["u", "v"], list("abcd"))
    said = r"^corpus gifts has no training pairs, so stage tokenizer has nothing to serve; expected a user of four"
    with pytest.raises(ValueError, match=said):
        Fit(corpus, 0, tmp_path, "test")("tokenizer", Counter, Budget(1, 10), corpus.examples("items"))
    with pytest.raises(ValueError, match="corpus gifts has no training pairs; expected at least one"):
        whole_epochs(100, corpus, 10)


def test_steps_are_rounded_up_to_whole_epochs(tiny_corpus: Corpus) -> None:
    """240 pairs."""
    assert [whole_epochs(steps, tiny_corpus, 100) for steps in (1, 3, 4, 6, 7)] == [1, 1, 2, 2, 3]
    with pytest.raises(ValueError, match="a budget has batch_size 0; expected at least 1"):
        whole_epochs(100, tiny_corpus, 0)


def test_nothing_to_train_on_is_said(new_fit: Callable[..., Fit], tiny_corpus: Corpus) -> None:
    nothing = tiny_corpus.examples("train").take(np.arange(0))
    with pytest.raises(ValueError, match="stage count on corpus tiny has no examples; expected at least one"):
        new_fit()("count", Counter, Budget(1, 1000), nothing)


@pytest.mark.parametrize(
    ("field", "value"), [("epochs", 0), ("epochs", -1), ("batch_size", 0), ("patience", 0), ("check_every", 0)]
)
def test_a_budget_that_trains_nothing_is_refused(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"a budget has {field} {value}; expected at least 1"):
        Budget(**{"epochs": 1, "batch_size": 1, field: value})


def interrupt(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, at: int, after: bool = False) -> None:
    """The `at`-th call of a function ends the process, before or after its work is done; only that one."""
    whole, calls = getattr(owner, name), iter(range(1, 1000))

    def ending(*args: Any, **kwargs: Any) -> Any:
        now = next(calls) == at
        if now and not after:
            raise StopError
        result = whole(*args, **kwargs)
        if now:
            raise StopError
        return result

    monkeypatch.setattr(owner, name, ending)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "name", "at", "after"),
    [
        (SasRec, "training_step", 1, False),
        (SasRec, "training_step", 8, False),
        (checkpoint_io, "write_sealed", 3, False),
        (checkpoint_io, "atomic_file", 1, False),
        (checkpoint_io, "newest", 1, True),
        (pl.Trainer, "save_checkpoint", 2, False),
        (pl.Trainer, "save_checkpoint", 2, True),
        (pl.Trainer, "save_checkpoint", 4, True),
        (checkpoint_io, "write_json", 1, False),
        (checkpoint_io, "write_json", 1, True),
        (checkpoint_io, "finish", 1, False),
        (checkpoint_io, "finish", 1, True),
    ],
)
@pytest.mark.parametrize("early_stop", [False, True])
def test_an_interrupted_training_ends_as_any_other(
    new_fit: Callable[..., Fit],
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    name: str,
    at: int,
    after: bool,
    early_stop: bool,
) -> None:
    # Four epochs either way: quality rises to the end of the budget, or falls until patience is lost.
    budget = Budget(epochs=6, batch_size=20, patience=3) if early_stop else BUDGET

    def quality(module: SasRec) -> float:
        return -module.current_epoch if early_stop else module.current_epoch

    straight, broken = new_fit(), new_fit(folder="broken")
    expected = weights(sasrec(straight, budget=budget, quality=quality))
    with monkeypatch.context() as patched:
        interrupt(patched, owner, name, at, after)
        with pytest.raises(StopError):
            sasrec(broken, budget=budget, quality=quality)
    resumed = new_fit(folder="broken")
    assert equal(weights(sasrec(resumed, budget=budget, quality=quality)), expected)
    assert resumed.stages[0].model_copy(update={"seconds": 0.0, "reused": False}) == straight.stages[0].model_copy(
        update={"seconds": 0.0}
    )


def train_and_be_killed(corpus: Corpus, folder: Path, step: int) -> None:
    """At this step, the first being 1."""
    steps, whole = itertools.count(1), SasRec.training_step

    def training_step(module: SasRec, batch: Batch, number: int) -> Tensor:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(module, batch, number)

    with mock.patch.object(SasRec, "training_step", training_step):
        sasrec(Fit(corpus, 0, folder, "child"))


@pytest.mark.slow
def test_a_killed_process_resumes_and_ends_as_any_other(
    new_fit: Callable[..., Fit], tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The 8th step is the second of the third epoch.
    given = (tiny_corpus, tmp_path / "killed", 8)
    child = multiprocessing.get_context("fork").Process(target=train_and_be_killed, args=given)
    child.start()
    child.join(timeout=60)
    assert child.exitcode == -signal.SIGKILL
    (folder,) = (tmp_path / "killed").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == sorted([LAST, checkpoint_io.BEFORE, "lock-0"])

    taken: list[int] = []
    step = SasRec.training_step

    def counted(module: SasRec, batch: Batch, number: int) -> Tensor:
        taken.append(number)
        return step(module, batch, number)

    monkeypatch.setattr(SasRec, "training_step", counted)
    resumed = new_fit(folder="killed")
    found = weights(sasrec(resumed))
    assert taken == [0, 1, 2] * 2, "two epochs of four were left to train"
    assert not resumed.stages[0].reused
    assert sorted(path.name for path in folder.iterdir()) == sorted([BEST, DONE, "lock-0"])
    straight = new_fit()
    assert equal(found, weights(sasrec(straight)))
    assert resumed.stages[0].quality == straight.stages[0].quality


def test_states_are_saved_once_a_minute_and_a_kill_costs_what_came_after(
    new_fit: Callable[..., Fit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRBENCH_SAVE_SECONDS")
    clock, saved = SimpleNamespace(now=0.0), list[int]()
    monkeypatch.setattr(checkpoint_callback, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    save = pl.Trainer.save_checkpoint

    def noted(trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        saved.append(trainer.current_epoch + 1)
        save(trainer, *args, **kwargs)

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", noted)

    def half_a_minute(module: SasRec) -> float:
        clock.now += 30
        return float(module.item.weight.sum())

    budget = replace(BUDGET, epochs=5)
    straight = new_fit()
    expected = weights(sasrec(straight, budget=budget, quality=half_a_minute))
    assert saved == [2, 4]
    with monkeypatch.context() as patched:
        # The last step of the fourth epoch, whose state is not there yet; that of the third epoch never was.
        interrupt(patched, SasRec, "training_step", 12)
        with pytest.raises(StopError):
            sasrec(new_fit(folder="broken"), budget=budget, quality=half_a_minute)
    assert saved == [2, 4, 2]
    resumed = new_fit(folder="broken")
    assert equal(weights(sasrec(resumed, budget=budget, quality=half_a_minute)), expected)
    assert saved == [2, 4, 2, 4], "a resumed training waits a minute too"
    assert resumed.stages[0].model_copy(update={"seconds": 0.0}) == straight.stages[0].model_copy(
        update={"seconds": 0.0}
    )


def test_between_two_looks_a_state_is_saved_too(new_fit: Callable[..., Fit], monkeypatch: pytest.MonkeyPatch) -> None:
    """A tokenizer of hours may be looked at ten times in all."""
    budget, straight = replace(BUDGET, epochs=6, check_every=6), new_fit()
    expected = weights(sasrec(straight, budget=budget))
    with monkeypatch.context() as patched:
        interrupt(patched, SasRec, "training_step", 13)  # in the fifth epoch of three steps
        with pytest.raises(StopError):
            sasrec(new_fit(folder="killed"), budget=budget)
    epochs, step = list[int](), SasRec.training_step

    def counted(module: SasRec, batch: Batch, number: int) -> Tensor:
        epochs.append(module.current_epoch)
        return step(module, batch, number)

    monkeypatch.setattr(SasRec, "training_step", counted)
    resumed = new_fit(folder="killed")
    assert equal(weights(sasrec(resumed, budget=budget)), expected)
    assert sorted(set(epochs)) == [4, 5]
    assert resumed.stages[0].losses == straight.stages[0].losses


@pytest.mark.parametrize("given", ["1m", "nan", "-1", ""])
def test_how_often_states_are_saved_is_asked_before_a_training(
    given: str, new_fit: Callable[..., Fit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRBENCH_SAVE_SECONDS", given)
    with pytest.raises(ValueError, match=f"^GRBENCH_SAVE_SECONDS is '{given}'; expected a number of seconds"):
        new_fit()


def test_a_file_of_codes_is_known_by_its_content(in_memory: Fit) -> None:
    """Its buffer tells that; a copy in another folder is the same training."""

    @dataclass
    class Named:
        codes: str | None

    def address(codes: str | None) -> str:
        module = Counter()
        module.config = Named(codes)  # type: ignore[assignment]
        module.noise.zero_()
        return in_memory._address(module, BUDGET, in_memory.corpus.examples("train"), None, 0)

    assert address("/a/mine.tsv") == address("/b/mine.tsv") == address("mine.tsv")
    assert len({address(codes) for codes in ("mine.tsv", "others.tsv", None)}) == 3


def test_two_processes_may_find_the_same_state_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / LAST).write_bytes(b"x")
    load = checkpoint_io.Checkpoints.load_checkpoint

    def other_first(self: Any, path: Path, *args: Any, **kwargs: Any) -> Any:
        try:
            return load(self, path, *args, **kwargs)
        except ValueError:
            path.unlink()
            raise

    monkeypatch.setattr(checkpoint_io.Checkpoints, "load_checkpoint", other_first)
    assert checkpoint_io.newest(tmp_path, lambda text: None) is None


def test_each_seed_and_each_epoch_goes_through_the_examples_in_its_own_order(new_fit: Callable[..., Fit]) -> None:
    """240 pairs in batches of 60: four steps an epoch."""
    seen: list[list[int]] = []

    class Noting(Counter):
        def training_step(self, batch: Batch, batch_index: int) -> Tensor:
            seen.append(batch.target.tolist())
            return super().training_step(batch, batch_index)

    for seed in (0, 1):
        new_fit(seed)("stage", Noting, Budget(2, 60))
    orders = [seen[first : first + 4] for first in range(0, 16, 4)]
    assert len({str(order) for order in orders}) == 4
    assert len({str(sorted(itertools.chain(*order))) for order in orders}) == 1


def test_the_seconds_before_a_kill_are_counted(new_fit: Callable[..., Fit], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(checkpoint_callback, "time", SimpleNamespace(perf_counter=lambda: clock.now))

    def ten_seconds(module: SasRec) -> float:
        clock.now += 10
        return module.current_epoch

    with monkeypatch.context() as patched:
        interrupt(patched, SasRec, "training_step", 8)  # the second step of the third epoch
        with pytest.raises(StopError):
            sasrec(new_fit(folder="killed"), quality=ten_seconds)
    clock.now += 1_000
    resumed = new_fit(folder="killed")
    sasrec(resumed, quality=ten_seconds)
    assert resumed.stages[0].seconds == 40


def test_sums_of_other_threads_or_processes_are_another_training(in_memory: Fit) -> None:
    def address(**changes: Any) -> str:
        fit = replace(in_memory, hardware=replace(in_memory.hardware, **changes))
        return fit._address(module, BUDGET, fit.corpus.examples("train"), None, 0)

    module = Counter()
    assert len({address(), address(threads=3), address(devices=2)}) == 3


@pytest.mark.parametrize("name", ["atomic_file", "write_json"])
def test_a_kill_while_the_outcome_is_written_costs_no_epoch(
    new_fit: Callable[..., Fit], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with monkeypatch.context() as patched:
        interrupt(patched, checkpoint_io, name, 1)
        with pytest.raises(StopError):
            sasrec(new_fit(folder="killed"))
    epochs: list[int] = []
    begin = checkpoint_callback.CheckpointCallback.on_train_epoch_start

    def noted(self: Any, trainer: pl.Trainer, module: Any) -> None:
        epochs.append(trainer.current_epoch)
        begin(self, trainer, module)

    monkeypatch.setattr(checkpoint_callback.CheckpointCallback, "on_train_epoch_start", noted)
    sasrec(new_fit(folder="killed"))
    assert epochs == []


def test_a_budget_says_how_far_gradients_are_clipped(new_fit: Callable[..., Fit]) -> None:
    """A gradient of 1 in each of four directions has the norm 2; four steps of an epoch."""
    for clip, step in ((0.0, 1.0), (0.5, 0.25)):
        module = new_fit()("stage", lambda: Counter(Sizes(4)), Budget(1, 60, clip=clip))
        assert module.weight.tolist() == pytest.approx([4 * step] * 4, rel=1e-4)


def test_no_epoch_draws_what_another_has_drawn(new_fit: Callable[..., Fit]) -> None:
    drawn: list[float] = []

    class Noting(Counter):
        def training_step(self, batch: Batch, batch_index: int) -> Tensor:
            drawn.append(float(torch.rand(())))
            return super().training_step(batch, batch_index)

    new_fit()("stage", Noting, Budget(3, 60))
    assert len(set(drawn)) == len(drawn) == 12


def test_another_scikit_learn_trains_anew(in_memory: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    assert trained_anew(in_memory)
    monkeypatch.setattr(stage_key, "version", lambda name: "0.1" if name == "scikit-learn" else version(name))
    assert trained_anew(in_memory)


@pytest.mark.parametrize("field", ["valid_users", "accumulate"])
def test_a_budget_that_grades_nobody_or_steps_never_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"a budget has {field} 0; expected at least 1"):
        Budget(**{"epochs": 1, "batch_size": 1, field: 0})
