"""`python -m benchmarks bench | perf | list`: the main job, how fast its parts are, and what it can run."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

# The commands import what needs torch themselves, so that --help and a mistyped option do not wait for it.
if TYPE_CHECKING:
    from benchmarks.bench import Cell
    from benchmarks.run import Bench
    from data_prep.corpus import Corpus

LATEST = Path("runs/perf/latest.json")


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return int(options.call(options))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\ninterrupted{options.interrupted}", file=sys.stderr)
        return 130


def bench(options: argparse.Namespace) -> int:
    """Runs every cell whose record is missing, then prints and renders the corpus's table."""
    import data_prep
    import models
    from benchmarks import experiments
    from benchmarks.bench import Cell, run_all
    from benchmarks.fit import Hardware, process_rank
    from benchmarks.run import Bench
    from leaderboards import board
    from leaderboards.store import read_board

    chosen = [experiments.complete(name, options.corpus, options.set) for name in options.models or models.names()]
    corpus = data_prep.load(options.corpus, source=options.source)
    print(corpus)
    hardware = Hardware(options.accelerator, options.devices, options.strategy, options.threads)
    setting = Bench(options.board, options.work, options.vectors_path, hardware)
    cells = [Cell(experiment, seed) for seed in range(options.seeds) for experiment in chosen]
    missing = [cell for cell in cells if not _exists(setting, corpus, cell)]
    if len(missing) < len(cells):
        print(f"{len(cells) - len(missing)} of {len(cells)} records exist in {setting.board / corpus.name}")
    failed = run_all(setting, options.corpus, options.source, missing, options.jobs or _default_jobs())
    if process_rank() or not (setting.board / corpus.name).is_dir():
        return bool(failed)  # another process of distributed training prints, or there is nothing to print
    print("\n" + board.console(board.table(read_board(setting.board, corpus.name))))
    print("\nrendered: " + " ".join(str(path) for path in board.render(setting.board, corpus.name)))
    return 1 if failed else 0


def _exists(setting: Bench, corpus: Corpus, cell: Cell) -> bool:
    from benchmarks.run import target

    try:
        return target(setting, corpus, *cell).exists()
    except (ValueError, OSError):
        # What stands in the way of one cell is said when that cell runs, and stops no other.
        return False


def perf(options: argparse.Namespace) -> int:
    """Times our paths beside their baselines."""
    from benchmarks.perf import run

    run(options.only, LATEST)
    return 0


def show(options: argparse.Namespace) -> int:
    """Prints what can be run."""
    import data_prep
    from benchmarks import experiments

    print("models and experiments:", ", ".join(experiments.names()))
    print("corpora:", ", ".join(data_prep.names()))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="bench | perf | list")
    parser.set_defaults(interrupted="")
    job = commands.add_parser("bench", help="run what is missing on a corpus and print its table")
    job.set_defaults(call=bench, interrupted="; the same command goes on from the last epochs")
    job.add_argument("--corpus", default="planted")
    job.add_argument("--source", default="auto", help="where its files come from: auto, local, official, hub")
    job.add_argument("--models", nargs="+", help="models or named experiments (default: every model)")
    job.add_argument("--seeds", type=_positive, default=1, help="seeds 0..n-1; rows of the public board have 5")
    job.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="fields of the models' configs")
    job.add_argument("--board", type=Path, default=Path("leaderboards/v1"), help="folder of the records")
    job.add_argument("--work", type=Path, default=Path("runs"), help="folder for trainings")
    job.add_argument("--vectors-path", type=Path, help="file or folder of item vectors, for vectors=npz or folder")
    job.add_argument("--jobs", type=_positive, help="runs at a time (default: one per core; one in all with a GPU)")
    job.add_argument("--threads", type=_positive, default=1, help="CPU threads of a run; the last digits depend on it")
    job.add_argument("--accelerator", default="auto", help="as Lightning's Trainer has it")
    job.add_argument("--devices", type=_positive, default=1, help="as Lightning's Trainer has it")
    job.add_argument("--strategy", default="auto", help="as Lightning's Trainer has it")
    timing = commands.add_parser("perf", help="time our paths beside what one would use without them")
    timing.set_defaults(call=perf)
    timing.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these pairs (default: all)")
    listing = commands.add_parser("list", help="models, experiments and corpora")
    listing.set_defaults(call=show)
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _default_jobs() -> int:
    """A run per core; one where they would share an accelerator."""
    import torch

    return 1 if torch.cuda.is_available() else len(os.sched_getaffinity(0))


if __name__ == "__main__":
    sys.exit(main())
