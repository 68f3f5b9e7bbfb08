"""How the project's commands read their options. Without torch: help does not wait."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


class Parser(argparse.ArgumentParser):
    """Knows options by their whole names alone: `--seed` of one command would begin another's `--seeds`. An empty path
    is none: it would be the current folder."""

    def __init__(self, **how: Any) -> None:
        super().__init__(allow_abbrev=False, **how)
        self.register("type", Path, _path)


def _path(text: str) -> Path:
    """
    Raises:
        argparse.ArgumentTypeError: it is empty.
    """
    if not text:
        raise argparse.ArgumentTypeError("it is empty; expected a path")
    return Path(text)
