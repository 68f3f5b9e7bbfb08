"""The folder that GRBENCH_DATA names: absolute wherever a process goes, and told where it is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep import load
from data_prep.data_folder import beside_sequences, data_folder


def test_it_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRBENCH_DATA", "data")
    assert data_folder() == tmp_path.resolve() / "data"
    monkeypatch.setenv("GRBENCH_DATA", "")
    assert data_folder() is None
    monkeypatch.delenv("GRBENCH_DATA")
    assert data_folder() is None


def test_a_mistyped_one_is_no_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRBENCH_DATA", "/no/such/folder")
    with pytest.raises(FileNotFoundError, match="GRBENCH_DATA is /no/such/folder, which is no folder; expected one"):
        load("all_beauty", cache=tmp_path)
    assert load("planted", cache=tmp_path).users, "what needs no data is made"


def test_names_in_any_case_of_letters(tmp_path: Path) -> None:
    (tmp_path / "sequences").mkdir()
    file = tmp_path / "sequences" / "Toys.Item_Vectors.npz"
    file.touch()
    assert beside_sequences(tmp_path, "toys.item_vectors.npz") == file
    with pytest.raises(FileNotFoundError, match=r"has no toys\.npz in any case of letters"):
        beside_sequences(tmp_path, "Toys.npz")
