"""Ignores SIGHUP, gets it and a SIGTERM, says what came, and gets another SIGTERM."""

from __future__ import annotations

import os
import signal

from benchmarks.execution.worker_process import ended_by_signals

signal.signal(signal.SIGHUP, signal.SIG_IGN)
try:
    with ended_by_signals():
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
except KeyboardInterrupt as error:
    print(error, flush=True)
os.kill(os.getpid(), signal.SIGTERM)
