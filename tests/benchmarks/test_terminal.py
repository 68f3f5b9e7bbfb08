"""Bars of several processes take turns, also after one of them was killed while it drew."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tqdm import tqdm

from benchmarks import terminal

ROOT = Path(__file__).resolve().parents[2]

DRAWER = """
import sys, time
from pathlib import Path
from tqdm import tqdm
from benchmarks import terminal

terminal.join(Path(sys.argv[1]))
with tqdm.get_lock():
    print("draws", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture(autouse=True)
def joined(tmp_path: Path) -> Iterator[None]:
    before = tqdm.get_lock()
    terminal.join(tmp_path / "work")
    yield
    tqdm.set_lock(before)


def drawer(tmp_path: Path, seconds: float) -> subprocess.Popen[str]:
    """Another process, which has begun to draw."""
    command = [sys.executable, "-c", DRAWER, str(tmp_path / "work"), str(seconds)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "draws\n"
    return process


def seconds_to_draw() -> float:
    began = time.monotonic()
    with tqdm(total=1, file=sys.stderr) as bar:
        bar.update()
    return time.monotonic() - began


def test_who_draws_is_waited_for(tmp_path: Path) -> None:
    with drawer(tmp_path, 1.0):
        assert 0.5 < seconds_to_draw() < 30
        assert seconds_to_draw() < 0.5


def test_who_was_killed_while_it_drew_is_not(tmp_path: Path) -> None:
    with drawer(tmp_path, 100) as process:
        process.kill()
        process.wait()
        assert seconds_to_draw() < 0.5


def test_two_threads_take_turns_and_one_may_take_several_at_once() -> None:
    turn, other = tqdm.get_lock(), []

    def wait() -> None:
        with turn:
            other.append(True)

    thread = threading.Thread(target=wait)
    with turn, turn:
        thread.start()
        thread.join(0.2)
        assert other == []
    thread.join(10)
    assert other == [True]


def test_a_turn_that_could_not_be_had_is_not_kept(tmp_path: Path) -> None:
    turn = terminal.Turn(tmp_path)
    for _ in range(2):
        with pytest.raises(OSError):
            turn.acquire()
    thread = threading.Thread(target=turn._threads.acquire)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
