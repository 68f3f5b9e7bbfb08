"""Workers end with the process that began them, however it ends; and a signal to end is told in a line.

Imports nothing that is slow, so that a worker looks after its parent before it loads what it works with.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from types import FrameType

from benchmarks.execution import worker_lines

ENDING = (signal.SIGTERM, signal.SIGHUP)
# Who waits for workers wakes so often: a signal that comes just before a wait begins, or to another thread, interrupts
# no wait, and Python tells it to the main thread alone, when that is awake.
WAKE_SECONDS = 2.0


class SignalledError(KeyboardInterrupt):
    """One of `ENDING` has come; what ends at Ctrl-C ends the same way. Attributes: number, of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Within the block, the first of `ENDING` raises `SignalledError`; a second one ends the process at once.

    A signal that is ignored, as `nohup` has it, stays so.
    """
    taken = [number for number in ENDING if signal.getsignal(number) is signal.SIG_DFL]

    def restore() -> None:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)

    def end(number: int, frame: FrameType | None) -> None:
        restore()
        if _waiting is not None:
            _waiting.append(number)
        else:
            raise SignalledError(number)

    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        restore()


# Signals that have come within `postponed`; None outside it.
_waiting: list[int] | None = None


@contextmanager
def postponed() -> Iterator[None]:
    """A signal to end that comes within the block raises behind it: processes that are begun there can all be ended.

    One whose beginning was interrupted would be known to nobody, and complain that its parent has gone.
    """
    global _waiting
    _waiting = came = list[int]()
    try:
        yield
    finally:
        _waiting = None
    if came:
        raise SignalledError(came[0])


def begin(lines: Connection) -> None:
    """What a worker does first: it ends with its parent, which shows its lines, as `worker_lines.shown` gives it."""
    end_with_parent()
    worker_lines.send(lines)


def end_with_parent() -> None:
    """From now on this process ends when its parent does, even by SIGKILL, and at once by Ctrl-C.

    It may be at work: a training can be killed at any moment.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
