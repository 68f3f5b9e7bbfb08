"""What a study is of, and what all its workers must agree on."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from benchmarks.training_precision import Precision
from leaderboards.record import canonical_json

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.study import Study

# Attribute of a study that holds its spec.
SPEC = "plan"
# Trials drawn at random before the sampler learns; trials before any is pruned; checks of a stage before it is pruned.
RANDOM, UNPRUNED, WARM_UP = 10, 5, 5
SAMPLER = f"TPE, {RANDOM} random trials first, each trial seeded by its place"
PRUNER = f"median, after {UNPRUNED} trials and {WARM_UP} checks of a stage"

Space = Mapping[str, "BaseDistribution"]


@dataclass(frozen=True)
class StudySpec:
    """What a worker on any host needs.

    Attributes:
        fingerprint: of the corpus; a worker with another content is turned away.
        settings: `key=value`, fixed in all trials.
        trials: that must end: complete, pruned, or failed for good.
        hours: no trial begins after so many hours of trials, summed over workers; None for no such stop.
        seed: of the trainings and of the sampler.
        heartbeat: seconds between a worker's signs of life on PostgreSQL.
    """

    experiment: str
    corpus: str
    fingerprint: str
    settings: tuple[str, ...] = ()
    trials: int = 30
    hours: float | None = None
    seed: int = 0
    source: str = "auto"
    accelerator: str = "auto"
    threads: int = 1
    precision: Precision = "32-true"
    heartbeat: int = 30


def study_name(spec: StudySpec, key: str, space: Space) -> str:
    """A study's name: another space, config, corpus or seed is another study; more trials go on with it.

    Args:
        key: of the untuned config on the corpus, as a row has it.
    """
    from optuna.distributions import distribution_to_json

    ranges = {name: distribution_to_json(distribution) for name, distribution in space.items()}
    content = [key, spec.experiment, ranges, spec.seed, spec.threads, SAMPLER, PRUNER]
    return f"{spec.experiment}-{spec.corpus}-{hashlib.sha256(canonical_json(content).encode()).hexdigest()[:12]}"


def spec_of(study: Study) -> StudySpec:
    """
    Raises:
        ValueError: the study is none of a sweep.
    """
    try:
        return TypeAdapter(StudySpec).validate_python(study.user_attrs.get(SPEC))
    except ValidationError:
        raise ValueError(f"study {study.study_name!r} holds no spec; expected one that a sweep has made") from None


def attributes(spec: StudySpec) -> dict[str, Any]:
    """The spec as JSON has it."""
    return dataclasses.asdict(spec) | {"settings": list(spec.settings)}


def sampler(spec: StudySpec, number: int) -> BaseSampler:
    """The sampler of the trial that is drawn after `number` others. Workers that shared a seed would draw the same
    values, and a restarted study would draw its first ones again."""
    from optuna.samplers import TPESampler

    seed = int(np.random.SeedSequence((spec.seed, number)).generate_state(1)[0])
    return TPESampler(n_startup_trials=RANDOM, seed=seed)


def pruner() -> BasePruner:
    """The pruner of every study; the first checks of a stage are never shown to it."""
    from optuna.pruners import MedianPruner

    return MedianPruner(n_startup_trials=UNPRUNED)
