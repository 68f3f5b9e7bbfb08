"""Prints the MiB that this process holds while most of 200 MiB is freed in pieces, and after they are given back."""

from __future__ import annotations

from pathlib import Path

from benchmarks.device import give_back_memory


def held() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20


# Below the size at which the C library asks the system for each piece; what is left keeps the heap from shrinking.
pieces = [b"x" * 50_000 for _ in range(4_000)]
left = pieces[::400] + pieces[-1:]
del pieces
freed = held()
give_back_memory()
print(freed, held())
