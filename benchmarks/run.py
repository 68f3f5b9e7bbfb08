"""One experiment under one seed -> one record. The only place where a model, a corpus and a grade meet."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import data_prep
import models
from benchmarks import experiments, provenance, record_fields
from benchmarks.device import peak_memory_bytes, reset_peak_memory
from benchmarks.evaluate import Grader
from benchmarks.execution.cell_progress import Place, Reporter, in_time
from benchmarks.experiments import Experiment, small
from benchmarks.hardware import Hardware
from benchmarks.training.checkpoint_callback import Watcher
from benchmarks.training.fit import Fit, alone, process_rank
from data_prep.codes_file import find_codes, read_codes
from data_prep.corpus import UNSEEN_USERS, Corpus, ItemCodes, ItemVectors
from data_prep.embed import item_vectors
from data_prep.embed import recipe as vectors_recipe
from leaderboards import store
from leaderboards.metrics import metrics
from leaderboards.record import PROTOCOL, Cost, Record, Stage, config_key
from models.api import HasItemVectors, Recommender, generator_of, parameters

# Fields of a config that name item vectors.
VECTORS = ("vectors", "collaborative")
# Item vectors that are trained within the run, on its training part and under its seed: `sasrec-<width>`.
TRAINED = "sasrec"
# Steps of that training, in which nobody looks at validation, rounded up to whole epochs: about where SASRec's own row
# on Musical_Instruments stops; on a small corpus three times as many as on planted, for narrow vectors learn slowly.
SMALL_STEPS, STEPS = 1_920, 2_700
# Share of the users that an experiment on unseen users keeps from the model, as in ETEGRec's section 6.3.1.
UNSEEN_SHARE = 0.05

Watch = Callable[[str], Sequence[Watcher]]


@dataclass(frozen=True)
class Bench:
    """What the cells of a bench share.

    Attributes:
        board: folder of the records.
        work: folder for trainings in progress and finished ones that another cell can share, prepared corpora and item
            vectors.
        vectors_path: a `.npz` file or a sentence-transformers folder, for those kinds of item vectors.
        track: how runs are followed, one of `benchmarks.tracking.wandb_run.MODES`.
        until: seconds since the epoch, after which no training begins, and those that are at work end at their next
            look; they can be gone on with.
    """

    board: Path
    work: Path
    vectors_path: Path | None = None
    hardware: Hardware = field(default_factory=Hardware)
    track: str = "off"
    until: float | None = None


def prepared(work: Path, corpus: str, source: str) -> Corpus:
    """A corpus, prepared beneath the folder of trainings. Raises what `data_prep.load` does."""
    return data_prep.load(corpus, source, work / "corpora")


def target(bench: Bench, corpus: Corpus, experiment: Experiment, seed: int) -> Path:
    """Where the record of a cell lies, or will lie."""
    board = board_name(corpus.name, experiment)
    return store.path(bench.board, board, experiment.model, key(bench, corpus, experiment), seed)


def board_name(corpus: str, experiment: Experiment) -> str:
    """The board on which an experiment on a corpus has its row."""
    return corpus + UNSEEN_USERS if experiment.unseen_users else corpus


def run(
    bench: Bench,
    corpus: Corpus,
    experiment: Experiment,
    seed: int,
    bar_position: int = 0,
    watch: Watch = lambda stage: (),
) -> Path:
    """Train, grade and write the record; a record that exists is left as it is.

    `watch` is as in `Fit`; the stages of trained item vectors have the config's field before their names.

    Raises:
        ValueError: the config asks for what the corpus does not have, or a record with another result exists.
        OutOfTimeError: `bench.until` has come.
        OSError: the board cannot be written.
    """
    path = target(bench, corpus, experiment, seed)
    place = place_of(bench, path)
    with alone(place.lock, f"{experiment.name} seed {seed}"):
        if not path.exists():
            in_time(bench.until)
            _check_writable(path)
            _run(bench, corpus, experiment, seed, path, bar_position, watch)
        place.file.unlink(missing_ok=True)
    return path


def nearest_folder(folder: Path) -> Path:
    """A folder, or the first above it that is there."""
    return next(found for found in (folder, *folder.absolute().parents) if found.exists())


def _check_writable(record: Path) -> None:
    """Said before hours of training, not after them.

    Raises:
        OSError: the folder where a record is to lie cannot be written.
    """
    there = nearest_folder(record.parent)
    if not os.access(there, os.W_OK | os.X_OK):
        raise OSError(f"{there} cannot be written; expected a folder for records (BOARD=, --board)")


def place_of(bench: Bench, record: Path) -> Place:
    """The files of the cell whose record is to be written there."""
    return Place(bench.work / "cells" / f"{record.parent.name}-{record.stem.removeprefix('seed-')}")


def _run(
    bench: Bench, corpus: Corpus, experiment: Experiment, seed: int, path: Path, bar_position: int, watch: Watch
) -> None:
    known, graded = split_of(corpus, experiment)
    bench.hardware.set_num_threads()
    label = f"{experiment.name} seed {seed}"
    place = place_of(bench, path)

    def watched(stage: str) -> list[Watcher]:
        return [*watch(stage), Reporter(place, bench.until)]

    fit = Fit(known, seed, bench.work / "fits", label, bench.hardware, bar_position, watch=watched)
    reset_peak_memory(str(bench.hardware.device))
    origin = provenance.of(bench.hardware)
    given = with_inputs(bench, experiment, fit)
    recommender = models.load(experiment.model).train(experiment.config, given, fit).to(bench.hardware.device)
    generator = generator_of(recommender)
    valid, test = (Grader(graded, part, unseen=True)(recommender) for part in ("valid", "test"))
    ranks = record_fields.rank_table(known, graded, valid, test)
    row = Record(
        protocol=PROTOCOL,
        corpus=record_fields.corpus_info(graded),
        model=experiment.model,
        experiment=experiment.name,
        seed=seed,
        key=path.parent.name,
        precision=bench.hardware.precision_class,
        config=published_config(experiment),
        vectors=record_fields.vectors_info(given.vectors),
        collaborative=record_fields.vectors_info(given.collaborative),
        codes=record_fields.codes_info(given.codes),
        notes=[
            *record_fields.notes(experiment, given, given.vectors),
            *record_fields.unseen_notes(experiment, known, graded),
        ],
        valid=metrics(valid.ranks, valid.unseen_ranks),
        test=metrics(test.ranks, test.unseen_ranks),
        valid_users=record_fields.valid_users(experiment, known),
        diagnostics=record_fields.diagnostics(known, graded, recommender),
        search=record_fields.search(test),
        code_card=generator.card() if generator else None,
        cost=_cost(fit, recommender, graded.users / test.seconds),
        provenance=origin,
        ranks_sha256=store.content_sha256(ranks),
    )
    if process_rank() == 0:
        store.write(bench.board, row, ranks)


def _cost(fit: Fit, recommender: Recommender, users_per_second: float) -> Cost:
    """What a run took up to now."""
    return Cost(
        train_seconds=sum(stage.seconds for stage in fit.stages),
        stages=[Stage(**dataclasses.asdict(stage)) for stage in fit.stages],
        evaluate_users_per_second=users_per_second,
        peak_memory_bytes=peak_memory_bytes(str(fit.hardware.device)),
        parameters=parameters(recommender),
        energy_joules=None,
    )


class Split(NamedTuple):
    """Whom the model, its vectors and its selection may know, up to their test targets, and whom it is graded on: most
    often the same users."""

    known: Corpus
    graded: Corpus


def split_of(corpus: Corpus, experiment: Experiment) -> Split:
    """All users on both sides, unless the experiment is on unseen users."""
    return Split(*corpus.split_users(UNSEEN_SHARE)) if experiment.unseen_users else Split(corpus, corpus)


def key(bench: Bench, corpus: Corpus, experiment: Experiment) -> str:
    """The name of the row of an experiment on a whole corpus; the same on every processor, whose item vectors differ in
    the last digits. None are made for it."""
    split = split_of(corpus, experiment)
    inputs = {field: _recipe(bench, split.known, experiment, field) for field in VECTORS}
    codes = _codes(split.known, experiment)
    inputs["codes"] = {"sha256": codes.sha256} if codes else None
    config, precision = published_config(experiment), bench.hardware.precision_class
    return config_key(PROTOCOL, experiment.model, split.graded.fingerprint, precision, config, inputs)


def published_config(experiment: Experiment) -> dict[str, Any]:
    """The config as records have it: of a path to a file of codes its last part, for it names no machine's folders."""
    config = dataclasses.asdict(experiment.config)
    return config | ({"codes": Path(config["codes"]).name} if config.get("codes") else {})


