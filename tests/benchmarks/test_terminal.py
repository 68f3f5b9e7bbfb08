"""Bars of several processes take turns, also after one of them was killed while it drew."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tqdm import tqdm

from benchmarks.execution import progress_bars

ROOT = Path(__file__).resolve().parents[2]

# Draws until its standard input ends.
DRAWER = """
import sys
from pathlib import Path
from tqdm import tqdm
from benchmarks.execution import progress_bars

progress_bars.join(Path(sys.argv[1]))
with tqdm.get_lock():
    print("draws", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def joined(tmp_path: Path) -> Iterator[None]:
    before = tqdm.get_lock()
    progress_bars.join(tmp_path / "work")
    yield
    tqdm.set_lock(before)


@pytest.fixture
def drawer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which has begun to draw."""
    command = [sys.executable, "-c", DRAWER, str(tmp_path / "work")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "draws\n"
        yield process
        process.kill()


@pytest.fixture
def drawing() -> threading.Thread:
    """A bar of this process, which ends when it could draw."""

    def draw() -> None:
        with tqdm(total=1, file=sys.stderr) as bar:
            bar.update()

    thread = threading.Thread(target=draw, daemon=True)
    thread.start()
    return thread


def test_who_draws_is_waited_for(drawer: subprocess.Popen[str], drawing: threading.Thread) -> None:
    drawing.join(0.3)
    assert drawing.is_alive()
    drawer.communicate()
    drawing.join(30)
    assert not drawing.is_alive()


def test_who_was_killed_while_it_drew_is_not(drawer: subprocess.Popen[str], drawing: threading.Thread) -> None:
    drawer.kill()
    drawing.join(30)
    assert not drawing.is_alive()


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
    turn = progress_bars.Turn(tmp_path)
    for _ in range(2):
        with pytest.raises(OSError):
            turn.acquire()
    thread = threading.Thread(target=turn._threads.acquire)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
