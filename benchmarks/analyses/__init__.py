"""The papers' analyses, each a table and a picture: `python -m benchmarks analyse NAME --corpus CORPUS`.

A trained model that an analysis needs is taken from the folder of trainings, or trained as `bench` would train it.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import pandas as pd

import models
from benchmarks import experiments, provenance
from benchmarks.checks.rerank import check_ranks, recall_by_hash
from benchmarks.config import changed, near, setting, unread
from benchmarks.evaluate import Graded
from benchmarks.execution.cell import Cell
from benchmarks.execution.local import run_all
from benchmarks.experiments import UNSEEN, Experiment
from benchmarks.resolved_row import resolve
from benchmarks.run import check_writable
from benchmarks.settings import Bench
from benchmarks.training.fit import Fit
from data_prep.atomic import write_text
from data_prep.corpus import Corpus
from leaderboards import store
from leaderboards.plots import svg
from models.api import Ranking, Recommender, Tokenizing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from models.parts.index import ItemIndex

Certified = TypeVar("Certified", Ranking, Graded)
# Names of experiments in a file's name, in characters; where they are more, their number stands there.
LONGEST = 100
# Name -> module of this package in which a function of that name makes it; imported when its turn comes.
ANALYSES = {
    "utilisation": "composition",
    "prefixes": "composition",
    "sensitivity": "sensitivity",
    "unseen": "unseen",
    "alignment": "alignment",
    "weights": "sensitivity",
    "entropy": "code_use",
    "density": "code_use",
    "index": "code_use",
    "batching": "batching",
    "precision": "precisions",
    "ladder": "ladder",
    "cold_start": "cold_start",
    "code_loss": "code_loss",
    "support": "support",
    "fusion": "fusion",
}
# Those that can be made of the weights of one row.
OF_A_ROW = ("ladder", "code_loss")


class Finding(NamedTuple):
    """
    Attributes:
        says: what they show and how it is defined, in a paragraph.
        subject: of what experiment it is, where an analysis is made of one; part of its files' name.
    """

    table: pd.DataFrame
    figure: Figure
    says: str
    subject: str = ""


@dataclass(frozen=True)
class Lab:
    """What an analysis works with.

    Attributes:
        source: where the corpus's files come from.
        names: experiments to analyse; each analysis has its own unless some are given.
        settings: `key=value` for every one of them, or `experiment:key=value` for one.
        jobs: trainings at a time, or batches that are graded, where an analysis needs several.
        row: a record whose weights are analysed; nothing is trained then.
        tuned: experiments have what a sweep has found for them.
    """

    bench: Bench
    corpus: Corpus
    source: str = "auto"
    names: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    seed: int = 0
    jobs: int = 1
    row: Path | None = None
    tuned: bool = True

    def __post_init__(self) -> None:
        """
        Raises:
            ValueError: a setting is for an experiment that there is not.
        """
        for each in self.settings:
            name, colon, _ = each.partition("=")[0].partition(":")
            if colon and _whole(name) not in experiments.names():
                possible = experiments.names()
                meant = f"{near(name, possible)}possible: {', '.join(possible)}"
                raise ValueError(f"{each!r} is for {name!r}, which is no experiment; {meant}")

    def experiment(self, name: str, *settings: str, usual: Sequence[str] = ()) -> Experiment:
        """
        Args:
            settings: what the analysis is about.
            usual: what the user's own settings may change.

        Raises:
            ValueError: what `experiments.complete` raises.
        """
        own = [text for each in self.settings if (text := self._for(each, name))]
        # What comes later wins.
        told = {text.partition("=")[0]: text for text in [*usual, *own, *settings]}
        asked = experiments.complete(name, self.corpus, own, self.tuned)
        config = changed(asked.config, dict(map(setting, told.values())), asked.model)
        # What the analysis sets may leave nothing that reads another setting.
        about = {text.partition("=")[0] for text in settings}
        kept = [text for option, text in told.items() if option in about or not unread(config, option)]
        return experiments.complete(name, self.corpus, kept, self.tuned)

    def chosen(self, *usual: str) -> tuple[str, ...]:
        """Names of the experiments that an analysis is of.

        Args:
            usual: where none are given.

        Raises:
            ValueError: a setting is for another one, or what `experiment` raises; before any is trained.
        """
        names = self.names or usual
        for each in self.settings:
            of, colon, _ = each.partition("=")[0].partition(":")
            if colon and _whole(of) not in map(_whole, names):
                raise ValueError(f"{each!r} is for {of!r}; expected one of {', '.join(names)}")
        for name in names:
            self.experiment(name)
        return names

    def one(self, usual: str) -> str:
        """Name of the experiment of an analysis that is of one.

        Args:
            usual: where none is given.

        Raises:
            ValueError: several are given, or as `chosen`.
        """
        if len(self.names) > 1:
            raise ValueError(
                f"this analysis is of one experiment; {len(self.names)} were given: {', '.join(self.names)}"
            )
        return self.chosen(usual)[0]

    @staticmethod
    def _for(setting: str, name: str) -> str:
        """What a setting sets of an experiment, under either of its names; nothing where it is for another."""
        key, equals, value = setting.partition("=")
        of, colon, field = key.rpartition(":")
        return field + equals + value if not colon or _whole(of) == _whole(name) else ""

    def check_model(self, names: Sequence[str], model: str, lacks: str) -> None:
        """
        Raises:
            ValueError: an experiment is not of the model that an analysis is about; before any is trained.
        """
        for name in names:
            if self.experiment(name).model != model:
                raise ValueError(f"{name} has no {lacks}; expected an experiment of {model}")

    def recommender(self, name: str) -> Recommender:
        """The whole model, trained."""
        experiment = self.experiment(name)
        trained = models.load(experiment.model).train(experiment.config, *self._given(experiment))
        return trained.to(self.bench.hardware.device)

    def recalled(self, file: Path) -> tuple[store.Run, Recommender]:
        """The run of a record, and the model with its weights.

        Raises:
            FileNotFoundError: the weights are not there.
            ValueError: it is of another corpus, models, settings or `tuned=False` are given beside it, the weights do
                not rank by now as the record says.
        """
        asked = [*self.names, *self.settings, *([] if self.tuned else ["untuned"])]
        if asked:
            others = ", ".join(asked)
            raise ValueError(f"{file} says of what model and settings it is; expected no others ({others})")
        run = store.read_run(store.board_of(file), file.absolute())
        found = recall_by_hash(self.bench, run.record, self.source)
        if found.eval_corpus.fingerprint != self.corpus.fingerprint:
            raise ValueError(f"{file} is of {found.eval_corpus.name}; expected a row of {self.corpus.name}")
        check_ranks(found.recommender, found.eval_corpus, run)
        return run, found.recommender.eval()

    def index(self, name: str) -> ItemIndex:
        """The codes that the model's tokenizer gives.

        Raises:
            ValueError: it has none that is finished before the recommender is trained.
        """
        experiment = self.experiment(name)
        model = models.load(experiment.model)
        if not isinstance(model, Tokenizing):
            raise ValueError(f"{experiment.model} has no tokenizer that is finished before its recommender is trained")
        return model.tokenize(experiment.config, *self._given(experiment))

    def runs(self, cells: Sequence[Cell]) -> list[store.Run]:
        """The runs of experiments and seeds, each trained where its record is missing.

        Raises:
            ValueError: a training failed, or some lists of one are not certified.
        """
        paths = [resolve(self.bench, self.corpus, cell.experiment).record_path(cell.seed) for cell in cells]
        # What is there is looked at before others are trained.
        there = {path: proven_run(store.read_run(self.bench.board, path)) for path in paths if path.exists()}
        missing = [cell for path, cell in zip(paths, cells, strict=True) if path not in there]
        if run_all(self.bench, self.corpus.name, self.source, missing, self.jobs):
            raise ValueError("a training failed, so there is no picture; the same command goes on from there")
        return [there.get(path) or proven_run(store.read_run(self.bench.board, path)) for path in paths]

    def _given(self, experiment: Experiment) -> tuple[Corpus, Fit]:
        self.bench.hardware.set_num_threads()
        row = resolve(self.bench, self.corpus, experiment)
        fit = row.fit(self.seed)
        return row.inputs(fit), fit


def _whole(name: str) -> str:
    """Name of the experiment that learns from all users."""
    return name.removesuffix(UNSEEN)


def analyse(name: str, lab: Lab, folder: Path) -> tuple[Finding, Path]:
    """Makes an analysis and writes `<folder>/<corpus>-<name>.md` and `.svg`, or `<corpus>-<name>-<subject>`, which for
    an analysis of no one experiment are those that are named, their number and a hash where they are many; one of a row
    has the row's key and seed behind that, for an experiment may have several.

    Returns:
        The finding, and the `.md`.

    Raises:
        ValueError: there is no such analysis, or none of a row, an experiment is of unseen users or not of its model,
            the corpus is cut at a moment or has cold items alone for targets.
        OSError: the folder cannot be written.
    """
    if name not in ANALYSES:
        raise ValueError(f"no analysis {name!r}; possible: {', '.join(ANALYSES)}")
    if lab.row is not None and name not in OF_A_ROW:
        raise ValueError(f"{name} is not made of one row ({lab.row}); expected {' or '.join(OF_A_ROW)}")
    if lab.corpus.for_training is not None:
        raise ValueError(
            f"{lab.corpus.name} is graded on other users or items than are learned; expected a whole corpus"
        )
    if name != "unseen" and (unseen := [each for each in lab.names if each.endswith(UNSEEN)]):
        raise ValueError(f"{unseen[0]} is graded on users whom it never saw; {name} is of experiments on all users")
    check_writable(folder / name, "analyses (--out)")
    named = "-".join(lab.names)
    if len(named) > LONGEST:
        named = f"{len(lab.names)}-experiments-{hashlib.sha256(named.encode()).hexdigest()[:8]}"
    found: Finding = getattr(importlib.import_module(f"{__name__}.{ANALYSES[name]}"), name)(lab)
    subject = [found.subject or named] if found.subject or named else []
    if lab.row is not None:
        subject += [lab.row.absolute().parent.name, lab.row.stem]
    stem = "-".join([lab.corpus.name, name, *subject])
    write_text(folder / f"{stem}.svg", svg(found.figure))
    title = name.replace("_", " ").capitalize() + (f" of {', '.join(subject)}" if subject else "")
    parts = [
        f"# {title} on {lab.corpus.name}",
        found.table.to_markdown(index=False, floatfmt=".4g"),
        f"![{found.says.split('. ')[0]}]({stem}.svg)",
        found.says,
        _origin(lab),
    ]
    file = folder / f"{stem}.md"
    write_text(file, "\n\n".join(parts) + "\n")
    return found, file


def proven(found: Certified) -> Certified:
    """A ranking, or places found by one, all of whose lists are exact: pages say so.

    Raises:
        ValueError: the search has given up on some.
    """
    if not found.certified.all():
        missing = int((~found.certified).sum())
        raise ValueError(f"{missing} of {len(found.certified)} lists are not certified; expected all, of exact search")
    return found


def proven_run(run: store.Run) -> store.Run:
    """A run all of whose lists are exact. Raises ValueError as `proven`."""
    record = run.record
    if record.search.certified_share < 1:
        raise ValueError(
            f"{record.experiment} seed {record.seed} has lists that are not certified; expected none, of exact search"
        )
    return run


def _origin(lab: Lab) -> str:
    facts = provenance.of(lab.bench.hardware, lab.bench.board)
    dirty = " with uncommitted changes" if facts.git_dirty_sha256 else ""
    corpus = f"{lab.corpus.users:,} users, {lab.corpus.items:,} items, fingerprint `{lab.corpus.fingerprint[:12]}`"
    return f"Made by `{facts.command}` at commit `{facts.git_commit[:12]}`{dirty}; {corpus}."
