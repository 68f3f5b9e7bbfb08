"""Two benches of the same cell in each of two folders, in one of which the first is killed while it trains: arguments
of a bench. One process loads what a bench needs, and the benches are copies of it."""

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


def begin(place: Path, name: str) -> int:
    log = os.open(place / name, os.O_WRONLY | os.O_CREAT)
    child = os.fork()
    if not child:
        os.dup2(log, 1)
        os.dup2(log, 2)
        os._exit(main([*sys.argv[1:], "--board", f"{place}/board", "--work", f"{place}/work"]))
    return child


if __name__ == "__main__":
    for place in (Path("alive"), Path("dead")):
        place.mkdir()
        first = begin(place, "first")
        while not list(place.glob("work/fits/*/last.ckpt")):
            time.sleep(0.01)
        second = begin(place, "second")
        while b"at work" not in (place / "second").read_bytes():
            time.sleep(0.01)
        if place.name == "dead":
            os.kill(first, signal.SIGKILL)
        print(place, *(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in (first, second)))
