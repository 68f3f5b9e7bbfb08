"""A trained module as plain values and tensors, and back: its class, what it was made from, its weights. No pickle.

Classes are named, and only those of `models` are made; a file from a stranger can therefore run no code of his.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.config import read
from models.parts.construction import CONSTRUCTOR, construction

PACKAGE = "models."
# Begins the names of all tensors.
ROOT = "model"
# Keys of what stands for a value that JSON has not.
CLASS, TENSOR, STEPS, STATE, FIELDS = "class", "tensor", "steps", "state", "fields"


def described(value: Any, tensors: dict[str, Tensor], path: str = ROOT) -> Any:
    """A value that JSON can hold.

    Args:
        tensors: takes in the tensors of the value.
        path: begins their names.

    Raises:
        ValueError: it holds something that is neither a plain value, a tensor, a config nor a module of `models`.
    """
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Tensor():
            # A clone, since a file of safetensors has no two that share memory.
            tensors[path] = value.detach().cpu().clone().contiguous()
            return {TENSOR: path}
        case list() | tuple():
            return [described(each, tensors, f"{path}.{number}") for number, each in enumerate(value)]
        case nn.Module():
            return _described_module(value, tensors, path)
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and type(value).__module__.startswith(PACKAGE):
        return {CLASS: _name(type(value)), FIELDS: dataclasses.asdict(value)}
    raise ValueError(f"{path} is a {type(value).__name__}; expected a number, text, a tensor, a config or a module")


def _described_module(module: nn.Module, tensors: dict[str, Tensor], path: str) -> dict[str, Any]:
    steps = []
    for number, (method, arguments) in enumerate(construction(module)):
        said = {name: described(value, tensors, f"{path}.{number}.{name}") for name, value in arguments.items()}
        steps.append([method, said])
    # An argument without weights, an item index, is what its own arguments made it, whatever became of it later.
    kept = path == ROOT or any(True for _ in module.parameters())
    if kept:
        for name, tensor in module.state_dict().items():
            tensors[f"{path}/{name}"] = tensor.detach().cpu().clone().contiguous()
    return {CLASS: _name(type(module)), STEPS: steps, STATE: path if kept else None}


def rebuilt(said: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The value that `described` told of.

    Raises:
        ValueError: it names what is no class of `models`, a step that no module of it remembers, or tensors that are
            not there or do not fit.
    """
    match said:
        case list():
            return tuple(rebuilt(each, tensors) for each in said)
        case {"tensor": str(name), **rest} if not rest:
            if name not in tensors:
                raise ValueError(f"tensor {name} is missing")
            return tensors[name]
        case {"class": str(name), "fields": dict(fields), **rest} if not rest:
            return _config(name, fields)
        case {"class": str(name), "steps": list(steps), "state": str() | None as path, **rest} if not rest:
            module = _module(name, steps, tensors)
            return module if path is None else _with_state(module, _beneath(path, tensors))
        case None | bool() | int() | float() | str():
            return said
    raise ValueError(f"{said!r:.100} is no value of a module")


def _config(name: str, fields: dict[str, Any]) -> Any:
    kind = _class(name)
    if not dataclasses.is_dataclass(kind):
        raise ValueError(f"{name} is no config")
    return read(kind, fields, f"config {name}")


def _module(name: str, steps: list[Any], tensors: Mapping[str, Tensor]) -> nn.Module:
    kind = _class(name)
    if not issubclass(kind, nn.Module):
        raise ValueError(f"{name} is no module")
    module: nn.Module | None = None
    # Its weights are drawn, and thrown away: the draws are nobody else's business.
    with torch.random.fork_rng(devices=[]):
        for step in steps:
            match step:
                case [str(method), dict(arguments)] if (module is None) == (method == CONSTRUCTOR):
                    given = {key: rebuilt(value, tensors) for key, value in arguments.items()}
                case _:
                    raise ValueError(f"{name} has {step!r:.100}; expected its constructor, then its later stages")
            # Of the class: asked of the module, a property would be computed.
            if module is not None and not getattr(getattr(kind, method, None), "remembered", False):
                raise ValueError(f"{name} has no stage {method!r:.100}")
            try:
                made = kind(**given) if module is None else getattr(module, method)(**given)
            # What a constructor does with arguments that are not its own, nobody can say beforehand.
            except Exception as error:
                raise ValueError(f"{name}, {method}: {error}") from error
            module = made if module is None else module
    if module is None:
        raise ValueError(f"{name} has no steps; expected its constructor")
    return module


def _with_state(module: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        said = " ".join(str(error).split())
        raise ValueError(f"the tensors are not those of {type(module).__name__}: {said}") from None
    return module.eval()


def _beneath(path: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{path}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{path}/")}


def _name(kind: type) -> str:
    if not kind.__module__.startswith(PACKAGE):
        raise ValueError(f"{kind.__module__}.{kind.__qualname__} is no class of the package models")
    return f"{kind.__module__}.{kind.__qualname__}"


def _class(name: str) -> Any:
    """
    Raises:
        ValueError: it is none of the package.
    """
    module, _, last = name.rpartition(".")
    parts = module.split(".")
    found = None
    if name.startswith(PACKAGE) and all(part.isidentifier() for part in parts):
        try:
            found = getattr(importlib.import_module(module), last, None)
        except ImportError:
            found = None
    if not isinstance(found, type) or found.__module__ != module:
        raise ValueError(f"there is no class {name!r:.100}; expected one of the package models, of this version")
    return found
