"""Losses over a batch, by one process or shared out among several; each writes down what it had.

python -m tests.scripts.toy_processes FOLDER PROCESSES
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from models.parts.losses import info_nce, symmetric_info_nce
from models.parts.processes import all_gather_rows, by_all, process_index, processes
from models.parts.quantize import ResidualQuantizer

ROWS, WIDTH = 12, 5


class Both(nn.Module):
    """Pairs seen by two layers and compared over the batch; the first ones are quantised, too."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.left, self.right = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.quantizer = ResidualQuantizer(2, 4, WIDTH, epsilon=0.05)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        x, y = self.left(x), self.right(y)
        quantized = self.quantizer(x)
        return {
            "info_nce": info_nce(x, y),
            "symmetric": symmetric_info_nce(x, y, 0.3),
            "quantizer": quantized.loss,
            "codes": quantized.codes,
        }


def losses(rank: int, several: int) -> dict[str, Any]:
    """Value and gradient of each loss, and the codes of the rows of this process."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(ROWS, WIDTH, generator=generator) for _ in range(2))
    found: dict[str, Any] = {"rows": all_gather_rows(x[rank::several])}
    for name in ("info_nce", "symmetric", "quantizer"):
        module = Both()
        wrapped = DistributedDataParallel(module, find_unused_parameters=True) if several > 1 else module
        made = wrapped(x[rank::several], y[rank::several])
        made[name].backward()
        gradients = {key: weight.grad for key, weight in module.named_parameters() if weight.grad is not None}
        found[name] = (made[name].detach(), gradients)
        found["codes"] = all_gather_rows(made["codes"])
    return found


def told() -> dict[str, Any]:
    """What `by_all` returns, and what it raises where the work of one process fails."""

    def broken_in_the_last() -> None:
        if process_index() == processes() - 1:
            raise ValueError(f"no share for process {process_index()}")

    class LocalError(Exception):
        """Of a class that no other process can look up."""

    def broken_in_all() -> None:
        raise LocalError("odd")

    found: dict[str, Any] = {"by_all": by_all(lambda: f"process {process_index()}")}
    for name, work in (("error", broken_in_the_last), ("local", broken_in_all)):
        try:
            by_all(work)
        except (ValueError, RuntimeError) as error:
            found[name] = str(error)
    return found


def process(folder: Path, rank: int, several: int) -> None:
    """One of those that share the batch."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=several)
    torch.save(losses(rank, several) | told(), folder / f"{rank}.pt")
    distributed.destroy_process_group()


def main() -> int:
    """Copies of this process, for each to load torch would take longer than all the rest; 0 where all end well."""
    folder, several = Path(sys.argv[1]), int(sys.argv[2])
    begun = []
    for rank in range(several):
        copy = os.fork()
        if not copy:
            process(folder, rank, several)
            os._exit(0)
        begun.append(copy)
    return max(os.waitpid(copy, 0)[1] for copy in begun) and 1


if __name__ == "__main__":
    sys.exit(main())
