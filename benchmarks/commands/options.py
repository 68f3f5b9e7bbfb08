"""Options that several commands share."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.device import ACCELERATORS, check_accelerator
from data_prep.own_options import add_own_options
from leaderboards.record import BOARD

if TYPE_CHECKING:
    from benchmarks.hardware import Hardware
    from data_prep.corpus import Corpus

# Folder of all that is made and can be made again: trainings, prepared corpora, item vectors, studies.
WORK = Path("runs")
# What is worked on where no corpus is named.
CORPUS = "planted"


def add_common(command: argparse.ArgumentParser) -> None:
    """What the commands are told that fill the board."""
    add_training(command)
    add_untuned(command)
    command.add_argument("--seeds", type=positive, default=1, help="seeds 0..n-1; rows of the public board have 5")
    command.add_argument("--board", type=Path, default=BOARD, help="folder of the records")


def add_untuned(command: argparse.ArgumentParser) -> None:
    """Whether experiments go without what a sweep has found."""
    command.add_argument("--untuned", action="store_true", help="defaults, where a sweep has found better values")


def add_training(command: argparse.ArgumentParser) -> None:
    """What every command that trains is told."""
    command.add_argument("--corpus", default=CORPUS, help="name of a corpus, or a file of interactions")
    add_own_options(command)
    command.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="fields of the models' configs"
    )
    add_machine(command)


def add_machine(command: argparse.ArgumentParser) -> None:
    """Where the inputs of trainings are, and where and how they compute."""
    command.add_argument("--source", default="auto", help="where corpora come from: auto, local, official, hub")
    command.add_argument("--work", type=Path, default=WORK, help="folder of trainings and corpora")
    command.add_argument("--vectors-path", type=Path, help="file or folder of item vectors, for vectors=npz or folder")
    command.add_argument("--threads", type=positive, default=1, help="CPU threads; the last digits depend on it")
    add_accelerator(command)
    command.add_argument(
        "--precision",
        choices=("auto", "32", "bf16"),
        default="auto",
        help="of recommenders in training; auto: the fast",
    )


def add_accelerator(command: argparse.ArgumentParser) -> None:
    """What computes; a GPU that is not there is told before anything is done."""
    command.add_argument(
        "--accelerator",
        type=accelerator,
        default="auto",
        metavar="{" + ",".join(ACCELERATORS) + "}",
        help="what computes; auto: a GPU where there is one",
    )


class Asked(NamedTuple):
    """The corpus that a command was given, and the source by which its processes find it."""

    corpus: Corpus
    source: str


def asked(options: argparse.Namespace, names: Iterable[str] = (), tuned: bool = False) -> Asked:
    """The corpus of `--corpus`, prepared.

    Args:
        names: experiments that will be asked for on it. What is wrong with them or their settings is told before
            anything is downloaded.
        tuned: with what sweeps have found for them.

    Raises:
        ValueError: an option is set twice; what `experiments.complete`, `own_corpus.given`, its `prepare` and
            `data_prep.load` raise.
        FileNotFoundError: as the last two do.
    """
    from benchmarks.config import check_each_once
    from benchmarks.experiments import complete
    from benchmarks.settings import prepared
    from data_prep.own_corpus import given, source_of

    check_each_once(options.set)
    # Whether a user's own file is small, and with it what reads a setting, only the corpus tells.
    of_file = given(options.corpus, options.columns, options.items, options.core, options.source) is not None
    for name in names:
        complete(name, options.corpus, () if of_file else options.set, tuned)
    if own := own_corpus(options):
        return Asked(own, source_of(own))
    return Asked(prepared(options.work, options.corpus, options.source), options.source)


def own_corpus(options: argparse.Namespace) -> Corpus | None:
    """That of a user's own file, prepared; None where one of ours is named. Raises what `asked` does."""
    from data_prep.own_corpus import given, prepare

    own = given(options.corpus, options.columns, options.items, options.core, options.source)
    if own is None and options.core:
        raise ValueError(f"core is told of files of your own; rows of {options.corpus} are of its 5-core")
    return prepare(own, options.work / "corpora") if own else None


def hardware_of(options: argparse.Namespace, corpus: str | Corpus) -> Hardware:
    """Where and how one process computes what was asked for."""
    from benchmarks.experiments import small
    from benchmarks.hardware import Hardware
    from benchmarks.training_precision import choose

    hardware = Hardware(options.accelerator, threads=options.threads)
    precision = choose(options.precision, hardware.device, small(corpus))
    return dataclasses.replace(hardware, precision=precision)


def add_tracking(command: argparse.ArgumentParser) -> None:
    """What the commands are told whose runs can be followed."""
    command.add_argument("--track", choices=("offline", "online", "off"), help="with W&B; off on the embedded corpora")


def accelerator(text: str) -> str:
    """One that this machine has.

    Raises:
        argparse.ArgumentTypeError: it has none such.
    """
    try:
        check_accelerator(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def positive(text: str) -> int:
    """A whole number above 0.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def seed_number(text: str) -> int:
    """A whole number from 0.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def hours(text: str) -> float:
    """A number of hours above 0.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of hours above 0")
    return found


def jobs_of(options: argparse.Namespace) -> int:
    """Runs at a time that a bench was asked for; one where a run has processes of its own.

    Raises:
        ValueError: distributed training was asked for together with what starts processes itself, or on several
            machines without what starts it there; or as `check_cluster`.
    """
    check_cluster(options)
    if options.devices * options.nodes == 1:
        return options.jobs or default_jobs()
    for name, asked in (("--jobs", (options.jobs or 1) > 1), ("--cluster", options.cluster)):
        if asked:
            raise ValueError(f"{name} is given with --devices or --nodes; distributed training runs a cell at a time")
    if options.nodes > 1 and not {"RANK", "SLURM_PROCID"} & os.environ.keys():
        raise ValueError(f"--nodes is {options.nodes}; torchrun or srun starts each process, as docs/cluster.md shows")
    return 1


def check_cluster(options: argparse.Namespace) -> None:
    """
    Raises:
        ValueError: a number of runs at a time is given beside a cluster, which decides that itself.
    """
    if options.jobs and options.cluster:
        raise ValueError("--jobs is given with --cluster; Ray runs as many cells at a time as the cluster has room for")


def default_jobs() -> int:
    """A run per core; one where they would share an accelerator."""
    import torch

    return 1 if torch.cuda.is_available() else len(os.sched_getaffinity(0))
