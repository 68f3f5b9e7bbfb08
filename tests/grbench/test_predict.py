"""Lists for the users of a file: the same as asked one by one, and of a killed run nothing is ranked twice."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from data_prep.atomic import own
from grbench import predict as predicting
from grbench.__main__ import BENCHMARKS, LEADERBOARDS, main
from grbench.predict import predict, weights_sha256
from grbench.served import Recommendation, Served
from models.last_item_vectors import Config as VectorsConfig
from models.last_item_vectors import LastItemVectors
from models.popularity import Config, Popularity

USERS = [
    {"user": "anna", "history": ["b", "c"]},
    {"user": 7, "history": ["a"]},
    {"user": "new", "history": ["kettle"]},
    {"user": "ben", "history": ["kettle", "d", "e"]},
    {"user": "eve", "history": []},
]


class Told:
    """What the rows of a record say of it, where no more is asked."""

    class corpus:  # noqa: N801
        name = "hand"

    model, key, seed = "popularity", "0123456789ab", 0


@pytest.fixture
def served() -> Served:
    return Served(Popularity(Config(), torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0])).eval(), list("abcde"), Told())  # type: ignore[arg-type]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "users.jsonl"
    path.write_text("".join(f"{json.dumps(user)}\n" for user in USERS))
    return path


def rows(target: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(target).to_pylist()
    return found


def test_by_hand(served: Served, source: Path, tmp_path: Path) -> None:
    done = predict(served, source, tmp_path / "top.parquet", k=2, unseen=True)
    assert rows(tmp_path / "top.parquet") == [
        {"user": "anna", "items": ["a", "d"], "scores": [5.0, 2.0], "certified": True},
        {"user": "7", "items": ["b", "c"], "scores": [4.0, 3.0], "certified": True},
        {"user": "new", "items": [], "scores": [], "certified": False},
        {"user": "ben", "items": ["a", "b"], "scores": [5.0, 4.0], "certified": True},
        {"user": "eve", "items": [], "scores": [], "certified": False},
    ]
    assert (done.users, done.ranked, done.unknown, done.without, done.certified) == (5, 5, 2, 2, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["top.parquet", "users.jsonl"]


def test_a_packed_file_is_read_by_its_content(served: Served, source: Path, tmp_path: Path) -> None:
    predict(served, source, tmp_path / "one.parquet")
    source.write_bytes(gzip.compress(source.read_bytes()))
    predict(served, source, tmp_path / "two.parquet")
    assert rows(tmp_path / "one.parquet") == rows(tmp_path / "two.parquet")


def test_a_killed_run_goes_on(served: Served, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predict(served, source, tmp_path / "whole.parquet", k=3)
    monkeypatch.setattr(predicting, "PART", 2)
    target, ask, asked = tmp_path / "top.parquet", Served.recommend_all, list[int]()

    def dying(model: Served, histories: Sequence[Sequence[str]], *rest: Any) -> list[Recommendation]:
        asked.append(len(histories))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return ask(model, histories, *rest)

    monkeypatch.setattr(Served, "recommend_all", dying)
    with pytest.raises(KeyboardInterrupt):
        predict(served, source, target, k=3)
    assert not target.exists()
    with pytest.raises(ValueError, match=r"top.parquet.parts holds lists of another k; remove it, or name another out"):
        predict(served, source, target, k=4)
    with pytest.raises(ValueError, match=r"holds lists of another k and unseen; remove it"):
        predict(served, source, target, k=4, unseen=True)
    with monkeypatch.context() as patch:
        # As after an update between the two: what ranks may have changed.
        patch.setattr(predicting, "of_folder", lambda root: "0" * 64)
        with pytest.raises(ValueError, match="holds lists of another code; remove it"):
            predict(served, source, target, k=3)
    done = predict(served, source, target, k=3)
    assert (done.users, done.ranked) == (5, 3)
    assert rows(target) == rows(tmp_path / "whole.parquet")
    assert asked == [2, 1, 1, 0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("no json", "line 2: .*; expected a JSON object"),
        ('{"user": "u"}', 'line 2: {"user": "u"}; expected {"user": "U1", "history"'),
        ('{"user": "u", "history": "a"}', "line 2: .*; expected"),
        ('{"user": "u", "history": [1]}', "line 2: .*; expected"),
        ('{"user": true, "history": ["a"]}', "line 2: .*; expected"),
        ('{"history": ["a"]}', "line 2: .*; expected"),
        ('{"user": "\\ud800", "history": ["a"]}', r"line 2: .*ud800.*; expected"),
    ],
)
def test_a_bad_line_is_told_before_anyone_is_ranked(served: Served, tmp_path: Path, line: str, said: str) -> None:
    source = tmp_path / "users.jsonl"
    source.write_text(f'{{"user": "u", "history": ["a"]}}\n{line}\n')
    with pytest.raises(ValueError, match=said):
        predict(served, source, tmp_path / "top.parquet")
    assert list(tmp_path.iterdir()) == [source]


def test_blank_lines_are_nobody(served: Served, tmp_path: Path) -> None:
    source = tmp_path / "users.jsonl"
    source.write_text("\n\n")
    with pytest.raises(ValueError, match=r"users.jsonl holds blank lines alone; expected at least one user"):
        predict(served, source, tmp_path / "top.parquet")
    assert list(tmp_path.iterdir()) == [source]


def test_other_weights_are_another_job(
    served: Served, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is the same: its folder was replaced by one that another machine has trained."""
    target = tmp_path / "top.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(predicting, "_join", lambda *given: None)
        predict(served, source, target)
    other = Served(Popularity(Config(), torch.tensor([5.0, 4.0, 3.0, 2.5, 1.0])).eval(), served.item_ids, Told())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"top.parquet.parts holds lists of another weights; remove it"):
        predict(other, source, target)
    assert predict(served, source, target).ranked == 0


