"""A cell whose error cannot be read in another process: it takes two values, and is pickled with one."""

from __future__ import annotations

from pathlib import Path

from benchmarks.execution.cell import Cell


class OddError(Exception):
    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} {other}")


def run_cell(setting: object, corpus: str, source: str, cell: Cell) -> Path:
    if cell.seed == 0:
        raise OddError("one", "two")
    return Path("record")
