"""What a model is given beside the interactions: item vectors, trained ones among them, and codes from a file."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import models
from benchmarks import experiments
from benchmarks.config import recorded
from benchmarks.experiments import Experiment, small
from benchmarks.settings import Bench
from benchmarks.training.fit import Fit
from data_prep.atomic import atomic_file
from data_prep.codes_file import find_codes, read_codes
from data_prep.corpus import Corpus, ItemCodes, ItemVectors
from data_prep.embed import ENCODED, WITH_PATH, item_vectors, no_text
from data_prep.embed import recipe as vectors_recipe
from leaderboards.record import CodesInfo
from models.api import HasItemVectors

# Fields of a config that name item vectors.
VECTORS = ("vectors", "collaborative")
# Item vectors that are trained within the run, on its training part and under its seed: `sasrec-<width>`.
TRAINED = "sasrec"
# Steps of that training, in which nobody looks at validation, rounded up to whole epochs. No paper states them, nor
# layers, heads and batch, which are SASRec's here. SASRec's own row on Musical_Instruments has its best epoch before
# (after 900 to 1,800) and ends by patience after 3,150 to 4,050. On a small corpus three times as many as on planted,
# for narrow vectors learn slowly.
SMALL_STEPS, STEPS = 1_920, 2_700


def check_text(corpus: Corpus, chosen: Iterable[Experiment]) -> None:
    """What a bench would come to after it had trained all others.

    Raises:
        ValueError: the item vectors of some experiments are made from text, and the corpus has none.
    """
    asked = [(experiment.name, _kind(experiment, field)) for experiment in chosen for field in VECTORS]
    wanting = {name: kind for name, kind in asked if kind is not None and kind in ENCODED}
    if wanting and corpus.item_text is None:
        raise ValueError(f"{', '.join(wanting)}: {no_text(corpus, next(iter(wanting.values())))}")


def check_path(path: Path | None, chosen: Sequence[Experiment]) -> None:
    """
    Args:
        path: that was given for item vectors.

    Raises:
        ValueError: none of the experiments reads any.
    """
    kinds = {_kind(experiment, field) for experiment in chosen for field in VECTORS}
    if path is not None and kinds.isdisjoint(WITH_PATH):
        names = ", ".join(experiment.name for experiment in chosen)
        raise ValueError(
            f"{path} is given for item vectors (--vectors-path), but {names} reads none of a path: "
            f"expected a setting, vectors={' or vectors='.join(WITH_PATH)}"
        )


def identity(bench: Bench, corpus: Corpus, experiment: Experiment) -> dict[str, dict[str, Any] | None]:
    """Of each input how it is made, the same on every processor, whose item vectors differ in the last digits; None
    where the config names none. None is made for it."""
    codes = _codes(corpus, experiment)
    recipes = {field: _recipe(bench, corpus, experiment, field) for field in VECTORS}
    return {**recipes, "codes": {"sha256": codes.sha256} if codes else None}


def with_inputs(bench: Bench, experiment: Experiment, fit: Fit) -> Corpus:
    """What a model is given: the corpus of its `fit`, which has no test part, with the item vectors and the file of
    codes that the experiment's config names, of which a copy is kept.

    Raises:
        ValueError, OSError: they cannot be had.
    """
    vectors, collaborative = (_vectors(bench, experiment, field, fit) for field in VECTORS)
    codes = _codes(fit.corpus, experiment)
    if codes:
        named = experiment.config.codes
        _keep(find_codes(fit.corpus, named), kept_codes(bench.work, codes.sha256, named))
    return dataclasses.replace(fit.corpus, vectors=vectors, collaborative=collaborative, codes=codes)


def kept_codes(work: Path, sha256: str, named: str) -> Path:
    """Where a training keeps its file of codes, for a record does not name the folder that it was in.

    Args:
        sha256: of the file.
        named: the config's `codes`.
    """
    return work / "codes" / sha256 / Path(named).name


def with_kept_codes(experiment: Experiment, codes: CodesInfo | None, work: Path) -> Experiment:
    """The experiment of a record with `codes` that its training has kept; as it is without such."""
    kept = kept_codes(work, codes.sha256, experiment.config.codes) if codes else None
    if kept is None or not kept.is_file():
        return experiment
    return dataclasses.replace(experiment, config=dataclasses.replace(experiment.config, codes=str(kept)))


def _kind(experiment: Experiment, field: str) -> str | None:
    """The item vectors that a config names in one of the fields `VECTORS`; None where it has none."""
    return getattr(experiment.config, field, None)


def _recipe(bench: Bench, corpus: Corpus, experiment: Experiment, field: str) -> dict[str, Any] | None:
    """How those item vectors are made."""
    kind = _kind(experiment, field)
    if kind is None:
        return None
    if kind.startswith(TRAINED):
        return {"kind": kind, "model": TRAINED, "config": recorded(_trained_config(kind, corpus))}
    return vectors_recipe(corpus, kind, bench.vectors_path)


def _codes(corpus: Corpus, experiment: Experiment) -> ItemCodes | None:
    named = getattr(experiment.config, "codes", None)
    return read_codes(corpus, find_codes(corpus, named)) if named else None


def _keep(file: Path, kept: Path) -> None:
    if not kept.exists():
        with atomic_file(kept) as new:
            new.write(file.read_bytes())


def _vectors(bench: Bench, experiment: Experiment, field: str, fit: Fit) -> ItemVectors | None:
    corpus, kind = fit.corpus, _kind(experiment, field)
    made = _recipe(bench, corpus, experiment, field)
    if kind is None or made is None:
        return None
    if not kind.startswith(TRAINED):
        return item_vectors(corpus, kind, bench.vectors_path, bench.work / "vectors")
    config = _trained_config(kind, corpus)
    blind = dataclasses.replace(fit, blind=True, prefix=f"{field}-")
    recommender = models.load(TRAINED).train(config, corpus, blind)
    assert isinstance(recommender, HasItemVectors)
    values = recommender.item_vectors().cpu().numpy()
    name = f"SASRec, {config.width}-d, {config.epochs} epochs on the training part alone, under the run's seed"
    digest = hashlib.sha256(values.tobytes()).hexdigest()
    return ItemVectors(values, kind, name, digest, stand_in=False, recipe=made)


def _trained_config(kind: str, corpus: Corpus) -> Any:
    """Config of the SASRec whose item vectors `kind` names."""
    width, steps = kind.removeprefix(f"{TRAINED}-"), SMALL_STEPS if small(corpus) else STEPS
    config = experiments.complete(TRAINED, corpus, [f"width={width}"], tuned=False).config
    # One of its examples is a user, of those who have a pair to train on.
    users = len(corpus.examples("train").longest_per_user())
    return dataclasses.replace(config, epochs=math.ceil(steps / math.ceil(users / config.batch_size)))
