"""The commands that hold rows, code and speed to account: `rerank`, `reproduce`, `regress`, `perf`."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

from benchmarks.commands.options import (
    WORK,
    default_jobs,
    positive,
    seed_number,
)
from leaderboards.record import BOARD

# The commands import what needs torch themselves, so that --help and a mistyped option do not wait for it.
LATEST = WORK / "perf/latest.json"
CHANGELOG = Path("CHANGELOG.md")


def rerank(options: argparse.Namespace) -> int:
    """Ranks users of the records again whose weights are at hand."""
    from benchmarks.checks.rerank import deep
    from benchmarks.execution.cell import silence_lightning
    from benchmarks.settings import Bench

    silence_lightning()
    problems, says = deep(Bench(options.board, options.work, options.vectors_path), options.row, options.users)
    print("\n".join([*says, *(f"wrong: {problem}" for problem in problems)]))
    return 1 if problems else 0


def reproduce(options: argparse.Namespace) -> int:
    """Trains rows again from their records alone."""
    from benchmarks.checks import reproduce as again
    from benchmarks.settings import Bench

    if not options.row and options.sample is None:
        raise ValueError("neither --row nor --sample is given; expected one, for a whole board is days of training")
    if options.base and options.sample is None:
        raise ValueError("--base is given without --sample; it says which rows are drawn first")
    bench, said = Bench(options.board, options.work, options.vectors_path), list[bool]()
    for target in again.drawn(options.board, options.row, options.sample, options.minutes, options.base):
        print(f"{target}: to be made again", flush=True)
        verdict = again.reproduce(bench, target, options.source)
        if verdict.good is None:
            print(f"{target}: not made again: {verdict.says}", flush=True)
            continue
        print(f"{'' if verdict.good else 'wrong: '}{target}: {verdict.says}", flush=True)
        said.append(verdict.good)
    # That no row was made again, is wrong.
    return 0 if said and all(said) else 1


def regress(options: argparse.Namespace) -> int:
    """Asks whether the code still gives the numbers it gave, or makes new references."""
    from benchmarks.checks import regress as gate
    from benchmarks.execution.cell import silence_lightning

    silence_lightning()
    references, jobs = options.references or gate.REFERENCES, options.jobs or default_jobs()
    names = options.models or gate.gated(references)
    if options.accept and options.first_seed:
        raise ValueError("--first-seed is given with --accept; references have their own seeds, from 0 on")
    if options.why and not options.accept:
        raise ValueError("--why is given without --accept; only new references are noted with a reason")
    if options.accept:
        gate.check_changelog(CHANGELOG)
        lines = gate.accept(options.work, names, options.why or "reason to be filled in", jobs, references)
        gate.note(lines, CHANGELOG)
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


def perf(options: argparse.Namespace) -> int:
    """Times our paths beside their baselines."""
    from benchmarks.perf import run

    if options.vectors_path and not options.row:
        raise ValueError("--vectors-path is given without --row; only a row's model was given item vectors")
    run(options.only, LATEST, options.row, options.vectors_path)
    return 0


def add(commands: Any) -> None:
    """Adds them to what `add_subparsers` gave."""
    again = commands.add_parser("rerank", help="rank users again with the weights of finished trainings")
    again.set_defaults(call=rerank)
    again.add_argument("--row", help="records whose path holds this (default: all)")
    again.add_argument("--users", type=positive, default=200, help="so many of a record's users, drawn at random")
    again.add_argument("--board", type=Path, default=BOARD, help="folder of the records")
    again.add_argument("--work", type=Path, default=WORK, help="folder of trainings and corpora")
    _add_vectors_path(again)
    _add_reproduce(commands)
    gate = commands.add_parser("regress", help="hold the quick board, on a CPU, against its references: the gate")
    gate.set_defaults(call=regress)
    gate.add_argument("--models", nargs="+", action="extend", help="these models (default: all that have references)")
    gate.add_argument("--first-seed", type=seed_number, default=0, help="seeds of the fresh runs count from here")
    gate.add_argument("--jobs", type=positive, help="runs at a time")
    gate.add_argument("--work", type=Path, default=WORK, help="folder of trainings and corpora")
    gate.add_argument("--references", type=Path, help="folder of the reference runs (default: the committed ones)")
    gate.add_argument("--accept", action="store_true", help="make new references and note them in CHANGELOG.md")
    gate.add_argument("--why", help="the reason, for CHANGELOG.md")
    timing = commands.add_parser("perf", help="time our paths beside what one would use without them")
    timing.set_defaults(call=perf)
    what = timing.add_mutually_exclusive_group()
    what.add_argument(
        "--only", nargs="+", action="extend", default=[], metavar="NAME", help="these pairs (default: all)"
    )
    what.add_argument("--row", type=Path, help="a record of TIGER or LETTER, whose ranking is timed instead")
    _add_vectors_path(timing)


def _add_vectors_path(command: argparse.ArgumentParser) -> None:
    command.add_argument("--vectors-path", type=Path, help="item vectors that the record was given, as bench has it")


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
    _add_vectors_path(proof)
