"""Prints the peak before, with and after 200 MiB, the last since a reset: that of another process may be far above."""

from __future__ import annotations

from benchmarks.device import peak_memory_bytes, reset_peak_memory

before = peak_memory_bytes("cpu")
held = bytearray(200 << 20)
held[::4096] = b"x" * len(held[::4096])
during = peak_memory_bytes("cpu")
del held
reset_peak_memory("cpu")
print(before, during, peak_memory_bytes("cpu"))
