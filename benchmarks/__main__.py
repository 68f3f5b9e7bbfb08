"""`python -m benchmarks COMMAND`: the main job (bench), a board over days (plan), configs searched (sweep), tokenizers
alone (codes), the papers' analyses (analyse), rows ranked again (rerank) or trained again (reproduce), changes gated
(regress), dashboards, speed (perf), and what can be run (list, show)."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import dataclasses
import os
import signal
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from benchmarks.execution import worker_process
from benchmarks.options import (
    WORK,
    add_common,
    add_machine,
    add_tracking,
    add_training,
    default_jobs,
    hardware_of,
    hours,
    jobs_of,
    positive,
)
from benchmarks.sweeps import command
from benchmarks.user_errors import hidden, user_message
from leaderboards import escape
from leaderboards.record import BOARD

# The commands import what needs torch themselves, so that --help and a mistyped option do not wait for it.
if TYPE_CHECKING:
    from benchmarks.execution.cell import Cell
    from benchmarks.precision import Choice
    from benchmarks.run import Bench
    from data_prep.corpus import Corpus

LATEST = WORK / "perf/latest.json"
# How a process ends that a signal ends: with so much more than the signal's number.
SIGNALLED = 128
GOES_ON = "; the same command goes on from the last epochs"


def main(arguments: list[str] | None = None) -> int:
    escape.for_any_terminal()
    options = _parser().parse_args(arguments)
    try:
        with worker_process.ended_by_signals():
            return int(options.call(options))
    except Exception as error:
        if (said := user_message(error)) is None:
            raise
        print(f"error: {said}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        # The terminal may be what has gone.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            print(f"\n{str(error) or 'interrupted'}{options.interrupted}", file=sys.stderr)
        return SIGNALLED + (error.number if isinstance(error, worker_process.SignalledError) else signal.SIGINT)


def bench(options: argparse.Namespace) -> int:
    """Runs every cell whose record is missing, then prints and renders the tables that the cells are on."""
    import models
    from benchmarks import experiments
    from benchmarks.execution.cell import Cell
    from benchmarks.execution.local import run_all
    from benchmarks.run import Bench, board_name, prepared
    from benchmarks.tracking import wandb_run
    from benchmarks.training.fit import process_rank
    from leaderboards import board, tables
    from leaderboards.store import read_board

    names, tuned = options.models or models.names(), not options.untuned
    chosen = [experiments.complete(name, options.corpus, options.set, tuned) for name in names]
    corpus = prepared(options.work, options.corpus, options.source)
    # Of the processes of distributed training one prints.
    speaks = process_rank() == 0
    if speaks:
        print(corpus)
    hardware = dataclasses.replace(
        hardware_of(options), devices=options.devices, nodes=options.nodes, strategy=options.strategy
    )
    jobs = jobs_of(options)
    follow = wandb_run.mode(options.track, corpus)
    setting = Bench(options.board, options.work, options.vectors_path, hardware, follow)
    cells = [Cell(experiment, seed) for seed in range(options.seeds) for experiment in chosen]
    missing = [cell for cell in cells if not _exists(setting, corpus, cell)]
    boards = list(dict.fromkeys(board_name(corpus.name, experiment) for experiment in chosen))
    if len(missing) < len(cells) and speaks:
        folders = " ".join(str(setting.board / name) for name in boards)
        print(f"{len(cells) - len(missing)} of {len(cells)} records exist in {folders}")
    failed = run_all(setting, options.corpus, options.source, missing, jobs, options.cluster)
    for name in boards:
        if speaks and name in board.corpora(setting.board):
            title = f"{name}\n" if len(boards) > 1 else ""
            print(f"\n{title}{board.console(board.table(read_board(setting.board, name)))}")
            print("\nrendered: " + " ".join(str(path) for path in tables.render(setting.board, name)))
    return 1 if failed else 0


def plan(options: argparse.Namespace) -> int:
    """Carries out a plan, or says how far it is."""
    from benchmarks.execution import board_plan as plans
    from benchmarks.run import Bench

    end = time.time() + options.hours * 3600 if options.hours else None

    def bench(corpus: str, precision: Choice | None) -> Bench:
        own = {"corpus": corpus, "precision": precision or options.precision}
        hardware = hardware_of(argparse.Namespace(**vars(options) | own))
        return Bench(options.board, options.work, options.vectors_path, hardware, until=end)

    rows = plans.load(options.plan, bench, options.source)
    jobs = options.jobs or 1
    if not options.state:
        plans.check_space(options.work, jobs)
    print(plans.states(rows), flush=True)
    failed = [] if options.state else plans.carry_out(rows, options.source, jobs, options.cluster)
    print(f"\n{plans.results(rows)}")
    return 1 if failed else 0


def codes(options: argparse.Namespace) -> int:
    """Trains tokenizers alone; prints and renders the table of their code cards."""
    from benchmarks import experiments
    from benchmarks.code_cards import card
    from benchmarks.execution.cell import silence_lightning
    from benchmarks.run import Bench, prepared
    from leaderboards import tables
    from leaderboards.codes import read_all, table

    silence_lightning()
    chosen = [experiments.complete(name, options.corpus, options.set, not options.untuned) for name in options.models]
    corpus = prepared(options.work, options.corpus, options.source)
    print(corpus)
    setting = Bench(options.board, options.work, options.vectors_path, hardware_of(options))
    for experiment in chosen:
        for seed in range(options.seeds):
            card(setting, corpus, experiment, seed)
    print(f"\n{table(read_all(setting.board, corpus.name), 'simple')}")
    print("\nrendered: " + " ".join(str(path) for path in tables.render(setting.board, corpus.name)))
    return 0


def analyse(options: argparse.Namespace) -> int:
    """Makes one of the papers' analyses, and the trainings that it needs."""
    from benchmarks.analyses import Lab
    from benchmarks.analyses import analyse as make
    from benchmarks.execution.cell import silence_lightning
    from benchmarks.run import Bench, prepared

    silence_lightning()
    corpus = prepared(options.work, options.corpus, options.source)
    print(corpus)
    board = options.board or options.work / "board"
    setting = Bench(board, options.work, options.vectors_path, hardware_of(options))
    names, settings, jobs = tuple(options.models or ()), tuple(options.set), options.jobs or default_jobs()
    lab = Lab(setting, corpus, options.source, names, settings, options.seed, jobs)
    found = make(options.name, lab, options.out)
    table = found.table.to_markdown(index=False, tablefmt="simple", floatfmt=".4g")
    print(f"\n{table}\n\n{textwrap.fill(found.says, 120)}")
    print(f"\nwritten: {options.out / f'{corpus.name}-{options.name}.md'}, .svg")
    return 0


