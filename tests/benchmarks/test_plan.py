"""Plans: read with care, carried out in order, told from another process, killed and gone on with."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.__main__ import main
from benchmarks.execution import board_plan as plans
from benchmarks.execution.board_plan import Planned, carry_out, load, results, standing, states
from benchmarks.execution.cell_progress import OutOfTimeError, Place, Progress, in_time
from benchmarks.experiments import complete
from benchmarks.hardware import Hardware
from benchmarks.settings import Bench
from data_prep.corpus import Corpus
from leaderboards.record import STAND_IN
from leaderboards.store import read_board
from leaderboards.verify import verify
from tests import scripts
from tests.crash_test import PLACES, Job, start

ROOT = Path(__file__).resolve().parents[2]
SASREC = 'settings = ["epochs=3", "width=8", "inner=8", "layers=1", "batch_size=16"]'
PLAN = f"""
corpus = "all_beauty"

[[rows]]
experiment = "popularity"
aim = {{ "recall@10" = 0.9, "ndcg@10_unseen" = 0.0, of = "nobody" }}

[[rows]]
experiment = "sasrec"
seeds = 2
{SASREC}
"""


def planned(folder: Path, text: str = PLAN, until: float | None = None) -> list[Planned]:
    file = folder / "plan.toml"
    file.write_text(text)
    return load(file, lambda corpus, precision: Bench(folder / "board", folder / "work", until=until), "auto")


def test_a_plan_is_carried_out_once(loaded: Corpus, tmp_path: Path) -> None:
    rows = planned(tmp_path)
    assert [standing(row, seed).state for row in rows for seed in row.seeds] == ["to do"] * 3
    assert carry_out(rows, "auto", jobs=1) == []
    runs = read_board(tmp_path / "board", "all_beauty")
    assert sorted((run.record.experiment, run.record.seed) for run in runs) == [
        ("popularity", 0),
        ("sasrec", 0),
        ("sasrec", 1),
    ]
    assert [standing(row, seed).state for row in rows for seed in row.seeds] == ["done"] * 3
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "board").rglob("*.json")}
    assert carry_out(rows, "auto", jobs=1) == []
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "board").rglob("*.json")}
    start = time.perf_counter()
    assert "done" in states(rows)
    assert time.perf_counter() - start < 1
    assert not list((tmp_path / "work" / "cells").glob("*.json")), "nothing is told of what is done"


def test_results_stand_beside_what_they_aim_at(loaded: Corpus, tmp_path: Path) -> None:
    rows = planned(tmp_path)
    assert results(rows).splitlines()[2].split() == [
        "all_beauty",
        "popularity",
        "0",
        "of",
        "1",
        "recall@10",
        "0.9000",
        "nobody",
    ]
    carry_out(rows[:1], "auto", jobs=1)
    (run,) = read_board(tmp_path / "board", "all_beauty")
    recall, ndcg, sasrec = results(rows).splitlines()[2:]
    assert f"sasrec, {' '.join(rows[1].row.experiment.overrides)}" in sasrec
    assert all(line in states(rows) for line in (rows[0].title, rows[1].title))
    assert f"{run.record.test['recall@10']:.4f}" in recall
    assert "below" in recall
    assert f"{run.record.test['ndcg@10_unseen']:.4f}" in ndcg
    assert "above" in ndcg
    assert "0 of 2" in sasrec


@pytest.mark.parametrize("note", ["small sizes", f"{STAND_IN} TF-IDF + SVD", "reconstruction: by us"])
def test_what_no_paper_is_compared_with_reproduces_none(loaded: Corpus, tmp_path: Path, note: str) -> None:
    rows = planned(tmp_path)
    carry_out(rows[:1], "auto", jobs=1)
    (file,) = rows[0].finished()
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {"notes": [note]}))
    assert f"not comparable: {note.partition(':')[0]}" in results(rows).splitlines()[2]


def test_a_row_may_have_a_precision_of_its_own(loaded: Corpus, tmp_path: Path) -> None:
    text = f"""
