"""`python -m benchmarks COMMAND`: the main job (bench), a board over days (plan), configs searched (sweep), tokenizers
alone (codes), the papers' analyses (analyse), rows ranked again (rerank) or trained again (reproduce), changes gated
(regress), dashboards, speed (perf), and what can be run (list, show)."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import os
import signal
import sys
from typing import NoReturn

from benchmarks.commands import check_commands, listing_commands, sweep_commands, training_commands
from benchmarks.execution import worker_process
from benchmarks.user_errors import hidden_of_url, user_message
from data_prep.command_line import Parser
from leaderboards import escape

# Of each command, shown by its help.
EXAMPLES = {
    "bench": "bench --corpus all_beauty --models tiger sasrec --seeds 5",
    "plan": "plan benchmarks/plans/smoke.toml --hours 8",
    "codes": "codes --corpus all_beauty --models tiger letter",
    "analyse": "analyse utilisation --corpus planted",
    "sweep": "sweep --model sasrec --corpus all_beauty --trials 20 --jobs 2",
    "sweep-worker": "sweep-worker --storage postgresql://user@host/database --study sasrec-all_beauty-0123456789ab",
    "rerank": "rerank --row all_beauty/sasrec --users 100",
    "reproduce": "reproduce --row all_beauty/popularity",
    "regress": "regress --models sasrec tiger",
    "perf": "perf --only grade kcore",
    "dashboards": "dashboards --entity team --project grbench --dry-run",
    "list": "list",
    "show": "show decor-base all_beauty --set lr=0.001",
}

# How a process ends that a signal ends: with so much more than the signal's number.
SIGNALLED = 128


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


class _Parser(Parser):
    def error(self, message: str) -> NoReturn:
        """It quotes what it does not know, which may be a URL with blanks."""
        super().error(hidden_of_url(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    parser.set_defaults(interrupted="")
    for group in (training_commands, sweep_commands, check_commands, listing_commands):
        group.add(commands)
    for name, command in commands.choices.items():
        command.epilog = f"example: python -m benchmarks {EXAMPLES[name]}"
    return parser


if __name__ == "__main__":
    status = 0
    # What is registered first is called last. To take torch down takes seconds more, in which nothing is done.
    atexit.register(lambda: os._exit(status) if status > SIGNALLED else None)
    status = main()
    sys.exit(status)
