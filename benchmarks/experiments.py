"""Named, complete experiments: a model, and every field of its config.

A model's own name is its paper's configuration; on corpora of a few thousand users it is the model's `SMALL` one. A
variant changes a few fields of that. People write this file.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pydantic

import models


class Variant(NamedTuple):
    model: str
    settings: Mapping[str, Any]


VARIANTS = {
    "sasrec-bce": Variant("sasrec", {"loss": "bce"}),
    "tiger-sas": Variant("tiger", {"vectors": "sasrec-128"}),
}

# A smaller sample of users would choose a row's epoch by chance.
FEWEST_VALID_USERS = 5_000

# Too small for the papers' sizes: a paper-size model has more weights than they have interactions.
SMALL_CORPORA = ("all_beauty", "planted", "planted_noise")


@dataclass(frozen=True)
class Experiment:
    """Attributes: name, as on the board; model, a file of `models/`; config, complete."""

    name: str
    model: str
    config: Any


def names() -> list[str]:
    return sorted([*models.names(), *VARIANTS])


def complete(name: str, corpus: str, settings: Iterable[str] = ()) -> Experiment:
    """The experiment `name` on a corpus, with `key=value` settings applied.

    Values are JSON where they parse as JSON, else strings; keys of nested fields are dotted (`tokenizer.lr=0.001`).

    Raises:
        ValueError: unknown experiment or key (with a suggestion), or a value of the wrong type.
    """
    if name not in names():
        raise ValueError(f"no model or experiment {name!r}; possible: {', '.join(names())}{_near(name, names())}")
    variant = VARIANTS.get(name, Variant(name, {}))
    model = models.load(variant.model)
    base = model.SMALL if corpus in SMALL_CORPORA else model.Config()
    changes = dict(variant.settings) | dict(_setting(text) for text in settings)
    config = changed(base, changes, variant.model)
    sample = getattr(config, "valid_users", None)
    if sample is not None and sample < FEWEST_VALID_USERS:
        raise ValueError(f"{name} option valid_users is {sample}; expected null or at least {FEWEST_VALID_USERS}")
    return Experiment(name, variant.model, config)


def changed(base: Any, changes: Mapping[str, Any], owner: str) -> Any:
    """A copy of a config with dotted keys changed and every value checked against its field's type."""
    values = dataclasses.asdict(base)
    possible = sorted(_keys(values))
    for key, value in changes.items():
        if key not in possible:
            raise ValueError(f"{owner} has no option {key!r}; possible: {', '.join(possible)}{_near(key, possible)}")
        *path, last = key.split(".")
        place = values
        for step in path:
            place = place[step]
        place[last] = value
    try:
        return pydantic.TypeAdapter(type(base)).validate_python(values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{owner} option {where} is {first['input']!r}: {first['msg']}") from None


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"setting {text!r} is not of the form key=value")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _keys(values: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def _near(given: str, possible: Iterable[str]) -> str:
    near = difflib.get_close_matches(given, list(possible), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
