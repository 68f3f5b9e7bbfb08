"""Makes the run of a record again with the code of the record's commit.

`benchmarks.checks.reproduce` starts this file as a script in a work tree of that commit and imports nothing of it, so
it keeps to what every commit since protocol v1 has.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
import json
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import data_prep
from benchmarks import run as running
from benchmarks.experiments import Experiment, complete

# Exit status where the corpus cannot be had.
ABSENT = 3
# In this file at every commit, whatever it was written in.
Bench: Any = vars(running)["Bench"]
# The config as that commit's records have it; the first ones have every field.
PUBLISHED: Any = vars(running).get("published_config", lambda found: dataclasses.asdict(found.config))
# How the note begins that names settings, `leaderboards.rows.OVERRIDDEN`, which the first commits do not have.
OVERRIDDEN = "overridden:"
# How the source of a user's own file begins, `data_prep.own_corpus.SOURCE`, which they do not have either.
OWN = "own-"


def main() -> None:
    """Prints where the new record lies. Of several processes Lightning starts all but the first, with this script."""
    options = _options()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    told = json.loads(options.record.read_bytes())
    try:
        corpus = _corpus(told["corpus"]["name"].removesuffix("_unseen_users"), options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(ABSENT)
    asked = {"accelerator": options.accelerator, "devices": options.processes}
    asked |= {name: told["provenance"][name] for name in ("threads", "precision")}
    # The class, whose module has moved since the first commits.
    kind: Any = next(field.default_factory for field in dataclasses.fields(Bench) if field.name == "hardware")
    known = {field.name for field in dataclasses.fields(kind)}
    hardware = kind(**{name: value for name, value in asked.items() if name in known})
    bench = Bench(options.board, options.work, options.vectors_path, hardware)
    own = corpus if options.source.startswith(OWN) else None
    try:
        again = experiment(told, own)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(running.run(bench, corpus, again, told["seed"]))


def experiment(told: Mapping[str, Any], corpus: Any = None) -> Experiment:
    """The experiment of a record under its own name, with whatever settings its config needs.

    Args:
        corpus: that of a user's own file, whose sizes its name does not tell.

    Raises:
        ValueError: the name, or an option of the config, is not known to this code.
    """
    settings = [text for note in told["notes"] if OVERRIDDEN in note for text in note.removeprefix(OVERRIDDEN).split()]
    every = [f"{name}={json.dumps(value)}" for name, value in _flat(told["config"])]
    for given in ([], settings, every):
        for tuned in ({"tuned": True}, {"tuned": False}):
            # The first commits knew no sweeps.
            how = tuned if "tuned" in inspect.signature(complete).parameters else {}
            try:
                found = complete(told["experiment"], corpus or told["corpus"]["name"], given, **how)
            except ValueError:
                # A note parts what has a blank in it.
                if given is every:
                    raise
                continue
            if json.loads(json.dumps(PUBLISHED(found))) == told["config"]:
                return found
    raise ValueError(f"no settings of {told['experiment']} give the config of the record; expected those of its commit")


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _corpus(name: str, options: argparse.Namespace) -> Any:
    """The corpus of a record; that of a user's own file, which no commit before such files has, as it was prepared."""
    if options.source.startswith(OWN):
        return importlib.import_module("data_prep.own_corpus").reopen(name, options.source, options.prepared)
    return data_prep.load(name, source=options.source)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("record", type=Path)
    parser.add_argument("--board", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--accelerator", required=True)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--source", required=True)
    parser.add_argument("--prepared", type=Path, required=True)
    parser.add_argument("--vectors-path", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
