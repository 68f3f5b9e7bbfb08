"""Hands a study's trials to workers, each once, and takes those back whose workers died.

All changes of hands happen under one lock, so that trials are counted exactly: as many end as the spec says, and no
more begin. A trial whose worker was killed fails and is queued again with the same values; where the folder of
trainings is shared, its training goes on from the last checkpoint.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.sweeps.storage import StudyStorage
from benchmarks.sweeps.study_spec import SPEC, Space, StudySpec, attributes, pruner, sampler, spec_of
from benchmarks.sweeps.trial_state import (
    BEGUN,
    DEFAULT,
    ENDED,
    ERROR,
    OWNER,
    RETRIES,
    SOURCE,
    counts,
    history,
    interrupted,
    is_owned,
    spent,
)

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial


class Claim(NamedTuple):
    """Attributes: trial, to be worked on, None for none now; done, there will be none any more."""

    trial: Trial | None
    done: bool = False


@dataclass(frozen=True)
class TrialQueue:
    """A study as its workers see it.

    Attributes:
        source: hash of the code that this process runs on.
    """

    study: Study
    storage: StudyStorage
    space: Space
    source: str = "unknown"

    @property
    def spec(self) -> StudySpec:
        """Raises ValueError where the study is none of a sweep."""
        return spec_of(self.study)

    def claim(self, worker: str) -> Claim:
        """The next trial for a worker, its values chosen.

        Raises:
            ValueError: a sweep of other code has gone on with the study.
        """
        with self.storage.lock():
            check_code(self.study, self.source)
            self.recover()
            spec, trials = self.spec, self.trials()
            counted = [trial for trial in trials if counts(trial)]
            late = spec.hours is not None and spent(counted) >= timedelta(hours=spec.hours)
            if late or len(counted) >= spec.trials:
                return Claim(None, done=all(trial.state.is_finished() for trial in counted))
            # Repeats have their values already: a study that was interrupted draws what another would.
            self.study.sampler = sampler(spec, sum(not history(trial) for trial in trials))
            trial = self.study.ask(dict(self.space))
            self.storage.beat(trial)
            trial.set_user_attr(SOURCE, self.source)
            trial.set_user_attr(BEGUN, time.time())
            # Until this is written the trial is nobody's, which tells of a worker that died before.
            trial.set_user_attr(OWNER, [worker, trial.number])
            return Claim(trial)

    def end(self, trial: Trial, value: float | None = None, error: str | None = None) -> bool:
        """Ends a trial: complete with a value, failed for good with an error, else pruned.

        Returns:
            False where the trial was taken from its worker in the meantime. What it found then counts for nothing,
            since another repeats it.
        """
        from optuna.trial import TrialState

        with self.storage.lock():
            if self.trials()[trial.number].state.is_finished():
                return False
            if error is not None:
                trial.set_user_attr(ERROR, error)
            trial.set_user_attr(ENDED, time.time())
            state = TrialState.COMPLETE if value is not None else TrialState.FAIL if error else TrialState.PRUNED
            self.study.tell(trial, value, state)
            return True

    def ended(self) -> int | None:
        """Trials that count and have ended; None where the study cannot be reached."""
        try:
            return sum(counts(trial) and trial.state.is_finished() for trial in self.trials())
        except Exception as error:
            if not self.storage.is_unreachable(error):
                raise
            return None

    def recover(self) -> None:
        """Fails the trials of dead workers and queues them again; the lock must be held.

        A trial whose successor is missing gets it, for who failed it may have died in between.
        """
        from optuna.storages import RetryHeartbeatStaleTrialCallback
        from optuna.trial import TrialState

        self.storage.fail_stale(self.study)
        for trial in self.trials():
            if trial.state == TrialState.RUNNING and (not is_owned(trial) or self.storage.is_dead(trial)):
                self.study.tell(trial.number, state=TrialState.FAIL)
        trials = self.trials()
        followed = {number for trial in trials for number in history(trial)}
        for trial in trials:
            if interrupted(trial) and trial.number not in followed:
                # It writes into the trial that it is given.
                RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)(self.study, copy.deepcopy(trial))

    def trials(self) -> Sequence[FrozenTrial]:
        """All trials by number, those that wait or were interrupted included."""
        return self.study.get_trials(deepcopy=False)


def check_code(study: Study, source: str) -> None:
    """
    Args:
        source: hash of this process's code.

    Raises:
        ValueError: it is another than that of the sweep that has gone on with the study last.
    """
    if study.user_attrs.get(SOURCE, source) != source:
        raise ValueError(
            f"this process has other code than the sweep of {study.study_name}; expected one commit everywhere"
        )


def make(
    storage: StudyStorage, name: str, spec: StudySpec, space: Space, defaults: Mapping[str, Any], source: str
) -> TrialQueue:
    """A study, made or found again. Its first trial is the defaults, so that tuning never ends below them.

    Args:
        name: of the study.
        source: hash of the code that its workers must have from now on.
    """
    import optuna

    with storage.lock():
        study = optuna.create_study(
            study_name=name, storage=storage.backend, direction="maximize", load_if_exists=True, pruner=pruner()
        )
        study.set_user_attr(SPEC, attributes(spec))
        study.set_user_attr(SOURCE, source)
        if not study.get_trials(deepcopy=False):
            study.enqueue_trial(dict(defaults), user_attrs={DEFAULT: True})
    return TrialQueue(study, storage, space, source)


def find(storage: StudyStorage, name: str) -> Study:
    """The study of a name.

    Raises:
        ValueError: there is none.
    """
    import optuna

    try:
        return optuna.load_study(study_name=name, storage=storage.backend, pruner=pruner())
    except KeyError:
        raise ValueError(f"no study {name!r} is kept there; `sweep` makes it and prints its name") from None
