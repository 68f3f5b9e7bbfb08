"""Kills at random moments: a short torture on a corpus of sixty users, and what a torture must notice."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import crash_test as torture
from tests import scripts
from tests.crash_test import main

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
KILLS = 8


@pytest.fixture
def tortured(tiny_data: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        # In a process of its own: this one has threads, which its copies would not have.
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "GRBENCH_DATA": str(tiny_data)}
        command = scripts.command("short_torture", "--work", tmp_path / "work", *arguments)
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)

    return call


def test_a_short_torture_loses_nothing_and_damage_would_be_seen(
    tortured: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = tortured("--kills", str(KILLS), "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {name: int(kills) for name, kills in re.findall(r"^(\w+) +(\d+) +\d+$", done.stdout, re.MULTILINE)}
    assert list(counts) == [phase for job in torture.JOBS[:2] for phase in job.phases]
    assert sum(counts.values()) == KILLS
    assert sum(kills > 0 for kills in counts.values()) >= 4, done.stdout
    assert counts["trials"] > 0
    assert re.search(rf"^{KILLS} kills in \d+ rounds, \d+ s: 0 losses, 0 orphans$", done.stdout, re.MULTILINE)

    bench, sweep, _ = torture.JOBS
    straight, ended = tmp_path / "work/bench", tmp_path / "work/round-1"
    assert list(torture._problems(bench, ended, straight)) == []
    (ended / "board/.seed-0.json.0123abcd").touch()
    (weights, *_) = sorted(ended.glob("work/fits/*/best.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    (record,) = ended.glob(torture.RECORD)
    record.with_suffix(".ranks.parquet").unlink()
    said = "\n".join(torture._problems(bench, ended, straight))
    assert "seed-0.json.0123abcd was left behind" in said
    assert f"{weights} is not what {straight / weights.relative_to(ended)} is" in said
    assert "seed-0.ranks.parquet" in said

    straight, ended = tmp_path / "work/sweep", tmp_path / "work/round-2"
    assert list(torture._problems(sweep, ended, straight)) == []
    (ledger,) = ended.glob(torture.LEDGER)
    ledger.write_text(ledger.read_text().replace('"state": "complete"', '"state": "pruned"'))
    assert list(torture._problems(sweep, ended, straight)) == [
        f"{ended}: the sweep's trials or winner are not those of {straight}"
    ]


def test_a_copy_that_is_killed_while_it_draws_keeps_the_torture_from_nothing(tmp_path: Path) -> None:
    command = scripts.command("killed_while_drawing", tmp_path)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").touch()
    assert main(["--work", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path} is not empty; expected an empty folder, or none\n"
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]
