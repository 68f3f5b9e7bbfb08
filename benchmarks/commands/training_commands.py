"""The commands that make rows, code cards and analyses: `bench`, `plan`, `codes`, `analyse`."""

from __future__ import annotations

import argparse
import dataclasses
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.commands.options import (
    CORPUS,
    Asked,
    add_common,
    add_machine,
    add_tracking,
    add_training,
    add_untuned,
    asked,
    check_cluster,
    default_jobs,
    hardware_of,
    hours,
    jobs_of,
    positive,
    seed_number,
)
from leaderboards.record import BOARD

# The commands import what needs torch themselves, so that --help and a mistyped option do not wait for it.
if TYPE_CHECKING:
    from benchmarks.execution.cell import Cell
    from benchmarks.experiments import Experiment
    from benchmarks.settings import Bench
    from benchmarks.training_precision import Choice
    from data_prep.corpus import Corpus

# Seed of an analysis, where none is given.
SEED = 0
GOES_ON = "; the same command goes on from the last epochs"


def bench(options: argparse.Namespace) -> int:
    """Runs every cell whose record is missing, then prints and renders the tables that the cells are on."""
    from benchmarks import experiments, model_inputs
    from benchmarks.commands.next_steps import next_steps
    from benchmarks.execution.cell import Cell
    from benchmarks.execution.local import run_all
    from benchmarks.resolved_row import board_name
    from benchmarks.settings import Bench
    from benchmarks.tracking import wandb_run
    from benchmarks.training.fit import process_rank
    from leaderboards import board_table, tables

    names, tuned = experiments.chosen(options.models), not options.untuned
    corpus, source = asked(options, names, tuned)
    chosen = [experiments.complete(name, corpus, options.set, tuned) for name in names]
    model_inputs.check_text(corpus, chosen)
    model_inputs.check_path(options.vectors_path, chosen)
    hardware = dataclasses.replace(
        hardware_of(options, corpus), devices=options.devices, nodes=options.nodes, strategy=options.strategy
    )
    # Of the processes of distributed training one prints.
    speaks = process_rank(hardware) == 0
    if speaks:
        print(corpus)
    jobs = jobs_of(options)
    follow = wandb_run.mode(options.track, corpus)
    setting = Bench(options.board, options.work, options.vectors_path, hardware, follow)
    cells = [Cell(experiment, seed) for seed in range(options.seeds) for experiment in chosen]
    finished = {experiment.name: _finished(setting, corpus, experiment, options.seeds) for experiment in chosen}
    missing = [cell for cell in cells if cell.seed not in finished[cell.experiment.name]]
    boards = list(dict.fromkeys(board_name(corpus.name, experiment) for experiment in chosen))
    if len(missing) < len(cells) and speaks:
        folders = " ".join(str(setting.board / name) for name in boards)
        print(f"{len(cells) - len(missing)} of {len(cells)} records exist in {folders}")
        _tell_other_code(setting, corpus, [cell for cell in cells if cell not in missing])
    for name in boards:
        tables.check(setting.board, name)
    failed = run_all(setting, corpus.name, source, missing, jobs, options.cluster)
    for name in boards:
        if speaks and (rows := tables.board_of(setting.board, name)):
            title = f"{name}\n" if len(boards) > 1 else ""
            print(f"\n{title}{board_table.console(board_table.table(rows))}")
            print("\nrendered: " + " ".join(str(path) for path in tables.render(setting.board, name, rows)))
    made = _made(setting, corpus, [cell for cell in missing if cell not in failed])
    if speaks and made:
        print(f"\n{next_steps(setting, made)}")
    return 1 if failed else 0


def _tell_other_code(setting: Bench, corpus: Corpus, finished: Sequence[Cell]) -> None:
    """Says which records an edited model is not asked for again."""
    from benchmarks.provenance import of_another_model_file
    from benchmarks.resolved_row import resolve
    from leaderboards import store

    for cell in finished:
        path = resolve(setting, corpus, cell.experiment).record_path(cell.seed)
        if of_another_model_file(record := store.read(path)):
            print(f"{path} may be of another models/{record.model}.py than this one; another BOARD makes it again")


def _made(setting: Bench, corpus: Corpus, cells: Sequence[Cell]) -> list[Path]:
    """The records of cells that did not fail; of those that time did not reach there is none."""
    from benchmarks.resolved_row import resolve

    paths = [resolve(setting, corpus, cell.experiment).record_path(cell.seed) for cell in cells]
    return [path for path in paths if path.exists()]


def _finished(setting: Bench, corpus: Corpus, experiment: Experiment, seeds: int) -> set[int]:
    """The seeds whose records are there."""
    from benchmarks.resolved_row import resolve

    try:
        row = resolve(setting, corpus, experiment)
        return {seed for seed in range(seeds) if row.record_path(seed).exists()}
    except (ValueError, OSError):
        # What stands in the way of one experiment is said when it runs, and stops no other.
        return set()


