"""The complete config of an experiment, and where each value is from, as `python -m benchmarks show` prints it."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import textwrap
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

from tabulate import tabulate

import models
from benchmarks import experiments
from benchmarks.config import described, flat
from benchmarks.experiments import Experiment, Layers
from data_prep.amazon2023 import category_of
from data_prep.corpus import Corpus, source_name

WIDTH = 120
# Of values, sources and defaults; what is said of a field has the rest.
VALUES, SOURCES, DEFAULTS = 20, 8, 14


class Option(NamedTuple):
    """One value of a config.

    Attributes:
        name: dotted.
        source: which layer set it last: `default`, `small`, `paper`, `sweep`, `variant` or `--set`.
        default: of the model's Config.
        says: what its field is and whose the default is, as the source has it; empty where that says nothing.
    """

    name: str
    value: Any
    source: str
    default: Any
    says: str


def shown(name: str, corpus: str | Corpus, settings: Iterable[str] = (), tuned: bool = True) -> str:
    """A table of all options, their sources explained above it, and what the config's parts say of themselves below.

    Raises:
        ValueError: there is no such corpus, or what `experiments.complete` raises.
    """
    if isinstance(corpus, str):
        category_of(source_name(corpus))
    settings = list(settings)
    experiment = experiments.complete(name, corpus, settings, tuned)
    made_of = experiments.layers(experiment.whole, corpus, settings, tuned)
    rows = options(experiment, made_of)
    on = corpus if isinstance(corpus, str) else corpus.name
    title = f"{name} on {on}: {len(rows)} options of models/{experiment.model}.py"
    sources = {row.source for row in rows}
    used = [f"{source}: {text}" for source, text in _legend(experiment, made_of) if source in sources]
    said = [f"{part}: {text}" for part, text in _parts(experiment.config, experiment.model)]
    blocks = ["\n".join(_filled([title, *used])), _table(rows) if rows else "", "\n".join(_filled(said))]
    return "\n\n".join(block for block in blocks if block)


def options(experiment: Experiment, made_of: Layers) -> list[Option]:
    """All values of an experiment's config, in the order of its fields."""
    default, base = (_flat(config) for config in (models.load(experiment.model).Config(), made_of.base))
    source = {name: "default" if base[name] == default[name] else "small" for name in base}
    for layer, changes in (
        ("paper", made_of.papers),
        ("sweep", made_of.found.changes),
        ("variant", made_of.variant),
        ("--set", made_of.settings),
    ):
        source |= dict.fromkeys(changes, layer)
    return [
        Option(name, value, source[name], default[name], _said(experiment.config, name))
        for name, value in _flat(experiment.config).items()
    ]


def _legend(experiment: Experiment, made_of: Layers) -> Iterator[tuple[str, str]]:
    yield "default", "Config, the paper's setting unless the last column says otherwise"
    yield "small", "SMALL, sizes for corpora of a few thousand users"
    yield "paper", f"what the paper sets otherwise on this corpus, {described(made_of.papers)}"
    if tuned := made_of.found.tuned_config:
        yield "sweep", f"{tuned.note()}, trial {tuned.trial}"
    yield "variant", f"{experiment.whole}, {described(made_of.variant)}"
    yield "--set", described(made_of.settings)


def _table(rows: list[Option]) -> str:
    lines = [
        (row.name, _typed(row.value), row.source, _typed(row.default) if row.value != row.default else "", row.says)
        for row in rows
    ]
    columns = ("Option", "Value", "Source", "Default", "What it is")
    rest = WIDTH - max(len(row.name) for row in rows) - VALUES - SOURCES - DEFAULTS - 2 * (len(columns) - 1)
    return tabulate(lines, columns, maxcolwidths=[None, VALUES, SOURCES, DEFAULTS, rest], disable_numparse=True)


def _flat(config: Any) -> dict[str, Any]:
    return dict(flat(dataclasses.asdict(config)))


def _typed(value: Any) -> str:
    """As one would type it after `--set`."""
    return value if isinstance(value, str) else json.dumps(value)


def _filled(lines: Iterable[str]) -> list[str]:
    return [textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in lines]


def _said(config: Any, name: str) -> str:
    """What the docstring of an option's field says."""
    *path, field = name.split(".")
    for part in path:
        config = getattr(config, part)
    kind: Any = type(config)
    return field_docs(kind).get(field, "")


def _parts(config: Any, name: str) -> Iterator[tuple[str, str]]:
    """The config and the parts in it that have a docstring of their own, and the docstring."""
    if text := ast.get_docstring(_class(type(config))):
        yield name, " ".join(text.split())
    for field in dataclasses.fields(config):
        if dataclasses.is_dataclass(value := getattr(config, field.name)):
            yield from _parts(value, field.name)


@cache
def field_docs(config: type) -> dict[str, str]:
    """The docstrings below the fields of a dataclass, inherited ones too, which Python forgets; each on one line."""
    found: dict[str, str] = {}
    for part in filter(dataclasses.is_dataclass, reversed(config.__mro__)):
        for field, below in pairwise(_class(part).body):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = " ".join(text.split())
    return found


def _class(config: type) -> ast.ClassDef:
    """The source of a class."""
    (node,) = ast.parse(inspect.getsource(config)).body
    assert isinstance(node, ast.ClassDef)
    return node
