"""Verify: whatever is changed on a board is found, and what is not changed is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from leaderboards import board_table, codes, ledger, store
from leaderboards.__main__ import main
from leaderboards.record import RANKS_SCHEMA
from leaderboards.rows import Board
from leaderboards.store import Run, write
from leaderboards.tables import render
from leaderboards.verify import _of_seen_targets, verify
from tests.leaderboards.project import Project, git, project, with_facts
from tests.leaderboards.test_codes import card_of
from tests.leaderboards.test_record import ranks_of, run_of, run_of_v1

pytestmark = pytest.mark.slow


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """Two seeds of a row, another row, and a code card, all rendered."""
    folder = tmp_path / "board"
    for seed in range(2):
        write(folder, *run_of(seed, ranks=with_facts(200, seed)))
    write(folder, *run_of(0, experiment="wide", config={"width": 128}, ranks=with_facts(200, 5)))
    codes.write(folder, card_of("tiger"))
    render(folder, "toys")
    return folder


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to every leaf of a JSON value, an empty list or object being one."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    found = [place for key, part in inner for place in places(part, (*path, key))]
    yield from found or [path]


def changed(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1 if isinstance(value, int) else value * 1.01 + 1e-6
        case str():
            return value[:-1] + ("0" if value[-1:] != "0" else "1")
        case None:
            return 1
        case list():
            return ["more"]
        case _:
            return {"more": 1}


def test_nothing_is_wrong(board: Path) -> None:
    assert verify(board) == ([], 3)
    assert verify(board, "seed-1") == ([], 1)


def test_a_rank_file_is_read_once_and_a_board_rendered_once(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, rendered = list[Path](), list[int]()
    parquet, markdown = store._read_parquet, board_table.markdown

    def noted(target: Path) -> pa.Table:
        read.append(target)
        return parquet(target)

    def counted(board: Board) -> str:
        rendered.append(len(board.runs))
        return markdown(board)

    monkeypatch.setattr(store, "_read_parquet", noted)
    monkeypatch.setattr(board_table, "markdown", counted)
    for command in ("verify", "board"):
        assert main([command, "--board", str(board)]) == 0
        assert sorted(read) == sorted(board.rglob("*.parquet"))
        assert rendered == [3]
        read.clear()
        rendered.clear()


def test_every_changed_field_of_a_record_is_found(board: Path) -> None:
    target = sorted(board.glob("toys/sasrec/*/seed-1.json"))[0]
    whole, content = target.read_text(), json.loads(target.read_text())
    unseen, tried = [], 0
    for path in places(content):
        mutant = json.loads(whole)
        holder = mutant
        for step in path[:-1]:
            holder = holder[step]
        holder[path[-1]] = changed(holder[path[-1]])
        target.write_text(json.dumps(mutant, indent=2) + "\n")
        tried += 1
        unseen += [] if verify(board)[0] else [path]
    target.write_text(whole)
    assert (unseen, tried > 60) == ([], True)
    assert verify(board)[0] == []


def test_every_digit_counts(board: Path) -> None:
    """Fields that nothing else depends on too: the ledger has the hash of the file."""
    target = sorted(board.glob("toys/sasrec/*/seed-0.json"))[0]
    target.write_text(target.read_text().replace('"threads": 2', '"threads": 3'))
    (problem,) = verify(board)[0]
    assert "seed-0.json has changed: its SHA-256 is" in problem


def test_numbers_are_those_of_the_ranks_even_where_the_ledger_was_made_anew(board: Path) -> None:
    target = sorted(board.glob("toys/sasrec/*/seed-0.json"))[0]
    recall = json.loads(target.read_text())["test"]["recall@10"]
    target.write_text(target.read_text().replace(f'"recall@10": {recall}', f'"recall@10": {recall + 0.005}', 1))
    ledger.path(board, "toys").unlink()
    ledger.path(board, "toys").write_text(ledger.extended(board, "toys"))
    assert any("metrics of" in problem and "are not those of its ranks" in problem for problem in verify(board)[0])


@pytest.mark.parametrize("column", RANKS_SCHEMA.names)
def test_every_changed_rank_is_found(board: Path, column: str) -> None:
    target = sorted(board.glob("toys/sasrec/*/seed-0.ranks.parquet"))[0]
    table = pq.read_table(target)
    values = table[column].to_numpy(zero_copy_only=False).copy()
    values[17] = not values[17] if column == "transition_seen" else values[17] + 1 if values[17] < 50 else 0
    place = table.schema.get_field_index(column)
    pq.write_table(table.set_column(place, table.field(place), pa.array(values, table.field(place).type)), target)
    assert any("ranks" in problem for problem in verify(board)[0])


@pytest.mark.parametrize(
    "pattern",
    [
        "toys/*/*/seed-0.json",
        "toys/*/*/*.parquet",
        "toys/codes/*",
        "toys.md",
        "toys.csv",
        "toys.tex",
        "toys.codes.md",
        "toys.sha256",
    ],
)
def test_every_missing_file_is_found(board: Path, pattern: str) -> None:
    gone = sorted(board.glob(pattern))[0]
    gone.unlink()
    assert any(gone.name in problem for problem in verify(board)[0])


def test_a_table_edited_by_hand_is_found(board: Path) -> None:
    table = board / "toys.md"
    table.write_text(table.read_text().replace("sasrec", "SASRec", 1))
    assert verify(board)[0] == [f"{table} is not what the records give; `make board` renders it"]


def test_a_folder_in_the_place_of_a_table_is_found(board: Path) -> None:
    table = board / "toys.md"
    table.unlink()
    table.mkdir()
    assert f"{table} is missing, or no file; `make board` renders it" in verify(board)[0]


def test_a_file_that_is_not_listed_is_found(board: Path) -> None:
    write(board, *run_of(2, ranks=with_facts(200, 2)))
    problems = verify(board)[0]
    assert sum("is not listed in toys.sha256" in problem for problem in problems) == 3
    render(board, "toys")
    assert verify(board)[0] == []


def add_to(board: Path, *names: str) -> list[Path]:
    """Files with a line in them; of names that begin with `seed-` beside the records of a row."""
    row = sorted(board.glob("toys/sasrec/*"))[0].relative_to(board)
    files = [board / row / name if name.startswith("seed-") else board / name for name in names]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x\n")
    return files


def test_foreign_files_are_named_and_not_listed(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = "toys/notes.txt", "toys/page.html", "toys/codes/card.json", "toys.sweeps/log.txt"
    files = add_to(board, *names, "seed-0 copy.json", "seed-00.json", "seed-0.json.bak", "seed-0.curves.csv~")
    before = ledger.path(board, "toys").read_text()
    assert main(["board", "--board", str(board)]) == 0
    said = capsys.readouterr().err
    assert all(f"not listed: {file} is a foreign file; expected seed-<n>.json, " in said for file in files)
    assert ledger.path(board, "toys").read_text() == before
    assert sorted(verify(board)[0]) == sorted(f"{file} {ledger.FOREIGN}" for file in files)
    for file in files:
        file.unlink()
    assert main(["board", "--board", str(board)]) == 0
    assert (capsys.readouterr().err, verify(board)[0]) == ("", [])


def test_hidden_files_and_pages_of_sweeps_are_passed_over(board: Path) -> None:
    checkpoints = "toys/.ipynb_checkpoints/seed-0.curves-checkpoint.csv", "toys/.copy/key/seed-0.json"
    add_to(board, *checkpoints, "toys/codes/.tiger-seed-0.json", "toys.sweeps/.study.json", "toys.sweeps/study.html")
    before = ledger.path(board, "toys").read_text()
    assert verify(board)[0] == []
    render(board, "toys")
    assert ledger.path(board, "toys").read_text() == before


def test_a_foreign_file_that_a_ledger_lists_is_taken_off(board: Path) -> None:
    file, before = ledger.path(board, "toys"), ledger.path(board, "toys").read_text()
    file.write_text(f"{before}{'0' * 64}  toys/notes.txt\n")
    assert verify(board)[0] == [
        f"{board / 'toys/notes.txt'} is no evidence; toys.sha256 lists it, `make board` takes it off"
    ]
    render(board, "toys")
    assert file.read_text() == before


def test_a_copy_of_a_record_hides_no_missing_seed(board: Path) -> None:
    (board / "protocol.toml").write_text('version = "v2"\nreleased = true\n')
    later = write(board, *run_of(4, ranks=with_facts(200, 4)))
    render(board, "toys")
    copy = shutil.copy(later.with_name("seed-0.json"), later.with_name("seed-0 copy.json"))
    assert verify(board)[0] == [
        f"{later.parent} has the seeds 0, 1, 4; expected 0 to 2",
        f"{copy} {ledger.FOREIGN}",
    ]


def test_a_record_in_a_wrong_place_and_a_second_one_of_a_key(board: Path) -> None:
    folder = sorted(board.glob("toys/sasrec/*"))[0]
    shutil.copytree(folder, board / "toys/tiger" / folder.name)
    assert any("is of toys/sasrec" in problem for problem in verify(board)[0])
    shutil.rmtree(board / "toys/tiger")
    # Under v1 a key did not name the model.
    for model in ("sasrec", "tiger"):
        write(board, *run_of_v1(0, model=model))
    assert any("has the key of" in problem for problem in verify(board)[0])


def test_laws_of_metrics(board: Path) -> None:
    beams = {"beam20/free": {"recall@10": 0.1, "ndcg@10": 0.2}, "beam50/free": {"recall@5": 0.3, "recall@10": 0.2}}
    search = {"certified_share": 0.995, "mean_expansions": 3.0, "max_expansions": 9}
    write(board, *run_of(7, diagnostics=beams, search=search, ranks=with_facts(200, 7)))
    render(board, "toys")
    text = "\n".join(verify(board)[0])
    assert "beam20/free: ndcg@10 is 0.2, above recall@10, 0.1" in text
    assert "beam50/free: recall@5 is 0.3, above recall@10, 0.2" in text
    assert "certified_share is 0.995; the protocol asks for an exact list for every user" in text


def test_facts_of_users_are_the_same_in_all_rank_files(board: Path) -> None:
    write(board, *run_of(8, ranks=ranks_of(200, 8)))
    render(board, "toys")
    assert any("tell other facts of users and targets" in problem for problem in verify(board)[0])


@pytest.mark.parametrize(
    ("told", "said"),
    [({"items": 9, "interactions": 1501}, "items, interactions"), ({"ceiling": {"ndcg@10": 0.9}}, "ceiling")],
)
def test_records_of_one_corpus_say_the_same_of_it(board: Path, told: dict[str, Any], said: str) -> None:
    forged = run_of(8, ranks=with_facts(200, 8), corpus=told)
    write(board, *forged)
    render(board, "toys")
    problems = verify(board)[0]
    name = f"toys/sasrec/{forged.record.key}"
    assert any(problem.startswith(f"{board}: {name}/seed-8 tells other {said} than sasrec/") for problem in problems)


def test_evidence_is_never_edited(board: Path) -> None:
    target = sorted(board.glob("toys/sasrec/*/seed-0.json"))[0]
    target.write_text(target.read_text() + " ")
    with pytest.raises(ValueError, match=r"seed-0.json has changed or vanished since toys.sha256 listed it"):
        render(board, "toys")


def test_sha256sum_reads_the_ledger(board: Path) -> None:
    check = subprocess.run(["sha256sum", "--check", "--quiet", "toys.sha256"], cwd=board, capture_output=True)
    assert check.returncode == 0, check.stderr


def test_a_damaged_ledger_is_named(board: Path) -> None:
    ledger.path(board, "toys").write_text("short  toys/x\n")
    assert any("toys.sha256 line 1 is 'short  toys/x'" in problem for problem in verify(board)[0])


def test_command_line(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--board", str(board)]) == 0
    assert capsys.readouterr().out == f"3 records checked in {board}: all true\n"
    (board / "toys.csv").write_text("")
    assert main(["verify", "--board", str(board)]) == 1
    assert "wrong: " in capsys.readouterr().out
    assert main(["verify", "--board", str(board), "--row", "nowhere"]) == 2
    assert "no record in" in capsys.readouterr().err


class TestHistory:
    """A released board may grow; nothing of it may change. `test_forgeries.py` has more."""

    @pytest.fixture
    def made(self, tmp_path: Path) -> Project:
        return project(tmp_path / "project")

    def test_new_rows_are_welcome(self, made: Project) -> None:
        made.add(made.run(3, draw=60))
        assert verify(made.board, base="main")[0] == []

    def test_a_removed_record_is_found(self, made: Project) -> None:
        """With tables and ledger made anew, so that nothing else can tell."""
        for file in made.board.glob("all_beauty/sasrec/*/seed-2.*"):
            file.unlink()
        made.seal()
        assert verify(made.board)[0] == []
        problems = verify(made.board, base="main")[0]
        assert [problem.split(" since")[0].rsplit("/", 1)[1] for problem in problems] == [
            "seed-2.curves.csv was removed",
            "seed-2.json was removed",
            "seed-2.ranks.parquet was removed",
        ]

    def test_a_change_that_is_not_committed_is_found(self, made: Project) -> None:
        (made.board / "protocol.toml").write_text('version = "v2"\nreleased = false\n')
        (problem,) = verify(made.board, base="main")[0]
        assert "protocol.toml was changed since" in problem

    def test_before_its_release_a_board_may_be_made_again(self, made: Project) -> None:
        (made.board / "protocol.toml").write_text('version = "v2"\nreleased = false\n')
        made.commit_all()
        git(made.root, "checkout", "--quiet", "-b", "later")
        shutil.rmtree(made.board / "all_beauty/tiger")
        made.seal()
        assert verify(made.board, base="change")[0] == []

    def test_what_is_no_revision(self, made: Project, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["verify", "--board", str(made.board), "--base", "nowhere"]) == 2
        assert "git merge-base in" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["record", "ranks", "folder", "pipe", "table"])
def test_evidence_lies_on_the_board_itself(board: Path, tmp_path: Path, what: str) -> None:
    """A link's target can be exchanged, and no file of the board would change."""
    record = next(board.glob("toys/sasrec/*/seed-0.json"))
    named = {
        "record": record,
        "ranks": record.with_suffix(".ranks.parquet"),
        "folder": record.parent,
        "pipe": record.with_name("seed-7.json"),
        "table": board / "toys.md",
    }[what]
    if what == "pipe":
        os.mkfifo(named)
    else:
        shutil.move(named, tmp_path / "elsewhere")
        named.symlink_to(tmp_path / "elsewhere")
    problems = verify(board)[0]
    assert f"{named} is a link, or no regular file; evidence lies on the board itself" in problems
    if what != "table":
        with pytest.raises(ValueError, match="is a link, or no regular file"):
            render(board, "toys")


