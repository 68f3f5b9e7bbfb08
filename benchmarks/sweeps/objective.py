"""What a trial is worth, its validation NDCG@10. Nothing here grades the test part."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytorch_lightning as pl

import models
from benchmarks.config import changed
from benchmarks.evaluate import Grader
from benchmarks.experiments import Experiment
from benchmarks.resolved_row import ResolvedRow, resolve
from benchmarks.settings import Bench
from benchmarks.sweeps.study_spec import WARM_UP
from benchmarks.sweeps.trial_state import DEFAULT
from benchmarks.tracking import wandb_run
from benchmarks.training.checkpoint_callback import Watcher
from benchmarks.user_errors import out_of_memory
from data_prep.corpus import Corpus
from leaderboards.metrics import metrics
from leaderboards.record import Stage
from models.api import Recommender

if TYPE_CHECKING:
    from optuna.trial import Trial

# Steps that a trial reports count on from here in each further stage, so that only like stages are compared.
STAGE = 100_000


@dataclass(frozen=True)
class Objective:
    """A trial's worth, larger is better.

    Attributes:
        experiment: untuned.
        seed: of every training.
    """

    bench: Bench
    corpus: Corpus
    experiment: Experiment
    seed: int

    def __call__(self, trial: Trial) -> float:
        """
        Raises:
            TrialPruned: the trial lags behind.
            ValueError: its values make no model, or its training has diverged.
        """
        from optuna import TrialPruned

        config = changed(self.experiment.config, trial.params, self.experiment.model)
        row = resolve(self.bench, self.corpus, dataclasses.replace(self.experiment, config=config))
        study = trial.study.study_name
        with wandb_run.follow(row, self.seed, study, trial.number) as tracker:
            try:
                value = self._worth(trial, row, tracker)
            except TrialPruned:
                tracker.summary({"pruned": 1})
                raise
            tracker.summary({wandb_run.OBJECTIVE: value})
        return value

    def _worth(self, trial: Trial, row: ResolvedRow, tracker: wandb_run.Tracker) -> float:
        experiment, hardware = row.experiment, row.bench.hardware
        label = f"{experiment.name} trial {trial.number}"
        fit = row.fit(self.seed, label=label)
        hardware.set_num_threads()

        def watch(stage: str) -> list[Watcher]:
            return [*tracker.watch(stage), Reporter(trial, len(fit.stages))]

        try:
            # Vectors are trained without a look at validation, so nobody watches there.
            given = row.inputs(fit)
            watched = dataclasses.replace(fit, watch=watch)
            recommender = models.load(experiment.model).train(experiment.config, given, watched)
            found = Grader(given, "valid", k=10)(recommender.to(hardware.device))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise ValueError(f"out of memory: {error}".splitlines()[0]) from None
        trial.set_user_attr("epochs", sum(stage.epochs for stage in fit.stages))
        return metrics(found.ranks)["ndcg@10"]


class Reporter(Watcher):
    """Reports the checks of a recommender's stage to its trial, and ends the trial where the pruner says so.

    Attributes:
        offset: step of the stage's start.
        reported: checks so far.
    """

    def __init__(self, trial: Trial, stage: int) -> None:
        self.trial, self.offset, self.reported = trial, stage * STAGE, 0

    def checked(self, stage: Stage, module: pl.LightningModule) -> None:
        # Other modules, tokenizers say, are chosen by losses of their own.
        if not isinstance(module, Recommender):
            return
        # More than one after a training went on from its checkpoint: the earlier process reported to another trial.
        for check in range(self.reported, len(stage.quality)):
            self.trial.report(stage.quality[check], self.offset + check)
        self.reported = len(stage.quality)
        if DEFAULT not in self.trial.user_attrs and self.reported > WARM_UP and self.trial.should_prune():
            from optuna import TrialPruned

            raise TrialPruned
