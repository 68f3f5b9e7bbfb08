"""Hardware: where and how a run computes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

import torch

from benchmarks.device import check_accelerator
from benchmarks.training_precision import Precision

# Users ranked at once: few enough for a processor's cache to hold their prefixes (1.45 times as many users a second as
# 256), and many for a GPU, which takes hardly longer for so many.
BATCH, GPU_BATCH = 64, 2_048


@dataclass(frozen=True)
class Hardware:
    """Where and how a run computes; part of its provenance, not of its config.

    Raises:
        ValueError: this machine has no such accelerator, or a strategy starts processes whose results stay in them.
    """

    accelerator: str = "auto"
    """One of `benchmarks.device.ACCELERATORS`."""
    devices: int = 1
    """Of each node. Distributed training shares every batch out among them."""
    nodes: int = 1
    strategy: str = "auto"
    threads: int = 1
    """CPU threads per process. Sums depend on it in the last bits, so the machine does not decide it."""
    precision: Precision = "32-true"
    """Of a recommender's training."""

    def __post_init__(self) -> None:
        check_accelerator(self.accelerator)
        if any(word in self.strategy for word in ("notebook", "spawn", "fork")):
            raise ValueError(
                f"strategy is {self.strategy}, whose processes end with a training and keep what it has found; "
                "expected one that starts the command again, as ddp"
            )

    @property
    def processes(self) -> int:
        """That train together."""
        return self.devices * self.nodes

    @property
    def parallel(self) -> str:
        """Lightning's strategy; unless one was chosen, one that lets weights take turns, as ETEGRec's do."""
        return "ddp_find_unused_parameters_true" if self.strategy == "auto" and self.processes > 1 else self.strategy

    def set_num_threads(self) -> None:
        """Gives this process its threads. Where they are not in the environment too, Lightning chooses others before
        distributed training.

        Raises:
            ValueError: there are none.
        """
        if self.threads < 1:
            raise ValueError(f"threads is {self.threads}; expected at least 1")
        os.environ["OMP_NUM_THREADS"] = str(self.threads)
        torch.set_num_threads(self.threads)

    @property
    def device(self) -> torch.device:
        """Where grading happens, and training on one device."""
        if self.accelerator in ("cpu", "cuda", "mps"):
            return torch.device(self.accelerator)
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if self.accelerator == "gpu" else "cpu")

    @property
    def precision_class(self) -> Literal["bf16", "32"]:
        """What a row's numbers depend on: the format of its recommender's products."""
        return "bf16" if self.precision == "bf16-mixed" else "32"


def users_at_once(device: torch.device) -> int:
    """How many users are ranked at once on a device."""
    return BATCH if device.type == "cpu" else GPU_BATCH
