"""Sealed files: content behind its own SHA-256, so that damage is seen before anything is made of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from data_prep.atomic import atomic_file

_HASH_BYTES = hashlib.sha256().digest_size


def write_sealed(path: Path, content: bytes | memoryview) -> None:
    """Write the content behind its hash, atomically.

    Raises:
        OSError: the disk is full.
    """
    with atomic_file(path) as file:
        file.write(hashlib.sha256(content).digest())
        file.write(content)


def read_sealed(path: Path) -> memoryview:
    """The content of a sealed file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the content does not have the hash.
    """
    whole = memoryview(path.read_bytes())
    content = whole[_HASH_BYTES:]
    if hashlib.sha256(content).digest() != whole[:_HASH_BYTES]:
        raise ValueError(f"{path} is damaged: its content does not have the SHA-256 that it begins with")
    return content
