"""Pairs: which side is better by how much, in what order they run, what is printed and kept."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from benchmarks import perf
from benchmarks.__main__ import main
from benchmarks.commands.check_commands import LATEST
from benchmarks.perf import PAIRS, Pair, Turns, in_turn, pair, seconds

ROOT = Path(__file__).resolve().parents[3]
FAST = Pair("fast", 30.0, 10.0, 3.0, "users/s", "a slow one")
SLOW = Pair("slow", 8.0, 2.0, 0.25, "s", "a quick one")


def disagree() -> list[Pair]:
    raise ValueError("recall@5 is 0.5, by the baseline 0.4")


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What torch was told, in place of telling it: other tests rely on one thread."""
    told: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    return told


@pytest.fixture
def _measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, threads: list[int]) -> None:
    """Pairs that need no time, in a folder of the test's own, on a machine without a GPU."""
    module = ModuleType("benchmarks.perf.fake")
    functions: dict[str, Callable[[], list[Pair]]] = {
        "fast": lambda: [FAST],
        "both": lambda: [FAST, SLOW],
        "disagree": disagree,
        "rank_cuda": lambda: [SLOW],
    }
    vars(module).update(functions)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(perf, "PAIRS", dict.fromkeys(functions, "fake"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)


def kept() -> list[dict[str, object]]:
    found = json.loads(LATEST.read_text())
    assert isinstance(found, list)
    return found


def test_each_side_begins_every_other_turn() -> None:
    order: list[str] = []

    def side(name: str) -> Callable[[], float]:
        def measure() -> float:
            order.append(name)
            return float(len(order))

        return measure

    assert in_turn(side("ours"), side("baseline"), 3) == Turns([1.0, 4.0, 5.0], [2.0, 3.0, 6.0])
    assert order == ["ours", "baseline", "baseline", "ours", "ours", "baseline"]


def test_a_rate_is_better_the_larger_it_is() -> None:
    made = pair("rank", Turns([90.0, 100.0, 500.0], [20.0, 30.0, 10.0]), "users/s", "a loop")
    note = "a loop; median of 3 (ours 90..500, baseline 10..30)"
    assert made == Pair("rank", 100.0, 20.0, 5.0, "users/s", note)


@pytest.mark.parametrize("unit", ["s", "GiB"])
def test_seconds_and_sizes_are_better_the_smaller_they_are(unit: str) -> None:
    made = pair("prepare", Turns([2.0], [6.0]), unit, "pandas")
    assert made == Pair("prepare", 2.0, 6.0, 3.0, unit, "pandas; measured once")


def test_seconds_are_those_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [10.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    assert seconds(lambda: clock.__setitem__(0, 12.5)) == 2.5


@pytest.mark.usefixtures("_measured")
def test_a_run_prints_its_pairs_and_keeps_them(capsys: pytest.CaptureFixture[str], threads: list[int]) -> None:
    assert main(["perf", "--only", "both"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"torch {torch.__version__}" in lines[0]
    assert lines[1] == "measuring both"
    rows = [line.split() for line in lines[2:]]
    assert ["name", "ours", "baseline", "ratio", "unit", "note"] in rows
    assert ["fast", "30", "10", "x3", "users/s", "a", "slow", "one"] in rows
    assert ["slow", "8", "2", "x0.25", "s", "a", "quick", "one"] in rows
    assert kept() == [
        {"name": "fast", "ours": 30.0, "baseline": 10.0, "ratio": 3.0, "unit": "users/s", "note": "a slow one"},
        {"name": "slow", "ours": 8.0, "baseline": 2.0, "ratio": 0.25, "unit": "s", "note": "a quick one"},
    ]
    assert threads == [len(os.sched_getaffinity(0))]


@pytest.mark.usefixtures("_measured")
def test_the_file_holds_what_the_last_run_measured_and_nothing_lies_beside_it() -> None:
    assert main(["perf", "--only", "both"]) == 0
    assert main(["perf", "--only", "fast"]) == 0
    assert [entry["name"] for entry in kept()] == ["fast"]
    assert list(LATEST.parent.iterdir()) == [LATEST]


@pytest.mark.usefixtures("_measured")
def test_sides_that_disagree_end_the_run_and_what_was_measured_before_stays(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["perf", "--only", "both", "disagree", "fast"]) == 2
    assert capsys.readouterr().err == "error: recall@5 is 0.5, by the baseline 0.4\n"
    assert [entry["name"] for entry in kept()] == ["fast", "slow"]


@pytest.mark.usefixtures("_measured")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fats", "error: no pair 'fats'; possible: fast, both, disagree, rank_cuda\n"),
        ("rank_cuda", "error: rank_cuda needs a GPU and torch finds none; without one: fast, both, disagree\n"),
    ],
)
def test_a_name_that_cannot_be_measured_is_one_sentence(
    capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    assert main(["perf", "--only", "fast", name]) == 2
    assert capsys.readouterr() == ("", said)
    assert not LATEST.exists()


def test_item_vectors_without_a_row_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["perf", "--only", "grade", "--vectors-path", "encoder"]) == 2
    said = "error: --vectors-path is given without --row; only a row's model was given item vectors\n"
    assert capsys.readouterr() == ("", said)


@pytest.mark.usefixtures("_measured")
def test_without_a_gpu_its_pairs_are_left_out_aloud(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(perf.PAIRS, "disagree")
    assert main(["perf"]) == 0
    assert "left out, since torch finds no GPU: rank_cuda\n" in capsys.readouterr().out
    assert [entry["name"] for entry in kept()] == ["fast", "fast", "slow"]


@pytest.mark.usefixtures("_measured")
def test_with_a_gpu_all_are_measured_and_it_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    assert main(["perf", "--only", "fast", "rank_cuda"]) == 0
    assert "Some GPU" in capsys.readouterr().out.splitlines()[0]
    assert [entry["name"] for entry in kept()] == ["fast", "slow"]


@pytest.mark.parametrize("name", PAIRS)
def test_every_name_is_a_function_of_its_module(name: str) -> None:
    assert callable(getattr(importlib.import_module(f"benchmarks.perf.{PAIRS[name]}"), name))


@pytest.mark.parametrize(
    "script", ["import benchmarks.__main__ as command; command.main(['--help'])", "import benchmarks.perf.kcore"]
)
def test_help_and_kcore_do_without_torch(script: str) -> None:
    """torch would make help slow, and would count as memory of kcore's stages."""
    command = [sys.executable, "-c", f"import sys; sys.modules['torch'] = None; {script}"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
