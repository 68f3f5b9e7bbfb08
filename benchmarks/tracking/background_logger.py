"""Messages handed to a process of its own, so that what happens there neither fails a run nor slows it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

# Messages that wait for the process; one more and it is given up.
WAITING = 10_000


class BackgroundLogger:
    """Sends a JSON line per message to `python -m <module>`, which starts with the first of them. It never blocks.

    The process prints why it fails and exits with a status other than 0; one that hangs ends itself by SIGALRM. It lies
    in a session of its own, so Ctrl-C is not for it: its input ends when the run does, however that happens.

    Attributes:
        title: what is followed, for the one line that says why it no longer is.
        first: the first message, `start`.
        on: false once the process has failed; every further message is dropped.
    """

    def __init__(self, module: str, title: str, first: Mapping[str, Any], end_seconds: float) -> None:
        """`end_seconds`: longest that an ended run waits for the process."""
        self.module, self.title, self.first, self.end_seconds = module, title, first, end_seconds
        self.on, self.ended = True, False
        self._lines: queue.Queue[str | None] = queue.Queue(WAITING)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    def tell(self, what: str, **content: Any) -> None:
        """Sends a message; after `end` the run may wait for the process."""
        if not self.on:
            return
        if self._thread is None:
            self._lines.put(json.dumps({"what": "start", **self.first}))
            self._thread = threading.Thread(target=self._send, daemon=True)
            self._thread.start()
        self.ended = self.ended or what == "end"
        try:
            self._lines.put_nowait(json.dumps({"what": what, **content}))
        except queue.Full:
            self.fail(f"{WAITING} messages wait for it")

    def fail(self, reason: object) -> None:
        """Goes on without the process, and says why in one line."""
        with self._lock:
            if not self.on:
                return
            self.on = False
        line = (str(reason).strip().splitlines() or [type(reason).__name__])[0]
        tqdm.write(f"{self.title} is off: {line}", file=sys.stderr)
        if self._process is not None and self._process.poll() is None:
            # What it has started lies in the same session.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """No more messages. Waits for the process, a while, where the run has ended; a run that failed does not."""
        if self._thread is None or not self.on:
            return
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
        if self.ended:
            self._thread.join(self.end_seconds)
            if self._thread.is_alive():
                self.fail(f"it did not end within {self.end_seconds:.0f} seconds")

    def _send(self) -> None:
        """The thread: starts the process, writes to it, and tells how it ended."""
        try:
            self._process = process = subprocess.Popen(
                [sys.executable, "-m", self.module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                for line in iter(self._lines.get, None):
                    pipe.write(line + "\n")
                    pipe.flush()
            said, status = process.stdout.read(), process.wait()
        except OSError as error:
            self.fail(error)
            return
        if status == -signal.SIGALRM:
            self.fail("it took too long to answer")
        elif status:
            self.fail(said or f"its process ended with status {status}")
