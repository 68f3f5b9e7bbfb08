"""Provenance: what counts as a changed checkout, what a command line gives away, what is known without git."""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from benchmarks import provenance
from benchmarks.hardware import Hardware
from benchmarks.provenance import command, git_commit, git_dirty_sha256, of_another_model_file
from leaderboards.record import Provenance, Record
from tests import scripts
from tests.leaderboards.test_record import run_of

Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """A command in the checkout at `tmp_path`, which has one commit."""
    for name, value in {"NAME": "a", "EMAIL": "a@example.org"}.items():
        monkeypatch.setenv(f"GIT_AUTHOR_{name}", value)
        monkeypatch.setenv(f"GIT_COMMITTER_{name}", value)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")

    def run(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    run("init", "--quiet")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiger.py").write_text("width = 1\n")
    (tmp_path / ".gitignore").write_text("runs/\n")
    run("add", ".")
    run("commit", "--quiet", "-m", "first")
    return run


def collected(root: Path) -> Provenance:
    return provenance.of(Hardware("cpu", threads=2), root=root)


def test_a_clean_checkout(tmp_path: Path, git: Git) -> None:
    found = collected(tmp_path)
    assert found.git_commit == git("rev-parse", "HEAD").strip()
    assert found.git_dirty_sha256 is None


def test_every_change_is_another_hash(tmp_path: Path, git: Git) -> None:
    model = tmp_path / "models" / "tiger.py"
    hashes: list[str | None] = [git_dirty_sha256(tmp_path)]
    model.write_text("width = 2\n")
    hashes.append(git_dirty_sha256(tmp_path))
    git("add", ".")
    assert git_dirty_sha256(tmp_path) == hashes[-1], "staged or not is all the same"
    (tmp_path / "models" / "six.py").write_text("")
    hashes.append(git_dirty_sha256(tmp_path))
    (tmp_path / "models" / "six.py").write_text("x = 1\n")
    hashes.append(git_dirty_sha256(tmp_path))
    (tmp_path / "models" / "six.py").rename(tmp_path / "models" / "seven.py")
    hashes.append(git_dirty_sha256(tmp_path))
    (tmp_path / "models" / "nowhere.py").symlink_to("gone.py")
    hashes.append(git_dirty_sha256(tmp_path))
    assert hashes[0] is None
    assert len(set(hashes)) == len(hashes)


def test_records_of_a_model_that_was_edited_since(tmp_path: Path, git: Git) -> None:
    def record() -> Record:
        return run_of(model="tiger", provenance=collected(tmp_path).model_dump(mode="json")).record

    model, other = tmp_path / "models/tiger.py", tmp_path / "models/six.py"
    before, text = record(), model.read_text()
    other.write_text("x = 1\n")
    assert not of_another_model_file(before, tmp_path), "another model's file"
    uncommitted = record()
    model.write_text("width = 2\n")
    assert of_another_model_file(before, tmp_path)
    model.write_text(text)
    assert not of_another_model_file(before, tmp_path)
    other.unlink()
    assert of_another_model_file(uncommitted, tmp_path), "what ran was no commit's, so that nothing can tell"
    model.write_text("width = 2\n")
    elsewhere = before.model_copy(update={"provenance": before.provenance.model_copy(update={"git_commit": "d" * 40})})
    assert not of_another_model_file(elsewhere, tmp_path), "its commit is not here"


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("m[i]ne/toys/tiger/0123456789ab/seed-0.json", False),
        ("m[i]ne/toys/tiger/0123456789ab/seed-0.ranks.parquet", False),
        ("m[i]ne/toys/codes/tiger-0123456789ab-seed-0.json", False),
        ("m[i]ne/toys.sweeps/study.json", False),
        ("m[i]ne/toys.md", False),
        # What is being written, and what Ray leaves there for as long as it works.
        ("m[i]ne/toys/tiger/0123456789ab/.seed-0.json.ab12cd34", False),
        ("m[i]ne/.toys.md.ab12cd34", False),
        ("m[i]ne/.seen-0123", False),
        ("m[i]ne/toys.py", True),
        ("m[i]ne/parts/tiger.py", True),
        ("other/toys/tiger/0123456789ab/seed-0.json", True),
    ],
)
def test_rows_of_a_board_of_ones_own_are_no_change(tmp_path: Path, git: Git, name: str, counts: bool) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    file.write_text("1")
    assert git_dirty_sha256(tmp_path) is not None
    assert (git_dirty_sha256(tmp_path, tmp_path / "m[i]ne") is not None) is counts
    for elsewhere in (tmp_path, tmp_path.parent):
        assert git_dirty_sha256(tmp_path, elsewhere) is not None, "no board within the checkout"


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("leaderboards/v1/toys/tiger/0123456789ab/seed-0.json", False),
        ("leaderboards/v1/toys.md", False),
        ("leaderboards/v1/.toys.md.ab12cd34", False),
        ("leaderboards/v1/.seen-0123", False),
        ("leaderboards/v1/toys.csv", False),
        ("leaderboards/v1/toys.tex", False),
        ("leaderboards/v1/toys.sha256", False),
        ("docs/analyses/toys-entropy.svg", False),
        ("docs/guide.md", True),
        ("runs/log.txt", False),
        ("leaderboards/v1/protocol.toml", True),
        ("leaderboards/metrics.py", True),
    ],
)
def test_rows_and_ignored_files_are_no_change(tmp_path: Path, git: Git, name: str, counts: bool) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    file.write_text("1")
    assert (git_dirty_sha256(tmp_path) is not None) is counts
    git("add", "--force", name)
    git("commit", "--quiet", "-m", "second")
    file.write_text("2")
    tracked_and_ignored = name.startswith("runs/")
    assert (git_dirty_sha256(tmp_path) is not None) is (counts or tracked_and_ignored)


