"""The hash of the code: of a folder and of the commit that holds it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from leaderboards import source
from leaderboards.git import files_at


def test_source_hash_sees_python_files_of_the_packages(tmp_path: Path) -> None:
    (tmp_path / "models" / "parts").mkdir(parents=True)
    (tmp_path / "tests").mkdir()
    before = source.of_folder(tmp_path)
    (tmp_path / "tests" / "test_x.py").write_text("x")
    (tmp_path / "models" / "notes.txt").write_text("x")
    assert source.of_folder(tmp_path) == before
    (tmp_path / "models" / "parts" / "a.py").write_text("x")
    after = source.of_folder(tmp_path)
    (tmp_path / "models" / "parts" / "a.py").rename(tmp_path / "models" / "parts" / "b.py")
    assert len({before, after, source.of_folder(tmp_path)}) == 3


def commit(folder: Path) -> str:
    """Everything there, as a commit of a repository of its own."""
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "--quiet"], ["add", "."], [*identity, "commit", "--quiet", "-m", "all"]):
        subprocess.run(["git", "-C", str(folder), *arguments], check=True)
    head = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    return head.stdout.strip()


def test_a_commit_has_the_hash_of_its_folder(tmp_path: Path) -> None:
    contents = {"models/a.py": b"one\n\n", "models/parts/\u00fc.py": b"", "data_prep/b.py": b"x\ty", "tests/c.py": b"z"}
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "models/link.py").symlink_to("a.py")
    head = commit(tmp_path)
    assert files_at(tmp_path, head, "models", "tests") == {
        **{name: content for name, content in contents.items() if not name.startswith("data_prep")},
        "models/link.py": b"a.py",
    }
    assert source.of_commit(tmp_path, head) == source.of_folder(tmp_path)
    (tmp_path / "models/a.py").write_bytes(b"two")
    assert source.of_commit(tmp_path, head) != source.of_folder(tmp_path)


def test_no_such_commit(tmp_path: Path) -> None:
    commit_of_other = "d" * 40
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    with pytest.raises(ValueError, match=r"git ls-tree in .* failed"):
        source.of_commit(tmp_path, commit_of_other)
