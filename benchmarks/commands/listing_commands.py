"""The commands that show what is defined: `dashboards`, `list`, `show`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.commands.options import WORK, add_untuned, own_corpus
from data_prep.own_options import add_own_options

# The commands import what needs torch themselves, so that --help and a mistyped option do not wait for it.

# Corpora that have panels where none is told.
SHOWN = ("all_beauty", "musical_instruments")


def dashboards(options: argparse.Namespace) -> int:
    """Defines the W&B project's workspace and report, or prints their definition."""
    from benchmarks.tracking import wandb_dashboards

    corpora = options.corpora or SHOWN
    print(wandb_dashboards.made(options.entity, options.project, corpora, options.dry_run))
    return 0


def list_all(options: argparse.Namespace) -> int:
    """Prints what can be run, and what papers say of it."""
    from benchmarks.listing import listing

    print(listing())
    return 0


def show(options: argparse.Namespace) -> int:
    """Prints an experiment's complete config, and where each value is from."""
    from benchmarks.config import check_each_once
    from benchmarks.show import shown

    check_each_once(options.set)
    print(shown(options.experiment, own_corpus(options) or options.corpus, options.set, not options.untuned))
    return 0


def add(commands: Any) -> None:
    """Adds them to what `add_subparsers` gave."""
    boards = commands.add_parser("dashboards", help="define the workspace and the report of the W&B project")
    boards.set_defaults(call=dashboards)
    boards.add_argument("--entity", default="", help="user or team of W&B")
    boards.add_argument("--project", default="grbench", help="project of W&B")
    boards.add_argument(
        "--corpora",
        nargs="+",
        action="extend",
        help=f"that have panels of their own (default: {' '.join(SHOWN)})",
    )
    boards.add_argument("--dry-run", action="store_true", help="print the definition; needs no server and no login")
    listing = commands.add_parser("list", help="models, experiments and corpora")
    listing.set_defaults(call=list_all)
    config = commands.add_parser("show", help="an experiment's complete config, and where each value is from")
    config.set_defaults(call=show, source="auto")
    config.add_argument("experiment", help="a model or a named experiment")
    config.add_argument("corpus", nargs="?", default="planted", help="name of a corpus, or a file of interactions")
    add_own_options(config)
    config.add_argument("--work", type=Path, default=WORK, help="folder of prepared corpora")
    config.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="fields of the config"
    )
    add_untuned(config)
