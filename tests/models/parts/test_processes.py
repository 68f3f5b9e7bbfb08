"""What looks across a batch: processes that share the batch have the values and gradients of one that has it whole."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from models.parts.processes import all_gather_rows, by_all, first_local_row, local_rows
from tests import scripts
from tests.scripts.toy_processes import ROWS, losses

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]

Found = dict[str, Any]


@pytest.fixture(scope="module", params=[3])
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    """What each of several processes found."""
    folder, processes = tmp_path_factory.mktemp("together"), int(request.param)
    command = scripts.command("toy_processes", folder, processes)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt") for rank in range(processes)]


@pytest.fixture(scope="module")
def alone() -> Found:
    return losses(0, 1)


def order(processes: int) -> torch.Tensor:
    """Rows of the whole batch in the order of `all_gather_rows`: process p has row p, p + P, ..."""
    return torch.cat([torch.arange(ROWS)[rank::processes] for rank in range(processes)])


@pytest.mark.parametrize("loss", ["info_nce", "symmetric", "quantizer"])
def test_the_gradient_is_that_of_the_whole_batch(loss: str, together: list[Found], alone: Found) -> None:
    value, gradients = alone[loss]
    values = torch.stack([found[loss][0] for found in together])
    torch.testing.assert_close(values.mean(), value)
    assert len({float(each) for each in values}) == len(together), "each has the loss of its own rows"
    # The layer whose gradient goes by way of the other processes, or the codebooks.
    assert float(gradients["quantizer.codebooks" if loss == "quantizer" else "right.weight"].abs().max()) > 1e-3
    for _, found in (each[loss] for each in together):
        for name, gradient in found.items():
            expected = gradients.get(name, torch.zeros_like(gradient))
            torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)
        assert found.keys() >= gradients.keys()


def test_codes_are_shared_out_over_the_whole_batch(together: list[Found], alone: Found) -> None:
    """Four codes of the last level for twelve rows: Sinkhorn gives each to three, whoever has the rows."""
    assert alone["codes"][:, 1].bincount(minlength=4).tolist() == [3, 3, 3, 3]
    for found in together:
        assert torch.equal(found["codes"], alone["codes"][order(len(together))])
        assert torch.equal(found["rows"], alone["rows"][order(len(together))])


def test_all_know_what_each_has_done(together: list[Found]) -> None:
    """One that fails ends all: the others would wait for it."""
    assert len(together) == 3
    for found in together:
        assert found["by_all"] == ["process 0", "process 1", "process 2"]
        assert found["error"] == "no share for process 2"
        assert found["local"] == "LocalError: odd"


def test_alone_a_batch_is_whole() -> None:
    rows = torch.arange(6.0).view(3, 2)
    assert all_gather_rows(rows) is rows
    assert local_rows(rows) is rows
    assert first_local_row(3) == 0
    assert by_all(lambda: rows)[0] is rows
