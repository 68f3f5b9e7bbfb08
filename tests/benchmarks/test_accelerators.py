"""Accelerators: what is asked for is what computes, and what is not there is told before anything begins."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from benchmarks.hardware import Hardware
from grbench.__main__ import main


def machine(monkeypatch: pytest.MonkeyPatch, *there: str) -> None:
    """A machine with these GPUs alone."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: "cuda" in there)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: "mps" in there)


@pytest.mark.parametrize(
    ("there", "asked", "device"),
    [
        ([], "auto", "cpu"),
        ([], "cpu", "cpu"),
        (["cuda"], "auto", "cuda"),
        (["cuda"], "gpu", "cuda"),
        (["cuda"], "cuda", "cuda"),
        (["cuda"], "cpu", "cpu"),
        (["mps"], "auto", "cpu"),
        (["mps"], "gpu", "mps"),
        (["mps"], "mps", "mps"),
    ],
)
def test_device(there: Sequence[str], asked: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, *there)
    assert Hardware(asked).device == torch.device(device)


@pytest.mark.parametrize(
    ("there", "asked", "found"),
    [
        ([], "gpu", "cpu"),
        ([], "cuda", "cpu"),
        ([], "mps", "cpu"),
        (["cuda"], "mps", "cpu and cuda"),
        (["mps"], "cuda", "cpu and mps"),
    ],
)
def test_what_is_not_there_is_told(
    there: Sequence[str], asked: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, *there)
    said = f"accelerator is {asked}, but PyTorch .* finds {found} alone on this machine; expected one that is there"
    with pytest.raises(ValueError, match=said):
        Hardware(asked)


def test_an_unknown_name_is_told_with_the_list() -> None:
    with pytest.raises(ValueError, match="accelerator is 'tpu'; expected one of auto, cpu, gpu, cuda, mps"):
        Hardware("tpu")


COMMANDS = {
    "bench": [],
    "plan": ["benchmarks/plans/smoke.toml"],
    "codes": ["--models", "tiger"],
    "analyse": ["utilisation"],
    "sweep": ["--model", "sasrec"],
    "predict": ["--row", "r", "--input", "i", "--output", "o"],
    "export": ["r", "folder"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("asked", "said"),
    [("gpu", "accelerator is gpu, but PyTorch"), ("tpu", "accelerator is 'tpu'; expected one of auto, cpu, gpu")],
)
def test_every_command_tells_it_before_it_begins(
    command: str, asked: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(monkeypatch)
    with pytest.raises(SystemExit) as ended:
        main([command, *COMMANDS[command], "--accelerator", asked])
    assert ended.value.code == 2
    assert f"argument --accelerator: {said}" in capsys.readouterr().err
