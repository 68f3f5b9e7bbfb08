"""Fit: trains one stage of a model with a Lightning Trainer, resumable and content-addressed.

A stage's folder is named by the hash of everything that decides its outcome: the freshly built weights and buffers, the
config, all code that it can come across and the libraries' versions, the examples, the budget and the seed. So two
models with the same tokenizer share one training, and a killed run finds its own checkpoint and no other.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pytorch_lightning as pl
from filelock import FileLock, Timeout
from pytorch_lightning.utilities import rank_zero_only
from tqdm import tqdm

from benchmarks.device import peak_memory_bytes
from benchmarks.evaluate import Grader, NanScoreError
from benchmarks.hardware import Hardware
from benchmarks.training import checkpoint_io
from benchmarks.training.bf16_plugin import Bf16
from benchmarks.training.checkpoint_callback import BEST, CheckpointCallback, Watcher, derive, save_seconds, seed_all
from benchmarks.training.stage_key import sources_sha256, state_sha256
from benchmarks.training_precision import Precision
from data_prep.batches import Batches
from data_prep.corpus import Corpus, Examples, Part
from data_prep.files import content_sha256
from leaderboards.metrics import metrics
from leaderboards.record import Stage
from models.api import Budget, Recommender, generator_of

M = TypeVar("M", bound=pl.LightningModule)


# Users whom an untrained recommender ranks.
TRIED = 16
# Share by which a metric may come out otherwise where sums are made in another order.
SAME = 0.01


class NotTrainedError(Exception):
    """A stage's weights are not there, and it was not to be trained."""


def weights_of(folder: Path, number: int, stage: str) -> Path:
    """Where the weights of a run's stage lie in a folder that `Fit.weights` names; stages count from 0."""
    return folder / f"{number}-{stage}.safetensors"


def process_rank(hardware: Hardware) -> int:
    """Rank of this process in distributed training, which Lightning keeps up to date; 0 outside it, where a scheduler's
    variables may still name one."""
    return int(getattr(rank_zero_only, "rank", 0)) if hardware.processes > 1 else 0


