"""Benches with two workers that get a signal each, and one that goes on: arguments of a bench.

One process loads what a bench needs, and the benches are copies of it. Two are met while their workers load, one while
they train.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

# Loaded here, for all copies.
import benchmarks.execution.local  # noqa: F401
import leaderboards.tables  # noqa: F401
import models.sasrec  # noqa: F401
from benchmarks.__main__ import main
from tests.crash_test import members, orphans


def begin(name: str, jobs: str) -> int:
    log = os.open(name, os.O_WRONLY | os.O_CREAT)
    child = os.fork()
    if not child:
        os.setsid()
        # Where the tests run under nohup, it is ignored.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os._exit(main([*sys.argv[1:], "--jobs", jobs, "--work", "work", "--board", "board"]))
    return child


def status(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def at_work(name: str, parent: int) -> bool:
    if name == "SIGKILL":
        return bool(list(Path("work").glob("fits/*/*.*")))
    # The parent, what looks after its shared memory, and the workers.
    return len(members(parent)) >= 4


# Its workers import this file.
if __name__ == "__main__":
    for name in ("SIGTERM", "SIGHUP", "SIGKILL"):
        parent = begin(name, "2")
        while not at_work(name, parent):
            time.sleep(0.01)
        os.kill(parent, getattr(signal, name))
        print(name, status(parent), len(orphans(parent, 5)))
    print(status(begin("last", "1")))
