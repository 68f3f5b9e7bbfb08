"""Kills a copy that draws, and draws: FOLDER."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from tqdm import tqdm

from tests import crash_test


def drawing(arguments: list[str]) -> int:
    with tqdm.get_lock():
        print("draws")
        time.sleep(100)
    return 0


crash_test.benchmarks_main = drawing  # type: ignore[assignment, attr-defined]
folder = Path(sys.argv[1])
with tqdm(total=1) as bar:
    copy = crash_test.start(crash_test.JOBS[0], folder, fresh=False)
    while not (folder / crash_test.LOG).stat().st_size:
        time.sleep(0.01)
    os.kill(copy, signal.SIGKILL)
    os.waitpid(copy, 0)
    bar.update()
