"""`python -m leaderboards board | paper | verify`: tables and pages of records, LaTeX, and whether all is true."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from data_prep.atomic import write_text
from leaderboards import board, claims, escape, history, page, paper, tables, verdicts
from leaderboards.record import BOARD
from leaderboards.rows import Board
from leaderboards.store import read_board
from leaderboards.verify import verify

# Of each command, shown by its help.
EXAMPLES = {
    "board": "board --corpus beauty_2014",
    "paper": "paper --corpus beauty_2014",
    "verify": "verify --row beauty_2014/sasrec --base origin/main",
}


def main(arguments: list[str] | None = None) -> int:
    """A user's error is one sentence and exit status 2; a board that is not true is exit status 1."""
    escape.for_any_terminal()
    options = _parser().parse_args(arguments)
    try:
        return int(options.call(options))
    except (ValueError, OSError) as error:
        print(escape.terminal(f"error: {error}"), file=sys.stderr)
        return 2


def render(options: argparse.Namespace) -> int:
    """Writes tables and pages; prints each corpus's rows, and what papers state of them."""
    for corpus in _corpora(options):
        rows = tables.board_of(options.board, corpus)
        targets = tables.render(options.board, corpus, rows)
        if rows is not None:
            targets.append(options.board / f"{corpus}.html")
            write_text(targets[-1], page.html(rows))
            print(f"{corpus}\n{board.console(board.table(rows))}\n")
            said = verdicts.verdicts(rows.rows)
            print(f"{verdicts.table(said, 'simple')}\n" if said else "No paper states numbers of these rows.\n")
        print("written: " + " ".join(str(target) for target in targets) + "\n")
    return 0


def latex(options: argparse.Namespace) -> int:
    """Prints the LaTeX tables."""
    for corpus in _corpora(options):
        if corpus in board.corpora(options.board):
            print(paper.latex(Board(read_board(options.board, corpus))))
    return 0


def check(options: argparse.Namespace) -> int:
    """Prints what is wrong with boards, or that nothing is."""
    wrong = 0
    for folder in [options.board] if options.board else _boards(options.row):
        problems, records = verify(folder, options.row, options.base)
        if history.released(folder) and (reason := claims.unchecked(folder)):
            print(f"commits that {folder} quotes are not looked up: {reason}", file=sys.stderr)
        for problem in problems:
            print(escape.terminal(f"wrong: {problem}"))
        print(f"{records} records checked in {folder}: " + (f"{len(problems)} problems" if problems else "all true"))
        wrong += len(problems)
    return 1 if wrong else 0


def _boards(row: str | None) -> list[Path]:
    """The project's boards that have evidence; of them those with a record whose path holds `row`."""
    files = [*BOARD.parent.glob("v*/*/*/*/seed-*.json"), *([] if row else BOARD.parent.glob("v*/*/codes/*.json"))]
    every = sorted({BOARD.parent / file.parts[1] for file in files if (row or "") in str(file)})
    if not every:
        raise FileNotFoundError(f"no record in {BOARD.parent}" + (f" whose path holds {row!r}" if row else ""))
    return every


def _corpora(options: argparse.Namespace) -> list[str]:
    found = [name for name in tables.corpora(options.board) if options.corpus in (None, name)]
    if not found:
        raise FileNotFoundError(f"no record of a run on {options.corpus or 'any corpus'} in {options.board}")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m leaderboards", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="board | paper | verify")
    renders = commands.add_parser("board", help="render tables and pages, print the rows and the papers' numbers")
    renders.set_defaults(call=render)
    prints = commands.add_parser("paper", help="print the boards as LaTeX tables")
    prints.set_defaults(call=latex)
    for command in (renders, prints):
        command.add_argument("--corpus", help="this corpus only")
    checks = commands.add_parser("verify", help="recompute every number from the ranks, check hashes and tables")
    checks.set_defaults(call=check)
    checks.add_argument("--row", help="records whose path holds this: a corpus, model, key or seed-<n> (default: all)")
    checks.add_argument("--base", help="git revision: evidence of a released board must stand as it was there")
    for command in (renders, prints):
        command.add_argument("--board", type=Path, default=BOARD, help=f"folder of the records (default: {BOARD})")
    checks.add_argument("--board", type=Path, help="folder of the records (default: the board of every protocol)")
    for name, command in commands.choices.items():
        command.epilog = f"example: python -m leaderboards {EXAMPLES[name]}"
    return parser


if __name__ == "__main__":
    sys.exit(main())
