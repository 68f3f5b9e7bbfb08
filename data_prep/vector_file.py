"""A file of item vectors from elsewhere: `.npz` with ids and vectors. No pickle is read, no size believed."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np

from data_prep.files import check_file

IDS, VECTORS = "parent_asin", "vectors"
# An array may unpack to so much: room for the vectors of a whole category where a corpus is the core of it.
BYTES_PER_ITEM, BYTES = 1 << 18, 1 << 28


def read_arrays(path: Path, items: int) -> tuple[np.ndarray, np.ndarray]:
    """`parent_asin` `[M]` and `vectors` `[M, F]` of the file, which agree in type and length.

    Args:
        items: of the corpus that the vectors are for; a file that unpacks to far more is refused.

    Raises:
        OSError: there is no such file.
        ValueError: it is damaged, too large, or holds arrays of another kind.
    """
    check_vector_file(path)
    with _told(path):
        _check_sizes(path, max(BYTES, BYTES_PER_ITEM * items))
        with np.load(path, allow_pickle=False) as file:
            ids, vectors = file[IDS], file[VECTORS]
    if ids.ndim != 1 or ids.dtype.kind != "U":
        raise ValueError(f"{path}: parent_asin is {ids.dtype} {list(ids.shape)}; expected text [M]")
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or len(vectors) != len(ids) or not vectors.shape[1]:
        found = f"{vectors.dtype} {list(vectors.shape)}"
        raise ValueError(
            f"{path}: vectors is {found}; expected floats [{len(ids)}, F], one row per parent_asin, none of them empty"
        )
    return ids, vectors


def check_vector_file(path: Path) -> None:
    """
    Raises:
        OSError: there is no such file.
    """
    check_file(path, "an .npz file with parent_asin and vectors")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What zip and NumPy say of a damaged file, in one sentence that names it."""
    try:
        yield
    except (BadZipFile, EOFError, KeyError, OSError, RuntimeError, TypeError, ValueError, zlib.error) as error:
        raise ValueError(f"{path}: {error}; expected an .npz file with parent_asin (text) and vectors") from error


def _check_sizes(path: Path, most: int) -> None:
    with ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.removesuffix(".npy") in (IDS, VECTORS):
                _check_size(archive, member, most)


def _check_size(archive: ZipFile, member: ZipInfo, most: int) -> None:
    """The zip and the array within say how large they are: neither may be too much, nor more than the other."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    size = math.prod(shape) * dtype.itemsize
    if max(size, member.file_size) > most:
        raise ValueError(f"{member.filename} unpacks to {max(size, member.file_size):,} bytes, more than {most:,}")
    if size > member.file_size and not dtype.hasobject:
        raise ValueError(f"{member.filename} says {size:,} bytes of values, but holds {member.file_size:,}")
