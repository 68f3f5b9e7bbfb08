"""The `tuned` fields of a config and of its parts, by dotted name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.config import setting, unread
from benchmarks.experiments import Experiment, variant
from models.api import SEARCH_RANGE

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


# What a value of a trial can be. A winner's file is TOML, which has no null, and the page of a study shows no lists.
Plain = bool | int | float | str


class Tuned(NamedTuple):
    """Attributes: name, dotted; default, of this config; declared, the default that `models.api.tuned` was given;
    search, what else it was given."""

    name: str
    default: Any
    declared: Any
    search: dict[str, Any]

    def __str__(self) -> str:
        """As the model's file has it."""
        return f"tuned({', '.join([repr(self.declared), *(f'{key}={value!r}' for key, value in self.search.items())])})"


def tuned_fields(config: Any, prefix: str = "") -> Iterator[Tuned]:
    """The fields of a config that a sweep may move, those of its parts included."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from tuned_fields(value, f"{prefix}{field.name}.")
        elif SEARCH_RANGE in field.metadata:
            yield Tuned(prefix + field.name, value, field.default, field.metadata[SEARCH_RANGE])


def space_of(
    experiment: Experiment, settings: tuple[str, ...] = (), at_small_size: bool = False
) -> dict[str, BaseDistribution]:
    """What a sweep of the experiment searches: all tuned fields but those that the experiment or `settings` fix, and
    those that nothing reads.

    Args:
        at_small_size: on a corpus whose experiments have their small sizes, where a name fixes fewer fields.

    Raises:
        ValueError: nothing is left to search, a field's search is none, or a setting is of a field that the name fixes.
    """
    of_name, told = variant(experiment.whole).changes(at_small_size), {setting(text)[0] for text in settings}
    for option in sorted(of_name.keys() & told):
        raise ValueError(
            f"{experiment.name} is {experiment.model} with a {option} of its own, which its rows would have; expected "
            f"no setting of {option}, or a sweep of another name"
        )
    config = experiment.config
    fields = [field for field in tuned_fields(config) if field.name not in {*of_name, *told}]
    fields = [field for field in fields if not unread(config, field.name)]
    if not fields:
        fixed = ", ".join(sorted(told & {field.name for field in tuned_fields(config)}))
        raise ValueError(
            f"{experiment.name} has no tuned field to search"
            + (f" but what is set ({fixed})" if fixed else "")
            + "; a sweep needs at least one"
        )
    for field in fields:
        if expected := _expected(field):
            given = f"{field.default!r:.100}, searched by {field!s:.200}"
            raise ValueError(f"{experiment.model} option {field.name} is {given}; expected {expected}")
    return {field.name: distribution(field) for field in fields}


def defaults_of(experiment: Experiment, space: dict[str, BaseDistribution]) -> dict[str, Any]:
    """The experiment's own values, a point of the space."""
    return {field.name: field.default for field in tuned_fields(experiment.config) if field.name in space}


def _expected(field: Tuned) -> str | None:
    """What a field should have been, where it cannot be searched as it is."""
    match field.search:
        case {"choices": list() | tuple() as choices, **rest} if not rest:
            if not all(isinstance(value, Plain) for value in (field.default, *choices)):
                return "booleans, numbers or strings, which alone the file of a winner can hold"
            return None if field.declared in choices else "a default that is among the choices"
        case {"low": low, "high": high, **rest} if rest.keys() <= {"log"} or rest.keys() <= {"step"}:
            numbers = all(isinstance(value, int | float) for value in (field.default, field.declared, low, high))
            if not numbers or not low <= field.declared <= high or (rest.get("log") and low <= 0):
                return "numbers, low <= default <= high, and low above 0 with log"
            return None
    return "low and high, with log or step where wanted, or a list of choices"


def distribution(field: Tuned) -> BaseDistribution:
    """The range of one field, widened to hold the default: small configs may lie outside the paper's range."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    default, search = field.default, field.search
    if "choices" in search:
        choices = search["choices"]
        return CategoricalDistribution(choices if default in choices else sorted([*choices, default]))
    low, high = min(search["low"], default), max(search["high"], default)
    more = {name: value for name, value in search.items() if name not in ("low", "high")}
    whole = isinstance(default, int) and isinstance(low, int) and isinstance(high, int)
    return IntDistribution(low, high, **more) if whole else FloatDistribution(low, high, **more)
