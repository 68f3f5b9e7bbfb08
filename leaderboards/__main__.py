"""Render the tables of a board from its records: `python -m leaderboards [--board DIR] [--corpus NAME]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from leaderboards.board import corpora, render


def main(arguments: list[str] | None = None) -> int:
    """Render and print what was written; a user's error is one sentence and exit status 2."""
    parser = argparse.ArgumentParser(prog="python -m leaderboards", description="Render tables from records.")
    parser.add_argument("--board", type=Path, default=Path("leaderboards/v1"), help="folder of the records")
    parser.add_argument("--corpus", help="render this corpus only")
    given = parser.parse_args(arguments)
    try:
        names = [given.corpus] if given.corpus else corpora(given.board)
        if not names:
            raise FileNotFoundError(f"no record of a run in {given.board}")
        for name in names:
            for target in render(given.board, name):
                print(target)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