def rerank(options: argparse.Namespace) -> int:
    """Ranks users of the records again whose weights are at hand."""
    from benchmarks.checks.rerank import deep
    from benchmarks.execution.cell import silence_lightning
    from benchmarks.run import Bench

    silence_lightning()
    problems, says = deep(Bench(options.board, options.work), options.row, options.users)
    print("\n".join([*says, *(f"wrong: {problem}" for problem in problems)]))
    return 1 if problems else 0


def reproduce(options: argparse.Namespace) -> int:
    """Trains rows again from their records alone."""
    from benchmarks.checks import reproduce as again
    from benchmarks.run import Bench

    if options.row is None and options.sample is None:
        raise ValueError("neither --row nor --sample is given; expected one, for a whole board is days of training")
    bench, said = Bench(options.board, options.work, options.vectors_path), list[bool]()
    for target in again.drawn(options.board, options.row, options.sample, options.minutes, options.base):
        print(f"{target}: trained again", flush=True)
        verdict = again.reproduce(bench, target, options.source)
        print(f"{'' if verdict.good else 'wrong: '}{target}: {verdict.says}", flush=True)
        said.append(verdict.good)
    return 0 if all(said) else 1


def regress(options: argparse.Namespace) -> int:
    """Asks whether the code still gives the numbers it gave, or makes new references."""
    import models
    from benchmarks.checks import regress as gate
    from benchmarks.execution.cell import silence_lightning

    silence_lightning()
    names, jobs = options.models or models.names(), options.jobs or default_jobs()
    references = options.references or gate.REFERENCES
    if options.accept:
        lines = gate.accept(options.work, names, options.why, jobs, references)
        gate.note(lines, Path("CHANGELOG.md"))
        print("\n".join(lines))
        return 0
    seeds = range(options.first_seed, options.first_seed + gate.COMPARED)
    answers = gate.regress(options.work, names, seeds, jobs, references)
    for answer in answers:
        sign = "green" if answer.good else "RED  "
        print(textwrap.fill(f"{sign} {answer.model} {answer.question}: {answer.says}", 120, subsequent_indent=" " * 6))
    red = [f"{answer.model} {answer.question}" for answer in answers if not answer.good]
    print(f"\n{len(red)} of {len(answers)} are red: {', '.join(red)}" if red else f"\nall {len(answers)} are green")
    return 1 if red else 0


