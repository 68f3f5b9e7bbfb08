"""Re-rank users with saved weights, and hold the ranks against those of a record."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch

import models
from benchmarks import model_inputs, provenance
from benchmarks.config import read
from benchmarks.evaluate import Grader
from benchmarks.experiments import UNSEEN, Experiment
from benchmarks.hardware import Hardware
from benchmarks.model_inputs import with_kept_codes
from benchmarks.resolved_row import resolve
from benchmarks.settings import Bench, prepared, source_of
from benchmarks.training.checkpoint_callback import BEST, DONE
from benchmarks.training.fit import Fit, NotTrainedError, weights_of
from data_prep.corpus import UNSEEN_USERS, Corpus, Part
from data_prep.files import content_sha256
from leaderboards import ledger
from leaderboards.metrics import UNSEEN as AMONG_UNSEEN
from leaderboards.record import PROTOCOL, Provenance, Record
from leaderboards.store import Run, read_run
from models.api import Recommender

# Of users that came out at another rank. A batch of other users is summed in another order, which settles a tie of two
# nearly equal scores the other way once in a while.
TOLERATED = 0.01
# Users by whom a recommender is known again.
CHECKED = 200
# What is graded, and in which column of the ranks it stands.
PARTS: tuple[tuple[Part, str], ...] = (("valid", "valid_rank"), ("test", "rank"))


class NotHereError(ValueError):
    """The data, the item vectors or the options of the code that a record was made from are not here."""


class Again(NamedTuple):
    """Attributes: users, ranked again; different, those among them that came out at another rank."""

    users: int
    different: int


class Recalled(NamedTuple):
    """A trained recommender again, the users it was graded on, and the stages that it is made of."""

    recommender: Recommender
    eval_corpus: Corpus
    fit: Fit


def rerank(bench: Bench, run: Run, users: int | None = None, weights: Path | None = None) -> Again:
    """Ranks users of a record again, without any training: on both parts, and among unseen items where it has such.

    Args:
        users: so many of them, drawn at random; None for all.
        weights: as in `recall`.

    Raises:
        NotHereError, NotTrainedError, ValueError: as `recall`.
    """
    recommender, eval_corpus, _ = recall(bench, run.record, weights=weights)
    return ranked_again(recommender, eval_corpus, run, users)


def check_ranks(recommender: Recommender, eval_corpus: Corpus, run: Run) -> None:
    """
    Raises:
        ValueError: a recommender does not rank a sample of users as its record says.
    """
    again = ranked_again(recommender, eval_corpus, run, CHECKED)
    if again.different > TOLERATED * again.users:
        record = run.record
        raise ValueError(
            f"{again.different} of {again.users} users come out at another rank than the record of "
            f"{record.experiment}, seed {record.seed}, says; expected its "
            f"model: models/{record.model}.py may have changed since its commit "
            f"{record.provenance.git_commit:.12}, or its rank reads what is neither a parameter nor a buffer"
        )


def ranked_again(recommender: Recommender, eval_corpus: Corpus, run: Run, users: int | None) -> Again:
    """How many users a recommender ranks otherwise than a run of its row has it."""
    apart = np.zeros(eval_corpus.users, dtype=bool)
    for part, column in PARTS:
        unseen = f"{column}{AMONG_UNSEEN}"
        grader = Grader(eval_corpus, part, users, unseen=unseen in run.ranks.column_names)
        found, graded = grader(recommender), grader.examples.user
        for name, ranks in ((column, found.ranks), (unseen, found.unseen_ranks)):
            if ranks is not None:
                apart[graded] |= ranks != run.ranks[name].to_numpy()[graded]
    return Again(len(graded), int(apart.sum()))


def recall(bench: Bench, record: Record, source: str = "auto", weights: Path | None = None) -> Recalled:
    """The recommender of a record, from its weights.

    Args:
        weights: folder of weights as in `Fit.weights`; without it those of finished trainings in `bench.work`.

    Raises:
        NotHereError: the corpus, its item vectors or its codes are not there, or the model's config has other fields.
        NotTrainedError: the weights are not there.
        ValueError: they are not those that the record names.
    """
    hardware = dataclasses.replace(bench.hardware, precision=record.provenance.precision)
    hardware.set_num_threads()
    try:
        experiment = with_kept_codes(experiment_of(record), record.codes, bench.work)
        corpus = prepared(bench.work, record.corpus.name.removesuffix(UNSEEN_USERS), source_of(record, source))
        row = resolve(dataclasses.replace(bench, hardware=hardware), corpus, experiment)
        _check_corpus(record, row.eval_corpus)
        _check_inputs(record, model_inputs.identity(row.bench, row.train_corpus, experiment))
        fit = row.fit(record.seed, weights=weights, trains=False)
        given = row.inputs(fit)
    except (OSError, ValueError) as error:
        raise NotHereError(str(error)) from error
    recommender = models.load(record.model).train(experiment.config, given, fit)
    _check_weights(record, fit)
    return Recalled(recommender.to(hardware.device), row.eval_corpus, fit)


def _check_corpus(record: Record, corpus: Corpus) -> None:
    """
    Raises:
        ValueError: it is not the one that the record names, by its hash; under an earlier protocol, whose item text was
            another one, by its counts.
    """
    for name in ("fingerprint",) if record.protocol == PROTOCOL else ("users", "items", "interactions"):
        here, told = getattr(corpus, name), getattr(record.corpus, name)
        if here != told:
            raise ValueError(f"the data of {record.corpus.name} has {name} {here}; the record's has {told}")


def _check_inputs(record: Record, here: Mapping[str, Any]) -> None:
    """
    Raises:
        ValueError: what the model would be given is made in another way than what the record's was. Of a SASRec's item
            vectors its weights tell that; under an earlier protocol no record does.
    """
    for name, told in record.inputs.items():
        if told is not None and "model" not in told and here[name] != told:
            given = here[name] or {}
            others = sorted(part for part in {*told, *given} if told.get(part) != given.get(part))
            raise ValueError(f"the {name} here are others than the record's: they differ in {', '.join(others)}")


def recall_by_hash(bench: Bench, record: Record, source: str = "auto") -> Recalled:
    """The recommender of a record, from weights in `bench.work` that any version of the code has trained.

    Raises:
        FileNotFoundError: weights with the hashes that the record names are not there, or it names none.
        NotHereError, ValueError: as `recall`.
    """
    with TemporaryDirectory() as links:
        _link_weights(record, bench.work, Path(links))
        return recall(bench, record, source, Path(links))


def _link_weights(record: Record, work: Path, links: Path) -> None:
    logs = (log.with_name(BEST) for log in (work / "fits").glob(f"*/{DONE}"))
    there = {content_sha256(weights): weights for weights in logs if weights.is_file()} if record.cost.stages else {}
    for number, stage in enumerate(record.cost.stages):
        if stage.weights_sha256 is None:
            raise FileNotFoundError(
                f"the record of {record.experiment}, seed {record.seed}, is from before records named their weights; "
                "expected a newer one: `make bench` with another BOARD makes it"
            )
        if stage.weights_sha256 not in there:
            raise FileNotFoundError(
                f"the weights of stage {stage.name} of {record.experiment}, seed {record.seed}, SHA-256 "
                f"{stage.weights_sha256}, are not in {work / 'fits'}; expected the folder of trainings of that run"
            )
        weights_of(links, number, stage.name).symlink_to(there[stage.weights_sha256].resolve())


def _check_weights(record: Record, fit: Fit) -> None:
    """
    Raises:
        ValueError: weights of a stage are not those that the record names; older records name none.
    """
    named = {stage.name: stage.weights_sha256 for stage in record.cost.stages if stage.weights_sha256}
    for stage in fit.stages:
        if stage.weights_sha256 != named.get(stage.name, stage.weights_sha256):
            raise ValueError(
                f"weights of stage {stage.name} of {record.model}/{record.key} have the hash {stage.weights_sha256}; "
                f"the record names {named[stage.name]}"
            )


def experiment_of(record: Record) -> Experiment:
    """The experiment that a record is of, from its own config.

    Raises:
        ValueError: the model's config has other fields by now.
    """
    config = read(models.load(record.model).Config, record.config, f"config of {record.model}/{record.key}")
    return Experiment(record.experiment, record.model, config, record.experiment.endswith(UNSEEN))


def hardware_of(origin: Provenance) -> Hardware:
    """The kind of device and the threads of a run: what it was trained on is filed under them, and ranks best there."""
    on_gpu = torch.cuda.is_available() and torch.cuda.get_device_name() in origin.device
    return Hardware("auto" if on_gpu else "cpu", threads=origin.threads)


def platform(origin: Provenance) -> str:
    """What must be equal for numbers to be equal to the bit."""
    libraries = ", ".join(f"{name} {origin.versions.get(name)}" for name in ("torch", "numpy"))
    return f"{origin.device}, {libraries}, {origin.threads} thread"


def deep(bench: Bench, row: str | None, users: int) -> tuple[list[str], list[str]]:
    """Re-ranks a sample of users of each record whose weights are in the folder of trainings, on hardware of its kind.

    Args:
        row: part of a record's path; None for all records of the board.

    Returns:
        What is wrong, and what was done, a sentence per record each. That no record was ranked again, is wrong.
    """
    problems, says, ranked = list[str](), list[str](), 0
    for target in ledger.records(bench.board, row):
        try:
            run = read_run(bench.board, target)
            origin, hardware = run.record.provenance, hardware_of(run.record.provenance)
            setting = dataclasses.replace(bench, hardware=hardware).for_vectors(run.record.config.get("vectors"))
            again = rerank(setting, run, users=users)
        except (NotHereError, NotTrainedError) as missing:
            says.append(f"{target}: not re-ranked: {missing}")
            continue
        except (ValueError, OSError) as error:
            problems.append(f"{target}: {error}")
            continue
        here, there = platform(provenance.of(hardware)), platform(origin)
        where = "" if here == there else f", on {here}, not on {there}"
        says.append(f"{target}: {again.different} of {again.users} users come out at another rank{where}")
        problems += says[-1:] if again.different > TOLERATED * again.users else []
        ranked += 1
    if not ranked:
        fits = f" whose path holds {row!r}" if row else ""
        problems.append(f"no record of {bench.board}{fits} was ranked again; expected weights of one in {bench.work}")
    return problems, says