def test_outside_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRBENCH_COMMIT", raising=False)
    found = collected(tmp_path)
    assert (found.git_commit, found.git_dirty_sha256, found.lock_sha256) == ("unknown", None, "unknown")
    with pytest.raises(ValueError, match="is no git checkout with a commit"):
        git_dirty_sha256(tmp_path)


@pytest.mark.parametrize("told", ["0a" * 20, "0a" * 32])
def test_outside_git_the_environment_may_tell_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    monkeypatch.setenv("GRBENCH_COMMIT", told)
    found = collected(tmp_path)
    assert (found.git_commit, found.git_commit_told, found.git_dirty_sha256) == (told, True, None)


def test_a_checkout_knows_better_than_the_environment(
    tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRBENCH_COMMIT", "0a" * 20)
    found = collected(tmp_path)
    assert (found.git_commit, found.git_commit_told) == (git("rev-parse", "HEAD").strip(), False)


@pytest.mark.parametrize("told", ["HEAD", "0a0a0a0", "0A" * 20, "0a" * 20 + "\n"])
def test_what_is_no_commit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    monkeypatch.setenv("GRBENCH_COMMIT", told)
    with pytest.raises(ValueError, match="expected a whole commit hash, as `git rev-parse HEAD` prints it"):
        collected(tmp_path)


def test_without_git_installed(tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    assert git_commit(tmp_path) != "unknown"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit(tmp_path) == "unknown"


def test_a_copy_inside_another_checkout_has_no_commit_of_its_own(tmp_path: Path, git: Git) -> None:
    assert git("rev-parse", "HEAD")
    assert git_commit(tmp_path / "models") == "unknown"


def test_a_checkout_before_its_first_commit(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    assert collected(tmp_path).git_commit == "unknown"


def test_lock_versions_and_machine(tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text("numpy==2\n")
    found = collected(tmp_path)
    assert found.lock_sha256 == hashlib.sha256(b"numpy==2\n").hexdigest()
    assert found.versions["numpy"] == version("numpy")
    assert found.python == platform.python_version()
    assert found.device
    assert (found.threads, found.precision, found.evaluation_batch) == (2, "32-true", 64)


def test_a_record_tells_how_many_users_a_gpu_ranks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert provenance.of(Hardware("cpu")).evaluation_batch == 64
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    found = provenance.of(Hardware())
    assert (found.device, found.evaluation_batch) == ("Some GPU", 2_048)


@pytest.mark.parametrize("full", ["2.13.0+cpu", "2.13.0+cu130", "2.13.0"])
def test_the_build_of_torch_is_told_though_its_metadata_may_not(
    tmp_path: Path, full: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert collected(tmp_path).versions["torch"] == torch.__version__
    monkeypatch.setattr(provenance, "version", lambda library: "2.13.0")
    monkeypatch.setattr(torch, "__version__", full)
    assert collected(tmp_path).versions["torch"] == full


def test_the_project_itself_is_read() -> None:
    assert (provenance.ROOT / "pyproject.toml").exists()


@pytest.mark.parametrize(
    ("arguments", "typed"),
    [
        (["/home/ann/grbench/benchmarks/__main__.py", "bench", "--jobs", "2"], "python -m benchmarks bench --jobs 2"),
        (["/usr/bin/pytest", "-q"], "pytest -q"),
        (["run.py", "--board", "/home/ann/rows", "--set", "a=/srv/v.npz"], "run.py --board rows --set a=v.npz"),
        (["run.py", "--board=/home/ann/rows", "leaderboards/v1"], "run.py --board=rows leaderboards/v1"),
        (["run.py", "--storage", "postgresql://u:my = secret@h/d", "-q"], "run.py --storage postgresql://... -q"),
        (["run.py", "--storage=postgresql://h/d?password=secret"], "run.py --storage=postgresql://..."),
        (
            ["run.py", "--corpus", "../ann/my shop.csv", "--items=ann/i.csv"],
            "run.py --corpus my shop.csv --items=i.csv",
        ),
        (["run.py", "--corpus", "toys_2014", "--columns", "user=a/b"], "run.py --corpus toys_2014 --columns user=a/b"),
    ],
)
def test_command_keeps_no_absolute_path_and_no_password(arguments: list[str], typed: str) -> None:
    assert command(arguments) == typed


def test_command_keeps_no_folder_beside_its_own() -> None:
    options = ["--board", "../anna/board", "--set", "letter:codes=../anna/mine.tsv", 'codes="/home/anna/c.tsv"']
    told = command(["bench", *options, "--vectors-path", "anna/vectors.npz", "--work", "runs/../../anna/w"])
    assert told == "bench --board board --set letter:codes=mine.tsv codes=c.tsv --vectors-path vectors.npz --work w"


def test_peak_memory_is_what_was_held_since_the_last_reset() -> None:
    output = subprocess.run(scripts.command("peak_memory"), cwd=provenance.ROOT, capture_output=True, check=True).stdout
    before, during, after = map(int, output.split())
    assert during - before == pytest.approx(200 << 20, rel=0.1)
    if sys.platform == "linux":
        assert after - before < 20 << 20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc")
def test_what_was_freed_is_given_back() -> None:
    run = scripts.command("give_back_memory")
    freed, after = map(int, subprocess.run(run, cwd=provenance.ROOT, capture_output=True, check=True).stdout.split())
    assert freed > 180, "the heap has kept it"
    assert after < 60
