"""Takes the locks of a study and dies: the FOLDER of one on a file, or the URL and NAME of one in a database."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from benchmarks.sweeps.storage import JournalLock, in_database, in_folder

if len(sys.argv) > 2:
    with in_database(sys.argv[1], sys.argv[2], 1).lock():
        os.kill(os.getpid(), signal.SIGKILL)
folder = Path(sys.argv[1])
with in_folder(folder).lock():
    JournalLock(folder / "journal.log").acquire()
    os.kill(os.getpid(), signal.SIGKILL)
