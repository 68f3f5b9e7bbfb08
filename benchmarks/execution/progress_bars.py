"""Progress bars of several processes on one terminal: one of them draws at a time."""

from __future__ import annotations

import threading
from pathlib import Path

from filelock import FileLock
from tqdm import tqdm

# The line where this process draws; line 0 is that of the command.
place = 1


class Turn:
    """What a process holds while its bars draw, as tqdm wants a lock.

    It is free again when its holder is killed. A semaphore of multiprocessing, which tqdm's documentation hands to
    processes, would stay taken, and whoever draws next would wait for ever.
    """

    def __init__(self, file: Path) -> None:
        # Two threads of a process are one owner of the file: tqdm draws from a thread of its own, too.
        self._threads, self._processes = threading.RLock(), FileLock(file, thread_local=False)

    def acquire(self) -> None:
        self._threads.acquire()
        try:
            self._processes.acquire(poll_interval=0.005)
        except BaseException:
            self._threads.release()
            raise

    def release(self) -> None:
        self._processes.release()
        self._threads.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def join(work: Path) -> None:
    """From now on this process draws in turn with those that joined for the same folder of work."""
    work.mkdir(parents=True, exist_ok=True)
    tqdm.set_lock(Turn(work / "terminal.lock"))
