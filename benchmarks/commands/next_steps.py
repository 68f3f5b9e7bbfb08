"""What a bench ends with: where the records that it made lie, and the commands that go on from them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from benchmarks.commands.options import WORK
from benchmarks.settings import Bench
from leaderboards import curves, store
from leaderboards.record import BOARD
from leaderboards.rows import RANKED_BY

# Of more records the others are counted.
SHOWN = 12


def next_steps(setting: Bench, made: Sequence[Path]) -> str:
    """
    Args:
        made: the new records, at least one.
    """
    shown = [f"  {path}" for path in made[:SHOWN]]
    if len(made) > SHOWN:
        shown.append(f"  and {len(made) - SHOWN} more")
    beside = ".ranks.parquet (every user's ranks)"
    if any(curves.path(path).exists() for path in made):
        beside += ", .curves.csv (how it learned)"
    commands = "\n".join(f"  {command}" for command in _commands(setting, made))
    return f"records, beside each {beside}:\n" + "\n".join(shown) + f"\nnext:\n{commands}"


def _commands(setting: Bench, made: Sequence[Path]) -> list[str]:
    board = [] if setting.board == BOARD else [f"BOARD={setting.board}"]
    corpora = list(dict.fromkeys(path.relative_to(setting.board).parts[0] for path in made))
    best = max(made, key=lambda path: store.read(path).test[RANKED_BY])
    commands = [["make", "board", f"CORPUS={corpus}", *board] for corpus in corpora]
    commands.append(["make", "verify", *board])
    lines = [*map(_line, commands), _export(best, setting)]
    if setting.track == "offline":
        # The shell is to find the names.
        lines.append(f"wandb sync {shlex.quote(str(setting.work / 'wandb'))}/offline-run-*")
    return lines


def _export(record: Path, setting: Bench) -> str:
    """What writes a record's model into a folder; `make` parts its ARGS at each space."""
    elsewhere, vectors = str(setting.work), setting.vectors_path
    # Beneath what git ignores: a folder in the checkout would make the next run's code a changed one.
    folder = str(setting.work / "export" / store.read(record).experiment)
    if any(map(str.isspace, elsewhere)):
        given = ["--vectors-path", str(vectors)] if vectors else []
        words = ["export", str(record), folder, "--work", elsewhere, *given]
        return shlex.join([".venv/bin/python", "-m", "grbench", *words])
    told = [f"VECTORS={vectors}"] if vectors else []
    told += [] if setting.work == WORK else [f"ARGS=--work {elsewhere}"]
    return _line(["make", "export", f"ROW={record}", f"DIR={folder}", *told])


def _line(command: list[str]) -> str:
    return " ".join(map(_quoted, command))


def _quoted(word: str) -> str:
    """`NAME=value` with the value quoted where the shell would part it."""
    name, sign, value = word.partition("=")
    return f"{name}={shlex.quote(value)}" if sign else word
