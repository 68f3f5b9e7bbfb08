"""Lines of worker processes above the bar of the process that began them: workers draw no bars."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from tqdm import tqdm

STDERR = 2
# What ends the reading: no text has it, and a child of a worker may hold the pipe open for longer.
END = b"\x04\n"


@contextmanager
def shown() -> Iterator[Connection]:
    """Standard error for workers, as `send` takes it: what they write appears line by line.

    No lock is shared: a pipe takes a line of at most 4,096 bytes as a whole, and who is killed has written it or not.
    """
    reader, writer = multiprocessing.Pipe(duplex=False)
    thread = threading.Thread(target=_show, args=(reader,), daemon=True)
    thread.start()
    try:
        yield writer
    finally:
        os.write(writer.fileno(), b"\n" + END)
        thread.join()
        reader.close()
        writer.close()


def _show(reader: Connection) -> None:
    with open(reader.fileno(), "rb", closefd=False) as lines:
        for line in iter(lines.readline, END):
            if text := line.decode(errors="replace").rstrip():
                tqdm.write(text, file=sys.stderr)


def send(writer: Connection) -> None:
    """From now on standard error of this process, a worker, goes to who began it, a line at a time."""
    # A worker that was forked has a copy of the bars' lock, which may have been held just then.
    tqdm.set_lock(threading.RLock())
    os.dup2(writer.fileno(), STDERR)
    sys.stderr = os.fdopen(STDERR, "w", buffering=1, errors="replace")
