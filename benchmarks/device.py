"""What the device of a run is called, and how much memory it takes; torch is loaded for a GPU alone."""

from __future__ import annotations

import ctypes
import platform
import resource
import sys
from pathlib import Path

# What can be asked for; `gpu` is whichever GPU there is, `auto` the CPU where there is none.
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")


def check_accelerator(name: str) -> None:
    """
    Raises:
        ValueError: it is none of `ACCELERATORS`, or a GPU that this machine does not have.
    """
    if name not in ACCELERATORS:
        raise ValueError(f"accelerator is {name!r:.40}; expected one of {', '.join(ACCELERATORS)}")
    if name in ("auto", "cpu"):
        return
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    found = [kind for kind in there if there[kind]]
    if not (found if name == "gpu" else there[name]):
        kinds = " and ".join(["cpu", *found])
        raise ValueError(
            f"accelerator is {name}, but PyTorch {torch.__version__} finds {kinds} alone on this machine; "
            f"expected one that is there, or auto"
        )


def reset_peak_memory(device: str) -> None:
    """Begin a new peak, so that a run is not charged for the run that its process made before.

    Where the system offers no reset (other than Linux), a process's peak is that of all its runs.
    """
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes(device: str) -> int:
    """Most memory held since `reset_peak_memory`: on the accelerator for `cuda...`, else by this process."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "linux":
        # Not ru_maxrss, in which a child process starts with the size of its parent.
        held = _proc_field("/proc/self/status", "VmHWM").split()
        return int(held[0]) * 1024 if held else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def give_back_memory() -> None:
    """Hands what this process has freed back to the system, where the C library offers that (glibc).

    Batches differ in shape, and leave holes in the heap that later ones do not fit: in forty epochs a training of
    eSASRec came to hold 7 GiB.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim:
        trim(0)


def device_name(device: str) -> str:
    """What the maker calls `cpu` or `cuda:<index>`; of `mps`, Apple's, the processor that it is a part of."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    model = _proc_field("/proc/cpuinfo", "model name") if sys.platform == "linux" else platform.processor()
    return model or platform.machine()


def _proc_field(file: str, name: str) -> str:
    """First value of `name : value` in a file of Linux's /proc, empty where this processor or kernel has none."""
    lines = (line.partition(":") for line in Path(file).read_text().splitlines())
    return next((value.strip() for field, _, value in lines if field.strip() == name), "")
