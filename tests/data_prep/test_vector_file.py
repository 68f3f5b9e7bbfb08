"""A vectors file from a stranger: no pickle is run, no size is believed, nothing fills the memory."""

from __future__ import annotations

import io
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep import vector_file
from data_prep.vector_file import read_arrays

IDS = np.array([f"B{number}" for number in range(8)])
ROWS = np.arange(16, dtype=np.float32).reshape(8, 2)


class Bomb:
    """Writes a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.write_text, (self.mark, "executed")


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def header(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    """An array file that says this shape and holds four bytes."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": dtype, "fortran_order": False, "shape": shape})
    return content.getvalue() + b"1234"


def packed(path: Path, vectors: bytes, ids: bytes = npy(IDS)) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("parent_asin.npy", ids)
        archive.writestr("vectors.npy", vectors)
    return path


def test_what_is_whole_is_read(tmp_path: Path) -> None:
    ids, vectors = read_arrays(packed(tmp_path / "v.npz", npy(ROWS)), 8)
    assert ids.tolist() == IDS.tolist()
    assert np.array_equal(vectors, ROWS)


def test_a_member_that_inflates_beyond_measure_is_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_file, "BYTES", 1 << 24)
    path = packed(tmp_path / "v.npz", header((8, 1 << 20))[:-4] + bytes(1 << 25))
    assert path.stat().st_size < 1 << 16
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"v\.npz: vectors\.npy unpacks to 33,554,560 bytes, more than 16,777,216"):
            read_arrays(path, 8)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [(8, 1 << 40), (1 << 62, 1 << 62), (8, 1 << 20)])
def test_a_shape_that_the_file_does_not_hold_is_not_made_room_for(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"v\.npz: vectors\.npy (unpacks to|says) [\d,]+ bytes"):
        read_arrays(packed(tmp_path / "v.npz", header(shape)), 8)


def test_a_large_corpus_may_have_large_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "v.npz", npy(np.ones((8, 4096), np.float32)))
    monkeypatch.setattr(vector_file, "BYTES", 1 << 10)
    monkeypatch.setattr(vector_file, "BYTES_PER_ITEM", 1 << 14)
    assert read_arrays(path, 16)[1].shape == (8, 4096)
    with pytest.raises(ValueError, match=r"unpacks to 131,200 bytes, more than 65,536"):
        read_arrays(path, 4)


def test_a_zip_that_lies_of_its_size_gives_no_more_than_it_says(tmp_path: Path) -> None:
    path = packed(tmp_path / "v.npz", npy(np.zeros((8, 1 << 16), np.float32)))
    content, size = path.read_bytes(), (8 * 4 << 16) + 128
    assert content.count(size.to_bytes(4, "little")) == 2
    path.write_bytes(content.replace(size.to_bytes(4, "little"), (4096).to_bytes(4, "little")))
    with pytest.raises(ValueError, match=r"v\.npz: .*; expected an .npz file"):
        read_arrays(path, 8)


WHERE: dict[str, Callable[[Path, bytes, np.ndarray], Any]] = {
    "the file": lambda path, bomb, objects: path.write_bytes(bomb),
    "the vectors": lambda path, bomb, objects: packed(path, npy(objects)),
    "the ids": lambda path, bomb, objects: packed(path, npy(ROWS), npy(objects)),
    "a member that is no array": lambda path, bomb, objects: packed(path, bomb),
}


@pytest.mark.parametrize("where", WHERE)
def test_a_pickle_is_refused_and_not_executed(tmp_path: Path, where: str) -> None:
    mark, path = tmp_path / "mark", tmp_path / "v.npz"
    objects = np.array([Bomb(mark)] * 8, dtype=object)
    WHERE[where](path, pickle.dumps(Bomb(mark)), objects)
    with pytest.raises(ValueError, match=r"v\.npz: .*; expected an .npz file with parent_asin \(text\) and vectors"):
        read_arrays(path, 8)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists(), "the bomb is live"
