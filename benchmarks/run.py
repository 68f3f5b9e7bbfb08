"""A run: one experiment under one seed -> one record. The only place where a model, a corpus and a grade meet."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import models
from benchmarks import provenance, record_fields
from benchmarks.config import flat, unread
from benchmarks.device import peak_memory_bytes, reset_peak_memory
from benchmarks.evaluate import Grader
from benchmarks.execution.cell_progress import Reporter, in_time
from benchmarks.experiments import Experiment
from benchmarks.hardware import Hardware
from benchmarks.resolved_row import ResolvedRow, published_config, resolve
from benchmarks.settings import Bench
from benchmarks.training.checkpoint_callback import Watcher
from benchmarks.training.fit import Fit, check_shares, exclusive_lock, process_rank
from data_prep.corpus import Corpus
from leaderboards import store
from leaderboards.metrics import metrics
from leaderboards.record import PROTOCOL, Cost, Record, Stage
from models.api import Recommender, generator_of, parameters

Watch = Callable[[str], Sequence[Watcher]]


def run(bench: Bench, corpus: Corpus, experiment: Experiment, seed: int) -> Path:
    """`run_seed` of an experiment on a corpus; returns where the record lies.

    Commits of this project are asked by others to make their records again: `benchmarks.checks.train_again` calls it.
    """
    return run_seed(resolve(bench, corpus, experiment), seed)


def run_seed(row: ResolvedRow, seed: int, watch: Watch = lambda stage: ()) -> Path:
    """Train, grade and write the record; a record that exists is left as it is.

    `watch` is as in `Fit`; the stages of trained item vectors have the config's field before their names.

    Raises:
        ValueError: the config asks for what the corpus does not have, or a record with another result exists.
        OutOfTimeError: `bench.until` has come.
        OSError: the board cannot be written.
    """
    path, place = row.record_path(seed), row.place(seed)

    def watched(stage: str) -> list[Watcher]:
        return [*watch(stage), Reporter(place, row.bench.until)]

    rank = process_rank(row.bench.hardware)
    with exclusive_lock(place.lock, row.label(seed), rank):
        if not path.exists():
            in_time(row.bench.until)
            check_writable(path, "records (BOARD=, --board)")
            _make(row, row.fit(seed, watch=watched))
        place.file.unlink(missing_ok=True)
    return path


def nearest_folder(folder: Path) -> Path:
    """A folder, or the first above it that is there."""
    return next(found for found in (folder, *folder.absolute().parents) if found.exists())


def check_writable(file: Path, what: str) -> None:
    """Said before hours of training, not after them.

    Args:
        what: is to lie in the file's folder.

    Raises:
        OSError: that folder is none, or cannot be written.
    """
    there = nearest_folder(file.parent)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise OSError(f"{there} cannot be written; expected a folder for {what}")


def _make(row: ResolvedRow, fit: Fit) -> None:
    """Trains, grades and writes."""
    hardware, experiment = row.bench.hardware, row.experiment
    hardware.set_num_threads()
    reset_peak_memory(str(hardware.device))
    origin = provenance.of(hardware, row.bench.board)
    check_processes(experiment, hardware)
    given = row.inputs(fit)
    recommender = models.load(experiment.model).train(experiment.config, given, fit)
    check_trained(recommender, experiment.model, fit)
    recommender = recommender.to(hardware.device)
    generator = generator_of(recommender)
    valid, test = (Grader(row.eval_corpus, part, unseen=True)(recommender) for part in ("valid", "test"))
    if row.eval_corpus is row.train_corpus:
        fit.check_chosen(recommender, metrics(valid.ranks)["ndcg@10"])
    ranks = record_fields.rank_table(row.train_corpus, row.eval_corpus, valid, test)
    record = Record(
        protocol=PROTOCOL,
        corpus=record_fields.corpus_info(row.eval_corpus),
        model=experiment.model,
        experiment=experiment.name,
        seed=fit.seed,
        key=row.key,
        precision=hardware.precision_class,
        config=published_config(experiment),
        vectors=record_fields.vectors_info(given.vectors),
        collaborative=record_fields.vectors_info(given.collaborative),
        codes=record_fields.codes_info(given.codes),
        notes=[
            *record_fields.notes(experiment, given, given.vectors),
            *record_fields.choice_notes(fit),
            *record_fields.user_notes(fit, row.train_corpus, row.eval_corpus),
        ],
        valid=metrics(valid.ranks, valid.unseen_ranks),
        test=metrics(test.ranks, test.unseen_ranks),
        valid_users=record_fields.valid_users(fit),
        diagnostics=record_fields.diagnostics(row.train_corpus, row.eval_corpus, recommender),
        search=record_fields.search(test),
        code_card=generator.card() if generator else None,
        cost=_cost(fit, recommender, row.eval_corpus.users / test.seconds),
        provenance=origin,
        ranks_sha256=store.content_sha256(ranks),
    )
    if process_rank(hardware) == 0:
        store.write(row.bench.board, record, ranks)


def check_processes(experiment: Experiment, hardware: Hardware) -> None:
    """Before the first stage of several, and before item vectors are trained; losses of parts of models, which a config
    may choose, are told of at their stage.

    Raises:
        ValueError: processes cannot share the batches of a stage.
    """
    file = models.load(experiment.model)
    # Not those of other files, of which a config may choose one or none.
    own = [kind for kind in vars(file).values() if getattr(kind, "__module__", "") == f"models.{experiment.model}"]
    wide = any(getattr(kind, "batch_wide_loss", False) for kind in own)
    check_shares(experiment.name, hardware.processes, wide=wide)
    for option, value in flat(dataclasses.asdict(experiment.config)):
        of_batches = option.endswith(("batch_size", "_batch")) and isinstance(value, int)
        if of_batches and not unread(experiment.config, option):
            check_shares(f"{experiment.name}, option {option},", hardware.processes, value)


def check_trained(recommender: object, model: str, fit: Fit) -> None:
    """
    Raises:
        ValueError: `train` gave no recommender, or one that was trained past the harness, which then neither seeds nor
            resumes nor counts it.
    """
    where = f"train of models/{model}.py"
    if not isinstance(recommender, Recommender):
        raise ValueError(f"{where} returned {type(recommender).__name__}; expected a models.api.Recommender")
    if not fit.stages and (free := parameters(recommender)):
        raise ValueError(
            f"{where} returned a recommender of {free:,} trainable parameters and trained no stage; expected "
            "fit(stage, build, budget), or buffers where nothing is trained"
        )


def _cost(fit: Fit, recommender: Recommender, users_per_second: float) -> Cost:
    """What a run took up to now."""
    return Cost(
        train_seconds=sum(stage.seconds for stage in fit.stages),
        stages=[Stage(**stage.model_dump()) for stage in fit.stages],
        evaluate_users_per_second=users_per_second,
        peak_memory_bytes=peak_memory_bytes(str(fit.hardware.device)),
        parameters=parameters(recommender),
        energy_joules=None,
    )