def provenance_of(run: Run, **changes: Any) -> Run:
    provenance = run.record.provenance.model_copy(update=changes)
    return Run(run.record.model_copy(update={"provenance": provenance}), run.ranks)


def test_a_date_that_has_not_come(board: Path) -> None:
    later = provenance_of(run_of(5, ranks=with_facts(200, 8)), started_at=datetime(9999, 1, 1, tzinfo=UTC))
    target = write(board, *later)
    render(board, "toys")
    assert verify(board)[0] == [f"{target}: it was started at 9999-01-01, which has not come yet"]


def test_what_a_code_card_says_of_its_making(board: Path) -> None:
    (target,) = board.glob("toys/codes/*.json")
    origin = card_of("tiger").provenance.model_dump(mode="json")
    lies = {"git_commit": "unknown", "started_at": "2999-01-01T00:00:00Z"}
    target.unlink()
    codes.write(board, card_of("tiger", provenance=origin | lies))
    (board / "toys.sha256").unlink()
    render(board, "toys")
    place = f"{board}: toys/codes/{target.stem}"
    assert verify(board)[0] == [f"{place}: it was started at 2999-01-01, which has not come yet"]
    (board / "protocol.toml").write_text('version = "v2"\nreleased = true\n')
    assert f"{place}: its commit is unknown; a row of a released board names the code that made it" in verify(board)[0]


