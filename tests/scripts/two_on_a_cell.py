"""One process that has loaded what a bench needs, and twice two copies of it that run one cell, in two folders.

    python -m tests.scripts.two_on_a_cell ARGUMENTS

The second starts when the first trains. In the folder `dead` the first is then killed; a line tells how both ended.
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


def begin(place: Path, name: str) -> int:
    """A bench whose lines go into a file of this name; its process id."""
    log = os.open(place / name, os.O_WRONLY | os.O_CREAT)
    child = os.fork()
    if child:
        return child
    os.dup2(log, 1)
    os.dup2(log, 2)
    os._exit(main([*sys.argv[1:], "--board", str(place / "board"), "--work", str(place / "work")]))


if __name__ == "__main__":
    for place in (Path("alive"), Path("dead")):
        place.mkdir()
        first = begin(place, "first")
        while not list(place.glob(f"work/fits/*/{LAST}")):
            time.sleep(0.01)
        second = begin(place, "second")
        while b"at work" not in (place / "second").read_bytes():
            time.sleep(0.01)
        if place.name == "dead":
            os.kill(first, signal.SIGKILL)
        print(place, *(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in (first, second)))