@contextmanager
def exclusive_lock(lock: Path, label: str, rank: int = 0) -> Iterator[None]:
    """Of the processes that come to a lock one goes on, the others wait for it; a lock ends with its process.

    Args:
        rank: of this one in distributed training, whose processes go on together.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    mine = FileLock(f"{lock}-{rank}")
    try:
        mine.acquire(blocking=False)
    except Timeout:
        tqdm.write(f"{label} is at work in another process; waiting for it", file=sys.stderr)
        mine.acquire()
    try:
        yield
    finally:
        mine.release()


class Chosen(NamedTuple):
    """How the epoch of a recommender was chosen.

    Attributes:
        recommender: at that epoch.
        users: of validation, who chose it: a sample of so many, or None for all.
        own: by a quality of the model's own, not by NDCG@10.
        ndcg: NDCG@10 of all validation users then; None where they did not choose.
    """

    recommender: Recommender
    users: int | None
    own: bool
    ndcg: float | None


@dataclass
class Fit:
    """The harness's side of `models.api.Fit`.

    A module with a true attribute `batch_wide_loss` is not trained by several processes.

    Attributes:
        corpus: kept without its test part, which nothing that trains can reach.
        blind: never look at validation: a recommender too is chosen by its training loss. So are trained item vectors,
            which must know nothing of what they are later graded on.
        weights: folder of finished weights, as `weights_of` names them, that are loaded in place of training.
        trains: where not, a stage that has not been trained before is an error.
        prefix: before the names of its stages, so that no two of a run's are the same; no part of their seeds.
        watch: name of a stage -> those who look on while it trains.
        folders: of the stages, as in `stages`.
        chosen: how the epoch of the recommender was chosen; None where none was trained.
    """

    corpus: Corpus
    seed: int
    root: Path
    label: str
    hardware: Hardware = field(default_factory=Hardware)
    blind: bool = False
    weights: Path | None = None
    trains: bool = True
    prefix: str = ""
    watch: Callable[[str], Sequence[Watcher]] = lambda stage: ()
    stages: list[Stage] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    chosen: Chosen | None = None

    def __post_init__(self) -> None:
        """
        Raises:
            ValueError: as `save_seconds`.
        """
        save_seconds()
        self.corpus = self.corpus.without_test()
        seed_all(self.seed)

    def __call__(
        self,
        stage: str,
        build: Callable[[], M],
        budget: Budget,
        examples: Examples | None = None,
        quality: Callable[[M], float] | None = None,
    ) -> M:
        if not len(self.corpus.examples("train")):
            # Said before a tokenizer is trained for nothing.
            raise ValueError(
                f"corpus {self.corpus.name} has no training pairs, so stage {stage} has nothing to serve; "
                "expected a user of four interactions or more"
            )
        if Path(stage).name != stage:
            raise ValueError(f"{self.label} has a stage {stage!r}; expected a name that a file can have")
        seed = derive(self.seed, stage)
        stage = self.prefix + stage
        seed_all(seed)
        module = build()
        if isinstance(module, Recommender):
            check_history_length(module)
        if self.weights:
            file = weights_of(self.weights, len(self.stages), stage)
            self.stages.append(Stage.begun(stage, reused=True, weights_sha256=content_sha256(file)))
            return self._done(with_weights(module, file), budget, quality is not None, seed)
        examples = self.corpus.examples("train") if examples is None else examples
        if not len(examples):
            raise ValueError(f"stage {stage} on corpus {self.corpus.name} has no examples; expected at least one")
        if examples.length.any():
            check_history_length(module)
        folder = self.root / self._address(module, budget, examples, quality, seed)
        if not self.trains and checkpoint_io.finished(folder, self._say) is None:
            raise NotTrainedError(f"stage {stage} of {self.label} has not been trained by this code in {self.root}")
        self.folders.append(folder)
        with exclusive_lock(folder / "lock", f"{self.label} {stage}", process_rank(self.hardware)):
            log = checkpoint_io.finished(folder, self._say)
            if log:
                self.stages.append(log.model_copy(update={"name": stage, "reused": True}))
            else:
                self._try(module)
                self._train(module, stage, seed, budget, examples, quality or self._quality(module, budget), folder)
                self._report()
        return self._done(with_weights(module, folder / BEST), budget, quality is not None, seed)

    def _done(self, module: M, budget: Budget, own: bool, seed: int) -> M:
        """Whether a stage was trained, found or given, what is drawn next is the same.

        Args:
            own: chosen by a quality of the model's own.
        """
        seed_all(derive(seed, "done"))
        if isinstance(module, Recommender):
            all_chose = not (self.blind or self.weights or own or budget.valid_users)
            self.chosen = Chosen(module, budget.valid_users, own, max(self.stages[-1].quality) if all_chose else None)
        return module

    def check_chosen(self, recommender: Recommender, ndcg: float) -> None:
        """Holds what is graded against what was chosen. One that generates codes is searched less far between epochs.

        Args:
            ndcg: NDCG@10 of all validation users.

        Raises:
            ValueError: the weights that an epoch was chosen for do not rank as they did.
        """
        if self.chosen is None or self.chosen.recommender is not recommender or generator_of(recommender):
            return
        before = self.chosen.ndcg
        if before is not None and abs(ndcg - before) > SAME * max(ndcg, before):
            raise ValueError(
                f"{self.label} has the validation NDCG@10 {ndcg:.4f}, and had {before:.4f} in the chosen epoch; "
                f"expected the same: what {type(recommender).__name__}.rank reads must be a parameter or a buffer, and "
                "after eval() nothing may be drawn"
            )

    def _try(self, module: pl.LightningModule) -> None:
        """Ranks a few users before hours of training, not after them, and twice: what differs then is no score.

        Raises:
            ValueError: as `Grader`, or the same users come out at other ranks.
        """
        if self.blind or not isinstance(module, Recommender) or generator_of(module):
            return
        grader = Grader(self.corpus, "valid", TRIED, unseen=True)
        one, other = (grader(module) for _ in range(2))
        if not np.array_equal(one.ranks, other.ranks):
            raise ValueError(
                f"{type(module).__name__}.rank ranked the same users twice and gave other places; expected the same "
                "ones: after eval() nothing may be drawn, dropout included"
            )

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
        wide, processes = getattr(module, "batch_wide_loss", False), self.hardware.processes
        check_shares(f"stage {stage} of {self.label}", processes, budget.batch_size, wide)
        callback = CheckpointCallback(Stage.begun(stage), seed, budget, quality, folder, f"{self.label} {stage}")
        trainer = pl.Trainer(
            # Not `auto`: Lightning's own choice may be another than `Hardware.device`.
            accelerator=self.hardware.device.type,
            devices=self.hardware.devices,
            num_nodes=self.hardware.nodes,
            strategy=self.hardware.parallel,
            max_epochs=budget.epochs,
            gradient_clip_val=budget.clip or None,
            accumulate_grad_batches=budget.accumulate,
            callbacks=[*self.watch(stage), callback],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            plugins=[checkpoint_io.Checkpoints(), *self._plugins(module)],
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
        last = checkpoint_io.newest(folder, self._say)
        try:
            trainer.fit(module, batches, ckpt_path=str(last) if last else None, weights_only=True)
        except SystemExit as error:
            # What Lightning makes of Ctrl-C, and of any signal that comes as one.
            came = error.__context__
            raise (came if isinstance(came, KeyboardInterrupt) else KeyboardInterrupt()) from error
        if trainer.is_global_zero:
            checkpoint_io.finish(folder, callback.done, callback.best)
        trainer.strategy.barrier()
        self.stages.append(callback.done)

    def _report(self) -> None:
        """What the last stage took, above the progress bars."""
        if process_rank(self.hardware):
            return
        done, peak = self.stages[-1], peak_memory_bytes(str(self.hardware.device)) / 2**30
        pace = done.seconds / max(1, done.epochs)
        text = f"{done.name}: {done.epochs} epochs of {pace:.2g} s, best {done.best_epoch}, peak memory {peak:.2f} GiB"
        self._say(text)

    def _say(self, text: str) -> None:
        """A line above the progress bars."""
        tqdm.write(f"{self.label} {text}", file=sys.stderr)

    def _quality(self, module: pl.LightningModule, budget: Budget) -> Callable[[Any], float] | None:
        """NDCG@10 on the validation part: the protocol's selection metric."""
        if self.blind or not isinstance(module, Recommender):
            return None
        return selection_metric(self.corpus, "valid", budget.valid_users)

    def _precision(self, module: pl.LightningModule) -> Precision:
        """Other modules name items, and bf16 would give many of them another name: they train in float32."""
        return self.hardware.precision if isinstance(module, Recommender) else "32-true"

    def _plugins(self, module: pl.LightningModule) -> list[Bf16]:
        """Lightning's own precision is float32."""
        return [Bf16(self.hardware.device.type)] if self._precision(module) == "bf16-mixed" else []

    def _address(
        self, module: pl.LightningModule, budget: Budget, examples: Examples, quality: object, seed: int
    ) -> str:
        config = dataclasses.asdict(module.config)  # type: ignore[call-overload]
        # Of a file its content counts, which the codes among the buffers tell, and no folder.
        file = config.get("codes")
        named = {"codes": Path(file).name} if isinstance(file, str) else {}
        facts = {
            "module": type(module).__qualname__,
            "code": sources_sha256(type(module)),
            "config": config | named,
            "state": state_sha256(module),
            "budget": dataclasses.asdict(budget),
            "examples": examples.sha256(),
            "quality": getattr(quality, "__qualname__", None),
            "blind": self.blind,
            "corpus": self.corpus.fingerprint,
            "seed": seed,
            "precision": self._precision(module),
            # What trains in float32 everywhere is found everywhere.
            "device": self.hardware.device.type if isinstance(module, Recommender) else None,
            "processes": self.hardware.processes,
            "threads": self.hardware.threads,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def check_shares(what: str, processes: int, batch_size: int = 0, wide: bool = False) -> None:
    """
    Args:
        wide: its loss looks across the whole batch.

    Raises:
        ValueError: processes cannot share the batches of a training.
    """
    if processes > 1 and wide:
        raise ValueError(
            f"{what} has a loss that looks across the whole batch, of which each of {processes} processes would see "
            "its share alone; run it with --devices 1 --nodes 1"
        )
    if batch_size % processes:
        raise ValueError(f"{what} has batches of {batch_size}, which {processes} processes cannot share evenly")


def check_history_length(module: pl.LightningModule) -> None:
    """
    Raises:
        ValueError: what is given histories does not say how many items of one it reads.
    """
    length = getattr(module, "history_length", None)
    if not isinstance(length, int) or length < 1:
        raise ValueError(
            f"{type(module).__name__} has the history_length {length!r}; expected the number of items of a history "
            "that it reads, set in __init__"
        )


def selection_metric(corpus: Corpus, part: Part, users: int | None) -> Callable[[Any], float]:
    """NDCG@10 of a recommender on so many users of a part of a corpus, or on all, as it is told between the epochs of a
    training; nan where its scores are none, of which `CheckpointCallback` says what training it is."""
    grader = Grader(corpus, part, users, k=10)

    def ndcg(recommender: Any) -> float:
        try:
            return metrics(grader(recommender).ranks)["ndcg@10"]
        except NanScoreError:
            return math.nan

    return ndcg


def with_weights(module: M, file: Path) -> M:
    """A module with the weights of a file, to be graded.

    Raises:
        ValueError: the file holds weights of something else.
    """
    try:
        module.load_state_dict(checkpoint_io.weights(file))
    except RuntimeError as error:
        # A record's weights are found through links, which are gone when this is read.
        raise ValueError(
            f"{file.resolve()} does not hold weights of this stage: {' '.join(str(error).split())}"
        ) from None
    return module.eval()