def _kind(experiment: Experiment, field: str) -> str | None:
    """The item vectors that a config names in one of the fields `VECTORS`; None where it has none."""
    return getattr(experiment.config, field, None)


def _recipe(bench: Bench, corpus: Corpus, experiment: Experiment, field: str) -> dict[str, Any] | None:
    """How those item vectors are made."""
    kind = _kind(experiment, field)
    if kind is None:
        return None
    if kind.startswith(TRAINED):
        return {"kind": kind, "model": TRAINED, "config": dataclasses.asdict(_trained_config(kind, corpus))}
    return vectors_recipe(corpus, kind, bench.vectors_path)


def with_inputs(bench: Bench, experiment: Experiment, fit: Fit) -> Corpus:
    """What a model is given: the corpus of its `fit`, which has no test part, with the item vectors and the file of
    codes that the experiment's config names."""
    vectors, collaborative = (_vectors(bench, experiment, field, fit) for field in VECTORS)
    codes = _codes(fit.corpus, experiment)
    return dataclasses.replace(fit.corpus, vectors=vectors, collaborative=collaborative, codes=codes)


def _codes(corpus: Corpus, experiment: Experiment) -> ItemCodes | None:
    named = getattr(experiment.config, "codes", None)
    return read_codes(corpus, find_codes(corpus, named)) if named else None


def _vectors(bench: Bench, experiment: Experiment, field: str, fit: Fit) -> ItemVectors | None:
    corpus, kind = fit.corpus, _kind(experiment, field)
    made = _recipe(bench, corpus, experiment, field)
    if kind is None or made is None:
        return None
    if not kind.startswith(TRAINED):
        return item_vectors(corpus, kind, bench.vectors_path, bench.work / "vectors")
    config = _trained_config(kind, corpus)
    blind = dataclasses.replace(fit, blind=True, prefix=f"{field}-")
    recommender = models.load(TRAINED).train(config, corpus, blind)
    assert isinstance(recommender, HasItemVectors)
    values = recommender.item_vectors().cpu().numpy()
    name = f"SASRec, {config.width}-d, {config.epochs} epochs on the training part alone, under the run's seed"
    digest = hashlib.sha256(values.tobytes()).hexdigest()
    return ItemVectors(values, kind, name, digest, stand_in=False, recipe=made)


def _trained_config(kind: str, corpus: Corpus) -> Any:
    """Config of the SASRec whose item vectors `kind` names."""
    width, steps = kind.removeprefix(f"{TRAINED}-"), SMALL_STEPS if small(corpus.name) else STEPS
    config = experiments.complete(TRAINED, corpus.name, [f"width={width}"], tuned=False).config
    # One of its examples is a user.
    return dataclasses.replace(config, epochs=math.ceil(steps / math.ceil(corpus.users / config.batch_size)))
