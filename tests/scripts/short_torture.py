"""`tests.crash_test` with its first two jobs on the smallest corpus and a kill in each phase: its arguments.

The workers of the third job, and new interpreters, take longer to begin than all the rest.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from tests import crash_test

crash_test.JOBS = tuple(
    replace(job, command=(*job.command, "--corpus", "all_beauty"), kills=1) for job in crash_test.JOBS[:2]
)
crash_test.FRESH_ONE_IN = 1_000
sys.exit(crash_test.main(sys.argv[1:]))
