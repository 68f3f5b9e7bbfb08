"""Nothing half-written, whatever goes wrong."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from data_prep.atomic import atomic_file, atomic_folder, write_json
from tests import scripts

ROOT = Path(__file__).resolve().parents[2]


def disk_full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def write_then_stop_file(path: Path) -> None:
    with atomic_file(path) as file:
        file.write(b"half")
        raise RuntimeError("stop")


def write_then_stop_folder(path: Path) -> None:
    with atomic_folder(path) as folder:
        (folder / "a").write_text("half")
        raise RuntimeError("stop")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    with pytest.raises(RuntimeError, match="stop"):
        write_then_stop_file(path)
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert [entry.name for entry in tmp_path.iterdir()] == ["record.json"]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match=r"the disk is full while writing .*file; free some space"):
        write_json(tmp_path / "file", {"a": 1})
    with (
        pytest.raises(OSError, match=r"the disk is full while writing .*folder; free some space"),
        atomic_folder(tmp_path / "folder") as folder,
    ):
        (folder / "part").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with pytest.raises(RuntimeError, match="stop"):
        write_then_stop_folder(path)
    assert list(tmp_path.iterdir()) == []
    with atomic_folder(path) as folder:
        (folder / "a").write_text("whole")
        assert not path.exists()
    assert (path / "a").read_text() == "whole"


def test_nothing_is_locked_that_nfs_does_not_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock, locked = fcntl.flock, []

    def of_nfs(handle: int, how: int) -> None:
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        locked.append(handle)
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", of_nfs)
    write_json(tmp_path / "file", {"a": 1})
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "part").write_text("whole")
    assert len(locked) == 2
    assert sorted(str(entry.relative_to(tmp_path)) for entry in tmp_path.rglob("*")) == [
        "file",
        "folder",
        "folder/part",
    ]


def test_the_first_of_two_writers_wins(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with atomic_folder(path) as slow:
        (slow / "a").write_text("slow")
        with atomic_folder(path) as fast:
            (fast / "a").write_text("fast")
    assert (path / "a").read_text() == "fast"
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_what_a_killed_writer_left_goes_with_the_next_write_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    def write() -> list[str]:
        write_json(tmp_path / "file", {"a": 1})
        with atomic_folder(tmp_path / "folder") as folder:
            (folder / "part").write_text("whole")
        return sorted(entry.name for entry in tmp_path.iterdir())

    (tmp_path / ".file.mine").touch()
    command = scripts.command("slow_writer", tmp_path)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == b"begun\n"
        kept = write()
        assert len(kept) == 5, "both, and what is being written of them"
        writer.kill()
        writer.wait()
    assert write() == [".file.mine", "file", "folder"]
    assert (tmp_path / "folder/part").read_text() == "whole"


def test_all_of_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[int, bool]] = []
    monkeypatch.setattr(
        os, "fsync", lambda handle: synced.append((os.fstat(handle).st_size, (tmp_path / "file").exists()))
    )
    write_json(tmp_path / "file", {"a": 1})
    assert synced == [((tmp_path / "file").stat().st_size, False)]


def test_every_file_of_a_folder_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = set[int]()

    def noted(handle: int) -> None:
        assert not (tmp_path / "folder").exists()
        synced.add(os.fstat(handle).st_ino)

    monkeypatch.setattr(os, "fsync", noted)
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "part").write_text("x")
        (folder / "sub").mkdir()
        (folder / "sub/part").write_text("y")
    places = [tmp_path / "folder", *(tmp_path / "folder").rglob("*")]
    assert len(places) == 4
    assert {place.stat().st_ino for place in places} <= synced
