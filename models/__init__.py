"""One file, one paper. A file `models/<name>.py` is the model `<name>`; nothing else registers it."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from typing import cast

from models.api import Model


def names() -> list[str]:
    """Names of all models: the modules of this folder, save `api`."""
    found = (module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)
    return sorted(name for name in found if name != "api")


def load(name: str) -> Model:
    """The module `models/<name>.py`.

    Raises:
        ValueError: there is no such file, or it lacks a part of the contract (`models.api.Model`).
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no model {name!r}; {hint}possible: {', '.join(names())}")
    module = importlib.import_module(f"models.{name}")
    missing = [part for part in ("Config", "SMALL", "train") if not hasattr(module, part)]
    if missing:
        raise ValueError(f"models/{name}.py defines no {', '.join(missing)}; a model needs Config, SMALL and train")
    return cast(Model, module)
