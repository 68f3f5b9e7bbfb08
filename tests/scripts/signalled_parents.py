"""One process that has loaded what a bench needs, and copies of it that run one bench, in the folder it is begun in.

    python -m tests.scripts.signalled_parents ARGUMENTS

Each copy but the last has two workers and gets a signal: two while the workers load, two while they train. A line tells
the signal, the exit status and how many processes were left at work; the last line is the status without a signal.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import models.sasrec  # noqa: F401
from benchmarks.__main__ import main
from benchmarks.training.checkpoint_callback import LAST
from tests.crash_test import members, orphans

LOADING = (signal.SIGTERM, signal.SIGHUP)
TRAINING = (signal.SIGINT, signal.SIGKILL)


def begin(name: str, jobs: int) -> int:
    """A bench in a session of its own, whose lines go into a file of this name; its process id."""
    log = os.open(name, os.O_WRONLY | os.O_CREAT)
    child = os.fork()
    if child:
        return child
    os.setsid()
    # Under nohup, or in the background, they are ignored.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os._exit(main([*sys.argv[1:], "--jobs", str(jobs), "--work", "work", "--board", "board"]))


def status(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def states() -> set[tuple[Path, int]]:
    """Saved states of trainings, and when they were."""
    return {(path, path.stat().st_mtime_ns) for path in Path("work").glob(f"fits/*/{LAST}")}


def signalled(number: signal.Signals) -> None:
    before, parent = states(), begin(number.name, 2)
    # There are the parent, what looks after its shared memory, and the workers; or a state more.
    while len(members(parent)) < 4 if number in LOADING else states() <= before:
        assert os.waitid(os.P_PID, parent, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None, f"ended before {number.name}"
        time.sleep(0.01)
    # A terminal sends Ctrl-C to all.
    (os.killpg if number == signal.SIGINT else os.kill)(parent, number)
    print(number.name, status(parent), len(orphans(parent, 5)), flush=True)


if __name__ == "__main__":
    for each in LOADING + TRAINING:
        signalled(each)
    assert not Path("board").exists(), "a run was begun, or ended, behind a signal"
    print(status(begin("last", 1)))
