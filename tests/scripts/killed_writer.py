"""Has half a file and half a folder written until it is killed: FOLDER."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from data_prep.atomic import atomic_file, atomic_folder

place = Path(sys.argv[1])
with atomic_file(place / "file") as file, atomic_folder(place / "folder") as folder:
    file.write(b"half")
    (folder / "part").write_text("half")
    print("begun", flush=True)
    time.sleep(100)
