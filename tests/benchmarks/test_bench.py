"""The command line of the main job: what it prints, how it ends, what it leaves."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import data_prep
from benchmarks import experiments
from benchmarks.__main__ import EXAMPLES, _parser, main
from benchmarks.commands.next_steps import next_steps
from benchmarks.execution import cell as cell_module
from benchmarks.execution.cell import Cell
from benchmarks.execution.local import run_all
from benchmarks.experiments import complete
from benchmarks.settings import Bench
from data_prep.corpus import Corpus
from leaderboards.store import read, read_board

ROOT = Path(__file__).resolve().parents[2]
# On the embedded corpus a second or two.
QUICK = ("--models", "sasrec", "--set", "epochs=1", "width=8", "inner=8", "layers=1")


@pytest.fixture
def bench(tmp_path: Path, with_corpora: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`bench` in this process, with a board and a folder of trainings of the test's own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, board: str = "board") -> int:
        if not (work := tmp_path / f"{board}-work").exists():
            with_corpora(work)
        return main(["bench", "--board", str(tmp_path / board), "--work", str(work), *arguments])

    return call


@pytest.fixture(scope="module")
def used(
    workplace: Path, planted_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The command as a user runs it, and what holds the folders that it found."""
    folder = tmp_path_factory.mktemp("user")
    place, home, temporary, plots = (folder / name for name in ("place", "home", "tmp", "plots"))
    for each in (place / "runs", home, temporary, plots):
        each.mkdir(parents=True)
    shutil.copytree(workplace / "runs/corpora", place / "runs/corpora")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "XDG"))}
    given = {"HOME": str(home), "TMPDIR": str(temporary), "MPLCONFIGDIR": str(plots), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "benchmarks", "bench", "--models", "popularity", "--track", "offline"]
    command += ["--board", "runs/board", "--jobs", "1"]
    return folder, subprocess.run(command, cwd=place, env=kept | given, capture_output=True, text=True)


@pytest.mark.slow
def test_the_command_as_a_user_runs_it(
    used: tuple[Path, subprocess.CompletedProcess[str]], planted_corpus: Corpus
) -> None:
    folder, done = used
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == str(planted_corpus)
    head = next(number for number, line in enumerate(lines) if line.startswith("Experiment"))
    assert lines[head].split()[2:] == ["Recall@5", "NDCG@5", "Recall@10", "NDCG@10", "Seeds", "Seconds", "Certified"]
    assert lines[head + 2].startswith("ceiling")
    assert lines[head + 3].startswith("popularity")
    assert lines[head + 3].endswith("100%")
    assert (folder / "place/runs/board/planted.md").is_file()
    assert (folder / "place/runs/board/planted.csv").is_file()
    assert "has ended, 1 of 1" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_everything_lies_beneath_the_work_folder(used: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """What W&B writes, too."""
    folder, _ = used
    assert len(list(folder.glob("place/runs/wandb/offline-run-*/run-*.wandb"))) == 1
    assert [path.name for path in (folder / "place").iterdir()] == ["runs"]
    assert list((folder / "home").iterdir()) == []
    assert list((folder / "tmp").iterdir()) == []


def test_a_second_call_runs_nothing(
    bench: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert bench("--models", "popularity") == 0
    assert "records exist" not in capsys.readouterr().out
    monkeypatch.setattr(cell_module, "run_seed", None)
    assert bench("--models", "popularity") == 0
    said = capsys.readouterr().out
    assert f"1 of 1 records exist in {tmp_path / 'board' / 'planted'}" in said
    assert "\npopularity " in said


def test_only_what_is_missing_runs(
    bench: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bench("--models", "popularity")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "board/planted").rglob("seed-*")}
    assert bench("--models", "popularity", "--seeds", "2", "--jobs", "1") == 0
    assert "1 of 2 records exist" in capsys.readouterr().out
    after = {file: file.stat().st_mtime_ns for file in (tmp_path / "board/planted").rglob("seed-*")}
    assert before.items() < after.items()
    assert sorted(run.record.seed for run in read_board(tmp_path / "board", "planted")) == [0, 1]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("planted/sasrec/0123456789ab/seed-0.json", "", "seed-0.json does not fit the schema at the file as a whole"),
        ("planted/codes/tiger-0123456789ab-seed-0.json", "", "seed-0.json does not fit the schema at the file as a w"),
        ("planted.sha256", f"{'0' * 64}  planted/sasrec/0123456789ab/seed-0.json", "seed-0.json has changed or vanis"),
    ],
)
@pytest.mark.parametrize("command", ["bench", "codes", "plan"])
def test_a_board_that_cannot_be_rendered_is_told_before_training(
    command: str,
    name: str,
    content: str,
    said: str,
    with_corpora: Callable[[Path], Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    place = tmp_path / "board" / name
    place.parent.mkdir(parents=True)
    place.write_text(content)
    plan = tmp_path / "plan.toml"
    plan.write_text('corpus = "planted"\n[[rows]]\nexperiment = "popularity"\n')
    given = {"bench": ["--models", "popularity"], "codes": ["--models", "tiger"], "plan": [str(plan)]}[command]
    folders = ["--board", str(tmp_path / "board"), "--work", str(with_corpora(tmp_path / "work"))]
    assert main([command, *given, *folders]) == 2
    assert said in capsys.readouterr().err
    assert [file for file in (tmp_path / "board").rglob("*") if file.is_file()] == [place]
    assert not (tmp_path / "work/fits").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--models", "sasrek"], "no model or experiment 'sasrek'; did you mean 'sasrec'? possible: "),
        (["--models", "popularity", "--corpus", "plantd"], "'plantd'.*did you mean 'planted'"),
        (["--models", "sasrec", "--set", "widht=3"], "sasrec has no option 'widht'; did you mean 'width'? possible: "),
        (["--models", "sasrec", "--set", "loss=hinge"], "sasrec option loss is 'hinge': .*'bpr' or 'sampled'"),
        (["--models", "sasrec", "--set", "width"], "setting 'width' is not of the form key=value"),
        (["--models", "popularity", "--source", "hubb"], "no source 'hubb'; did you mean 'hub'?"),
        (["--models", "tiger", "--set", "vectors=tfidff"], "tiger option vectors is 'tfidff': .*'tfidf'"),
    ],
)
def test_a_mistake_is_one_sentence(
    bench: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], said: str
) -> None:
    assert bench(*arguments) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert re.search(said.replace("?", r"\?"), err), err
    assert "Traceback" not in out + err
    assert not (tmp_path / "board").exists()


