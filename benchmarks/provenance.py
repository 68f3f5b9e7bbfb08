"""What ran where: the only reader of git, beside `leaderboards.git`, and of the lock file."""

from __future__ import annotations

import functools
import glob
import hashlib
import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from importlib.metadata import PackageNotFoundError
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.device import device_name
from leaderboards import source
from leaderboards.ledger import SWEEPS
from leaderboards.record import UNKNOWN, Provenance, Record

if TYPE_CHECKING:
    from benchmarks.hardware import Hardware

# Names the commit where there is no checkout to read it from: on a machine that was given the files alone.
TOLD = "GRBENCH_COMMIT"
ROOT = Path(__file__).resolve().parent.parent
# Options that name a user's own files.
FILES = ("--corpus", "--items", "--vectors-path", "codes")
# What a path that leads out of a command's folder has among its parts.
OUT = ".."
# A library's version is read from a file; no library changes beneath a process.
version = functools.cache(metadata.version)
# Packages whose version can move a number.
LIBRARIES = (
    "numpy",
    "pandas",
    "pyarrow",
    "pytorch-lightning",
    "scikit-learn",
    "scipy",
    "sentence-transformers",
    "torch",
    "transformers",
)
# A bench writes its rows, an analysis its pictures and a sweep its winner here, which must not make the next run's
# checkout a changed one. What a winner changes in a run, the record's config tells.
TABLES = ("md", "csv", "tex", "sha256", "html")
OUTPUT = (
    ":(exclude,glob)benchmarks/best/**",
    ":(exclude,glob)docs/analyses/**",
    ":(exclude,glob)leaderboards/v*/*/**",
    *(f":(exclude,glob)leaderboards/v*/*.{ending}" for ending in TABLES),
    # What is being written, and Ray's marks.
    ":(exclude,glob)leaderboards/v*/.*",
)


def of(hardware: Hardware, board: Path | None = None, root: Path = ROOT) -> Provenance:
    """What a record says of its run on such hardware, gathered before training starts.

    Args:
        board: that the run writes to.
        root: folder of the project.

    Raises:
        ValueError: what `TOLD` names is no commit.
    """
    from benchmarks.hardware import users_at_once

    commit, device = git_commit(root), device_name(str(hardware.device))
    told = told_commit() if commit == UNKNOWN else None
    if commit == UNKNOWN and told is None:
        tell_unknown_commit(root)
    return Provenance(
        git_commit=told or commit,
        git_commit_told=told is not None,
        git_dirty_sha256=None if commit == UNKNOWN else git_dirty_sha256(root, board),
        lock_sha256=_lock_sha256(root),
        source_sha256=source.of_folder(root),
        versions=_versions(),
        python=platform.python_version(),
        platform=platform.platform(),
        device=f"{hardware.processes} x {device}" if hardware.processes > 1 else device,
        threads=hardware.threads,
        precision=hardware.precision,
        evaluation_batch=users_at_once(hardware.device),
        started_at=datetime.now(UTC).replace(microsecond=0),
        command=command(sys.argv),
    )


def git_commit(root: Path) -> str:
    """Commit of the checkout at `root`; `unknown` where `root` is none, has no commit yet, or git is not installed."""
    top = _git(root, "rev-parse", "--show-toplevel")
    # An installed copy may lie inside a checkout of something else.
    if top is None or Path(top.decode().strip()) != root.resolve():
        return UNKNOWN
    head = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    return head.decode().strip() if head else UNKNOWN


@functools.cache
def tell_unknown_commit(root: Path) -> None:
    """A line why the commit is unknown, once in a process."""
    try:
        asked = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True)
        reason = (asked.stderr.strip().splitlines() or [f"{root} is no git checkout"])[0]
    except FileNotFoundError:
        reason = "git is not installed"
    print(f"the commit is unknown ({reason}), which its rows say; {TOLD} names it", file=sys.stderr)


