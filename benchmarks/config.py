"""Configs of models: options by dotted name, changed and held against the ranges that their fields declare."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import pydantic
from pydantic_core import ErrorDetails

from models.api import LATER

# Kinds of pydantic's errors, as a user reads them.
OUT_OF_RANGE = {
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "more than {gt:g}",
    "less_than": "less than {lt:g}",
    "finite_number": "a finite number",
    "boolean": "a number",
}


def described(settings: Mapping[str, Any]) -> str:
    """Settings as one would type them after `--set`."""
    return " ".join(
        f"{key}={value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))}"
        for key, value in settings.items()
    )


def changed(base: Any, changes: Mapping[str, Any], owner: str) -> Any:
    """A copy of a config with dotted keys changed and every value checked against its field's type."""
    values = dataclasses.asdict(base)
    possible = sorted(dict(flat(values)))
    for key, value in changes.items():
        if key not in possible:
            raise ValueError(
                f"{owner} has no option {key!r:.200}; {near(key, possible)}possible: {', '.join(possible)}"
            )
        *path, last = key.split(".")
        place = values
        for step in path:
            place = place[step]
        place[last] = value
    return _checked(type(base), values, owner)


# To make one takes longer than to check a config by it.
_adapter = cache(pydantic.TypeAdapter)


def _checked(kind: Any, values: Mapping[str, Any], owner: str) -> Any:
    """Values as a config of that kind, each checked against its field's type."""
    try:
        return _adapter(kind).validate_python(values)
    except pydantic.ValidationError as error:
        raise ValueError(f"{owner} {_refused(error.errors()[0])}") from None


def _refused(error: ErrorDetails) -> str:
    """What is wrong with a value, or with values together."""
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "value_error":
        return f"options {where + ': ' if where else ''}{error['msg'].removeprefix('Value error, ')}"
    given = f"option {where:.200} is {error['input']!r:.200}"
    if error["type"] in OUT_OF_RANGE:
        return f"{given}; expected {OUT_OF_RANGE[error['type']].format(**error.get('ctx', {}))}"
    return f"{given}: {error['msg']}"


def read(kind: Any, values: Mapping[str, Any], owner: str) -> Any:
    """A config of what was once written down of one; a field that came later has its default.

    Raises:
        ValueError: a value cannot be by now, or an option is no longer there.
    """
    config = _checked(kind, values, f"{owner}:")
    # Without an option that it was made with a model is another one, and nothing else would tell.
    gone = dict(flat(values)).keys() - dict(flat(dataclasses.asdict(config))).keys()
    if gone:
        raise ValueError(f"{owner}: the model has no option {', '.join(sorted(gone))}")
    return config


def recorded(config: Any) -> dict[str, Any]:
    """A config as records and keys have it: no `later` field, of its parts neither, that says what was before."""
    values = dataclasses.asdict(config)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if LATER in field.metadata and value == field.default:
            del values[field.name]
        elif dataclasses.is_dataclass(value):
            values[field.name] = recorded(value)
    return values


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Options of a config by their full names, those of a part dotted, as `changed` takes them."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def unread(config: Any, option: str) -> bool:
    """Whether nothing reads an option, beside the values of the others: by what a config, and a part of it, say."""
    first, _, rest = option.partition(".")
    if {option, first}.intersection(getattr(config, "unread", ())):
        return True
    return bool(rest) and unread(getattr(config, first), rest)


def setting(text: str) -> tuple[str, Any]:
    """`key=value` as key and value, JSON where it parses as JSON; a ValueError without an equals sign."""
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"setting {text!r:.200} is not of the form key=value")
    try:
        return key, json.loads(value)
    except (ValueError, RecursionError):
        return key, value


def check_each_once(settings: Iterable[str]) -> None:
    """Of what a person has typed.

    Raises:
        ValueError: an option is set twice.
    """
    for option, times in Counter(text.partition("=")[0] for text in settings).items():
        if times > 1:
            raise ValueError(f"{option} is set {times} times; expected one value")


def near(given: str, possible: Iterable[str]) -> str:
    """What was probably meant, before a list of all that is possible; empty where nothing is close."""
    close = difflib.get_close_matches(given, list(possible), n=1)
    return f"did you mean {close[0]!r}? " if close else ""
