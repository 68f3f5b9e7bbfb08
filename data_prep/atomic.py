"""Writes that either happen completely or not at all: temporary name in the same folder, fsync, rename.

What a killed process leaves half-written is removed by the next write of the same file or folder. Who may read and
write what is made, the umask alone says, so that a group can share a folder.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

# Characters behind the name of what is being written.
RANDOM = 8
# How the sentence for a full disk begins.
FULL = "the disk is full"


def out_of_space(path: Path, error: OSError) -> OSError:
    """The one sentence for a full disk (or quota); any other error comes back as it was."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    return OSError(error.errno, f"{FULL} while writing {path}; free some space and run the command again")


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that appears under `path` only when the block ends well.

    Raises:
        OSError: the disk is full; nothing is left under `path` nor beside it.
    """
    with _temporary(path, partial(Path.touch, exist_ok=False)) as temporary:
        with temporary.open("r+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder that appears under `path` only when the block ends well; a folder that another process put there
    in the meantime is kept (folders are named by their content, so it holds the same).

    Raises:
        OSError: the disk is full; nothing is left under `path` nor beside it.
    """
    with _temporary(path, Path.mkdir) as temporary:
        folder = temporary / "folder"
        folder.mkdir()
        yield folder
        for file in (folder, *folder.rglob("*")):
            _sync(file)
        try:
            if not path.exists():
                folder.replace(path)
        except OSError as error:
            # The rename fails with these two where another process was faster.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


@contextmanager
def _temporary(path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """A fresh file or folder beside `path`, gone after the block; what killed processes left of them goes first.

    It is locked while it is in use: a lock ends with its process, so what nobody holds is left over.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.{'?' * RANDOM}"):
        if (lock := own(left)) is not None:
            _remove(left)
            os.close(lock)
    # One that is not locked yet may be taken for a left one; then another is made.
    lock = None
    while lock is None:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(RANDOM // 2)}")
        make(temporary)
        lock = own(temporary)
    try:
        yield temporary
    except OSError as error:
        raise out_of_space(path, error) from error
    finally:
        # In this order: NFS keeps what is open.
        os.close(lock)
        _remove(temporary)


def own(path: Path) -> int | None:
    """A handle that holds the lock of `path` until it is closed; None where another process holds it or removed it, or
    where it is another user's alone.

    That of a folder is a file in it: NFS locks only what can be written.
    """
    file = path / "lock" if path.is_dir() else path
    try:
        handle = os.open(file, os.O_RDWR if file == path else os.O_RDWR | os.O_CREAT)
    except (FileNotFoundError, PermissionError):
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), file.stat()):
            return handle
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(handle)
    return None


@contextmanager
def owned(folder: Path, refusal: Exception) -> Iterator[None]:
    """A folder, made where it is missing, as this process's own while the block lasts.

    Args:
        refusal: raised where another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (lock := own(folder)) is None:
        raise refusal
    try:
        yield
    finally:
        os.close(lock)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """Write a text file, UTF-8, atomically."""
    with atomic_file(path) as file:
        file.write(content.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
