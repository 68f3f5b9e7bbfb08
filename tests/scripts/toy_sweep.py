"""A sweep whose trials only sleep: processes for the tests to kill. Imports nothing that is slow.

    python -m tests.scripts.toy_sweep work WHERE TRIALS SECONDS LOG   one worker
    python -m tests.scripts.toy_sweep pool WHERE TRIALS SECONDS LOG   two workers and who runs them
    python -m tests.scripts.toy_sweep tell WHERE TRIALS SECONDS LOG   one that is killed while it writes, and its heir

`WHERE` is a folder or the URL of a PostgreSQL; the log gets a line when a trial begins and one when it was worth it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import Trial
from tqdm import tqdm

from benchmarks.sweeps import local_workers, trial_queue
from benchmarks.sweeps.storage import in_database, in_folder, worker_lock
from benchmarks.sweeps.study_spec import StudySpec
from benchmarks.sweeps.trial_queue import TrialQueue

NAME = "toy"
HEARTBEAT = 1
SPACE = {"x": FloatDistribution(-1.0, 1.0)}


def open_toy(where: str, trials: int, name: str = "toy", hours: float | None = None, seed: int = 0) -> TrialQueue:
    """The study, made or found again."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    storage = in_database(where, name, HEARTBEAT) if "://" in where else in_folder(Path(where))
    spec = StudySpec("toy", "none", "0" * 64, trials=trials, hours=hours, seed=seed, heartbeat=HEARTBEAT)
    return trial_queue.make(storage, name, spec, SPACE, {"x": 0.0}, "toy")


def worth(trial: Trial, seconds: float, log: Path) -> float:
    _note(log, f"begun {trial.number} {trial.params['x']!r}")
    time.sleep(seconds)
    _note(log, f"ended {trial.number} {trial.params['x']!r}")
    return -abs(float(trial.params["x"]) - 0.3)


def work(where: str, trials: int, seconds: float, log: Path) -> None:
    found, name = open_toy(where, trials, NAME), local_workers.worker_name()
    alive = None if "://" in where else worker_lock(Path(where), name)
    local_workers.POLL = 0.1
    local_workers.work(found, partial(worth, seconds=seconds, log=log), name, alive)


def _note(log: Path, line: str) -> None:
    with log.open("a") as file:
        file.write(line + "\n")


def dies() -> None:
    """As one that cannot load what it works with."""
    os.kill(os.getpid(), signal.SIGSEGV)


def tell(log: Path) -> None:
    """Is killed in the middle of a line, the first time."""
    os.write(sys.stderr.fileno(), b"half a line")
    if not log.exists():
        _note(log, "killed")
        os.kill(os.getpid(), signal.SIGKILL)
    tqdm.write(" and the rest", file=sys.stderr)


if __name__ == "__main__":
    command, place, count, duration, file = sys.argv[1:]
    once = partial(work, place, int(count), float(duration), Path(file))
    if command == "pool":
        local_workers.run_all(once, 2, open_toy(place, int(count), NAME))
    elif command == "tell":
        local_workers.run_all(partial(tell, Path(file)), 1, open_toy(place, 1))
    else:
        once()