def test_a_damaged_seed_is_not_called_missing(board: Path) -> None:
    (board / "protocol.toml").write_text('version = "v2"\nreleased = true\n')
    target = sorted(board.glob("toys/sasrec/*/seed-1.json"))[0]
    (target.parent / "seed-0.json").write_text("{")
    problems = verify(board)[0]
    assert any("seed-0.json" in problem for problem in problems)
    assert not any("has the seeds" in problem for problem in problems)


def test_ranks_of_another_training(board: Path) -> None:
    first = run_of(0, ranks=with_facts(200, 0))
    write(board, *run_of(6, ranks=first.ranks))
    render(board, "toys")
    (problem,) = verify(board)[0]
    assert "/seed-6 has the ranks of sasrec/" in problem
    assert "seed-0; a training has its own" in problem


@pytest.mark.parametrize(
    ("config", "weights", "said"),
    [
        ({"patience": 7}, "ab" * 32, 0),
        ({"tokenizer_epochs": 9, "valid_users": None}, "ab" * 32, 0),
        ({"rate": 1e-2}, "ab" * 32, 1),
        ({"patience": 7}, "cd" * 32, 1),
        ({"patience": 7}, None, 1),
    ],
)
def test_one_training_may_make_two_rows(tmp_path: Path, config: dict[str, Any], weights: str | None, said: int) -> None:
    """More patience may change nothing; a copy under another learning rate, or without its weights, is a copy."""
    one = run_of(0)
    stages = [dict(stage, weights_sha256="ab" * 32) for stage in one.record.model_dump(mode="json")["cost"]["stages"]]
    cost = one.record.model_dump(mode="json")["cost"]
    others = [dict(stage, weights_sha256=weights) for stage in stages]
    write(tmp_path, *run_of(0, cost=cost | {"stages": stages}))
    write(tmp_path, *run_of(0, config=one.record.config | config, cost=cost | {"stages": others}))
    problems = [problem for problem in verify(tmp_path)[0] if "has the ranks of" in problem]
    assert len(problems) == said


