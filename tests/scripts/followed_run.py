"""A run that W&B follows offline, which says when W&B has a file and ends when its input does: FOLDER."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks.tracking import wandb_run

work = Path(sys.argv[1])
wandb_run.END_SECONDS = 1.0
tracker = wandb_run.tracker_of({"name": "run", "id": "run", "mode": "offline", "root": str(work)})
assert tracker.logger
tracker.logger.log({"loss": 1.0})
while not list(work.glob("wandb/*/*.wandb")):
    time.sleep(0.1)
print(flush=True)
sys.stdin.read()
tracker.summary({"done": 1.0})
tracker.close()
