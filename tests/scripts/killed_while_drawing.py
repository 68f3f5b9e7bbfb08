"""Kills a copy of this process that draws, and draws.

python -m tests.scripts.killed_while_drawing FOLDER
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from tqdm import tqdm

from tests import crash_test as torture


def drawing(arguments: Sequence[str] | None = None) -> int:
    with tqdm.get_lock():
        print("draws")
        time.sleep(100)
    return 0


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with mock.patch.object(torture, "benchmarks_main", drawing), tqdm(total=1) as bar:
        copy = torture.start(torture.JOBS[0], folder, fresh=False)
        while not (folder / torture.LOG).stat().st_size:
            time.sleep(0.01)
        os.kill(copy, signal.SIGKILL)
        os.waitpid(copy, 0)
        bar.update()