def test_what_a_released_board_asks_for(board: Path) -> None:
    unknown = write(board, *provenance_of(run_of(2, ranks=with_facts(200, 8)), git_commit="unknown"))
    render(board, "toys")
    assert verify(board)[0] == []
    assert "made outside a git checkout: commit unknown" in (board / "toys.md").read_text()
    (board / "protocol.toml").write_text('version = "v2"\nreleased = true\n')
    assert verify(board)[0] == [
        f"{unknown}: its commit is unknown; a row of a released board names the code that made it"
    ]
    (board / "protocol.toml").write_text('version = "v3"\nreleased = true\n')
    assert sum("protocol is v2; this board is that of v3" in problem for problem in verify(board)[0]) == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"corpus": {"users": 10**12}}, "are not those of users 0..999999999999 in order"),
        ({"corpus": {"items": 10**30}}, "does not fit the schema at corpus.items"),
        ({"cost": {"parameters": 10**400}}, "does not fit the schema at cost.parameters"),
        ({"cost": {"train_seconds": 1e308}}, "does not fit the schema at cost.train_seconds"),
        ({"diagnostics": {"beam20/free": {"recall@10": 1e308}}}, "does not fit the schema at diagnostics.beam20/free"),
        (
            {"diagnostics": {"beam20/free": None, "beam50/free": {"recall@10": 0.2}}},
            "has the diagnostics beam50/free recall@10; seed 0 has beam20/free invalid_share, beam20/free recall@10",
        ),
    ],
)
def test_a_hostile_record_is_told(board: Path, changes: dict[str, dict[str, Any]], said: str) -> None:
    """No count is so large, and no name so odd, that verify ends without a word on it."""
    target = sorted(board.glob("toys/sasrec/*/seed-1.json"))[0]
    content = json.loads(target.read_text())
    for part, values in changes.items():
        content[part] = {name: value for name, value in (content[part] | values).items() if value is not None}
    target.write_text(json.dumps(content))
    assert any(said in problem for problem in verify(board)[0])


