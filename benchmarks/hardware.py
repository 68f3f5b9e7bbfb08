"""Hardware: where and how a run computes, what the device is called, and how much memory it takes."""

from __future__ import annotations

import os
import platform
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from benchmarks.precision import Precision

# Users ranked at once, and on a GPU, which takes hardly longer for so many.
BATCH, GPU_BATCH = 256, 2_048


@dataclass(frozen=True)
class Hardware:
    """Where and how a run computes; part of its provenance, not of its config."""

    accelerator: str = "auto"
    devices: int = 1
    """Of each node. Distributed training shares every batch out among them."""
    nodes: int = 1
    strategy: str = "auto"
    threads: int = 1
    """CPU threads per process. Sums depend on it in the last bits, so the machine does not decide it."""
    precision: Precision = "32-true"
    """Of a recommender's training."""

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
        distributed training."""
        os.environ["OMP_NUM_THREADS"] = str(self.threads)
        torch.set_num_threads(self.threads)

    @property
    def device(self) -> torch.device:
        """Where grading happens, and training on one device."""
        on_gpu = self.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        return torch.device("cuda" if on_gpu else "cpu")

    @property
    def precision_class(self) -> Literal["bf16", "32"]:
        """What a row's numbers depend on: the format of its recommender's products."""
        return "bf16" if self.precision == "bf16-mixed" else "32"


def users_at_once(device: torch.device) -> int:
    """How many users are ranked at once on a device."""
    return BATCH if device.type == "cpu" else GPU_BATCH


def reset_peak_memory(device: str) -> None:
    """Begin a new peak, so that a run is not charged for the run that its process made before.

    Where the system offers no reset (other than Linux), a process's peak is that of all its runs.
    """
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes(device: str) -> int:
    """Most memory held since `reset_peak_memory`: on the accelerator for `cuda...`, else by this process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "linux":
        # Not ru_maxrss, in which a child process starts with the size of its parent.
        return int(_proc_field("/proc/self/status", "VmHWM").split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def device_name(device: str) -> str:
    """What the maker calls `cpu` or `cuda:<index>`."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    model = _proc_field("/proc/cpuinfo", "model name") if sys.platform == "linux" else platform.processor()
    return model or platform.machine()


def _proc_field(file: str, name: str) -> str:
    """First value of `name : value` in a file of Linux's /proc, empty where this processor or kernel has none."""
    lines = (line.partition(":") for line in Path(file).read_text().splitlines())
    return next((value.strip() for field, _, value in lines if field.strip() == name), "")
