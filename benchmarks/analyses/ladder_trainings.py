"""Rungs of the protocol ladder that need other weights: what the model is trained on, and by what it is chosen.

Both wrong choices train on a corpus of their own, which no row can come from; nothing here writes a record.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytorch_lightning as pl
import safetensors.torch

import models
from benchmarks.analyses import Lab
from benchmarks.experiments import Experiment
from benchmarks.resolved_row import resolve
from benchmarks.run import Watch
from benchmarks.training.checkpoint_callback import Watcher
from benchmarks.training.fit import Fit, selection_metric, with_weights
from benchmarks.training.stage_key import sources_sha256
from data_prep.atomic import atomic_file, write_json
from data_prep.corpus import Corpus
from leaderboards.record import Stage
from models.api import Budget, Recommender

# In which a model's epochs are chosen. Those that choose in several stages have no ladder, nor have those that train
# nothing.
STAGE, SEVERAL_STAGES = "recommender", ("etegrec", "pit")

M = TypeVar("M", bound=pl.LightningModule)


class Trained(NamedTuple):
    """One training, and two of its epochs.

    Attributes:
        chosen: the epoch that the training chose by its own validation.
        watched: the one that its watcher kept.
        epoch: number of the chosen one.
        watched_epoch: of the watched one.
    """

    chosen: Recommender
    watched: Recommender
    epoch: int
    watched_epoch: int


def validation_learned(corpus: Corpus) -> Corpus:
    """The corpus of those who train on the validation items, too: all but the last item of a user is for training.

    What it has to choose epochs by are the test targets.
    """
    return replace(corpus, whole=corpus.fingerprint)


@dataclass
class Kept(Watcher):
    """Keeps the weights of one epoch in a file, so that a killed training knows them when it goes on."""

    file: Path

    @property
    def facts(self) -> dict[str, Any]:
        path = self.file.with_suffix(".json")
        return json.loads(path.read_text()) if path.exists() else {"epoch": 0, "value": 0.0}

    def keep(self, epoch: int, value: float, module: pl.LightningModule) -> None:
        with atomic_file(self.file) as file:
            tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
            file.write(safetensors.torch.save(tensors))
        write_json(self.file.with_suffix(".json"), {"epoch": epoch, "value": value})


@dataclass
class BestOnTest(Kept):
    """Keeps the epoch that is best on the test part, by as many users as an epoch is graded by."""

    corpus: Corpus
    valid_users: int | None

    def known(self, stage: Stage, module: pl.LightningModule) -> None:
        value, best = selection_metric(self.corpus, "test", self.valid_users)(module), self.facts
        if not best["epoch"] or value > best["value"]:
            self.keep(stage.epochs, value, module)


@dataclass
class AtEpoch(Kept):
    """Keeps the last checked epoch up to a number."""

    number: int

    def known(self, stage: Stage, module: pl.LightningModule) -> None:
        if not self.facts["epoch"] or stage.epochs <= self.number:
            self.keep(stage.epochs, stage.quality[-1], module)


def chosen_on_test(lab: Lab, experiment: Experiment) -> Trained:
    """The protocol's training; watched: its epoch that is best on the test part."""
    sample = getattr(experiment.config, "valid_users", None)
    watcher = BestOnTest(_file(lab, experiment, "best-on-test"), lab.corpus, sample)
    return _trained(lab, experiment, lab.corpus, watcher)


def with_validation_items(lab: Lab, experiment: Experiment, epochs: int) -> Trained:
    """Validation items are trained on. Chosen: the epoch that is best on the test part, which is all that is left to
    choose by; watched: the one after as many `epochs` as the protocol chose."""
    watcher = AtEpoch(_file(lab, experiment, "validation-learned"), epochs)
    return _trained(lab, experiment, validation_learned(lab.corpus), watcher, least=epochs)


def _file(lab: Lab, experiment: Experiment, name: str) -> Path:
    """In a folder that is named by what decides a training: the row's key, seed, code, device and threads."""
    code = sources_sha256(models.load(experiment.model).Config)
    row, hardware = resolve(lab.bench, lab.corpus, experiment), lab.bench.hardware
    facts = [row.key, lab.seed, code[:12], hardware.device.type, hardware.threads]
    folder = lab.bench.work / "ladder" / "-".join(map(str, facts))
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.safetensors"


@dataclass
class Patient:
    """A `Fit` under which no training ends before its epoch `least`: neither by the test part, nor because an epoch of
    more pairs has more of a given number of steps."""

    fit: Callable[..., Any]
    least: int

    def __call__(self, stage: str, build: Callable[[], M], budget: Budget, *others: Any, **named: Any) -> M:
        longer = replace(budget, epochs=max(budget.epochs, self.least), patience=max(budget.patience, self.least))
        module: M = self.fit(stage, build, longer if stage == STAGE else budget, *others, **named)
        return module


def _trained(lab: Lab, experiment: Experiment, corpus: Corpus, watcher: Kept, least: int = 0) -> Trained:
    """
    Args:
        least: epochs that are trained at least.

    Raises:
        ValueError: epochs of the model are not chosen in one stage.
    """
    if experiment.model in SEVERAL_STAGES:
        raise ValueError(f"{experiment.name} has no ladder: it chooses epochs in several stages; expected in one")
    lab.bench.hardware.set_num_threads()
    row = resolve(lab.bench, corpus, experiment)

    def train(watch: Watch) -> tuple[Recommender, Fit]:
        # Trainings of its own: one that has been finished elsewhere was not watched.
        fit = replace(row.fit(lab.seed, watch=watch), root=watcher.file.parent / "fits")
        model = models.load(experiment.model)
        return model.train(experiment.config, row.inputs(fit), Patient(fit, least)), fit

    chosen, fit = train(lambda stage: [watcher] if stage == STAGE else [])
    if not watcher.facts["epoch"]:
        raise ValueError(f"{experiment.name} has no ladder: it has no stage {STAGE!r} whose epochs are chosen")
    # The same modules once more, in which the weights of the other epoch are put.
    watched = with_weights(train(lambda stage: [])[0], watcher.file)
    device = lab.bench.hardware.device
    return Trained(chosen.to(device), watched.to(device), fit.stages[-1].best_epoch, watcher.facts["epoch"])
