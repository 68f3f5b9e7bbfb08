"""Prints the keys of three models that read item vectors, on the tiny corpus: FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.experiments import complete
from benchmarks.resolved_row import resolve
from benchmarks.settings import Bench
from tests.conftest import tiny

NAMES = ("tiger", "letter", "decor")


def keys(folder: Path) -> list[str]:
    corpus, bench = tiny(), Bench(folder, folder)
    return [resolve(bench, corpus, complete(name, corpus.name)).key for name in NAMES]


if __name__ == "__main__":
    print(*keys(Path(sys.argv[1])))
