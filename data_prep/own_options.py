"""What a command is told of a file that it is given in place of a corpus's name. Without torch: help does not wait."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_own_options(command: argparse.ArgumentParser) -> None:
    """Adds `--columns`, `--items` and `--core`, as `own_corpus.given` takes them."""
    command.add_argument(
        "--columns", nargs="+", action="extend", default=[], metavar="ROLE=NAME", help="user=uid item=movie time=ts"
    )
    command.add_argument("--items", type=Path, help="file of the items' title, description, brand, categories, price")
    command.add_argument("--core", type=int, help="least interactions of users and items (default: 5; of sequences 1)")
