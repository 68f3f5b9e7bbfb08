"""One file, one paper. A file `models/<name>.py` is the model `<name>`; nothing else registers it."""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path
from typing import cast

from models.api import Model


def names() -> list[str]:
    """Names of all models: the modules of this folder, save `api`.

    Raises:
        ValueError: a file has a name that no module can have, and what is trained could not be exported.
    """
    files = {file.stem for folder in __path__ for file in Path(folder).glob("[!.]*.py")}
    found = sorted(files - {"__init__", "api"})
    wrong = next((name for name in found if not name.isidentifier()), None)
    if wrong is not None:
        raise ValueError(f"models/{wrong}.py names no model; expected letters, digits and _, and no digit first")
    return found


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
    _check_config(name, module.Config)
    return cast(Model, module)


def _check_config(name: str, config: type) -> None:
    """
    Raises:
        ValueError: some of what the class seems to set would be no option, and no record would tell it.
    """
    # Of the class itself: a subclass of a dataclass is none by that alone, and has no option more.
    if "__dataclass_fields__" not in vars(config):
        raise ValueError(f"models/{name}.py: Config is no dataclass; expected @dataclass(frozen=True) on it")
    annotated = vars(config).get("__annotations__", {})
    # Methods and properties have `__get__`, what is a mere value has not.
    values = [key for key, value in vars(config).items() if not (hasattr(value, "__get__") or isinstance(value, type))]
    untyped = [key for key in values if key not in annotated and not key.startswith("_")]
    if untyped:
        raise ValueError(
            f"models/{name}.py: Config has {', '.join(untyped)} without a type, which is no option; expected a type, "
            f"as in `{untyped[0]}: Count = ...`, or ClassVar"
        )
