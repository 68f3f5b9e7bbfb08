"""Programs that tests run in processes of their own, to kill them or to have them from the beginning."""

from __future__ import annotations

import sys


def command(name: str, *arguments: object) -> list[str]:
    """What runs `tests/scripts/<name>.py`, from the repository's root or with it on PYTHONPATH."""
    return [sys.executable, "-m", f"{__name__}.{name}", *map(str, arguments)]
