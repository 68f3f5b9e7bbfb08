"""What decides the outcome of a training: code and libraries, and what it begins with, each as one hash."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from benchmarks.provenance import ROOT, torch_version, version
from data_prep.files import content_sha256

# The harness's part: what trains, keeps, grades and chooses an epoch.
HARNESS = (
    "benchmarks/training/bf16_plugin.py",
    "benchmarks/evaluate.py",
    "benchmarks/training/fit.py",
    "benchmarks/hardware.py",
    "benchmarks/training/checkpoint_callback.py",
    "benchmarks/training_precision.py",
    "benchmarks/training/stage_key.py",
    "benchmarks/training/checkpoint_io.py",
    "leaderboards/metrics.py",
)
# Files beside those of the models that all of them may use.
SHARED = ("models/__init__.py", "models/api.py")
LIBRARIES = ("numpy", "pytorch-lightning", "scikit-learn", "transformers")


def sources_sha256(owner: type, root: Path = ROOT) -> str:
    """Hash of the code that can change how a module of class `owner` trains, and of the libraries' versions.

    Of the models' own files, `models/<name>.py`, that of `owner` counts alone: none imports another
    (`tests/test_floors.py`), and what a model makes for another enters as weights and buffers. Of everything else,
    all of `models/` and `data_prep/` counts, whoever imports it.
    """
    known, own = _contents(root), Path(*owner.__module__.split(".")).with_suffix(".py").as_posix()
    code = {name: content for name, content in known.items() if not _is_a_models_own(name) or name == own}
    if own not in known:
        code[own] = content_sha256(Path(inspect.getfile(owner)))
    versions = {**{name: version(name) for name in LIBRARIES}, "torch": torch_version()}
    facts = sorted({**code, **versions}.items())
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def state_sha256(module: pl.LightningModule) -> str:
    """Hash of parameters and buffers, those that no checkpoint holds among them, and of what is neither: tensors,
    arrays and plain values in attributes, which may be lists, dictionaries and dataclasses, but not the config."""
    digest = hashlib.sha256()
    ours = vars(pl.LightningModule()).keys()
    plain = (
        leaf
        for place, part in module.named_modules()
        for name, value in vars(part).items()
        if name not in ours and value is not module.config
        for leaf in _leaves(f"{place}.{name}", value)
    )
    for name, value in sorted([*module.named_parameters(), *module.named_buffers(), *plain], key=itemgetter(0)):
        if isinstance(value, torch.Tensor):
            digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
            digest.update(value.detach().cpu().to_dense().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        else:
            digest.update(f"{name} {value!r}".encode())
    return digest.hexdigest()


def _is_a_models_own(name: str) -> bool:
    return Path(name).parent == Path("models") and name not in SHARED


@functools.cache
def _contents(root: Path) -> dict[str, str]:
    """Hashes of the files by name, as they were when this process first asked: later edits are not what it runs."""
    return {file.relative_to(root).as_posix(): content_sha256(file) for file in _files(root)}


def _files(root: Path) -> Iterator[Path]:
    for package in ("data_prep", "models"):
        yield from (root / package).rglob("*.py")
    yield from (root / name for name in HARNESS)


def _leaves(place: str, value: object) -> Iterator[tuple[str, Any]]:
    """Tensors and plain values in an attribute, each with its place; nothing of objects, which have no one spelling."""
    if isinstance(value, np.ndarray):
        value = value.tolist() if value.dtype.kind in "OUSMm" else torch.as_tensor(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, torch.Tensor | np.generic | bool | int | float | complex | str | bytes | None):
        yield place, value
    elif isinstance(value, set | frozenset):
        yield place, sorted(map(repr, value))
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _leaves(f"{place}.{key}", one)
    elif isinstance(value, list | tuple):
        for number, one in enumerate(value):
            yield from _leaves(f"{place}.{number}", one)
