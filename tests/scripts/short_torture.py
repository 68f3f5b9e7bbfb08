"""A torture of the first two jobs on a corpus of sixty users, where nothing but kills takes long; arguments as it has.

    python -m tests.scripts.short_torture --kills 8 --work FOLDER
"""

from __future__ import annotations

import sys
from dataclasses import replace

from tests import crash_test as torture

# Without W&B, which leaves files of its own.
MORE = ("--corpus", "all_beauty", "--track", "off")

if __name__ == "__main__":
    # The workers of the third take longer to begin than all the rest.
    torture.JOBS = tuple(replace(job, command=(*job.command, *MORE), kills=1) for job in torture.JOBS[:2])
    # A new interpreter takes longer than all the rest.
    torture.FRESH_ONE_IN = 1_000
    sys.exit(torture.main(sys.argv[1:]))
