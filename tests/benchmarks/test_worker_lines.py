"""Workers' lines come whole, whoever is killed; bars are drawn on a terminal alone."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import sys
from multiprocessing.connection import Connection

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.execution import worker_lines
from benchmarks.training import checkpoint_callback
from benchmarks.training.fit import Fit
from data_prep.corpus import Batch
from models.api import Budget

LINES = 200


def write_lines(lines: Connection, letter: str) -> None:
    worker_lines.send(lines)
    for _ in range(LINES):
        tqdm.write(letter * 1_000, file=sys.stderr)


def write_half(lines: Connection) -> None:
    worker_lines.send(lines)
    os.write(worker_lines.STDERR, b"half a line")
    os.kill(os.getpid(), signal.SIGKILL)


def test_lines_of_several_workers_do_not_mix(capsys: pytest.CaptureFixture[str]) -> None:
    context = multiprocessing.get_context("fork")
    with worker_lines.shown() as lines:
        workers = [context.Process(target=write_lines, args=(lines, letter)) for letter in "abc"]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    said = capsys.readouterr().err
    assert sorted(said.splitlines()) == [letter * 1_000 for letter in "abc" for _ in range(LINES)]
    assert "\r" not in said
    assert "\x1b" not in said


def test_who_was_killed_within_a_line_keeps_nobody_from_ending(capsys: pytest.CaptureFixture[str]) -> None:
    with worker_lines.shown() as lines:
        worker = multiprocessing.get_context("fork").Process(target=write_half, args=(lines,))
        worker.start()
        worker.join()
    assert worker.exitcode == -signal.SIGKILL
    assert capsys.readouterr().err == "half a line\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Slope(pl.LightningModule):
    """Its loss falls by .1 a step."""

    def __init__(self) -> None:
        super().__init__()
        self.config, self.history_length = Budget(1, 1), 5
        self.a = nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        return self.a

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def said(in_memory: Fit, monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO) -> str:
    """Of a training of two epochs of four steps each."""
    monkeypatch.setattr(sys, "stderr", stderr)
    in_memory("slope", Slope, Budget(epochs=2, batch_size=60))
    return stderr.getvalue()


def test_a_terminal_has_a_bar_of_the_stage(in_memory: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    text = said(in_memory, monkeypatch, Terminal())
    assert "\r" in text
    assert "8/8" in text or "0/8" in text


def test_a_log_has_whole_lines(in_memory: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_callback, "LINE_SECONDS", 0.0)
    text = said(in_memory, monkeypatch, io.StringIO())
    assert "\r" not in text
    first, second, done = text.splitlines()
    assert first == f"{in_memory.label} slope: epoch 1 of 2, quality 0.1500, best 0.1500"
    assert second == f"{in_memory.label} slope: epoch 2 of 2, quality 0.5500, best 0.5500"
    assert done.startswith(f"{in_memory.label} slope: 2 epochs of ")
