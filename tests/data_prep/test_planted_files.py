"""The planted corpus's files: the same bytes each time, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_prep import planted_files


@pytest.mark.slow
def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        planted_files.write(tmp_path / name)
    files = [sorted(path for path in (tmp_path / name).rglob("*") if path.is_file()) for name in ("a", "b")]
    assert [path.name for path in files[0]] == ["meta_Planted.jsonl.gz", "Planted.jsonl.gz"]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted_files.write(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def stopped(*_: Any) -> Any:
        yield {"rating": 5.0}
        raise KeyboardInterrupt

    monkeypatch.setattr(planted_files, "_metadata", stopped)
    with pytest.raises(KeyboardInterrupt):
        planted_files.write(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
