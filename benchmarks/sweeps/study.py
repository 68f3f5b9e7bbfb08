"""A sweep from its spec to its tuned config, and a worker that joins it from anywhere."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from benchmarks import best_config, provenance
from benchmarks.config import setting
from benchmarks.execution.cell import silence_lightning
from benchmarks.experiments import Experiment, complete, small
from benchmarks.hardware import Hardware
from benchmarks.model_inputs import VECTORS
from benchmarks.resolved_row import resolve
from benchmarks.settings import Bench, prepared
from benchmarks.sweeps import local_workers, report, study_ledger, trial_queue, trial_state
from benchmarks.sweeps.objective import Objective
from benchmarks.sweeps.search_space import defaults_of, space_of
from benchmarks.sweeps.storage import StudyStorage, in_database, in_folder, worker_lock
from benchmarks.sweeps.study_ledger import Ledger
from benchmarks.sweeps.study_spec import StudySpec, spec_of, study_name
from benchmarks.sweeps.trial_queue import TrialQueue
from benchmarks.tracking import wandb_run
from data_prep.codes_file import NAME
from data_prep.corpus import Corpus
from data_prep.embed import WITH_PATH
from leaderboards import source, tables


@dataclass(frozen=True)
class WorkerSettings:
    """What this host adds to a spec.

    Attributes:
        work: folder of trainings, corpora, and studies on files.
        storage: URL of a PostgreSQL; None for a file in `work`.
        vectors_path: as in `Bench`.
        track: how trials are followed, as `benchmarks.tracking.wandb_run.mode` takes it.
    """

    work: Path
    storage: str | None = field(default=None, repr=False)
    vectors_path: Path | None = None
    track: str | None = wandb_run.OFF

    def folder(self, name: str) -> Path:
        """Where a study on a file lies."""
        return self.work / "sweeps" / name

    def open_storage(self, name: str, heartbeat: int) -> StudyStorage:
        """Raises ValueError and OSError as `in_database` does."""
        return in_database(self.storage, name, heartbeat) if self.storage else in_folder(self.folder(name))

    def bench(self, spec: StudySpec, corpus: Corpus) -> Bench:
        """For trainings; nothing is written to its board. Raises ValueError as `wandb_run.mode` does."""
        hardware = Hardware(spec.accelerator, threads=spec.threads, precision=spec.precision)
        track = wandb_run.mode(self.track, corpus)
        return Bench(self.work / "board", self.work, self.vectors_path, hardware, track)


def sweep(
    settings: WorkerSettings,
    spec: StudySpec,
    corpus: Corpus,
    jobs: int = 1,
    cluster: str | None = None,
    board: Path | None = None,
) -> Ledger:
    """Runs a study, or goes on with it, until it is done.

    Args:
        jobs: trials at a time on this host; one runs in this process.
        cluster: address of a Ray cluster that works on the trials instead, as `benchmarks.execution.ray_cluster.tasks`
            has it.
        board: that its ledger is for.

    Raises:
        ValueError: the experiment has nothing to tune, or is of unseen users; the storage is none that we use; wandb is
            missing.
        OSError: the storage cannot be reached; another process runs the study on a file; a worker could not go on.
    """
    experiment = untuned(spec, corpus)
    if experiment.unseen_users:
        raise ValueError(f"{experiment.name} uses what a sweep of {experiment.whole} has found; expected that one")
    space, bench = space_of(experiment, spec.settings, small(corpus)), settings.bench(spec, corpus)
    name = study_name(spec, resolve(bench, corpus, experiment).key, space)
    origin = provenance.of(bench.hardware, board)
    quiet()
    tqdm.write(f"study {name}", file=sys.stderr)
    with _exclusive(settings, name):
        storage = settings.open_storage(name, spec.heartbeat)
        made = trial_queue.make(storage, name, spec, space, defaults_of(experiment, space), origin.source_sha256)
        _tell_other_code(made)
        if cluster:
            from benchmarks.execution.ray_cluster import workers_in_cluster

            workers_in_cluster(cluster, bench.hardware, partial(join, settings, name), jobs)
        elif jobs > 1:
            local_workers.run_all(partial(join, settings, name), jobs, made)
        else:
            _work(settings, made, experiment, corpus)
        return study_ledger.ledger(made, experiment, origin)


def join(settings: WorkerSettings, name: str) -> None:
    """Works on a study's trials until it is done.

    Raises:
        ValueError: there is no such study, or this host's corpus, item vectors or code are others.
        OSError: the storage cannot be reached.
    """
    quiet()
    study = trial_queue.find(settings.open_storage(name, StudySpec.heartbeat), name)
    spec, code = spec_of(study), source.of_folder(provenance.ROOT)
    trial_queue.check_code(study, code)
    corpus = prepared(settings.work, spec.corpus, spec.source)
    if corpus.fingerprint != spec.fingerprint:
        raise ValueError(
            f"corpus {spec.corpus} has the fingerprint {corpus.fingerprint[:12]} here; study {name} is on "
            f"{spec.fingerprint[:12]}"
        )
    experiment, storage = untuned(spec, corpus), settings.open_storage(name, spec.heartbeat)
    space = space_of(experiment, spec.settings, small(corpus))
    # Before a trial is claimed, for what is not as it is elsewhere would fail them all, or mix values.
    here = study_name(spec, resolve(settings.bench(spec, corpus), corpus, experiment).key, space)
    if here != name:
        raise ValueError(
            f"study {name} would be {here} on this host; expected the item vectors, codes, models and search spaces of "
            "the host that made it"
        )
    found = TrialQueue(trial_queue.find(storage, name), storage, space, code)
    _work(settings, found, experiment, corpus)


def conclude(
    made: Ledger, board: Path, best: Path | None = None, replace: bool = False, of_a_path: bool = False
) -> list[Path]:
    """Writes ledger and page and lists them; writes the winner unless a better-founded one is there, or its settings
    name a file of this machine, which is told. Returns their paths. A study that was begun again from nothing writes
    nothing in place of what is there.

    Args:
        best: folder of winners, if not the usual one.
        replace: an earlier winner and an earlier ledger, whatever they are.
        of_a_path: the sweep's item vectors were of a path that was given.

    Raises:
        ValueError: no trial completed; ledger and page are written none the less.
    """
    if not replace and (lost := study_ledger.lost(board, made)):
        there = study_ledger.path(board, made.corpus, made.study)
        tqdm.write(
            f"{there} has {lost} trials that ended and are not among these: it stays, and so does its winner; expected "
            "the storage of the study that has them (--work, --storage), or REPLACE=1 (--replace)",
            file=sys.stderr,
        )
        return []
    written = [study_ledger.write(board, made), report.write(board, made)]
    written.append(tables.list_evidence(board, made.corpus))
    of = best_config.folder_of(made.corpus, made.fingerprint)
    target, tuned = best_config.path(of, made.experiment, best), study_ledger.tuned_config(made)
    if own := _of_this_machine(made.settings, of_a_path):
        tqdm.write(f"no winner is written: {own} names files of this machine alone", file=sys.stderr)
        return written
    earlier = best_config.read(target) if target.exists() and not replace else None
    if earlier and not tuned.replaces(earlier):
        tqdm.write(f"{target} keeps {earlier}, not {tuned}; REPLACE=1 (--replace) takes the new one", file=sys.stderr)
        return written
    best_config.write(target, tuned)
    return [*written, target]


def _of_this_machine(settings: Sequence[str], of_a_path: bool) -> str | None:
    """The first setting that names what others have not."""
    for text in settings:
        name, value = setting(text)
        of_codes = name == "codes" and value is not None and not NAME.fullmatch(str(value))
        if of_codes or (of_a_path and name in VECTORS and value in WITH_PATH):
            return text
    return None


def _tell_other_code(made: TrialQueue) -> None:
    """Says that a study goes on whose trials have ended with other code."""
    codes = [trial.user_attrs.get(trial_state.SOURCE, made.source) for trial in made.trials()]
    if others := sum(code != made.source for code in codes):
        tqdm.write(f"{others} of {len(codes)} trials of this study ran on other code than this", file=sys.stderr)


def untuned(spec: StudySpec, corpus: Corpus) -> Experiment:
    """The experiment that a study starts from."""
    return complete(spec.experiment, corpus, spec.settings, tuned=False)


def quiet() -> None:
    """Of Lightning's and Optuna's messages only those that are ours to act on."""
    import optuna

    silence_lightning()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    # We give signs of life ourselves.
    warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed")


def _work(settings: WorkerSettings, found: TrialQueue, experiment: Experiment, corpus: Corpus) -> None:
    objective = Objective(settings.bench(found.spec, corpus), corpus, experiment, found.spec.seed)
    name = local_workers.worker_name()
    alive = None if settings.storage else worker_lock(settings.folder(found.study.study_name), name)
    local_workers.work(found, objective, name, alive)


@contextmanager
def _exclusive(settings: WorkerSettings, name: str) -> Iterator[None]:
    """On a file, one process runs a study; its workers share it. On a database any number may."""
    if settings.storage:
        yield
        return
    settings.folder(name).mkdir(parents=True, exist_ok=True)
    lock = FileLock(settings.folder(name) / "sweep.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OSError(f"study {name} is being run by another process; its folder is {settings.folder(name)}") from None
    try:
        yield
    finally:
        lock.release()