def test_weights_are_all_that_a_model_ranks_with() -> None:
    """Its vectors are the corpus's, and in no file of weights."""
    vectors = torch.eye(5)
    said = [weights_sha256(of_vectors(vectors)), weights_sha256(of_vectors(vectors.flip(0)))]
    assert said[0] == weights_sha256(of_vectors(vectors.clone())) != said[1]
    renamed = Served(of_vectors(vectors).recommender, list("abcdf"), Told())  # type: ignore[arg-type]
    assert weights_sha256(renamed) not in said


def of_vectors(vectors: torch.Tensor) -> Served:
    model = LastItemVectors(VectorsConfig(), torch.cat([torch.zeros(1, 5), vectors]))
    assert model.state_dict() == {}
    return Served(model, list("abcde"), Told())  # type: ignore[arg-type]


class TestFolderOfParts:
    @pytest.fixture
    def parts(self, tmp_path: Path) -> Path:
        (tmp_path / "top.parquet.parts").mkdir()
        return tmp_path / "top.parquet.parts"

    def test_a_folder_of_other_files_is_kept(self, served: Served, source: Path, parts: Path) -> None:
        (parts / "thesis.txt").write_text("mine")
        with pytest.raises(ValueError, match=r"top.parquet.parts holds other files than lists; name another output"):
            predict(served, source, parts.with_suffix(""))
        assert [path.name for path in parts.iterdir()] == ["thesis.txt"]

    @pytest.mark.parametrize("name", ["lock", ".job.json.0123abcd"])
    def test_what_a_process_killed_at_once_leaves_is_no_other_file(
        self, served: Served, source: Path, parts: Path, name: str
    ) -> None:
        (parts / name).touch()
        assert predict(served, source, parts.with_suffix("")).ranked == 5

    def test_two_processes_do_not_write_one_output(self, served: Served, source: Path, parts: Path) -> None:
        lock = own(parts)
        assert lock is not None
        with pytest.raises(ValueError, match=r"another process writes into .*top.parquet.parts"):
            predict(served, source, parts.with_suffix(""))
        os.close(lock)
        assert predict(served, source, parts.with_suffix("")).ranked == 5

    @pytest.mark.parametrize("content", [b"", b'{"inp', b"\xff", b"[" * 100_000])
    def test_a_damaged_description_of_the_job_is_told(
        self, served: Served, source: Path, parts: Path, content: bytes
    ) -> None:
        (parts / "job.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"parts holds lists of another job, whose description is damaged"):
            predict(served, source, parts.with_suffix(""))

    def test_parts_of_another_size_are_another_job(
        self, served: Served, source: Path, parts: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(predicting, "PART", 2)
            patch.setattr(predicting, "_join", lambda *given: None)
            predict(served, source, parts.with_suffix(""))
        with pytest.raises(ValueError, match="another users of a part; remove it"):
            predict(served, source, parts.with_suffix(""))

    def test_only_the_parts_of_the_input_are_joined(
        self, served: Served, source: Path, parts: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(predicting, "_join", lambda *given: None)
            predict(served, source, parts.with_suffix(""))
        shutil.copy(parts / "000000.parquet", parts / "000001.parquet")
        predict(served, source, parts.with_suffix(""))
        assert len(rows(parts.with_suffix(""))) == 5


def test_a_file_that_is_there_is_kept(served: Served, source: Path, tmp_path: Path) -> None:
    (tmp_path / "top.parquet").write_text("mine")
    with pytest.raises(FileExistsError, match=r"top.parquet is there already"):
        predict(served, source, tmp_path / "top.parquet")
    assert (tmp_path / "top.parquet").read_text() == "mine"


class TestCommand:
    def test_it_says_what_it_did(
        self,
        served: Served,
        source: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr("grbench.served.load", lambda *given: served)
        assert main(["predict", "--row", "r", "--input", str(source), "--output", str(tmp_path / "t.parquet")]) == 0
        said = capsys.readouterr().out
        assert "5 users, 5 ranked in" in said
        assert "2 items of histories are unknown to the model and left out" in said
        assert "2 users have no other item; their lists are empty" in said

    def test_an_error_is_a_sentence(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        nowhere = str(tmp_path / "nowhere")
        assert main(["predict", "--row", nowhere, "--input", nowhere, "--output", nowhere]) == 2
        assert f"error: {nowhere} is missing; expected a folder that `export` wrote" in capsys.readouterr().err

    @pytest.mark.parametrize("command", ["data", *BENCHMARKS, *LEADERBOARDS])
    def test_the_other_packages_commands_are_its_own(self, command: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
        assert "usage: python -m " in capsys.readouterr().out