def test_a_link_is_not_read(board: Path) -> None:
    """Behind one may be a file without an end."""
    ranks = sorted(board.glob("toys/sasrec/*/seed-1.ranks.parquet"))[0]
    ranks.unlink()
    ranks.symlink_to("/dev/zero")
    assert f"{ranks} is a link, or no regular file; evidence lies on the board itself" in verify(board)[0]


def test_rules_that_cannot_be_read(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content in (b"\xff\x00", b"released = true"):
        (board / "protocol.toml").write_bytes(content)
        assert main(["verify", "--board", str(board)]) == 2
        assert "protocol.toml does not tell a protocol: " in capsys.readouterr().err


def test_a_ledger_that_is_no_text(board: Path) -> None:
    ledger.path(board, "toys").write_bytes(b"\xff" * 80)
    assert any("toys.sha256 line 1 is '" in problem for problem in verify(board)[0])


def test_the_tenth_place_among_all_is_one_among_unseen_items() -> None:
    def run(rank: int, unseen: int) -> store.Run:
        ranks = ranks_of(200, 0)
        for name, value in (("rank", rank), ("rank_unseen", unseen)):
            values = ranks[name].to_numpy().copy()
            values[0] = value
            place = ranks.schema.get_field_index(name)
            ranks = ranks.set_column(place, ranks.schema.field(place), pa.array(values))
        return run_of(0, ranks)

    for rank, said in ((10, 1), (11, 0)):
        assert len(list(_of_seen_targets(Path("board"), [run(rank, 0), run(12, 9)], "rank"))) == said


def test_a_ledger_of_a_sweep_may_grow_and_not_vanish(tmp_path: Path) -> None:
    study = tmp_path / "toys.sweeps/s-1.json"
    study.parent.mkdir()
    study.write_text("{}")
    ledger.path(tmp_path, "toys").write_text(ledger.extended(tmp_path, "toys"))
    study.write_text("[]")
    ledger.path(tmp_path, "toys").write_text(ledger.extended(tmp_path, "toys"))
    study.unlink()
    with pytest.raises(ValueError, match=r"s-1.json has changed or vanished since toys.sha256 listed it"):
        ledger.extended(tmp_path, "toys")
