"""Holds a lock until its input ends, or it is killed: FILE."""

from __future__ import annotations

import sys

from filelock import FileLock

with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
