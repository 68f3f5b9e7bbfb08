"""Re-rank users with saved weights, and hold the ranks against those of a record."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

import data_prep
import models
from benchmarks.evaluate import Grader
from benchmarks.experiments import UNSEEN, Experiment, flat
from benchmarks.fit import Fit, NotTrainedError
from benchmarks.precision import Precision
from benchmarks.run import Bench, split_of, with_inputs
from data_prep.corpus import UNSEEN_USERS, Corpus
from leaderboards.record import Record
from leaderboards.store import Run, read_run
from models.api import Recommender

# Of users that came out at another rank. A batch of other users is summed in another order, which settles a tie of two
# nearly equal scores the other way once in a while.
TOLERATED = 0.01


class Again(NamedTuple):
    """Attributes: users, ranked again; different, those among them that came out at another rank."""

    users: int
    different: int


class Recalled(NamedTuple):
    """A trained recommender again, the users it was graded on, and the stages that it is made of."""

    recommender: Recommender
    graded: Corpus
    fit: Fit


def rerank(
    bench: Bench, run: Run, source: str = "auto", users: int | None = None, weights: Path | None = None
) -> Again:
    """Ranks test users of a record again, without any training.

    Args:
        users: so many of them, drawn at random; None for all.
        weights: as in `recall`.

    Raises:
        NotTrainedError, ValueError: as `recall`.
    """
    recommender, graded, _ = recall(bench, run.record, source, weights)
    grader = Grader(graded, "test", users)
    found = grader(recommender).ranks
    stored = run.ranks["rank"].to_numpy()[grader.examples.user]
    return Again(len(found), int((found != stored).sum()))


def recall(bench: Bench, record: Record, source: str = "auto", weights: Path | None = None) -> Recalled:
    """The recommender of a record, from its weights.

    Args:
        weights: folder of weights as in `Fit.weights`; without it those of finished trainings in `bench.work`.

    Raises:
        NotTrainedError: the weights are not there.
        ValueError: the record's config is no longer one of the model's.
    """
    experiment = experiment_of(record)
    corpus = data_prep.load(record.corpus.name.removesuffix(UNSEEN_USERS), source=source)
    known, graded = split_of(corpus, experiment)
    label = f"{record.experiment} seed {record.seed}"
    precision = TypeAdapter(Precision).validate_python(record.provenance.precision)
    hardware = dataclasses.replace(bench.hardware, precision=precision)
    fit = Fit(known, record.seed, bench.work / "fits", label, hardware, weights=weights, trains=False)
    bench.hardware.take_threads()
    known = with_inputs(bench, known, experiment, fit)
    recommender = models.load(record.model).train(experiment.config, known, fit)
    return Recalled(recommender.to(bench.hardware.device), graded, fit)


def experiment_of(record: Record) -> Experiment:
    """The experiment that a record is of, from its own config.

    Raises:
        ValueError: the model's config has other fields by now.
    """
    try:
        config: Any = TypeAdapter(models.load(record.model).Config).validate_python(record.config)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"config of {record.model}/{record.key}: option {where}: {first['msg']}") from None
    gone = dict(flat(record.config)).keys() - dict(flat(dataclasses.asdict(config))).keys()
    if gone:
        raise ValueError(f"config of {record.model}/{record.key}: the model has no option {', '.join(sorted(gone))}")
    return Experiment(record.experiment, record.model, config, record.experiment.endswith(UNSEEN))


def deep(bench: Bench, row: str | None, users: int) -> tuple[list[str], list[str]]:
    """Re-ranks a sample of users of each record whose weights are in the folder of trainings.

    Args:
        row: part of a record's path; None for all records of the board.

    Returns:
        What is wrong, and what was done, a sentence per record each.
    """
    problems, says = [], []
    for target in sorted(bench.board.glob("*/*/*/seed-*.json")):
        if row is not None and row not in str(target):
            continue
        try:
            again = rerank(bench, read_run(bench.board, target), users=users)
        except NotTrainedError as missing:
            says.append(f"{target}: not re-ranked: {missing}")
            continue
        except ValueError as error:
            problems.append(f"{target}: {error}")
            continue
        says.append(f"{target}: {again.different} of {again.users} users come out at another rank")
        problems += says[-1:] if again.different > TOLERATED * again.users else []
    return problems, says
