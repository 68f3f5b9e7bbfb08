"""The commands `sweep` and `sweep-worker`."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.commands.options import (
    WORK,
    add_tracking,
    add_training,
    asked,
    hardware_of,
    hours,
    positive,
    seed_number,
)
from leaderboards.record import BOARD

if TYPE_CHECKING:
    from benchmarks.sweeps.study import WorkerSettings
    from benchmarks.sweeps.study_ledger import Ledger

MISSING = "a sweep needs the package optuna, which is not installed: pip install 'grbench[sweep]'"
GOES_ON = "; the same command goes on with the study"


def sweep(options: argparse.Namespace) -> int:
    """Searches a model's tuned fields; writes the ledger, the page and the winner."""
    if options.devices > 1:
        raise ValueError(
            f"--devices is {options.devices}; a sweep trains each trial on one device, for distributed training cannot "
            "be pruned; --jobs runs several trials at a time"
        )
    if options.cluster and not options.storage:
        raise ValueError("--cluster is given without --storage; machines share a study on PostgreSQL, not in a file")
    from benchmarks import best_config
    from benchmarks.run import check_writable
    from benchmarks.sweeps import study_ledger
    from benchmarks.sweeps.study_spec import StudySpec

    settings, study = _worker_settings(options)
    corpus, source = asked(options, [options.model])
    print(corpus)
    spec = StudySpec(
        options.model,
        corpus.name,
        corpus.fingerprint,
        tuple(options.set),
        options.trials,
        options.budget,
        options.seed,
        source,
        options.accelerator,
        options.threads,
        hardware_of(options, corpus).precision,
        options.heartbeat,
    )
    folder = best_config.folder_of(corpus.name, corpus.fingerprint)
    check_writable(best_config.path(folder, options.model, options.best), "winners (--best)")
    check_writable(study_ledger.path(options.board, corpus.name, "study"), "ledgers of sweeps (--board)")
    made = study.sweep(settings, spec, corpus, options.jobs, options.cluster, options.board)
    written = study.conclude(made, options.board, options.best, options.replace, bool(options.vectors_path))
    print(f"\n{summary(made)}\n\nwritten: {' '.join(map(str, written)) or 'nothing'}")
    return 0


def sweep_worker(options: argparse.Namespace) -> int:
    """Works on the trials of a study that another process has begun."""
    settings, study = _worker_settings(options)
    study.join(settings, options.study)
    return 0


def summary(made: Ledger) -> str:
    """What came out, in a few lines."""
    from benchmarks.sweeps.local_workers import shown

    states = ", ".join(f"{count} {state}" for state, count in made.states.items())
    lines = [
        f"study {made.study}: {made.ended} of {made.asked} trials ended ({states}), "
        f"{made.hours:.2f} hours of trials in {made.wall_hours:.2f} hours"
    ]
    for name, line in (("defaults", made.default), ("best", made.best)):
        said = f"{line.value:.4f}, trial {line.number}; {shown(line.params)}" if line else "none completed"
        lines.append(f"{name:8} {said}")
    return "\n".join(lines)


def add(commands: Any) -> None:
    """Adds both commands to what `add_subparsers` gave."""
    search = commands.add_parser("sweep", help="search a model's tuned fields for the best validation NDCG@10")
    search.set_defaults(call=sweep, interrupted=GOES_ON)
    add_training(search)
    add_tracking(search)
    search.add_argument("--model", required=True, help="a model or named experiment")
    search.add_argument("--trials", type=positive, default=30, help="trials that are to end (default: 30)")
    search.add_argument("--budget", type=hours, metavar="HOURS", help="begin no trial after so many hours of trials")
    search.add_argument("--jobs", type=positive, default=1, help="trials at a time on this machine (default: 1)")
    search.add_argument("--seed", type=seed_number, default=0, help="of the trainings and of the sampler")
    search.add_argument("--devices", type=positive, default=1, help="1: trials train on one device")
    search.add_argument("--heartbeat", type=positive, default=30, help="seconds between signs of life on PostgreSQL")
    search.add_argument("--storage", metavar="URL", help="postgresql://user@host/database (default: a file in --work)")
    search.add_argument("--cluster", metavar="ADDRESS", help="work on --jobs trials at a time on Ray; needs --storage")
    search.add_argument("--board", type=Path, default=BOARD, help="folder of ledger and page")
    search.add_argument("--replace", action="store_true", help="an earlier winner that is better founded, too")
    search.add_argument("--best", type=Path, help="folder of winners (default: benchmarks/best)")
    hand = commands.add_parser("sweep-worker", help="work on the trials of a study on PostgreSQL")
    hand.set_defaults(call=sweep_worker, interrupted="; another worker takes its trial")
    hand.add_argument("--storage", metavar="URL", required=True, help="postgresql://user@host/database")
    hand.add_argument("--study", metavar="NAME", required=True, help="as `sweep` printed it")
    hand.add_argument("--work", type=Path, default=WORK, help="folder of trainings and corpora")
    add_tracking(hand)
    hand.add_argument("--vectors-path", type=Path, help="file or folder of item vectors, for vectors=npz or folder")


def _worker_settings(options: argparse.Namespace) -> tuple[WorkerSettings, Any]:
    """Where to work, and the module that does."""
    if options.storage:
        from benchmarks.sweeps.storage import database

        database(options.storage)
    if find_spec("optuna") is None:
        raise ValueError(MISSING)
    from benchmarks.sweeps import study

    return study.WorkerSettings(options.work, options.storage, options.vectors_path, options.track), study
