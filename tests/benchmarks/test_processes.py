"""Processes end with the one that began them; who is told to end says so; whose files they are the umask says."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb

from benchmarks.__main__ import main
from benchmarks.execution import local
from benchmarks.execution.cell import Cell
from benchmarks.execution.worker_process import ENDING, SignalledError, ended_by_signals, postponed
from benchmarks.experiments import complete
from benchmarks.settings import Bench
from leaderboards.store import read_board
from leaderboards.verify import verify
from tests import scripts
from tests.crash_test import members, orphans

ROOT = Path(__file__).resolve().parents[2]
SASREC = ("width=8", "inner=8", "layers=1")
RESTS_SECONDS = 30.0


@pytest.mark.slow
def test_workers_end_with_their_parent_and_the_bench_goes_on(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRBENCH_DATA", str(tiny_data))
    place, settings = tmp_path / "place", ("epochs=25", "patience=25", *SASREC)
    command = ["bench", "--corpus", "all_beauty", "--models", "sasrec", "--seeds", "3", "--set", *settings]
    place.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = scripts.command("signalled_parents", *command)
    done = subprocess.run(script, cwd=place, env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout == "SIGTERM 143 0\nSIGHUP 129 0\nSIGINT 130 0\nSIGKILL -9 0\n0\n", done.stderr
    for name, why in (("SIGTERM", "ended by SIGTERM"), ("SIGHUP", "ended by SIGHUP"), ("SIGINT", "interrupted")):
        said = (place / name).read_text()
        assert said.count(f"{why}; the same command goes on from the last epochs\n") == 1
        assert "Traceback" not in said
    straight = ["--jobs", "1", "--board", str(tmp_path / "board"), "--work", str(tmp_path / "work")]
    assert main([*command, *straight]) == 0
    one, other = (read_board(folder / "board", "all_beauty") for folder in (place, tmp_path))
    assert [run.record.result() for run in one] == [run.record.result() for run in other]
    assert verify(place / "board") == ([], 3)


def rests(*_: object) -> None:
    time.sleep(RESTS_SECONDS)


@pytest.mark.slow
@pytest.mark.usefixtures("default_signals")
def test_a_signal_that_interrupts_no_wait_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that comes just before the wait begins; here another thread takes it."""
    monkeypatch.setattr(local, "run_cell", rests)
    cells = [Cell(complete("popularity", "planted"), seed) for seed in range(2)]

    def sends() -> None:
        while len(multiprocessing.active_children()) < 2:
            time.sleep(0.01)
        # The workers are begun, and are waited for.
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGHUP)

    sender = threading.Thread(target=sends)
    sender.start()
    began = time.monotonic()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    try:
        with pytest.raises(SignalledError, match="ended by SIGHUP"), ended_by_signals():
            local.run_all(Bench(tmp_path / "board", tmp_path / "work"), "planted", "auto", cells, jobs=2)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])
        sender.join()
    assert time.monotonic() - began < RESTS_SECONDS


def test_who_is_left_is_counted_and_killed() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 100 & sleep 100"], start_new_session=True) as first:
        while len(members(first.pid)) < 3:
            assert first.poll() is None
        first.kill()
        first.wait()
        assert len(orphans(first.pid, 0)) == 2
        assert orphans(first.pid, 5) == []


@pytest.mark.usefixtures("default_signals")
def test_an_ignored_signal_stays_ignored_and_a_second_one_ends_at_once() -> None:
    script = """
import os, signal, sys
from benchmarks.execution.worker_process import ended_by_signals
signal.signal(signal.SIGHUP, signal.SIG_IGN)
try:
    with ended_by_signals():
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
except KeyboardInterrupt as error:
    print(error, flush=True)
os.kill(os.getpid(), signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (-15, "ended by SIGTERM\n", "")
    with pytest.raises(SignalledError, match="ended by SIGHUP"), ended_by_signals():
        os.kill(os.getpid(), 1)


@pytest.fixture
def default_signals() -> Iterator[None]:
    """What other tests' libraries made of them is theirs again behind the test."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("default_signals")
def test_a_signal_waits_for_what_is_being_begun() -> None:
    done = []

    def begins_something() -> None:
        with ended_by_signals(), postponed():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append(True)

    with pytest.raises(SignalledError, match="ended by SIGTERM"):
        begins_something()
    assert done == [True]
    with ended_by_signals(), postponed():
        pass


@pytest.fixture(params=[0o002, 0o022], ids=oct)
def umask(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """And no service of wandb from before, which has the mask of its own time."""
    wandb.teardown()
    monkeypatch.setenv("WANDB_SERVICE", "")
    before = os.umask(request.param)
    yield request.param
    os.umask(before)
    wandb.teardown()


TIGER = ("steps=4", "tokenizer_epochs=2", "tokenizer.codes=16", "t5.width=8", "t5.inner=16", "t5.heads=1")
ON = ("--corpus", "all_beauty", "--set")
COMMANDS = (
    ("bench", "--models", "tiger", "--jobs", "1", "--track", "offline", *ON, *TIGER),
    ("codes", "--models", "tiger", *ON, *TIGER),
    ("sweep", "--model", "sasrec", "--trials", "1", "--track", "off", "--best", "{}/best", *ON, *SASREC, "epochs=1"),
    ("analyse", "entropy", "--models", "tiger", "--out", "{}/analyses", *ON, *TIGER),
    ("plan", "{}/plan.toml"),
)
# What waits there to be sent is for wandb alone, which makes it so.
WANDBS_OWN = "staging"
PLAN = """
corpus = "all_beauty"
rows = [{experiment = "popularity"}]
"""


@pytest.mark.slow
def test_all_lies_where_it_was_asked_for_and_is_whose_the_umask_says(
    umask: int, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRBENCH_DATA", str(tiny_data))
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    (there / "plan.toml").write_text(PLAN)
    for command in COMMANDS:
        places = ("--board", str(there / "board"), "--work", str(there / "work"))
        assert main([*(part.format(there) for part in command), *places]) == 0
    assert list(here.iterdir()) == []
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in there.rglob("*") if WANDBS_OWN not in path.parts}
    kinds = ("corpora/**/card.json", "fits/*/best.safetensors", "fits/*/lock-0", "cells/*-0", "vectors/*/*.sealed")
    assert all(list((there / "work").glob(kind)) for kind in (*kinds, "wandb/*", "sweeps/*/journal.log"))
    asked = {path: (0o777 if path.is_dir() else 0o666) & ~umask for path in modes}
    assert {path: oct(mode) for path, mode in modes.items() if mode != asked[path]} == {}
