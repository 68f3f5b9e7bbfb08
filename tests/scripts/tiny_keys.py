"""Prints the keys of rows on the tiny corpus whose configs name item vectors.

python -m tests.scripts.tiny_keys FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.experiments import complete
from benchmarks.resolved_row import resolve
from benchmarks.settings import Bench
from data_prep.corpus import Corpus
from tests.factories import tiny


def keys(corpus: Corpus, folder: Path) -> list[str]:
    bench = Bench(folder, folder)
    return [resolve(bench, corpus, complete(name, corpus.name)).key for name in ("tiger", "letter", "decor")]


if __name__ == "__main__":
    print(*keys(tiny(), Path(sys.argv[1])))
