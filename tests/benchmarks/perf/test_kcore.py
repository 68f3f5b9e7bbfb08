"""The 5-core's pair: same result on both sides, each in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.device import peak_memory_bytes
from benchmarks.perf import kcore as kcore_module
from benchmarks.perf.kcore import BYTES_PER_GIB, Counts, Result, generate, kcore, main, ours, pandas

ROWS = 4_000


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Status, output and errors of the command on two stages that do not agree."""
    counts = {"generate": Counts(interactions=9), "ours": Counts(interactions=6), "pandas": Counts(interactions=7)}

    def child(stage: str, path: Path, rows: int) -> Result:
        path.touch()
        return Result(counts[stage], 1.0, 0.5)

    monkeypatch.setattr(kcore_module, "_child", child)
    monkeypatch.setattr(sys, "argv", ["kcore", "--rows", "9"])
    return main(), *capsys.readouterr()


def test_both_ways_find_the_same_core_and_it_is_neither_all_nor_nothing(tmp_path: Path) -> None:
    made = generate(tmp_path / "reviews.csv", ROWS)
    assert made == {"users": ROWS // 4, "items": ROWS // 40, "interactions": ROWS}
    found = ours(tmp_path / "reviews.csv")
    assert found == pandas(tmp_path / "reviews.csv")
    assert 0 < found["users"] < made["users"]
    assert 0 < found["interactions"] < ROWS


@pytest.mark.slow
def test_the_pair_is_in_seconds_with_memory_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    ballast = np.ones(1 << 26)
    (made,) = kcore(ROWS)
    assert peak_memory_bytes("cpu") > ballast.nbytes
    assert (made.name, made.unit) == ("kcore", "s")
    assert made.ratio == made.baseline / made.ours
    assert f"{ROWS:,} rows to " in made.note
    assert made.note.endswith("; measured once")
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    peaks = {words[0]: float(words[3]) for words in printed if words[0] in ("ours", "pandas") and words[1] != "/"}
    assert set(peaks) == {"ours", "pandas"}
    assert all(0 < peak * BYTES_PER_GIB < ballast.nbytes for peak in peaks.values())


def test_two_cores_that_differ_are_an_error_below_the_figures(run: tuple[int, str, str]) -> None:
    status, out, err = run
    assert status == 1
    assert [line.split()[:3] for line in out.splitlines()[1:3]] == [["ours", "1.0", "s"], ["pandas", "1.0", "s"]]
    assert err.startswith("error: the two 5-cores differ: ours {'interactions': 6}, pandas {'interactions': 7}")