def _exists(setting: Bench, corpus: Corpus, cell: Cell) -> bool:
    from benchmarks.run import target

    try:
        return target(setting, corpus, *cell).exists()
    except (ValueError, OSError):
        # What stands in the way of one cell is said when that cell runs, and stops no other.
        return False


def dashboards(options: argparse.Namespace) -> int:
    """Defines the W&B project's workspace and report, or prints their definition."""
    from benchmarks.tracking import wandb_dashboards

    print(wandb_dashboards.made(options.entity, options.project, options.corpora, options.dry_run))
    return 0


def perf(options: argparse.Namespace) -> int:
    """Times our paths beside their baselines."""
    from benchmarks.perf import run

    run(options.only, LATEST)
    return 0


def list_all(options: argparse.Namespace) -> int:
    """Prints what can be run, and what papers say of it."""
    from benchmarks.listing import listing

    print(listing())
    return 0


def show(options: argparse.Namespace) -> int:
    """Prints an experiment's complete config, and where each value is from."""
    from benchmarks.show import shown

    print(shown(options.experiment, options.corpus, options.set, not options.untuned))
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """It quotes what it does not know, which may be a URL."""
        super().error(hidden(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    parser.set_defaults(interrupted="")
    _add_trainings(commands)
    command.add(commands)
    _add_checks(commands)
    _add_listings(commands)
    return parser


def _add_trainings(commands: Any) -> None:
    """What makes rows, cards and analyses."""
    job = commands.add_parser("bench", help="run what is missing on a corpus and print its table")
    job.set_defaults(call=bench, interrupted=GOES_ON)
    add_common(job)
    job.add_argument("--models", nargs="+", help="models or named experiments (default: every model)")
    job.add_argument("--jobs", type=positive, help="runs at a time (default: one per core; one in all with a GPU)")
    job.add_argument("--devices", type=positive, default=1, help="of each node, that share each batch of a training")
    job.add_argument("--nodes", type=positive, default=1, help="machines of a training; docs/cluster.md says how")
    job.add_argument(
        "--cluster", metavar="ADDRESS", help="run the cells on Ray: auto, local, host:port, ray://host:port"
    )
    job.add_argument("--strategy", default="auto", help="as Lightning's Trainer has it")
    add_tracking(job)
    queue = commands.add_parser("plan", help="make the rows of a plan, for days if need be, or say how far it is")
    queue.set_defaults(call=plan, interrupted=GOES_ON)
    queue.add_argument("plan", type=Path, metavar="FILE", help="as benchmarks/plans/smoke.toml")
    queue.add_argument("--state", action="store_true", help="only say how far it is")
    queue.add_argument("--hours", type=hours, help="stop after so many hours, at the next look of a training")
    queue.add_argument("--jobs", type=positive, help="runs at a time (default: one)")
    queue.add_argument("--cluster", metavar="ADDRESS", help="run the cells on Ray, as bench does")
    queue.add_argument("--board", type=Path, default=BOARD, help="folder of the records")
    add_machine(queue)
    cards = commands.add_parser("codes", help="train tokenizers alone and print what their codes look like")
    cards.set_defaults(call=codes, interrupted=GOES_ON)
    add_common(cards)
    cards.add_argument("--models", nargs="+", required=True, help="models or named experiments with a tokenizer")
    looks = commands.add_parser("analyse", help="make one of the papers' analyses: a table and a picture")
    looks.set_defaults(call=analyse, interrupted=GOES_ON)
    decor, etegrec = "utilisation, prefixes, sensitivity (DECOR)", "unseen, alignment, weights (ETEGRec)"
    looks.add_argument("name", help=f"{decor}; {etegrec}; entropy, density, index (PIT); batching, precision (ours)")
    add_training(looks)
    looks.add_argument("--models", nargs="+", help="experiments (default: the analysis's own)")
    looks.add_argument("--seed", type=int, default=0, help="the one seed that is looked at")
    looks.add_argument("--jobs", type=positive, help="trainings at a time, where several are needed")
    looks.add_argument("--board", type=Path, help="folder of the records it makes (default: board in --work)")
    looks.add_argument("--out", type=Path, default=Path("docs/analyses"), help="folder of table and picture")


def _add_checks(commands: Any) -> None:
    """What holds rows, code and speed to account."""
    again = commands.add_parser("rerank", help="rank users again with the weights of finished trainings")
    again.set_defaults(call=rerank)
    again.add_argument("--row", help="records whose path holds this (default: all)")
    again.add_argument("--users", type=positive, default=200, help="so many of a record's users, drawn at random")
    again.add_argument("--board", type=Path, default=BOARD, help="folder of the records")
    again.add_argument("--work", type=Path, default=WORK, help="folder of trainings and corpora")
    _add_reproduce(commands)
    gate = commands.add_parser("regress", help="hold the quick board, on a CPU, against its references: the gate")
    gate.set_defaults(call=regress)
    gate.add_argument("--models", nargs="+", help="these models (default: every model)")
    gate.add_argument("--first-seed", type=int, default=0, help="seeds of the fresh runs count from here")
    gate.add_argument("--jobs", type=positive, help="runs at a time")
    gate.add_argument("--work", type=Path, default=WORK, help="folder of trainings and corpora")
    gate.add_argument("--references", type=Path, help="folder of the reference runs (default: the committed ones)")
    gate.add_argument("--accept", action="store_true", help="make new references and note them in CHANGELOG.md")
    gate.add_argument("--why", default="reason to be filled in", help="the reason, for CHANGELOG.md")
    timing = commands.add_parser("perf", help="time our paths beside what one would use without them")
    timing.set_defaults(call=perf)
    timing.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these pairs (default: all)")


def _add_reproduce(commands: Any) -> None:
    proof = commands.add_parser("reproduce", help="train rows again from their records alone, with their commit's code")
    proof.set_defaults(call=reproduce, interrupted="; the same command goes on")
    proof.add_argument("--row", help="records whose path holds this")
    proof.add_argument("--sample", type=positive, help="so many of them, drawn by the hash of the checkout's commit")
    proof.add_argument("--minutes", type=positive, help="of those that were trained in so many")
    proof.add_argument("--base", help="git revision: draw records that came since before all others")
    proof.add_argument("--board", type=Path, default=BOARD, help="folder of the records")
    proof.add_argument("--work", type=Path, default=WORK, help="folder of trainings and corpora")
    proof.add_argument("--source", default="auto", help="where data comes from, as bench has it")
    proof.add_argument("--vectors-path", type=Path, help="item vectors that the record was given, as bench has it")


def _add_listings(commands: Any) -> None:
    """What is defined, and shown."""
    boards = commands.add_parser("dashboards", help="define the workspace and the report of the W&B project")
    boards.set_defaults(call=dashboards)
    boards.add_argument("--entity", default="", help="user or team of W&B")
    boards.add_argument("--project", default="grbench", help="project of W&B")
    boards.add_argument("--corpora", nargs="+", default=["all_beauty", "musical_instruments"], help="with own panels")
    boards.add_argument("--dry-run", action="store_true", help="print the definition; needs no server and no login")
    listing = commands.add_parser("list", help="models, experiments and corpora")
    listing.set_defaults(call=list_all)
    config = commands.add_parser("show", help="an experiment's complete config, and where each value is from")
    config.set_defaults(call=show)
    config.add_argument("experiment", help="a model or a named experiment")
    config.add_argument("corpus", nargs="?", default="planted")
    config.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="fields of the config")
    config.add_argument("--untuned", action="store_true", help="defaults, where a sweep has found better values")


if __name__ == "__main__":
    status = 0
    # What is registered first is called last. To take torch down takes seconds more, in which nothing is done.
    atexit.register(lambda: os._exit(status) if status > SIGNALLED else None)
    status = main()
    sys.exit(status)
