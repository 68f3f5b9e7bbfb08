"""A row of a board before any of its runs: all that follows from an experiment and a corpus, worked out once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks import model_inputs
from benchmarks.config import recorded
from benchmarks.execution.cell_progress import Place
from benchmarks.experiments import Experiment
from benchmarks.settings import Bench
from benchmarks.training.fit import Fit
from data_prep.corpus import UNSEEN_USERS, Corpus
from leaderboards import store
from leaderboards.record import PROTOCOL, config_key

# Share of the users that an experiment on unseen users keeps from the model, as in ETEGRec's section 6.3.1.
UNSEEN_SHARE = 0.05


@dataclass(frozen=True)
class ResolvedRow:
    """What `resolve` makes.

    Attributes:
        train_corpus: the users whom the model, its vectors and its selection may know, up to their test targets.
        eval_corpus: those it is graded on: most often the same ones.
    """

    bench: Bench
    experiment: Experiment
    train_corpus: Corpus
    eval_corpus: Corpus

    @cached_property
    def key(self) -> str:
        """The row's name, the same on every machine.

        Raises:
            ValueError, OSError: the config asks for inputs that are not there.
        """
        inputs = model_inputs.identity(self.bench, self.train_corpus, self.experiment)
        precision, config = self.bench.hardware.precision_class, published_config(self.experiment)
        return config_key(PROTOCOL, self.experiment.model, self.eval_corpus.fingerprint, precision, config, inputs)

    def label(self, seed: int) -> str:
        """A run, as messages name it."""
        return f"{self.experiment.name} seed {seed}"

    def record_path(self, seed: int) -> Path:
        """Where the record of a run lies, or will lie."""
        return store.path(self.bench.board, self.eval_corpus.name, self.experiment.model, self.key, seed)

    def place(self, seed: int) -> Place:
        """The files by which a run in progress is known."""
        return Place(self.bench.work / "cells" / f"{self.key}-{seed}")

    def fit(self, seed: int, **options: Any) -> Fit:
        """What trains a run's stages. `options`: of `Fit`."""
        named: dict[str, Any] = {"label": self.label(seed), "hardware": self.bench.hardware, **options}
        return Fit(self.train_corpus, seed, self.bench.work / "fits", **named)

    def inputs(self, fit: Fit) -> Corpus:
        """What the model is given, see `model_inputs.with_inputs`."""
        return model_inputs.with_inputs(self.bench, self.experiment, fit)


def resolve(bench: Bench, corpus: Corpus, experiment: Experiment) -> ResolvedRow:
    """The row of an experiment on a whole corpus.

    Raises:
        ValueError: the experiment is on unseen users, and the corpus has none to split off.
    """
    split = corpus.split_users(UNSEEN_SHARE) if experiment.unseen_users else (corpus.trained_on, corpus)
    return ResolvedRow(bench, experiment, *split)


def board_name(corpus: str, experiment: Experiment) -> str:
    """The board on which an experiment on a corpus has its row."""
    return corpus + UNSEEN_USERS if experiment.unseen_users else corpus


def published_config(experiment: Experiment) -> dict[str, Any]:
    """The config as records have it: of a path to a file of codes its last part, for it names no machine's folders."""
    config = recorded(experiment.config)
    return config | ({"codes": Path(config["codes"]).name} if config.get("codes") else {})
