"""The `tuned` fields of a config and of its parts, by dotted name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.config import setting
from benchmarks.experiments import Experiment, variant
from models.api import SEARCH_RANGE

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


class Tuned(NamedTuple):
    """Attributes: name, dotted; default, of this config; search, as `models.api.tuned` was given it."""

    name: str
    default: Any
    search: dict[str, Any]


def tuned_fields(config: Any, prefix: str = "") -> Iterator[Tuned]:
    """The fields of a config that a sweep may move, those of its parts included."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from tuned_fields(value, f"{prefix}{field.name}.")
        elif SEARCH_RANGE in field.metadata:
            yield Tuned(prefix + field.name, value, field.metadata[SEARCH_RANGE])


def space_of(experiment: Experiment, settings: tuple[str, ...] = ()) -> dict[str, BaseDistribution]:
    """What a sweep of the experiment searches: all tuned fields but those that the experiment or `settings` fix.

    Raises:
        ValueError: nothing is left to search.
    """
    fixed = {*variant(experiment.whole).changes(), *(setting(text)[0] for text in settings)}
    fields = [field for field in tuned_fields(experiment.config) if field.name not in fixed]
    if not fields:
        raise ValueError(f"{experiment.name} has no tuned field to search; a sweep needs at least one")
    return {field.name: distribution(field) for field in fields}


def defaults_of(experiment: Experiment, space: dict[str, BaseDistribution]) -> dict[str, Any]:
    """The experiment's own values, a point of the space."""
    return {field.name: field.default for field in tuned_fields(experiment.config) if field.name in space}


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
