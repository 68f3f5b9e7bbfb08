"""`python -m leaderboards board | paper | findings | verify`: tables and pages of records, and whether all is true."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from data_prep.atomic import write_text
from leaderboards import board_table, claims, escape, findings, history, ledger, paper, site, tables, verdicts
from leaderboards.record import BOARD
from leaderboards.rows import Board
from leaderboards.store import read_board
from leaderboards.verify import verify

# Prose of people around tables of all boards.
FINDINGS = Path("docs/findings.md")
# Of each command, shown by its help.
EXAMPLES = {
    "board": "board --corpus beauty_2014",
    "paper": "paper --corpus beauty_2014",
    "findings": "findings",
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
    except KeyboardInterrupt:
        return 130


def render(options: argparse.Namespace) -> int:
    """Writes tables and pages; prints each corpus's rows, and what papers state of them."""
    corpora = _corpora(options)
    for corpus in corpora:
        rows = tables.board_of(options.board, corpus)
        # The page reads what sweeps wrote: nothing that is damaged comes into the ledger.
        page = [site.write_page(options.board, corpus, rows, corpora)] if rows is not None else []
        targets = [*tables.render(options.board, corpus, rows), *page]
        for file in ledger.foreign(options.board, corpus):
            print(escape.terminal(f"not listed: {file} {ledger.FOREIGN}"), file=sys.stderr)
        if rows is not None:
            print(f"{corpus}\n{board_table.console(board_table.table(rows))}\n")
            said = verdicts.verdicts(rows.rows)
            print(f"{verdicts.table(said, 'simple')}\n" if said else "No paper states numbers of these rows.\n")
        print("written: " + " ".join(str(target) for target in targets) + "\n")
    if board_table.corpora(options.board):
        print(f"all corpora: {site.write_index(options.board)}")
    return 0


def latex(options: argparse.Namespace) -> int:
    """Prints the LaTeX tables."""
    with_rows = [corpus for corpus in _corpora(options) if corpus in board_table.corpora(options.board)]
    if not with_rows:
        raise FileNotFoundError(f"{options.board} has code cards alone of {options.corpus or 'any corpus'}; no row")
    for corpus in with_rows:
        print(paper.latex(Board(read_board(options.board, corpus))))
    return 0


def fill(options: argparse.Namespace) -> int:
    """Makes the tables of the page of findings again; that of the project's own board unless another is told."""
    if options.page is None and options.board.absolute() != BOARD.absolute():
        raise ValueError(f"{FINDINGS} is of {BOARD}; expected a page for {options.board} (--page)")
    target = options.page or FINDINGS
    if not target.is_file():
        raise FileNotFoundError(f"{target} is missing, or no file; expected a page with places for tables (--page)")
    try:
        page = target.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{target}: {error}; expected UTF-8") from error
    write_text(target, findings.filled(page, findings.read(options.board)))
    print(f"written: {target}")
    return 0


def check(options: argparse.Namespace) -> int:
    """Prints what is wrong with boards, or that nothing is."""
    boards = options.board.absolute().parent if options.board else BOARD.parent
    gone = list(history.gone(boards, options.base)) if options.base else []
    for problem in gone:
        _wrong(problem)
    wrong = len(gone)
    for folder in [options.board] if options.board else _boards(options.row):
        problems, records = verify(folder, options.row, options.base)
        if history.released(folder) and (reason := claims.unchecked(folder)):
            print(f"commits that {folder} quotes are not looked up: {reason}", file=sys.stderr)
        for problem in problems:
            _wrong(problem)
        print(f"{records} records checked in {folder}: " + (f"{len(problems)} problems" if problems else "all true"))
        wrong += len(problems)
    return 1 if wrong else 0


def _wrong(problem: str) -> None:
    """On one line, whatever a file says or is called: a workflow takes some lines for commands."""
    print(escape.line(escape.terminal(f"wrong: {problem}")))


def _boards(row: str | None) -> list[Path]:
    """The project's boards that have evidence, or had it; of them those with a record whose path holds `row`."""
    others = ("v*/*/codes/*.json", "v*/*.sha256", f"v*/{history.PROTOCOL}")
    patterns = ("v*/*/*/*/seed-*.json", *(others if row is None else ()))
    files = (file for pattern in patterns for file in BOARD.parent.glob(pattern))
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
    commands = parser.add_subparsers(required=True, metavar="board | paper | findings | verify")
    renders = commands.add_parser(
        "board", help="render tables and pages, print the rows and the papers' numbers", allow_abbrev=False
    )
    renders.set_defaults(call=render)
    prints = commands.add_parser("paper", help="print the boards as LaTeX tables", allow_abbrev=False)
    prints.set_defaults(call=latex)
    for command in (renders, prints):
        command.add_argument("--corpus", help="this corpus only")
    checks = commands.add_parser(
        "verify", help="recompute every number from the ranks, check hashes and tables", allow_abbrev=False
    )
    checks.set_defaults(call=check)
    checks.add_argument("--row", help="records whose path holds this: a corpus, model, key or seed-<n> (default: all)")
    checks.add_argument("--base", help="git revision: evidence of a released board must stand as it was there")
    fills = commands.add_parser("findings", help="make the tables of the page of findings again", allow_abbrev=False)
    fills.set_defaults(call=fill)
    fills.add_argument("--page", type=Path, help=f"page with places for tables (default: {FINDINGS})")
    for command in (renders, prints, fills):
        command.add_argument("--board", type=Path, default=BOARD, help=f"folder of the records (default: {BOARD})")
    checks.add_argument("--board", type=Path, help="folder of the records (default: the board of every protocol)")
    for name, command in commands.choices.items():
        command.epilog = f"example: python -m leaderboards {EXAMPLES[name]}"
    return parser


if __name__ == "__main__":
    sys.exit(main())
