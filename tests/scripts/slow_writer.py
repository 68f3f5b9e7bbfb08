"""Begins a file and a folder, says so, and waits.

python -m tests.scripts.slow_writer FOLDER
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from data_prep.atomic import atomic_file, atomic_folder

if __name__ == "__main__":
    place = Path(sys.argv[1])
    with atomic_file(place / "file") as file, atomic_folder(place / "folder") as folder:
        file.write(b"half")
        (folder / "part").write_text("half")
        print("begun", flush=True)
        time.sleep(100)
