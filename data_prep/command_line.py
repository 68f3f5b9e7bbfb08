"""How the project's commands read their options. Without torch: help does not wait."""

from __future__ import annotations

import argparse
from typing import Any


class Parser(argparse.ArgumentParser):
    """Knows options by their whole names alone: `--seed` of one command would begin another's `--seeds`."""

    def __init__(self, **how: Any) -> None:
        super().__init__(allow_abbrev=False, **how)
