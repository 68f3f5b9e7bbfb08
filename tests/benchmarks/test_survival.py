"""The whole command: two at once, a full disk, a folder that cannot be written, no memory, a clock that jumps."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from pathlib import Path
from unittest.mock import Mock

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException

from benchmarks import run as run_module
from benchmarks.__main__ import main
from benchmarks.evaluate import Grader
from benchmarks.training import fit as fit_module
from benchmarks.training.checkpoint_callback import CheckpointCallback
from benchmarks.user_errors import user_message
from data_prep.corpus import Corpus
from leaderboards.store import read_board
from leaderboards.verify import verify
from tests import scripts

ROOT = Path(__file__).resolve().parents[2]
SASREC = ("--models", "sasrec", "--set", "epochs=2", "width=8", "inner=8", "layers=1", "--jobs", "1")


@pytest.fixture
def bench(loaded: Corpus, tmp_path: Path) -> Callable[..., int]:
    """The command on the tiny corpus, in this process."""

    def call(*arguments: str, board: str = "board", work: str = "work") -> int:
        places = ["--board", str(tmp_path / board), "--work", str(tmp_path / work)]
        return main(["bench", "--corpus", "all_beauty", *SASREC, *places, *arguments])

    return call


@pytest.mark.slow
def test_of_two_that_start_a_cell_one_works_and_the_other_waits(tiny_data: Path, tmp_path: Path) -> None:
    settings = ("epochs=60", "patience=60", "width=8", "inner=8", "layers=1")
    command = ["bench", "--corpus", "all_beauty", "--models", "sasrec", "--jobs", "1", "--set", *settings]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GRBENCH_DATA": str(tiny_data)}
    script = scripts.command("two_on_a_cell", *command)
    done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "alive 0 0\ndead -9 0\n", done.stderr
    records = []
    for place, by_first in (("alive", True), ("dead", False)):
        first, second = ((tmp_path / place / name).read_text() for name in ("first", "second"))
        assert "sasrec seed 0 is at work in another process; waiting for it" in second
        trained = "sasrec seed 0 recommender: 60 epochs"
        assert (trained in first, trained in second) == (by_first, not by_first), "it is trained once"
        assert "Traceback" not in first + second
        assert verify(tmp_path / place / "board") == ([], 1)
        records += [run.record.result() for run in read_board(tmp_path / place / "board", "all_beauty")]
    assert records[0] == records[1]


@pytest.mark.slow
def test_a_full_disk_at_any_write_is_told_and_nothing_is_lost(
    bench: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert bench(board="straight", work="straight-work") == 0
    sync, times = os.fsync, 0

    while times < 100:
        times += 1
        left = iter(range(1, times))

        def full(handle: int, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise OSError(errno.ENOSPC, "No space left on device")
            sync(handle)

        monkeypatch.setattr(os, "fsync", full)
        capsys.readouterr()
        if not bench():
            break
        told = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
        assert len(told) == 1
        assert "the disk is full while writing " in told[0]
        assert "free some space and run the command again" in told[0]
        assert not list(tmp_path.rglob(".*"))
    # Each command gets one write further than the one before: states, weights, log, ranks, record, four tables.
    assert 5 < times < 20
    (one,), (other,) = (read_board(tmp_path / board, "all_beauty") for board in ("board", "straight"))
    assert one.record.result() == other.record.result()
    assert verify(tmp_path / "board") == ([], 1)


@pytest.mark.parametrize("place", ["file", "/proc/nowhere", "/sys/nowhere"])
@pytest.mark.parametrize("option", ["board", "work"])
def test_a_folder_that_cannot_be_written_is_named(
    bench: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, option: str
) -> None:
    (tmp_path / "file").touch()
    assert bench(**{option: f"{place}/{option}"}) in (1, 2)
    err = capsys.readouterr().err
    assert err.count("error: ") == 1
    assert place in err
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("owner", [CheckpointCallback, Grader])
def test_no_memory_is_one_sentence_with_advice(
    bench: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], owner: type
) -> None:
    errors = [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        MemoryError(),
        BrokenProcessPool("A process in the process pool was terminated abruptly"),
    ]
    for error in errors:
        with monkeypatch.context() as patched:
            full = Mock(side_effect=error)
            patched.setattr(owner, "on_train_batch_end" if owner is CheckpointCallback else "__call__", full)
            assert bench() == 1
        (told,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
        assert "error: sasrec seed 0: " in told
        assert "memory: a smaller batch_size needs less" in told
        assert "fewer --jobs; the same command goes on from the last epochs" in told
    assert bench() == 0


def test_memory_that_the_system_refuses() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 58)
    assert str(user_message(refused.value)).startswith("out of memory: a smaller batch_size")
    assert user_message(RuntimeError("the shapes do not fit")) is None
    assert user_message(KeyError("x")) is None


def test_devices_that_lightning_cannot_have_are_told() -> None:
    with pytest.raises(MisconfigurationException) as refused:
        pl.Trainer(accelerator="cpu", devices=2, strategy="deepspeed", logger=False)
    assert user_message(refused.value)


def test_durations_know_no_clock(bench: Callable[..., int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    began, day, calls = time.perf_counter(), 86_400.0, iter(range(1_000_000))
    monkeypatch.setattr(time, "time", lambda: 1e9 - day * next(calls))
    assert bench() == 0
    (found,) = read_board(tmp_path / "board", "all_beauty")
    passed = time.perf_counter() - began
    assert 0 < found.record.cost.train_seconds < passed
    assert found.record.corpus.users / found.record.cost.evaluate_users_per_second < passed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "said"),
    [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "ended by SIGTERM"), (signal.SIGHUP, "ended by SIGHUP")],
)
def test_a_signal_in_a_training_of_this_process(
    bench: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    number: signal.Signals,
    said: str,
) -> None:
    """Lightning makes an exit of it, which would say nothing."""
    # A process of pytest-xdist ignores Ctrl-C.
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    handler = signal.signal(number, usual)
    whole = CheckpointCallback.on_train_epoch_start
    pressed: list[float] = []

    def press(self: CheckpointCallback, trainer: object, module: object) -> None:
        whole(self, trainer, module)  # type: ignore[arg-type]
        if self.done.epochs == 1 and not pressed:
            pressed.append(time.perf_counter())
            signal.raise_signal(number)

    monkeypatch.setattr(CheckpointCallback, "on_train_epoch_start", press)
    try:
        assert bench() == 128 + number
        assert signal.getsignal(number) in (usual, signal.SIG_IGN)
    finally:
        signal.signal(number, handler)
    assert time.perf_counter() - pressed[0] < 2
    assert f"\n{said}; the same command goes on from the last epochs\n" in capsys.readouterr().err
    assert bench() == 0
    (found,) = read_board(tmp_path / "board", "all_beauty")
    assert found.record.cost.stages[0].epochs == 2


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["bench", "--board", ""], 2, "argument --board: it is empty; expected a path"),
        (["bench", "--work", ""], 2, "argument --work: it is empty; expected a path"),
        (["reproduce", "--row", ""], 2, "neither --row nor --sample is given"),
        (
            ["bench", "--models", "sasrec", "--set", "lr=1", "epochs=2", "lr=0.1"],
            2,
            "lr is set 2 times; expected one value",
        ),
        (["show", "sasrec", "--set", "lr=1", "lr=0.1"], 2, "lr is set 2 times; expected one value"),
        (["bench", "--models", "popularity", "--vectors-path", "file"], 2, "popularity reads none of a path"),
        (["bench", "--models", "tiger", "--set", "vectors=npz", "--vectors-path", "x"], 1, ": x is missing; expected"),
        (["bench", "--models", "popularity", "--work", "file"], 2, "error: file/corpora/planted: Not a directory"),
    ],
)
def test_what_is_asked_for_wrongly_is_told(
    arguments: list[str],
    status: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    try:
        ended = main(arguments)
    except SystemExit as exit:
        ended = int(str(exit.code))
    said = capsys.readouterr().err
    assert (ended, says in said) == (status, True), said
    assert "Errno" not in said
    assert not (tmp_path / "leaderboards").exists()


def test_a_name_that_leads_elsewhere_is_no_corpus_and_no_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    said = {
        "../../x": "error: ../../x is missing",
        "/etc/passwd": "error: /etc/passwd",
        "planted/../planted": "error: planted/../planted is missing",
        "..": "error: .. is a folder; expected a file of interactions",
        "planted\0": "error: no corpus ",
    }
    for name, begin in said.items():
        assert main(["bench", "--corpus", name, "--models", "popularity"]) == 2
        assert capsys.readouterr().err.startswith(begin)
    for name in ("../models/tiger", "tiger/../sasrec", "parts.rqvae"):
        assert main(["bench", "--models", name]) == 2
        assert "error: no model or experiment " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_lock_of_a_cell_is_that_of_its_key_and_seed(
    bench: Callable[..., int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    held: list[str] = []
    whole = fit_module.exclusive_lock

    def noted(lock: Path, label: str, rank: int) -> AbstractContextManager[None]:
        held.append(lock.name)
        return whole(lock, label, rank)

    monkeypatch.setattr(run_module, "exclusive_lock", noted)
    assert bench("--seeds", "2") == 0
    (key,) = {run.record.key for run in read_board(tmp_path / "board", "all_beauty")}
    assert held == [f"{key}-0", f"{key}-1"]