def told_commit() -> str | None:
    """The commit that the environment names, None where it names none.

    Raises:
        ValueError: it is no whole commit hash.
    """
    told = os.environ.get(TOLD)
    if told and not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", told):
        raise ValueError(f"{TOLD} is {told!r}; expected a whole commit hash, as `git rev-parse HEAD` prints it")
    return told or None


def git_dirty_sha256(root: Path, board: Path | None = None) -> str | None:
    """Hash of what differs from the commit: changes, and untracked files that git does not ignore; None if nothing.

    Rows and rendered tables of a board, and analyses, do not count: they are what a run writes.

    Args:
        board: of the run, where it is none of the project's.

    Raises:
        ValueError: `root` is no checkout with a commit.
    """
    output = [*OUTPUT, *_written(root.resolve(), board)]
    changes = _git(root, "diff", "--binary", "--no-ext-diff", "HEAD", "--", ".", *output)
    untracked = _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", ".", *output)
    if changes is None or untracked is None:
        raise ValueError(f"{root} is no git checkout with a commit; changes against it cannot be listed")
    files = [root / name.decode(errors="surrogateescape") for name in untracked.split(b"\0") if name]
    if not changes and not files:
        return None
    return source.of_parts([changes, *source.parts(source.named(root, files))])


def _written(root: Path, board: Path | None) -> list[str]:
    """What a run writes on a board in the checkout; nothing else there, for a folder of code can be named as one."""
    if board is None or root not in board.resolve().parents:
        return []
    folder = glob.escape(board.resolve().relative_to(root).as_posix())
    files = ["*/*/*/seed-*.*", "*/codes/*.json", f"*{SWEEPS}/*", *(f"*.{ending}" for ending in TABLES), "**/.*"]
    return [f":(exclude,glob){folder}/{file}" for file in files]


def of_another_model_file(record: Record, root: Path = ROOT) -> bool:
    """Whether a record's model had another `models/<name>.py` than it has now, as far as record and git tell."""
    origin, file = record.provenance, f"models/{record.model}.py"
    if origin.source_sha256 == source.of_folder(root):
        return False
    then = _git(root, "show", f"{origin.git_commit}:{file}")
    return origin.git_dirty_sha256 is not None or (then is not None and then != (root / file).read_bytes())


def command(arguments: list[str]) -> str:
    """A command line as typed, without quotes, but absolute paths, those that lead out of its folder, and all of a
    user's own data, cut to their last part and URLs to their scheme, so that no machine's folders, no host and no
    password are published."""
    program, *rest = arguments
    rest = [re.sub(r"(\w+://).*", r"\1...", argument, flags=re.DOTALL) for argument in rest]
    typed = f"python -m {Path(program).parent.name}" if Path(program).name == "__main__.py" else Path(program).name
    return " ".join([typed, *(_published(*words) for words in pairwise(["", *rest]))])


def _git(root: Path, *arguments: str) -> bytes | None:
    """Standard output of a git command in `root`, None where it fails or git is not installed."""
    try:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=True).stdout
    except (subprocess.CalledProcessError, FileNotFoundError):
        return None


def _lock_sha256(root: Path) -> str:
    lock = root / "requirements.lock"
    return hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else UNKNOWN


def _versions() -> dict[str, str]:
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = torch_version() if library == "torch" else version(library)
        except PackageNotFoundError:
            continue
    return found


def torch_version() -> str:
    """With the build, as `2.13.0+cu130`: a wheel's metadata may leave it out."""
    import torch

    return str(torch.__version__)


def _published(previous: str, argument: str) -> str:
    # A string of a setting may have quotes.
    parts = argument.replace('"', "").split("=")
    own = previous in FILES or parts[0].rpartition(":")[2] in FILES
    return "=".join(
        Path(part).name if own or Path(part).is_absolute() or OUT in Path(part).parts else part for part in parts
    )
