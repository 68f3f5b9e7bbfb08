"""`grbench COMMAND`: trained models asked (predict) and handed on (export), and the commands of the other packages."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import benchmarks.__main__
import leaderboards.__main__
from benchmarks.commands.options import WORK, add_accelerator
from benchmarks.user_errors import user_message
from data_prep.command_line import Parser
from leaderboards import escape

# The commands import what needs torch themselves, so that --help and a mistyped option do not wait for it.
if TYPE_CHECKING:
    from grbench.served import Served

BENCHMARKS, LEADERBOARDS = tuple(benchmarks.__main__.EXAMPLES), tuple(leaderboards.__main__.EXAMPLES)
COMMANDS, OTHERS = ("predict", "export"), ("data", *BENCHMARKS, *LEADERBOARDS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0, or 2 after an error that the user can mend."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    match words[:1]:
        case ["data"]:
            from data_prep.__main__ import main as data

            return data(words[1:])
        case [name] if name in BENCHMARKS:
            return benchmarks.__main__.main(words)
        case [name] if name in LEADERBOARDS:
            return leaderboards.__main__.main(words)
    escape.for_any_terminal()
    parser = _parser()
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        parser.error(f"no command {words[0]!r}; possible: {', '.join([*COMMANDS, *OTHERS])}")
    options = parser.parse_args(words)
    try:
        return int(options.call(options))
    except KeyboardInterrupt:
        print(f"\ninterrupted{options.interrupted}", file=sys.stderr)
        return 130
    except Exception as error:
        if (said := user_message(error)) is None:
            raise
        print(escape.terminal(f"error: {said}"), file=sys.stderr)
        return 2


def predict(options: argparse.Namespace) -> int:
    """Writes lists for the users of a file."""
    from grbench.predict import predict as write

    done = write(_served(options), options.input, options.output, options.k, options.unseen)
    pace = f"{done.seconds:.1f} s ({done.ranked / max(done.seconds, 1e-9):,.0f} a second)"
    print(f"{options.output}: {done.users:,} users, {done.ranked:,} ranked in {pace}, {done.certified:,} certified")
    if done.unknown:
        print(f"{done.unknown:,} items of histories are unknown to the model and left out")
    if done.without:
        print(f"{done.without:,} users have no other item; their lists are empty")
    return 0


def export(options: argparse.Namespace) -> int:
    """Writes a row's model into a folder, and sends it where that is asked for."""
    if options.public and not options.push_to_hub:
        raise ValueError("--public is given without --push-to-hub OWNER/NAME")
    from grbench.export import write
    from leaderboards.store import board_of, read_run

    row = options.row.absolute()
    run = read_run(board_of(row), row)
    served = _served(options)
    print(f"written: {write(served.recommender, served.item_ids, run, options.folder)}", flush=True)
    if options.push_to_hub:
        from grbench.hub import push

        print(f"sent: {push(options.folder, options.push_to_hub, options.public)}")
    return 0


def _served(options: argparse.Namespace) -> Served:
    from benchmarks.execution.cell import silence_lightning
    from grbench.served import load

    silence_lightning()
    return load(options.row, options.work, options.source, options.vectors_path, options.threads, options.accelerator)


def _repository(text: str) -> str:
    """
    Raises:
        argparse.ArgumentTypeError: it is no name of a repository.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(text)
    except HFValidationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if "/" not in text:
        raise argparse.ArgumentTypeError(f"{text!r} has no owner; expected OWNER/NAME")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="grbench", description=f"{__doc__} They are {', '.join(OTHERS)}: see `grbench bench -h`.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    lists = commands.add_parser("predict", help="write the best items for the histories of a file")
    lists.set_defaults(call=predict, interrupted="; the same predict goes on with the users that are left")
    lists.epilog = "example: grbench predict --row my_sasrec --input histories.jsonl --output top.parquet --k 20"
    lists.add_argument("--row", type=Path, required=True, help="a record of a board, or an exported folder")
    lists.add_argument(
        "--input", type=Path, required=True, help='JSON lines: {"user": "U1", "history": ["B01", "B07"]}'
    )
    lists.add_argument("--output", type=Path, required=True, help="a Parquet file: user, items, scores, certified")
    lists.add_argument("--k", type=int, default=10, help="items of a list (default: %(default)s)")
    lists.add_argument("--unseen", action="store_true", help="leave out the items of the history")
    copy = commands.add_parser("export", help="write a row's model into a folder that needs no training data")
    copy.set_defaults(call=export, interrupted="")
    copy.epilog = "example: grbench export leaderboards/v2/beauty_2014/sasrec/3aa5b3202c36/seed-0.json my_sasrec"
    copy.add_argument("row", type=Path, help="a record of a board, leaderboards/v2/<corpus>/<model>/<key>/seed-0.json")
    copy.add_argument("folder", type=Path, help="a folder that is not there")
    copy.add_argument(
        "--push-to-hub",
        type=_repository,
        metavar="OWNER/NAME",
        help="send it to a new repository of the Hugging Face hub",
    )
    copy.add_argument("--public", action="store_true", help="the new repository is for all to see (default: private)")
    for command in (lists, copy):
        command.add_argument("--work", type=Path, default=WORK, help="folder of trainings and corpora")
        command.add_argument("--source", default="auto", help="where the corpus of a record comes from")
        command.add_argument(
            "--vectors-path", type=Path, help="file or folder of item vectors, where a config needs it"
        )
        command.add_argument("--threads", type=int, default=1, help="CPU threads")
        add_accelerator(command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
