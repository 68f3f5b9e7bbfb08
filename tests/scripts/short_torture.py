"""A torture of the first two jobs on a corpus of sixty users, where nothing but kills takes long; arguments as it has.

python -m tests.scripts.short_torture --kills 8 --work FOLDER
"""

from __future__ import annotations

import sys
from dataclasses import replace

# The copies find these loaded.
import leaderboards.tables  # noqa: F401
from tests import crash_test as torture

EVERY = ("--corpus", "all_beauty")
SWEEP = ("--trials", "2")

if __name__ == "__main__":
    # The workers of the third take longer to begin than all the rest.
    bench, sweep, _ = torture.JOBS
    torture.JOBS = (
        replace(bench, command=(*bench.command, *EVERY), kills=1),
        replace(sweep, command=(*sweep.command, *EVERY, *SWEEP), kills=1),
    )
    # A new interpreter takes longer than all the rest.
    torture.FRESH_ONE_IN = 1_000
    sys.exit(torture.main(sys.argv[1:]))
