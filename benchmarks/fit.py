"""Fit: trains one stage of a model with a Lightning Trainer, resumable and content-addressed.

A stage's folder is named by the hash of everything that decides its outcome: the freshly built weights and buffers, the
config, the code of the module and of what it is composed of, the examples, the budget and the seed. So two models with
the same tokenizer share one training, and a killed run finds its own checkpoint and no other.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib
import inspect
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytorch_lightning as pl
import safetensors.torch
import torch
from filelock import FileLock
from pytorch_lightning.utilities import rank_zero_only
from torch import nn
from tqdm import tqdm

import data_prep.batches
from benchmarks.evaluate import Grader
from data_prep.atomic import atomic_file, write_json
from data_prep.batches import Batches
from data_prep.corpus import Corpus, Examples
from leaderboards.metrics import metrics
from models.api import Budget, Recommender

M = TypeVar("M", bound=pl.LightningModule)

# The files of a stage's folder: best weights, last state of the trainer (while it trains), log (when it is done).
BEST, LAST, DONE = "best.safetensors", "last.ckpt", "done.json"


def derive(seed: int, *labels: object) -> int:
    """A 31-bit seed from a run's seed and labels, so that adding a stage shifts no other stage's randomness."""
    digest = hashlib.sha256(json.dumps([seed, *map(str, labels)]).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def process_rank() -> int:
    """Rank of this process in distributed training; 0 outside it. Lightning keeps it up to date."""
    return int(getattr(rank_zero_only, "rank", 0))


@dataclass(frozen=True)
class Hardware:
    """Where and how a run computes; part of its provenance, not of its config."""

    accelerator: str = "auto"
    devices: int = 1
    strategy: str = "auto"
    threads: int = 1
    """CPU threads per process. Sums depend on it in the last bits, so the machine does not decide it."""

    @property
    def device(self) -> torch.device:
        """Where grading happens, and training on one device."""
        on_gpu = self.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        return torch.device("cuda" if on_gpu else "cpu")

    @property
    def precision(self) -> Literal["bf16-mixed", "32-true"]:
        """bf16 in training where the device has it; losses and log-probabilities stay float32."""
        return "bf16-mixed" if self.device.type == "cuda" and torch.cuda.is_bf16_supported() else "32-true"


@dataclass
class Stage:
    """What one stage cost and how its quality went; copied to the record."""

    name: str
    epochs: int = 0
    best_epoch: int = 0
    seconds: float = 0.0
    quality: list[float] = field(default_factory=list)
    reused: bool = False


@dataclass
class Fit:
    """The harness's side of `models.api.Fit`."""

    corpus: Corpus
    seed: int
    root: Path
    label: str
    hardware: Hardware = field(default_factory=Hardware)
    bar_position: int = 0
    stages: list[Stage] = field(default_factory=list)

    def __call__(
        self,
        stage: str,
        build: Callable[[], M],
        budget: Budget,
        examples: Examples | None = None,
        quality: Callable[[M], float] | None = None,
    ) -> M:
        seed = derive(self.seed, stage)
        torch.manual_seed(seed)
        module = build()
        examples = self.corpus.examples("train") if examples is None else examples
        if not len(examples):
            raise ValueError(f"stage {stage} on corpus {self.corpus.name} has no examples; expected at least one")
        folder = self.root / self._address(module, budget, examples, quality, seed)
        folder.mkdir(parents=True, exist_ok=True)
        # Two cells that need the same training at the same time: one trains, the other waits for it.
        with FileLock(folder / f"lock-{process_rank()}"):
            if (folder / DONE).exists():
                log = Stage(**json.loads((folder / DONE).read_text()))
                self.stages.append(dataclasses.replace(log, name=stage, reused=True))
            else:
                self._train(module, stage, seed, budget, examples, quality or self._quality(module, budget), folder)
        module.load_state_dict(safetensors.torch.load_file(folder / BEST))
        return module.eval()

    def _train(
        self,
        module: M,
        stage: str,
        seed: int,
        budget: Budget,
        examples: Examples,
        quality: Callable[[M], float] | None,
        folder: Path,
    ) -> None:
        keeper = Keeper(Stage(stage), seed, budget, quality, folder, f"{self.label} {stage}", self.bar_position)
        trainer = pl.Trainer(
            accelerator=self.hardware.accelerator,
            devices=self.hardware.devices,
            strategy=self.hardware.strategy,
            precision=self.hardware.precision,
            max_epochs=budget.epochs,
            gradient_clip_val=budget.clip or None,
            callbacks=[keeper],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
        )
        batches = Batches(
            examples,
            budget.batch_size,
            getattr(module, "history_length", 0),
            trainer.strategy.root_device,
            seed,
            epoch=lambda: trainer.current_epoch,
            shard=(trainer.global_rank, trainer.world_size),
        )
        last = folder / LAST
        trainer.fit(module, batches, ckpt_path=str(last) if last.exists() else None, weights_only=True)
        if trainer.is_global_zero:
            write_json(folder / DONE, dataclasses.asdict(keeper.done))
            last.unlink(missing_ok=True)
        trainer.strategy.barrier()
        self.stages.append(keeper.done)

    def _quality(self, module: pl.LightningModule, budget: Budget) -> Callable[[Any], float] | None:
        """NDCG@10 on the validation part: the protocol's selection metric."""
        if not isinstance(module, Recommender):
            return None
        grader = Grader(self.corpus, "valid", budget.valid_users, k=10)
        return lambda recommender: metrics(grader(recommender).ranks)["ndcg@10"]

    def _address(
        self, module: pl.LightningModule, budget: Budget, examples: Examples, quality: object, seed: int
    ) -> str:
        facts = {
            "module": type(module).__qualname__,
            "code": [hashlib.sha256(path.read_bytes()).hexdigest() for path in _code_of(module)],
            "config": dataclasses.asdict(module.config),  # type: ignore[call-overload]
            "state": _state_sha256(module),
            "budget": dataclasses.asdict(budget),
            "examples": examples.sha256(),
            "quality": getattr(quality, "__qualname__", None),
            "corpus": self.corpus.fingerprint,
            "seed": seed,
            "precision": self.hardware.precision,
            "devices": self.hardware.devices,
            "threads": self.hardware.threads,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


class Keeper(pl.callbacks.Checkpoint):
    """Checks quality, keeps the best weights and the last state, stops early, shows progress.

    Lightning runs `Checkpoint` callbacks last, when the trainer's state is complete; so a run that resumes from
    `last.ckpt` goes on exactly where an uninterrupted one would be.
    """

    def __init__(
        self,
        done: Stage,
        seed: int,
        budget: Budget,
        quality: Callable[[Any], float] | None,
        folder: Path,
        title: str,
        bar_position: int,
    ) -> None:
        self.done, self.seed, self.budget, self.quality, self.folder = done, seed, budget, quality, folder
        self.title, self.bar_position = title, bar_position
        self.clock = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        self._stop_clock()
        return dataclasses.asdict(self.done)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.done.__dict__.update(state_dict)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.clock = time.perf_counter()
        # Killed after its last epoch, a training that lost its patience must not go on.
        trainer.should_stop = self._patience_is_lost()
        steps = int(trainer.num_training_batches)
        self.bar = tqdm(
            desc=self.title,
            total=self.budget.epochs * steps,
            initial=trainer.current_epoch * steps,
            position=self.bar_position,
            unit="step",
            leave=False,
            disable=not trainer.is_global_zero,
            # Into a log file, a line a minute is enough.
            mininterval=0.5 if sys.stderr.isatty() else 60,
        )

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        # Randomness of an epoch depends on its number alone, so no generator state has to survive a kill.
        torch.manual_seed(derive(self.seed, "epoch", trainer.current_epoch, trainer.global_rank))
        self.loss = torch.zeros((), device=module.device)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.loss += outputs["loss"]
        self.bar.update()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if epoch % self.budget.check_every and epoch < self.budget.epochs:
            return
        done = self.done
        value = self.quality(module) if self.quality else -float(self.loss) / int(trainer.num_training_batches)
        value = float(trainer.strategy.broadcast(value))
        if not math.isfinite(value):
            raise ValueError(f"the quality of {self.title} is {value} after epoch {epoch}: the training has diverged")
        if not done.quality or value > max(done.quality):
            done.best_epoch = epoch
            if trainer.is_global_zero:
                save_weights(module, self.folder / BEST)
        done.quality.append(value)
        done.epochs = epoch
        self.bar.set_postfix(epoch=epoch, quality=f"{value:.4f}", best=f"{max(done.quality):.4f}", refresh=False)
        trainer.should_stop = self._patience_is_lost()
        # Lightning writes in the system's temporary folder; from there a move may be a copy, which a kill leaves half.
        fresh = self.folder / f"{LAST}.new"
        trainer.save_checkpoint(fresh, weights_only=False)
        if trainer.is_global_zero:
            fresh.replace(self.folder / LAST)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._stop_clock()
        self.bar.close()

    def _patience_is_lost(self) -> bool:
        return (self.done.epochs - self.done.best_epoch) // self.budget.check_every >= self.budget.patience

    def _stop_clock(self) -> None:
        now = time.perf_counter()
        self.done.seconds += now - self.clock
        self.clock = now


def save_weights(module: nn.Module, path: Path) -> None:
    """Parameters and persistent buffers as safetensors, written whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    with atomic_file(path) as file:
        file.write(safetensors.torch.save(tensors))


def _state_sha256(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _code_of(module: pl.LightningModule) -> list[Path]:
    """The files whose code decides how a stage trains: the module's own, the parts it imports, batches, this one."""
    found, pending = set[Path](), [Path(inspect.getfile(type(module)))]
    while pending:
        path = pending.pop()
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("models.parts."):
                part = inspect.getfile(importlib.import_module(str(node.module)))
                pending += [Path(part)] if Path(part) not in found else []
    return [*sorted(found), Path(data_prep.batches.__file__), Path(__file__)]
