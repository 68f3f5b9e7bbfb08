"""Render the tables of a board from its records: `python -m leaderboards [--board DIR] [--corpus NAME]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from leaderboards import board, codes


def main(arguments: list[str] | None = None) -> int:
    """Render and print what was written; a user's error is one sentence and exit status 2."""
    parser = argparse.ArgumentParser(prog="python -m leaderboards", description="Render tables from records.")
    parser.add_argument("--board", type=Path, default=Path("leaderboards/v1"), help="folder of the records")
    parser.add_argument("--corpus", help="render this corpus only")
    given = parser.parse_args(arguments)
    try:
        rows, cards = (
            [name for name in found if given.corpus in (None, name)]
            for found in (board.corpora(given.board), codes.corpora(given.board))
        )
        if not rows and not cards:
            raise FileNotFoundError(f"no record of a run on {given.corpus or 'any corpus'} in {given.board}")
        targets = [target for name in rows for target in board.render(given.board, name)]
        targets += [codes.render(given.board, name) for name in cards]
        for target in targets:
            print(target)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
