"""One file, one paper. A file `models/<name>.py` is the model `<name>`; nothing else registers it."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import json
import re
from pathlib import Path
from types import ModuleType
from typing import cast

from models.api import Model

# Of a module, and of a row.
NAMED = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def names() -> list[str]:
    """Names of all models: the modules of this folder, save `api`.

    Raises:
        ValueError: a file has a name that no module can have, and what is trained could not be exported.
    """
    files = {file.stem for folder in __path__ for file in Path(folder).glob("[!.]*.py")}
    found = sorted(files - {"__init__", "api"})
    wrong = next((name for name in found if not NAMED.fullmatch(name)), None)
    if wrong is not None:
        raise ValueError(f"models/{wrong}.py names no model; expected a letter of ASCII, then letters, digits and _")
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
    _check_defaults(name, module)
    return cast(Model, module)


def _check_config(name: str, config: type) -> None:
    """
    Raises:
        ValueError: some of what the class seems to set would be no option, and no record would tell it.
    """
    # Of the class itself: a subclass of a dataclass is none by that alone, and has no option more.
    if "__dataclass_fields__" not in vars(config):
        raise ValueError(f"models/{name}.py: Config is no dataclass; expected @dataclass(frozen=True) on it")
    if not config.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise ValueError(f"models/{name}.py: Config can be changed; expected @dataclass(frozen=True) on it")
    annotated = vars(config).get("__annotations__", {})
    # Methods and properties have `__get__`, what is a mere value has not.
    values = [key for key, value in vars(config).items() if not (hasattr(value, "__get__") or isinstance(value, type))]
    untyped = [key for key in values if key not in annotated and not key.startswith("_")]
    if untyped:
        raise ValueError(
            f"models/{name}.py: Config has {', '.join(untyped)} without a type, which is no option; expected a type, "
            f"as in `{untyped[0]}: Count = ...`, or ClassVar"
        )


def _check_defaults(name: str, module: ModuleType) -> None:
    """
    Raises:
        ValueError: there is no default config, or one that no record can hold.
    """
    if not isinstance(module.SMALL, module.Config):
        raise ValueError(f"models/{name}.py: SMALL is {module.SMALL!r:.200}; expected a Config(...)")
    try:
        config = module.Config()
    except TypeError as error:
        raise ValueError(f"models/{name}.py: {error}; expected a default of every field of Config") from error
    for made in (config, module.SMALL):
        for field, value in dataclasses.asdict(made).items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"models/{name}.py: Config has {field} = {value!r:.200}; expected what JSON can hold, for every "
                    "option is part of a row"
                ) from error
