"""Ledger: the SHA-256 of every evidence file of a corpus, so that no digit of it changes unseen.

`<corpus>.sha256` is in the format of sha256sum; `sha256sum --check all_beauty.sha256` in the board's folder checks it
without any code of ours. It only grows: a file that it lists is never changed or removed, but for what a sweep wrote,
which goes on when more trials are asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

# Beside a corpus's folder, `<corpus>.sweeps`: what sweeps wrote.
SWEEPS = ".sweeps"
IRREGULAR = "is a link, or no regular file; evidence lies on the board itself"


def path(board: Path, corpus: str) -> Path:
    """Where the ledger lies."""
    return board / f"{corpus}.sha256"


def swept(board: Path) -> list[str]:
    """Names of the corpora that sweeps were made on."""
    return sorted(folder.name.removesuffix(SWEEPS) for folder in board.glob(f"*{SWEEPS}"))


def corpora(board: Path) -> list[str]:
    """Names of the corpora that have a ledger."""
    return sorted(file.stem for file in board.glob("*.sha256"))


def irregular(board: Path) -> Iterator[Path]:
    """What lies beneath a board and is neither a file nor a folder itself: a link to evidence elsewhere could be turned
    to another file, and no hash here would change."""
    for path in sorted(board.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            yield path


def check_regular(folder: Path) -> None:
    """
    Raises:
        ValueError: something beneath a folder of a board is a link, or no regular file.
    """
    for path in irregular(folder):
        raise ValueError(f"{path} {IRREGULAR}")


def evidence(board: Path, corpus: str) -> dict[str, str]:
    """Hash of each file beneath the corpus's folder and that of its sweeps, by its path in the board.

    Raises:
        ValueError: something there is a link, or no regular file.
    """
    folders = (board / corpus, board / f"{corpus}{SWEEPS}")
    for folder in folders:
        check_regular(folder)
    # A hidden file is one that is being written; a page can be rendered again.
    every = (file for folder in folders for file in folder.rglob("[!.]*") if file.is_file())
    files = sorted(file for file in every if file.suffix != ".html")
    return {file.relative_to(board).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def listed(board: Path, corpus: str) -> dict[str, str]:
    """What the ledger says, empty where there is none.

    Raises:
        ValueError: a line of it is no hash and path.
    """
    file, found = path(board, corpus), {}
    content = file.read_bytes().decode(errors="replace") if file.exists() else ""
    for number, line in enumerate(content.splitlines(), 1):
        digest, gap, name = line.partition("  ")
        if len(digest) != 64 or not gap or not name:
            raise ValueError(f"{file} line {number} is {line[:100]!r}; expected a SHA-256, two spaces and a path")
        found[name] = digest
    return found


def problems(board: Path, corpus: str) -> Iterator[str]:
    """What is not as the ledger says: files that changed, that vanished, that it does not list."""
    there, known = evidence(board, corpus), listed(board, corpus)
    for name, digest in known.items():
        if name not in there:
            yield f"{board / name} is missing; {path(board, corpus).name} lists it"
        elif there[name] != digest:
            yield f"{board / name} has changed: its SHA-256 is {there[name]}, {path(board, corpus).name} says {digest}"
    for name in sorted(there.keys() - known.keys()):
        yield f"{board / name} is not listed in {path(board, corpus).name}; `make board` lists it"


def extended(board: Path, corpus: str) -> str:
    """The ledger with the files that came since.

    Raises:
        ValueError: a listed file has changed or vanished; evidence is never edited or deleted.
    """
    there, known = evidence(board, corpus), listed(board, corpus)
    goes_on = f"{corpus}{SWEEPS}/"
    lost = [
        name
        for name, digest in known.items()
        if there.get(name) != digest and not (name in there and name.startswith(goes_on))
    ]
    if lost:
        raise ValueError(
            f"{board / lost[0]} has changed or vanished since {path(board, corpus).name} listed it; restore it, or "
            f"remove {path(board, corpus)} where that board was never published"
        )
    return "".join(f"{digest}  {name}\n" for name, digest in there.items())
