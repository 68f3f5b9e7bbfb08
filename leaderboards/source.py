"""Source: the Python files of the project's packages as one hash, which records quote."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from leaderboards.git import files_at

PACKAGES = ("benchmarks", "data_prep", "leaderboards", "models")


def of_folder(root: Path) -> str:
    """Hash of the packages in a folder, names and contents."""
    files = [file for package in PACKAGES for file in (root / package).rglob("*.py")]
    return of_files(named(root, files))


def of_commit(root: Path, commit: str) -> str:
    """The same of a commit of the repository at `root`.

    Raises:
        ValueError: git refuses, or there is no such commit.
    """
    files = files_at(root, commit, *PACKAGES)
    return of_files({name: content for name, content in files.items() if name.endswith(".py")})


def named(root: Path, files: Iterable[Path]) -> dict[str, bytes]:
    """Contents of files by their names below `root`.

    A link counts as the path it holds, as it does for git; it may lead to a folder or nowhere.
    """
    return {
        str(file.relative_to(root)): str(file.readlink()).encode() if file.is_symlink() else file.read_bytes()
        for file in files
    }


def of_files(contents: Mapping[str, bytes]) -> str:
    """Hash of files by name."""
    return of_parts(parts(contents))


def parts(contents: Mapping[str, bytes]) -> list[bytes]:
    """Names and contents in turn, by name."""
    pairs = sorted((name.encode(errors="surrogateescape"), content) for name, content in contents.items())
    return [part for pair in pairs for part in pair]


def of_parts(parts: Iterable[bytes]) -> str:
    """Hash of some parts; the length in front keeps two of them from reading as two others."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
