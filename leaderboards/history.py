"""History: what a released board said at the merge-base must still stand."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from leaderboards import ledger
from leaderboards.git import git, root_of

PROTOCOL = "protocol.toml"
PAGE = ".html"
# What more trials change in the ledger of a study.
MOVES = {"trials", "states", "best", "asked", "hours_asked", "hours", "wall_hours", "ended_at", "provenance", "optuna"}
EVIDENCE = (".json", ".parquet", ".curves.csv", PAGE, PROTOCOL)


def released(board: Path) -> str | None:
    """Version of the protocol of a released board; None of one that is not released, or has no `protocol.toml`.

    Raises:
        ValueError: the file is damaged.
    """
    file = board / PROTOCOL
    try:
        rules = tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        return str(rules["version"]) if rules.get("released") else None
    except (ValueError, KeyError) as error:
        raise ValueError(f"{file} does not tell a protocol: {error}; expected TOML with a version") from None


def gone(boards: Path, base: str) -> Iterator[str]:
    """Released boards in a folder of boards that were there at the merge-base with `base` and are not any more.

    Raises:
        ValueError: as `problems`.
    """
    folder = boards.resolve()
    common = git(folder, "merge-base", "HEAD", base).decode().strip()
    place = folder.relative_to(root_of(folder)).as_posix()
    names = git(folder, "ls-tree", "-r", "--name-only", "--full-tree", common, "--", f"{place}/").decode().splitlines()
    for name in names:
        board = Path(name).parent
        if Path(name).name != PROTOCOL or (folder / board.name / PROTOCOL).is_file():
            continue
        if tomllib.loads(git(folder, "show", f"{common}:{name}").decode()).get("released", False):
            yield f"{board} was a released board in {common[:12]}, and its {PROTOCOL} is not there"


def problems(board: Path, base: str) -> Iterator[str]:
    """Evidence of a released board that was changed or removed since the merge-base with `base`.

    A board is released when its `protocol.toml` says so at the merge-base; before that its rows may be made again.

    Raises:
        ValueError: `board` is in no git checkout, or `base` is no revision that shares a commit with it.
    """
    folder = board.resolve()
    common = git(folder, "merge-base", "HEAD", base).decode().strip()
    root = root_of(folder)
    place = folder.relative_to(root).as_posix()
    names = git(folder, "ls-tree", "-r", "--name-only", "--full-tree", common, "--", f"{place}/").decode().splitlines()
    if f"{place}/{PROTOCOL}" not in names:
        return
    if not tomllib.loads(git(folder, "show", f"{common}:{place}/{PROTOCOL}").decode()).get("released", False):
        return
    lines = git(folder, "diff", "--no-renames", "--name-status", common, "--", str(folder)).decode().splitlines()
    for line in lines:
        status, name = line.split("\t")
        if status == "M" and f"{ledger.SWEEPS}/" in name and name.endswith(".json"):
            try:
                then, now = _study(git(folder, "show", f"{common}:{name}")), _study((root / name).read_bytes())
            except ValueError as error:
                yield f"{name} is no ledger of a sweep: {error}"
                continue
            yield from _of_study(name, then, now, common)
        elif status == "A" and name.endswith(PAGE):
            yield f"{name} is a page, which anyone can render and nobody can check; it is not committed"
        elif status != "A" and name.endswith(EVIDENCE):
            what = "removed" if status == "D" else "changed"
            yield f"{name} was {what} since {common[:12]}; evidence of a released board stays as it is"


def _study(content: bytes) -> dict[str, Any]:
    """
    Raises:
        ValueError: a sweep's ledger is cut short, or has no trials.
    """
    read = json.loads(content)
    if not isinstance(read, dict) or not isinstance(read.get("trials"), list):
        raise ValueError("it has no list of trials")
    return read


def _of_study(name: str, then: dict[str, Any], now: dict[str, Any], common: str) -> Iterator[str]:
    """What a sweep says no longer: more trials may have come, none that had ended may have gone or changed, nor what
    all of them share."""
    for trial in then["trials"]:
        if trial["state"] not in ("running", "waiting") and trial not in now["trials"]:
            yield f"{name} no longer has trial {trial['number']} as it was in {common[:12]}; a study only goes on"
    for fact in sorted(then.keys() - MOVES):
        if then[fact] is not None and now.get(fact) != then[fact]:
            yield f"{name} has another {fact} than in {common[:12]}; a study only goes on"
