"""Git: what the repository says of a folder. One of the two readers of git."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git(folder: Path, *arguments: str, given: bytes = b"") -> bytes:
    """Standard output of a git command in a folder.

    Args:
        given: standard input.

    Raises:
        ValueError: git is not installed, or refuses; the message holds its reason.
    """
    command = ["git", "-C", str(folder), *arguments]
    try:
        return subprocess.run(command, input=given, capture_output=True, check=True).stdout
    except FileNotFoundError:
        raise ValueError("git is not installed; a board cannot be held against its history") from None
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip()
        raise ValueError(f"git {arguments[0]} in {folder} failed: {reason}") from None


def root_of(folder: Path) -> Path:
    """Top of the checkout that holds a folder; raises what `git` does."""
    return Path(git(folder, "rev-parse", "--show-toplevel").decode().strip())


def files_at(root: Path, commit: str, *below: str) -> dict[str, bytes]:
    """Contents by name of the files that a commit has below some folders; of a link the path it holds.

    Raises:
        ValueError: as `git`; there is no such commit.
    """
    lines = git(root, "ls-tree", "-r", "-z", "--full-tree", commit, "--", *below).split(b"\0")
    names = {name.decode(errors="surrogateescape"): entry.split()[2] for entry, _, name in _entries(lines)}
    content = git(root, "cat-file", "--batch=%(objectsize)", given=b"".join(blob + b"\n" for blob in names.values()))
    found, at = {}, 0
    for name in names:
        size, _, _ = content[at : at + 32].partition(b"\n")
        start = at + len(size) + 1
        found[name] = content[start : start + int(size)]
        at = start + int(size) + 1
    return found


def _entries(lines: list[bytes]) -> list[tuple[bytes, bytes, bytes]]:
    """What `ls-tree` says of each file, before and after the tab; submodules are no files."""
    parts = [line.partition(b"\t") for line in lines if line]
    return [part for part in parts if part[0].split()[1] == b"blob"]
