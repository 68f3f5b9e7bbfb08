"""A run followed offline: prints a line when it has begun, and ends when its input does.

python -m tests.scripts.followed_run FOLDER
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks.tracking import wandb_run

if __name__ == "__main__":
    work = Path(sys.argv[1])
    wandb_run.END_SECONDS = 1
    tracker = wandb_run.tracker_of({"name": "run", "id": "run", "mode": "offline", "root": str(work)})
    assert tracker.logger is not None
    tracker.logger.log({"loss": 1.0})
    while not list(work.glob("wandb/*/*.wandb")):
        time.sleep(0.1)
    print(flush=True)
    sys.stdin.read()
    tracker.summary({"done": 1.0})
    tracker.close()