@pytest.mark.parametrize("arguments", [["--seeds", "0"], ["--seeds", "many"], ["--jobs", "-1"], ["--modles", "tiger"]])
def test_an_option_that_cannot_be_ends_with_two(
    bench: Callable[..., int], capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        bench(*arguments)
    assert "error: " in capsys.readouterr().err


@pytest.mark.slow
def test_jobs_do_not_change_a_number(bench: Callable[..., int], tmp_path: Path) -> None:
    assert bench(*QUICK, "--seeds", "2", "--jobs", "1", board="one") == 0
    assert bench(*QUICK, "--seeds", "2", "--jobs", "2", board="two") == 0
    one, two = (read_board(tmp_path / board, "planted") for board in ("one", "two"))
    assert [run.record.seed for run in one] == [0, 1]
    assert [run.record.result() for run in one] == [run.record.result() for run in two]
    assert one[0].record.ranks_sha256 != one[1].record.ranks_sha256


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "settings", "what"),
    [
        # A step to an epoch: the first that sees what it did is who looks at its quality.
        ("sasrec", ("lr=1e30", "epochs=2", "width=8", "inner=8", "layers=1"), "quality"),
        ("sasrec", ("lr=1e30", "epochs=2", "width=8", "inner=8", "layers=1", "batch_size=20"), "loss"),
        ("tiger", ("lr=1e30", "warmup=1", "tokenizer_epochs=3", "tokenizer.codes=16", "batch_size=20"), "loss"),
        (
            "letter",
            ("temperature=1e-40", "collaborative=null", "tokenizer_epochs=1", "tokenizer.codes=16", "steps=4"),
            "loss",
        ),
    ],
)
def test_a_training_that_diverges_makes_no_row(
    loaded: Corpus,
    model: str,
    settings: tuple[str, ...],
    what: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--corpus", "all_beauty", "--jobs", "1", "--board", str(tmp_path / "board"), "--work", str(tmp_path)]
    assert main(["bench", "--models", model, *options, "--set", *settings]) == 1
    training = f"{model} seed 0: the training of {model} seed 0 recommender"
    said = rf"error: {training} has diverged: its {what} is (nan|inf) in epoch 1"
    assert re.search(said, capsys.readouterr().err)
    assert not list((tmp_path / "board").rglob("seed-*"))


# A tokenizer with two codes for 40 items.
COLLAPSED = ("tokenizer_epochs=1", "tokenizer.levels=1", "tokenizer.codes=2")


@pytest.mark.slow
def test_a_failing_cell_stops_no_other(
    loaded: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("models.sasrec.train", lambda *given: 1 / 0)
    setting = Bench(tmp_path / "board", tmp_path / "work")
    collapsed = complete("tiger", "all_beauty", COLLAPSED)
    broken = complete("sasrec", "all_beauty")
    fine = complete("popularity", "all_beauty")
    cells = [Cell(collapsed, 0), Cell(broken, 0), Cell(fine, 0)]
    assert run_all(setting, "all_beauty", "auto", cells, jobs=1) == cells[:2]
    assert [run.record.model for run in read_board(tmp_path / "board", "all_beauty")] == ["popularity"]
    err = capsys.readouterr().err
    assert re.search(r"error: tiger seed 0: \d+ items have equal codes, but the suffix .* tells only 2 apart", err)
    # What is no user's mistake needs its traceback.
    assert "error: sasrec seed 0: Traceback" in err


def test_a_model_whose_vectors_are_missing_stops_no_other(
    bench: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = ("--vectors-path", str(tmp_path / "none.npz"), "--jobs", "1")
    assert bench("--models", "tiger", "--set", "vectors=npz", *path) == 1
    assert re.search("error: tiger seed 0: .*none.npz", capsys.readouterr().err)
    assert bench("--models", "popularity", *path) == 2, "it is given for nothing"
    assert bench("--models", "popularity") == 0


@pytest.mark.slow
def test_a_failing_cell_is_told_at_the_end(
    bench: Callable[..., int], loaded: Corpus, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    failing = ("--corpus", "all_beauty", "--models", "tiger", "--set", *COLLAPSED)
    assert bench(*failing, "--jobs", "1") == 1
    assert not (tmp_path / "board").exists()
    assert bench("--corpus", "all_beauty", "--models", "popularity", "--jobs", "1") == 0
    capsys.readouterr()
    assert bench(*failing, "--jobs", "1") == 1
    assert "\npopularity " in capsys.readouterr().out, "what there is is printed all the same"


@pytest.mark.parametrize("command", EXAMPLES)
def test_the_example_of_each_help_can_be_typed(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _parser().parse_args(EXAMPLES[command].split()).call
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert " ".join(EXAMPLES[command].split()) in " ".join(capsys.readouterr().out.split())


def test_what_is_made_is_named_and_what_goes_on_from_it(
    bench: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The commands are those of the Makefile, to be pasted as they are."""
    assert bench("--models", "popularity", "item_knn", "--jobs", "1") == 0
    said = capsys.readouterr().out
    board, work = tmp_path / "board", tmp_path / "board-work"
    records = sorted(board.glob("planted/*/*/seed-0.json"))
    assert len(records) == 2
    assert all(f"\n  {record}\n" in said for record in records)
    best = max(records, key=lambda path: read(path).test["ndcg@10"])
    assert read(best).experiment == "popularity"
    assert said.rstrip().splitlines()[-3:] == [
        f"  make board CORPUS=planted BOARD={board}",
        f"  make verify BOARD={board}",
        f"  make export ROW={best} DIR={work}/export/popularity ARGS='--work {work}'",
    ]
    assert bench("--models", "popularity", "item_knn") == 0
    assert "make export" not in capsys.readouterr().out, "nothing new was made"
    # make's ARGS are parted at every space, whatever stands around it.
    apart = next_steps(Bench(board, tmp_path / "my work"), [best]).splitlines()[-1]
    folder = ["--work", f"{tmp_path}/my work"]
    export = ["export", str(best), f"{tmp_path}/my work/export/popularity", *folder]
    assert shlex.split(apart) == [".venv/bin/python", "-m", "grbench", *export]
    vectors = next_steps(Bench(board, work, tmp_path / "vectors.npz"), [best]).splitlines()[-1]
    told = f"DIR={work}/export/popularity VECTORS={tmp_path}/vectors.npz ARGS='--work {work}'"
    assert vectors == f"  make export ROW={best} {told}"


@pytest.mark.parametrize("command", ["analyse ladder --seed", "sweep --model sasrec --seed", "regress --first-seed"])
@pytest.mark.parametrize("number", ["-1", "1.5", "one"])
def test_a_seed_is_a_whole_number(command: str, number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*command.split(), number])
    assert f"{number!r} is not a whole number from 0" in capsys.readouterr().err


def test_every_board_that_cells_are_on_is_printed_and_rendered(
    bench: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path, planted_corpus: Corpus
) -> None:
    both = ("popularity", "popularity-unseen-users")
    assert bench("--models", *both, "--jobs", "1") == 0
    said = capsys.readouterr().out
    boards = [tmp_path / "board" / name for name in ("planted", "planted_unseen_users")]
    for folder, name, users in zip(boards, both, (1, 0.05), strict=True):
        (found,) = read_board(tmp_path / "board", folder.name)
        assert found.record.experiment == name
        assert found.record.corpus.users == round(users * planted_corpus.users)
        assert found.record.corpus.ceiling is not None
        assert f"\nrendered: {folder}.md {folder}.csv" in said
        assert f"| {name} " in folder.with_suffix(".md").read_text()
    tables = said.split("\nplanted_unseen_users\n")
    assert ["popularity-unseen-users" in table for table in tables] == [False, True]
    assert bench("--models", *both) == 0
    assert f"2 of 2 records exist in {boards[0]} {boards[1]}" in capsys.readouterr().out


def test_unseen_users_alone_leave_the_other_board_alone(bench: Callable[..., int], tmp_path: Path) -> None:
    assert bench("--models", "popularity-unseen-users", "--jobs", "1") == 0
    assert sorted(path.name for path in (tmp_path / "board").iterdir()) == [
        "planted_unseen_users", "planted_unseen_users.csv", "planted_unseen_users.md",
        "planted_unseen_users.sha256", "planted_unseen_users.tex",
    ]  # fmt: skip


@pytest.mark.slow
def test_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 140
    rows = [line.split() for line in lines]
    assert set(experiments.names()) <= {row[0] for row in rows if row}
    words = re.findall(r"\w+", " ".join(lines).rpartition("Corpora:")[2])
    assert set(data_prep.names()) <= set(words)
    assert [line for line in lines if "-unseen-users" in line] == [
        "Any name may end in -unseen-users: graded on users that the model never saw."
    ]


@pytest.mark.slow
def test_list_has_what_is_changed_and_what_papers_state(capsys: pytest.CaptureFixture[str]) -> None:
    main(["list"])
    first_table, *others = capsys.readouterr().out.split("\n\n")
    rows = [line.split() for line in first_table.splitlines()]
    by_name = {row[0]: (number, row[1:]) for number, row in enumerate(rows)}
    joint = ["etegrec", "training=joint", "ETEGRec", "(SIGIR)", "0.0337", "0.0529", "0.0215", "0.0277"]
    assert by_name["etegrec-joint"][1] == joint
    assert by_name["letter-no-cf"][1] == ["letter", "collaborative=null"]
    assert by_name["popularity"][1] == ["popularity"]
    # Papers that state the same share a line, those that do not have one each.
    papers = ["DECOR", "(arXiv),", "ETEGRec", "(SIGIR)"]
    assert by_name["tiger"][1] == ["tiger", *papers, "0.0368", "0.0574", "0.0242", "0.0308"]
    number, first = by_name["etegrec"]
    assert first == ["etegrec", "DECOR", "(arXiv)", "0.0387", "0.0609", "0.0251", "0.0323"]
    assert rows[number + 1] == ["ETEGRec", "(SIGIR)", "0.0402", "0.0624", "0.0260", "0.0331"]
    on_beauty = [line.split() for line in others[0].splitlines()]
    assert on_beauty[0][:4] == ["Experiment", "Papers", "on", "beauty_2014"]
    assert ["pit", "PIT", "(arXiv)", "0.0479", "0.0783", "0.0305", "0.0403"] in on_beauty
