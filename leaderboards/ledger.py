"""Ledger: the SHA-256 of every evidence file of a corpus, so that no digit of it changes unseen.

`<corpus>.sha256` is in the format of sha256sum; `sha256sum --check all_beauty.sha256` in the board's folder checks it
without any code of ours. It only grows: a file that it lists is never changed or removed, but for what a sweep wrote,
which goes on when more trials are asked for.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

# Beside a corpus's folder, `<corpus>.sweeps`: what sweeps wrote.
SWEEPS = ".sweeps"
IRREGULAR = "is a link, or no regular file; evidence lies on the board itself"
FOREIGN = (
    "is a foreign file; expected seed-<n>.json, .ranks.parquet and .curves.csv of rows, code cards and ledgers of "
    "sweeps alone"
)
# What is written beneath a board, by its path there: evidence, and pages of sweeps, which can be rendered again.
_PART = "[A-Za-z0-9][A-Za-z0-9_.-]*"
_SEED = "seed-(0|[1-9][0-9]*)"
_SWEPT = rf"{_PART}{re.escape(SWEEPS)}/{_PART}"
EVIDENCE = re.compile(
    rf"({_PART}/){{3}}{_SEED}\.(json|ranks\.parquet|curves\.csv)"
    rf"|{_PART}/codes/{_PART}-{_SEED}\.json"
    rf"|{_SWEPT}\.json"
)
PAGE = re.compile(rf"{_SWEPT}\.html")


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


def matching(board: Path, pattern: str) -> list[Path]:
    """Evidence that a pattern fits, in order of its paths; a copy or backup beside it, and what is hidden, is none."""
    return [file for file in sorted(board.glob(pattern)) if EVIDENCE.fullmatch(file.relative_to(board).as_posix())]


def records(board: Path, row: str | None = None, corpus: str = "*") -> list[Path]:
    """Records of a board, on one corpus or on all, whose path holds `row`, which may begin above the board."""
    files = matching(board, f"{corpus}/*/*/seed-*.json")
    return files if row is None else [file for file in files if _is_meant(row, board.absolute(), file.absolute())]


def _is_meant(row: str, board: Path, file: Path) -> bool:
    """Whether a part of a file's path is meant, and not one of the board's folder alone."""
    end = file.as_posix().rfind(row) + len(row)
    return row in file.as_posix() and end > len(board.as_posix())


def evidence(board: Path, corpus: str) -> dict[str, str]:
    """Hash of each file of evidence beneath the corpus's folder and that of its sweeps, by its path in the board.

    Raises:
        ValueError: something there is a link, or no regular file.
    """
    for folder in _folders(board, corpus):
        check_regular(folder)
    names = (name for name in _names(board, corpus) if EVIDENCE.fullmatch(name))
    return {name: hashlib.sha256((board / name).read_bytes()).hexdigest() for name in names}


def foreign(board: Path, corpus: str) -> list[Path]:
    """Files in the same folders that no command of ours writes there."""
    names = _names(board, corpus)
    return [board / name for name in names if not EVIDENCE.fullmatch(name) and not PAGE.fullmatch(name)]


def _folders(board: Path, corpus: str) -> tuple[Path, Path]:
    return board / corpus, board / f"{corpus}{SWEEPS}"


def _names(board: Path, corpus: str) -> list[str]:
    """Paths in the board of the files in a corpus's folders, without what is hidden: files that are being written, and
    what editors keep."""
    found = sorted(file for folder in _folders(board, corpus) for file in folder.rglob("*") if file.is_file())
    places = (file.relative_to(board) for file in found)
    return [place.as_posix() for place in places if not any(part.startswith(".") for part in place.parts)]


def listed(board: Path, corpus: str) -> dict[str, str]:
    """What the ledger says, empty where there is none.

    Raises:
        ValueError: a line of it is no hash and path, or lists a file again.
    """
    file, found = path(board, corpus), {}
    content = file.read_bytes().decode(errors="replace") if file.exists() else ""
    for number, line in enumerate(content.removesuffix("\n").split("\n") if content else (), 1):
        digest, gap, name = line.partition("  ")
        if len(digest) != 64 or not gap or not name:
            raise ValueError(f"{file} line {number} is {line[:100]!r}; expected a SHA-256, two spaces and a path")
        if name in found:
            raise ValueError(f"{file} line {number} lists {name[:100]!r} again; expected each file once")
        found[name] = digest
    return found


def problems(board: Path, corpus: str) -> Iterator[str]:
    """What is not as the ledger says: files that changed, that vanished, that it does not list; and foreign files."""
    there, known = evidence(board, corpus), listed(board, corpus)
    for name, digest in known.items():
        if not EVIDENCE.fullmatch(name):
            yield f"{board / name} is no evidence; {path(board, corpus).name} lists it, `make board` takes it off"
        elif name not in there:
            yield f"{board / name} is missing; {path(board, corpus).name} lists it"
        elif there[name] != digest:
            yield f"{board / name} has changed: its SHA-256 is {there[name]}, {path(board, corpus).name} says {digest}"
    for name in sorted(there.keys() - known.keys()):
        yield f"{board / name} is not listed in {path(board, corpus).name}; `make board` lists it"
    yield from (f"{file} {FOREIGN}" for file in foreign(board, corpus))


def extended(board: Path, corpus: str) -> str:
    """The ledger with the evidence that came since, and nothing else.

    Raises:
        ValueError: a listed file has changed or vanished; evidence is never edited or deleted.
    """
    there, known = evidence(board, corpus), listed(board, corpus)
    goes_on = f"{corpus}{SWEEPS}/"
    lost = [
        name
        for name, digest in known.items()
        if EVIDENCE.fullmatch(name) and there.get(name) != digest and not (name in there and name.startswith(goes_on))
    ]
    if lost:
        raise ValueError(
            f"{board / lost[0]} has changed or vanished since {path(board, corpus).name} listed it; restore it, or "
            f"remove {path(board, corpus)} where that board was never published"
        )
    return "".join(f"{digest}  {name}\n" for name, digest in there.items())
