"""A run of W&B in a thread of its own, so that what happens there neither fails the run it follows nor slows it."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from tqdm import tqdm

# Calls that wait for the thread; one more and W&B is given up.
WAITING = 10_000
# Longest that a run which failed waits for the word that it did.
FAILED_SECONDS = 5

Call = Callable[[Any], object]


class BackgroundLogger:
    """Does with W&B's run what it is asked to, in order; the first call begins the run. No call blocks or raises.

    Attributes:
        title: what is followed, for the one line that says why it no longer is.
        is_on: false once a call has failed; all further ones are dropped.
    """

    def __init__(self, title: str, begin: Callable[[], Any], end_seconds: float) -> None:
        """
        Args:
            begin: makes W&B's run.
            end_seconds: longest that an ended run waits for W&B.
        """
        self.title, self.begin, self.end_seconds = title, begin, end_seconds
        self.is_on, self.is_ended = True, False
        self._calls: queue.Queue[Call | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None

    def log(self, values: Mapping[str, int | float]) -> None:
        """Adds to the run's history."""
        values = dict(values)
        self._put(lambda run: run.log(values))

    def finish(self, end: Call) -> None:
        """Ends a run that went well, with a last call."""
        self.is_ended = True
        self._put(end)
        self._put(lambda run: run.finish(exit_code=0))

    def fail(self, reason: object) -> None:
        """Goes on without W&B, and says why in one line."""
        if self.is_on:
            self.is_on = False
            line = (str(reason).strip().splitlines() or [type(reason).__name__])[0]
            tqdm.write(f"{self.title} is off: {line}", file=sys.stderr)

    def close(self) -> None:
        """Waits for the calls, a while; a run that has begun and was not ended has crashed."""
        if self._thread is None or not self.is_on:
            return
        if not self.is_ended:
            self._put(lambda run: run.finish(exit_code=1))
        with contextlib.suppress(queue.Full):
            self._calls.put_nowait(None)
        seconds = self.end_seconds if self.is_ended else min(FAILED_SECONDS, self.end_seconds)
        self._thread.join(seconds)
        if self._thread.is_alive():
            self.fail(f"it did not end within {seconds:.0f} seconds")

    def _put(self, call: Call) -> None:
        if not self.is_on:
            return
        if self._thread is None:
            # It ends with the process, whatever it waits for.
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            self.fail(f"{WAITING} calls wait for it")

    def _work(self) -> None:
        try:
            run = self.begin()
            for call in iter(self._calls.get, None):
                call(run)
        except BaseException as error:
            self.fail(error)