corpus = "all_beauty"
[[rows]]
experiment = "sasrec"
{SASREC}
[[rows]]
experiment = "sasrec"
precision = "bf16"
{SASREC}
"""
    (tmp_path / "plan.toml").write_text(text)

    def bench(name: str, precision: str | None) -> Bench:
        hardware = Hardware("cpu", precision="bf16-mixed" if precision == "bf16" else "32-true")
        return Bench(tmp_path / "board", tmp_path / "work", hardware=hardware)

    rows = load(tmp_path / "plan.toml", bench, "auto")
    assert carry_out(rows, "auto", jobs=1) == []
    found = {run.record.key: run.record.precision for run in read_board(tmp_path / "board", "all_beauty")}
    assert sorted(str(precision) for precision in found.values()) == ["32", "bf16"]
    assert states(rows).count("done") == 2


def test_after_its_hours_it_stops_and_goes_on_later(
    loaded: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = time.time()
    rows = planned(tmp_path, until=now - 1)
    assert carry_out(rows, "auto", jobs=1) == []
    assert "3 runs are left" in capsys.readouterr().err
    assert not list((tmp_path / "board").rglob("*.json"))
    with pytest.raises(OutOfTimeError, match="its hours are over"):
        in_time(now)
    in_time(now + 100)
    in_time(None)
    assert carry_out(planned(tmp_path), "auto", jobs=1) == []


def test_a_training_that_stops_tells_how_far_it_is(
    loaded: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = planned(tmp_path)
    looks: list[float | None] = []

    def second_look(until: float | None) -> None:
        looks.append(until)
        if len(looks) == 2:
            raise OutOfTimeError("its hours are over")

    monkeypatch.setattr("benchmarks.execution.cell_progress.in_time", second_look)
    assert carry_out(rows[1:], "auto", jobs=1) == []
    (begun, done) = [standing(rows[1], seed) for seed in rows[1].seeds]
    assert (begun.state, done.state) == ("begun", "done")
    assert begun.says.startswith("recommender, 2 of 3 epochs, at most 0.00 h more")


def test_a_cell_at_work_is_told_from_one_left_behind(loaded: Corpus, tmp_path: Path) -> None:
    (row, _) = planned(tmp_path)
    place = row.row.place(0)
    place.file.parent.mkdir(parents=True)
    place.file.write_text('{"stage": "s", "epochs": 5, "of": 20, "seconds": 10.0}')
    assert place.read() == Progress("s", 5, 20, 10.0)
    assert standing(row, 0) == ("begun", "s, 5 of 20 epochs, at most 0.01 h more of this stage")
    lock = f"{place.lock}-0"
    with subprocess.Popen(scripts.command("held_lock", lock), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert standing(row, 0).state == "running"
        holder.kill()
    assert standing(row, 0).state == "begun"
    place.file.write_text("{")
    assert place.read() is None
    assert Place(tmp_path / "none").read() is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows = [", "is no TOML"),
        (
            'corpus = "c"\n[[rows]]\nexperiment = "sasrec"\nsettings = ["lr=1", "lr=2"]',
            "lr is set 2 times; expected one",
        ),
        ("rows = []", "has no rows"),
        ('[[rows]]\nexperiment = "sasrec"', r"row 1 \(sasrec\): no corpus"),
        ('corpus = "c"\n[[rows]]\nexperiment = "nothing"', r"row 1 \(nothing\): .*nothing"),
        ('corpus = "c"\n[[rows]]\nexperiment = "sasrec"\nsettings = ["lr=x"]', r"row 1 \(sasrec\): .*lr"),
        (
            'corpus = "c"\n[[rows]]\nexperiment = "sasrec"\nseeds = 0',
            r"rows.1.seeds is 0: .*greater than or equal to 1",
        ),
        ('corpus = "c"\n[[rows]]\nexperiment = "sasrec"\nseeds = true', "rows.1.seeds is True: .* valid integer"),
        ('corpus = "c"\n[[rows]]\nexperiment = "sasrec"\nseeds = "3"', "rows.1.seeds is '3': .* valid integer"),
        ('corpus = "c"\n[[rows]]\nexperiment = "sasrec"\nseeds = 2.0', "rows.1.seeds is 2.0: .* valid integer"),
        ("[[rows]]\nseeds = 2", "rows.1.experiment: Field required"),
        (
            'corpus = "c"\n[[rows]]\nexperiment = "sasrec"\nseed = 1',
            "rows.1.seed is no key of a plan; did you mean 'seeds'\\? possible: experiment, corpus, seeds, settings, ",
        ),
        ('corpora = "c"\nrows = []', "corpora is no key of a plan; did you mean 'corpus'\\? possible: rows, corpus$"),
        ('corpus = "c"\n[[rows]]\nexperiment = "sasrec"\naim = { "mrr" = 0.1 }', "aim names 'mrr'; possible: recall@5"),
        (
            'corpus = "c"\n[[rows]]\nexperiment = "sasrec"\naim = { "ndcg@10" = "0.1" }',
            r"row 1 \(sasrec\): aim ndcg@10 is '0.1'; expected a number from 0 to 1",
        ),
        ('corpus = "c"\n[[rows]]\nexperiment = "sasrec"\naim = { "ndcg@10" = nan }', "aim ndcg@10 is nan; expected"),
        ('corpus = "c"\n[[rows]]\nexperiment = "sasrec"\naim = { "ndcg@10" = 5.0 }', "aim ndcg@10 is 5.0; expected"),
        (
            'corpus = "c"\n[[rows]]\nexperiment = "sasrec"\naim = { "ndcg@10" = true }',
            r"row 1 \(sasrec\): aim ndcg@10 is True; expected a number from 0 to 1",
        ),
        ('corpus = "c"\n[[rows]]\nexperiment = "sasrec"\naim = { of = 1.0 }', "aim of is 1.0; expected a string"),
        (
            'corpus = "mine/tiny.csv"\n[[rows]]\nexperiment = "sasrec"',
            r"row 1 \(sasrec\): corpus 'mine/tiny.csv' is a file of your own, and a plan is of named corpora; ",
        ),
        ('corpus = "c"\n[[rows]]\nexperiment = "tiger"\nsettings = ["vectors=npz"]', r"row 1 \(tiger\): .*npz"),
    ],
)
def test_a_plan_that_cannot_be_is_told(loaded: Corpus, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        planned(tmp_path, text)
    assert "plan.toml" in str(error.value)


def test_a_row_stands_once(loaded: Corpus, tmp_path: Path) -> None:
    """However its settings are written; another precision or another setting is another row."""
    row = '[[rows]]\nexperiment = "sasrec"\nsettings = '
    several = f'corpus = "all_beauty"\n{row}["width=8"]\n{row}["width=16"]\n{row}["width=8", "epochs=3"]\n'
    assert len(planned(tmp_path, several)) == 3
    again = f'{several}{row}["epochs=3", "width=8"]\nseeds = 3\n'
    with pytest.raises(ValueError, match=r"plan.toml, row 4 \(sasrec\): it is row 3 again; expected a row once, with"):
        planned(tmp_path, again)


def test_whole_numbers_can_be_aimed_at(loaded: Corpus, tmp_path: Path) -> None:
    text = 'corpus = "c"\n[[rows]]\nexperiment = "popularity"\naim = { "recall@10" = 1, "ndcg@10" = 0 }'
    assert planned(tmp_path, text)[0].wanted.aim == {"recall@10": 1.0, "ndcg@10": 0.0}


def test_a_plan_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place, said in ((tmp_path, "is a folder"), (tmp_path / "none.toml", "is missing")):
        assert main(["plan", str(place)]) == 2
        assert capsys.readouterr().err == f"error: {place} {said}; expected a plan in TOML\n"


def test_a_plan_in_another_encoding_is_told(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_bytes(b'corpus = "\xff"')
    with pytest.raises(ValueError, match=r"plan.toml is no TOML: 'utf-8' codec"):
        plans._parsed(tmp_path / "plan.toml")


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks/plans").glob("*.toml")), ids=lambda file: file.stem)
def test_the_committed_plans_are_sound(file: Path, loaded: Corpus, tmp_path: Path) -> None:
    """Of experiments that exist; item vectors and codes come with the machine."""
    for wanted in plans._parsed(file).rows:
        complete(wanted.experiment, "beauty_2014", wanted.settings, tuned=False)
        assert set(wanted.aim) <= {*plans.METRICS, "of"}


def test_a_full_disk_is_told_before_anything_is_trained(
    loaded: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=3 << 29))
    work = tmp_path / "not" / "there"
    plans.check_space(work, jobs=1)
    command = ["plan", str(tmp_path / "plan.toml"), "--board", str(tmp_path / "board"), "--work", str(work)]
    assert main([*command, "--jobs", "2"]) == 2
    assert f"{work} has 1.5 GiB of free space; expected at least 2 GiB for 2 trainings" in capsys.readouterr().err
    assert not work.exists()


@pytest.mark.slow
def test_a_killed_plan_ends_as_an_undisturbed_one(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRBENCH_DATA", str(tiny_data))
    (tmp_path / "plan.toml").write_text(PLAN.replace("epochs=3", "epochs=20"))
    command = ("plan", str(tmp_path / "plan.toml"), "--source", "local", *PLACES)
    job, draw = Job("plan", command, (), 0, lambda folder: "", lambda one, other: iter(())), random.Random(0)

    def ended(name: str, kill: bool = False) -> int:
        """How a start of the plan ends in a folder, left alone or killed at a random moment."""
        process = start(job, tmp_path / name, fresh=False)
        if kill:
            time.sleep(draw.uniform(0, seconds / 4))
            os.kill(process, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

    began = time.perf_counter()
    assert ended("calm") == 0
    seconds = time.perf_counter() - began
    killed = [ended("killed", kill=True) for _ in range(6)]
    assert ended("killed") == 0
    assert killed.count(-signal.SIGKILL) > 2
    assert made(tmp_path / "killed") == made(tmp_path / "calm")
    assert len(made(tmp_path / "calm")) == 3


def made(folder: Path) -> list[tuple[str, int, str]]:
    records = [run.record for run in read_board(folder / "board", "all_beauty")]
    return [(record.experiment, record.seed, record.ranks_sha256) for record in records]


def test_the_command_says_how_far_it_is(loaded: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    places = ["--board", str(tmp_path / "board"), "--work", str(tmp_path / "work")]
    assert main(["plan", str(tmp_path / "plan.toml"), "--state", *places]) == 0
    assert capsys.readouterr().out.count("to do") == 3
    assert main(["plan", str(tmp_path / "plan.toml"), "--hours", "0.000001", *places]) == 0
    said = capsys.readouterr()
    assert "the hours are over: 3 runs are left" in said.err
    assert "rendered" not in said.out
    assert main(["plan", str(tmp_path / "plan.toml"), *places]) == 0
    assert f"rendered: {tmp_path / 'board/all_beauty.md'}" in capsys.readouterr().out
    assert verify(tmp_path / "board") == ([], 3)


def test_what_is_left_of_a_stage_by_hand() -> None:
    """Two of ten epochs took six seconds."""
    assert Progress("recommender", 2, 10, 6.0).left == 24.0


def test_a_cell_may_take_as_long_as_other_seeds_on_average(
    loaded: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, hours = planned(tmp_path)[1], {Path("one"): 1, Path("two"): 2}
    monkeypatch.setattr(Planned, "finished", lambda self: list(hours))
    monkeypatch.setattr(
        plans, "read", lambda path: SimpleNamespace(cost=SimpleNamespace(train_seconds=3600 * hours[path]))
    )
    assert standing(row, 0) == ("to do", "about 1.50 h, as other seeds")
