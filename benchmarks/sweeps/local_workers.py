"""Workers: claim a trial, find its worth, end it, until the study is done; and the processes that do so."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tqdm import tqdm

from benchmarks.execution import worker_lines, worker_process
from benchmarks.sweeps.storage import heartbeats
from benchmarks.sweeps.trial_queue import TrialQueue
from benchmarks.sweeps.trial_state import RETRIES
from benchmarks.user_errors import hidden, user_message

if TYPE_CHECKING:
    from optuna.trial import Trial

# Seconds between two looks at the study where others hold the last trials: one of them may die.
POLL = 1.0
# Seconds that a worker waits for a database that does not answer.
PATIENCE = 600.0
# How a process ends that has told its user's mistake.
TOLD = 2


def worker_name() -> str:
    """Unlike that of any other worker, on this host or another."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"


def work(
    queue: TrialQueue, objective: Callable[[Trial], float], name: str, alive: AbstractContextManager[Any] | None = None
) -> None:
    """Works on trials until none is left and none runs; waits a while for a study that cannot be reached.

    Args:
        name: as from `worker_name`.
        alive: held while the worker lives, by which others see that it does.

    Raises:
        OSError: the study could not be reached for `PATIENCE` seconds.
    """
    done, lost_at = False, None
    with alive or nullcontext():
        while not done:
            try:
                done, lost_at = _once(queue, objective, name), None
            except Exception as error:
                if not queue.storage.is_unreachable(error):
                    raise
                says, now = hidden(f"the study cannot be reached: {str(error).splitlines()[0]}"), time.monotonic()
                if lost_at is None:
                    lost_at = now
                    tqdm.write(f"{says}; what it was to be told is found again when it is back", file=sys.stderr)
                if now - lost_at > PATIENCE:
                    raise OSError(says) from None
                time.sleep(POLL)


def _once(queue: TrialQueue, objective: Callable[[Trial], float], name: str) -> bool:
    """Works on the next trial, or waits for one; whether there will be none any more."""
    trial, done = queue.claim(name)
    if trial is not None:
        with heartbeats(queue.storage, trial):
            said = attempt(queue, objective, trial)
        tqdm.write(f"trial {trial.number}: {said}; {shown(trial.params)}", file=sys.stderr)
    elif not done:
        time.sleep(POLL)
    return done


def attempt(queue: TrialQueue, objective: Callable[[Trial], float], trial: Trial) -> str:
    """Finds a trial's worth and ends it; returns how it ended. A ValueError of the objective is a failed trial."""
    from optuna import TrialPruned
    from optuna.exceptions import UpdateFinishedTrialError

    try:
        value = objective(trial)
        kept, said = queue.end(trial, value), f"{value:.4f}"
    except TrialPruned:
        kept, said = queue.end(trial), "pruned"
    except ValueError as error:
        kept, said = queue.end(trial, error=str(error)), f"failed: {error}"
    except UpdateFinishedTrialError:
        kept, said = False, ""
    return said if kept else "given to another worker, since this one gave no signs of life"


def shown(params: Mapping[str, Any]) -> str:
    """Values of a trial in a line."""
    return ", ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}" for name, value in params.items()
    )


def run_all(worker: Callable[[], None], jobs: int, queue: TrialQueue) -> None:
    """Runs `worker()` in `jobs` processes until all have ended, under one bar; who is killed is replaced.

    Args:
        worker: importable by its module.
        queue: whose trials the bar counts.

    Raises:
        ChildProcessError: a worker could not go on, and has said why; or so many were killed and no trial ended that
            they die before they begin one.
    """
    most, idle, ended = jobs * (RETRIES + 1), 0, queue.ended()
    context = multiprocessing.get_context("spawn")
    with worker_lines.shown() as lines, tqdm(total=queue.spec.trials, desc="sweep", unit="trial", disable=None) as bar:

        def begin(number: int) -> SpawnProcess:
            process = context.Process(target=_process, args=(worker, lines), name=f"sweep worker {number}")
            process.start()
            return process

        running = {begin(number): number for number in range(1, jobs + 1)}
        try:
            while running:
                wait([process.sentinel for process in running], worker_process.WAKE_SECONDS)
                if not bar.disable:
                    bar.n = queue.ended() or bar.n
                    bar.refresh()
                for process in [process for process in running if process.exitcode is not None]:
                    number, code = running.pop(process), process.exitcode
                    if code is not None and code < 0:
                        before, ended = ended, queue.ended()
                        idle = idle + 1 if ended == before else 0
                        if idle > most:
                            raise ChildProcessError(
                                f"{idle} workers were killed one after the other ({signal.Signals(-code).name}) and no "
                                "trial ended; expected them to live for one"
                            )
                        killed = f"{process.name} was killed ({signal.Signals(-code).name}); another begins"
                        tqdm.write(killed, file=sys.stderr)
                        running[begin(number)] = number
                    elif code:
                        raise ChildProcessError("a worker of the sweep could not go on; its reason stands above")
        finally:
            for process in running:
                process.kill()
            for process in running:
                process.join()


def _process(worker: Callable[[], None], lines: Connection) -> None:
    worker_process.begin(lines)
    try:
        worker()
    except (ValueError, OSError) as error:
        tqdm.write(f"error: {user_message(error)}", file=sys.stderr)
        sys.exit(TOLD)
