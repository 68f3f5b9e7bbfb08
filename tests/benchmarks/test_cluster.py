"""Ray places the cells: a machine dies in the middle, and every cell still has its one record, with its numbers."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import provenance
from benchmarks.__main__ import main
from benchmarks.execution import ray_cluster as cluster_module
from benchmarks.execution.cell import Cell
from benchmarks.execution.local import run_all
from benchmarks.execution.ray_cluster import cells_in_cluster, tasks
from benchmarks.experiments import complete
from benchmarks.hardware import Hardware
from benchmarks.settings import Bench
from data_prep.corpus import Corpus
from leaderboards.store import Run, read_board
from leaderboards.verify import verify

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("saved_as_usual")]

# Ray's switch for machines whose address nobody may reach, read where it is imported: all stays on loopback.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
ray = pytest.importorskip("ray", reason="the package ray is not installed")

SASREC = ("epochs=4", "width=16", "inner=16", "layers=1", "batch_size=256")
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    # A worker that starts slowly on a busy machine is not given up.
    "RAY_worker_register_timeout_seconds": "600",
}
SMALL = {"object_store_memory": 80 << 20, "include_dashboard": False, "node_ip_address": "127.0.0.1"}


@pytest.fixture(autouse=True)
def _in_the_workplace(workplace: Path, planted_corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)


@pytest.fixture(scope="module")
def machines() -> Iterator[Any]:
    """Two simulated machines with a core each, and a head that takes no work; all on loopback."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        made: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **SMALL})
        try:
            made.nodes = [made.add_node(num_cpus=1, **SMALL) for _ in range(2)]
            made.wait_for_nodes()
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


def cells(seeds: int) -> list[Cell]:
    return [Cell(complete("sasrec", "planted", SASREC), seed) for seed in range(seeds)]


def ranks(runs: list[Run]) -> dict[int, str]:
    return {run.record.seed: run.record.ranks_sha256 for run in runs}


def test_a_machine_dies_in_the_middle(machines: Any, tmp_path: Path, with_corpora: Callable[[Path], Path]) -> None:
    places = [tmp_path / name for name in ("alone", "ray")]
    alone, setting = (Bench(place / "board", with_corpora(place / "work")) for place in places)
    assert run_all(alone, "planted", "auto", cells(3), jobs=1) == []
    ended = cells_in_cluster(machines.address, setting, "planted", "auto", cells(3))
    first, error = next(ended)
    assert error is None
    # The others are being trained, or wait: one machine goes with all that runs on it.
    machines.remove_node(machines.nodes.pop(), allow_graceful=False)
    rest = list(ended)
    assert [error for _, error in rest] == [None] * 2
    assert {first, *(cell for cell, _ in rest)} == set(cells(3)), "each cell once"
    found = read_board(setting.board, "planted")
    assert ranks(found) == ranks(read_board(alone.board, "planted"))
    assert verify(setting.board, "sasrec/")[1] == 3
    left = [path for path in tmp_path.rglob(".*") if path.is_file() and "lock" not in path.name]
    assert left == [], "nothing half-written"

    machines.nodes.append(machines.add_node(num_cpus=1, **SMALL))
    began = {path: path.stat().st_mtime_ns for path in setting.board.rglob("seed-*.json")}
    assert run_all(setting, "planted", "auto", cells(3), 1, machines.address) == []
    assert {path: path.stat().st_mtime_ns for path in setting.board.rglob("seed-*.json")} == began


def test_users_errors_are_told_and_not_retried(
    machines: Any,
    tmp_path: Path,
    with_corpora: Callable[[Path], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    setting = Bench(tmp_path / "board", with_corpora(tmp_path / "work"))
    wrong = Cell(complete("tiger", "planted", ["vectors=npz"]), 0)
    popularity = Cell(complete("popularity", "planted"), 0)
    assert run_all(setting, "planted", "auto", [wrong, popularity], 1, machines.address) == [wrong]
    said = capsys.readouterr().err
    assert said.count("error: tiger seed 0: ") == 1
    assert "Traceback" not in said
    assert [run.record.model for run in read_board(setting.board, "planted")] == ["popularity"]

    # A machine that does not see the board sends the record back.
    touch = Path.touch
    monkeypatch.setattr(
        Path, "touch", lambda path, **how: None if path.name.startswith(".seen") else touch(path, **how)
    )
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    apart = Bench(tmp_path / "apart/board", tmp_path / "apart/work")
    ((cell, error),) = cells_in_cluster(machines.address, apart, "planted", "auto", [popularity])
    assert (cell, error) == (popularity, None)
    (one,), (other,) = (read_board(place.board, "planted") for place in (apart, setting))
    assert ranks([one]) == ranks([other])
    # The command is the one that was typed, not Ray's own with its addresses.
    assert one.record.provenance.command == other.record.provenance.command == provenance.command(sys.argv)


def test_a_machine_apart_gives_no_earlier_benchs_record(
    tmp_path: Path, with_corpora: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(with_corpora(tmp_path / "place" / "runs").parent)
    setting, popularity = Bench(tmp_path / "board", tmp_path / "work"), Cell(complete("popularity", "planted"), 0)
    made = []
    for _ in range(2):
        found = cluster_module._cell(setting, "planted", "auto", popularity, [tmp_path / "none"])
        assert found is not None
        made.append(found)
    (first, ranked), (second, again) = made
    assert ranked.equals(again)
    assert first != second, "each has its own times"
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["runs"]
    here, there = tmp_path / "here", tmp_path / "there"
    here.touch()
    assert cluster_module._cell(setting, "planted", "auto", popularity, [here, there]) is not None, "it sees one alone"
    assert not setting.board.exists()


def dies_once(marks: Path, number: int) -> int:
    """The first process to come here is killed."""
    mark = marks / str(number)
    if number == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), 9)
    mark.touch()
    time.sleep(0.01)
    return number * number


def test_a_call_whose_worker_is_killed_is_made_again(machines: Any, tmp_path: Path) -> None:
    calls = {number: (tmp_path, number) for number in range(3)}
    found = dict(tasks(machines.address, dies_once, calls, Hardware()))
    assert {number: outcome.value for number, outcome in found.items()} == {0: 0, 1: 1, 2: 4}


def test_a_task_sends_its_runs_where_this_process_would() -> None:
    assert {"WANDB_MODE", "WANDB_PROJECT"} <= {*cluster_module.PASSED_ON}


def test_without_ray_or_a_cluster(
    tmp_path: Path,
    with_corpora: Callable[[Path], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    work = with_corpora(tmp_path / "w")
    options = ("bench", "--models", "popularity", "--board", str(tmp_path / "b"), "--work", str(work))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ray", None)
        assert main([*options, "--cluster", "auto"]) == 2
    assert capsys.readouterr().err.strip().endswith(cluster_module.MISSING)
    assert main(["sweep", "--model", "sasrec", "--corpus", "planted", "--cluster", "auto"]) == 2
    assert "--cluster is given without --storage" in capsys.readouterr().err
