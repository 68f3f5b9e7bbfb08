"""An export sent to the hub, held against a stand-in that takes what the real one takes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from benchmarks.__main__ import main as bench
from data_prep.corpus import Corpus
from grbench.__main__ import main
from grbench.hub import push
from tests.grbench.stand_in_hub import TOKEN, StandInHub, running

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandInHub]:
    """A stand-in that the client of this process takes for the hub."""
    with running() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        # The other protocol of large files is spoken to a server of its own.
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As large as it takes to tell small from large files."""
    folder = tmp_path / "exported"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: other\n---\n")
    (folder / "items.txt").write_bytes("ключ\r\nB01\n".encode())
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 100)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_files_of_the_folder_are_one_commit(hub: StandInHub, folder: Path) -> None:
    assert push(folder, "lab/mine") == f"{hub.url}/lab/mine"
    assert hub.commits == {"lab/mine": [contents(folder)]}
    (made,) = hub.repositories.values()
    assert (made["visibility"], made.get("type", "model")) == ("private", "model")
    assert list(hub.large.values()) == [contents(folder)["model.safetensors"]]
    assert [asked for asked in hub.asked if not asked.startswith("PUT ")] == [
        "POST /api/repos/create",
        "POST /api/validate-yaml",
        "POST /api/models/lab/mine/preupload/main",
        "POST /lab/mine.git/info/lfs/objects/batch",
        "POST /api/models/lab/mine/commit/main",
    ]


def test_it_is_public_where_that_is_asked_for(hub: StandInHub, folder: Path) -> None:
    push(folder, "lab/mine", public=True)
    assert hub.repositories["lab/mine"]["visibility"] == "public"


def test_a_repository_that_is_there_is_kept(hub: StandInHub, folder: Path) -> None:
    push(folder, "lab/mine", public=True)
    with pytest.raises(ValueError, match="lab/mine is there already; expected the name of a new repository") as told:
        push(folder, "lab/mine")
    assert f"`hf upload OWNER/NEW_NAME {folder} --private`" in str(told.value), "to lab/mine it would add"
    assert len(hub.commits["lab/mine"]) == 1


@pytest.mark.parametrize(
    ("path", "status"),
    [
        *[("repos/create", 400), ("repos/create", 402), ("repos/create", 500), ("validate-yaml", 503)],
        *[("preupload", 404), ("lfs/objects", 413), ("/large/", 403), ("commit", 403), ("commit", 502)],
    ],
)
def test_what_the_hub_refuses_is_told(hub: StandInHub, folder: Path, path: str, status: int) -> None:
    hub.broken[path] = status
    before = contents(folder)
    with pytest.raises(ValueError) as told:
        push(folder, "lab/mine")
    assert str(told.value) == (
        f"{folder} is written, but not sent to {hub.url}: it answers {status}, out of order; "
        f"once that is mended, `hf upload lab/mine {folder} --private` sends it"
    )
    assert contents(folder) == before
    assert hub.commits == {}


def test_another_owners_name_is_told(hub: StandInHub, folder: Path) -> None:
    with pytest.raises(ValueError, match="you have no rights to create a model under others"):
        push(folder, "others/mine")


def test_a_missing_or_wrong_token_is_told(hub: StandInHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(ValueError, match="Invalid username or password") as told:
        push(folder, "lab/mine")
    assert "somebody" not in str(told.value)
    monkeypatch.setenv("HF_TOKEN", "hf_with_a\x01line")
    with pytest.raises(ValueError, match="not sent to") as told:
        push(folder, "lab/mine")
    assert "hf_with" not in str(told.value)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ValueError, match="there is no token; expected it in HF_TOKEN or after `hf auth login`"):
        push(folder, "lab/mine")
    assert hub.repositories == {}


def test_no_network_is_told(hub: StandInHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody listens at the port that TCP keeps for itself.
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(ValueError, match=r"not sent to http://127.0.0.1:1: .*[Cc]onnect"):
        push(folder, "lab/mine")
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"offline mode"):
        push(folder, "lab/mine")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--push-to-hub", "mine"], "'mine' has no owner; expected OWNER/NAME"),
        (["--push-to-hub", "a/b/c"], "Repo id must be in the form"),
        (["--push-to-hub", "lab/my model"], "Repo id must use alphanumeric chars"),
    ],
)
def test_a_name_is_looked_at_before_anything_is_made(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["export", "row.json", "folder", *options])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_public_is_told_of_what_is_sent(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "row.json", "folder", "--public"]) == 2
    assert "error: --public is given without --push-to-hub" in capsys.readouterr().err


def untrained(folder: Path) -> Path:
    """A record of a model that nothing is trained for."""
    board = folder / "board"
    asked = ["bench", "--corpus", "all_beauty", "--models", "popularity", "--track", "off", "--board", str(board)]
    assert bench([*asked, "--work", str(folder / "work")]) == 0
    (record,) = board.glob("all_beauty/popularity/*/seed-0.json")
    return record


class TestCommand:
    @pytest.fixture
    def record(self, loaded: Corpus, tmp_path: Path) -> Path:
        return untrained(tmp_path)

    @pytest.mark.slow
    def test_an_export_is_written_and_sent(
        self, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In a process of its own, which knows the hub by its environment."""
        monkeypatch.setenv("GRBENCH_DATA", str(tiny_data))
        record, new = untrained(tmp_path), tmp_path / "new"
        command = [sys.executable, "-m", "grbench", "export", str(record), str(new), "--work", str(tmp_path / "work")]
        with running() as hub:
            told = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
            own = {"GRBENCH_DATA": str(tiny_data), "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT)}
            asked = [*command, "--push-to-hub", "lab/mine"]
            done = subprocess.run(asked, cwd=tmp_path, env=os.environ | told | own, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            assert done.stdout == f"written: {new}\nsent: {hub.url}/lab/mine\n"
            assert hub.commits == {"lab/mine": [contents(new)]}
            assert {"model.safetensors", "items.txt", "SHA256SUMS"} < contents(new).keys()

    def test_an_export_that_is_not_sent_is_whole(
        self,
        record: Path,
        hub: StandInHub,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from grbench import load

        monkeypatch.delenv("HF_TOKEN")
        new, work = tmp_path / "new", tmp_path / "work"
        capsys.readouterr()
        assert main(["export", str(record), str(new), "--work", str(work), "--push-to-hub", "lab/mine"]) == 2
        said = capsys.readouterr()
        assert said.out == f"written: {new}\n"
        assert said.err.startswith(f"error: {new} is written, but not sent to {hub.url}: there is no token")
        with torch.inference_mode():
            assert load(new).recommend(["B01"], k=3).certified
