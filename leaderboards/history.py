"""History: what a released board said at the merge-base must still stand. One of the two readers of git."""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

PROTOCOL = "protocol.toml"
EVIDENCE = (".json", ".parquet", ".curves.csv", PROTOCOL)


def released(board: Path) -> str | None:
    """Version of the protocol of a released board; None of one that is not released, or has no `protocol.toml`."""
    file = board / PROTOCOL
    rules = tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return str(rules["version"]) if rules.get("released") else None


def problems(board: Path, base: str) -> Iterator[str]:
    """Evidence of a released board that was changed or removed since the merge-base with `base`.

    A board is released when its `protocol.toml` says so at the merge-base; before that its rows may be made again.

    Raises:
        ValueError: `board` is in no git checkout, or `base` is no revision that shares a commit with it.
    """
    folder = board.resolve()
    root = Path(_git(folder, "rev-parse", "--show-toplevel").strip())
    common = _git(folder, "merge-base", "HEAD", base).strip()
    place = folder.relative_to(root).as_posix()
    names = _git(folder, "ls-tree", "-r", "--name-only", "--full-tree", common, "--", f"{place}/").splitlines()
    if f"{place}/{PROTOCOL}" not in names:
        return
    if not tomllib.loads(_git(folder, "show", f"{common}:{place}/{PROTOCOL}")).get("released", False):
        return
    lines = _git(folder, "diff", "--no-renames", "--name-status", common, "--", str(folder)).splitlines()
    for line in lines:
        status, name = line.split("\t")
        if status != "A" and name.endswith(EVIDENCE):
            what = "removed" if status == "D" else "changed"
            yield f"{name} was {what} since {common[:12]}; evidence of a released board stays as it is"


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    try:
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout
    except FileNotFoundError:
        raise ValueError("git is not installed; a board cannot be held against its history") from None
    except subprocess.CalledProcessError as error:
        raise ValueError(f"git {arguments[0]} in {folder} failed: {error.stderr.strip()}") from None