def plan(options: argparse.Namespace) -> int:
    """Carries out a plan, or says how far it is."""
    from benchmarks.execution import board_plan as plans
    from benchmarks.settings import Bench
    from leaderboards import board_table, tables

    check_cluster(options)
    end = time.time() + options.hours * 3600 if options.hours else None

    def bench(corpus: str, precision: Choice | None) -> Bench:
        own = {"precision": precision or options.precision}
        hardware = hardware_of(argparse.Namespace(**vars(options) | own), corpus)
        return Bench(options.board, options.work, options.vectors_path, hardware, until=end)

    rows = plans.load(options.plan, bench, options.source)
    jobs, names = options.jobs or 1, dict.fromkeys(planned.row.eval_corpus.name for planned in rows)
    if not options.state:
        plans.check_space(options.work, jobs)
        for name in names:
            tables.check(options.board, name)
    print(plans.states(rows), flush=True)
    failed = [] if options.state else plans.carry_out(rows, options.source, jobs, options.cluster)
    print(f"\n{plans.results(rows)}")
    if not options.state:
        made = [name for name in names if name in board_table.corpora(options.board)]
        for name in made:
            print("rendered: " + " ".join(map(str, tables.render(options.board, name))))
    return 1 if failed else 0


def codes(options: argparse.Namespace) -> int:
    """Trains tokenizers alone; prints and renders the table of their code cards."""
    from benchmarks import experiments
    from benchmarks.code_cards import card, tokenizing
    from benchmarks.execution.cell import silence_lightning
    from benchmarks.settings import Bench
    from leaderboards import tables
    from leaderboards.codes import read_all, table

    silence_lightning()
    corpus, _ = asked(options, options.models, tuned=not options.untuned)
    chosen = [experiments.complete(name, corpus, options.set, not options.untuned) for name in options.models]
    for experiment in chosen:
        tokenizing(experiment)
    print(corpus)
    setting = Bench(options.board, options.work, options.vectors_path, hardware_of(options, corpus))
    tables.check(setting.board, corpus.name)
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
    from benchmarks.settings import Bench

    silence_lightning()
    corpus, source = asked(options) if options.row is None else _of_row(options)
    print(corpus)
    board = options.board or options.work / "board"
    setting = Bench(board, options.work, options.vectors_path, hardware_of(options, corpus))
    names, settings, jobs = tuple(options.models or ()), tuple(options.set), options.jobs or default_jobs()
    lab = Lab(setting, corpus, source, names, settings, options.seed, jobs, options.row, not options.untuned)
    found, file = make(options.name, lab, options.out)
    table = found.table.to_markdown(index=False, tablefmt="simple", floatfmt=".4g")
    print(f"\n{table}\n\n{textwrap.fill(found.says, 120)}")
    print(f"\nwritten: {file}, .svg")
    return 0


def _of_row(options: argparse.Namespace) -> Asked:
    """The corpus of `--row`, and its source.

    Raises:
        ValueError: the row is of unseen users, or of another corpus or seed than are given beside it.
        FileNotFoundError: its corpus is no longer in the folder of prepared ones.
    """
    from benchmarks.settings import prepared, source_of
    from data_prep.corpus import UNSEEN_USERS
    from leaderboards import store

    record = store.read(options.row)
    if record.corpus.name.endswith(UNSEEN_USERS):
        raise ValueError(f"{options.row} is of unseen users; expected a row on all users")
    for name, given, usual, own in (
        ("corpus", options.corpus, CORPUS, record.corpus.name),
        ("seed", options.seed, SEED, record.seed),
    ):
        if given not in (usual, own):
            raise ValueError(f"{options.row} is of {name} {own}; expected no --{name} {given} beside it")
    source = source_of(record, options.source)
    return Asked(prepared(options.work, record.corpus.name, source), source)


def add(commands: Any) -> None:
    """Adds them to what `add_subparsers` gave."""
    job = commands.add_parser("bench", help="run what is missing on a corpus and print its table")
    job.set_defaults(call=bench, interrupted=GOES_ON)
    add_common(job)
    job.add_argument(
        "--models",
        nargs="+",
        action="extend",
        help="models or named experiments, or all (default: floors, SASRec, the five)",
    )
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
    cards.add_argument(
        "--models", nargs="+", action="extend", required=True, help="models or named experiments with a tokenizer"
    )
    _add_analyse(commands)


def _add_analyse(commands: Any) -> None:
    looks = commands.add_parser("analyse", help="make one of the papers' analyses: a table and a picture")
    looks.set_defaults(call=analyse, interrupted=GOES_ON)
    decor, etegrec = "utilisation, prefixes, sensitivity (DECOR)", "unseen, alignment, weights (ETEGRec)"
    ding, ours = "support, fusion (Ding et al.)", "batching, precision, ladder, code_loss (ours)"
    looks.add_argument(
        "name", help=f"{decor}; {etegrec}; entropy, density, index (PIT); cold_start (TIGER); {ding}; {ours}"
    )
    add_training(looks)
    add_untuned(looks)
    looks.add_argument("--models", nargs="+", action="extend", help="experiments (default: the analysis's own)")
    looks.add_argument("--seed", type=seed_number, default=SEED, help="the one seed that is looked at")
    looks.add_argument(
        "--row", type=Path, help="record whose weights, found in --work, a ladder or code_loss is of; none is trained"
    )
    looks.add_argument("--jobs", type=positive, help="trainings at a time, where several are needed")
    looks.add_argument("--board", type=Path, help="folder of the records it makes (default: board in --work)")
    looks.add_argument("--out", type=Path, default=Path("docs/analyses"), help="folder of table and picture")
