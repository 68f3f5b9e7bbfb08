"""Which trials count, and which were interrupted and are repeated by another."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

# Attributes of a trial: its worker and own number; why it failed for good; that it is the defaults; the code it ran on,
# which a study has, too.
OWNER, ERROR, DEFAULT, SOURCE = "owner", "error", "default", "source"
# When a worker took it and ended it, in seconds since 1970: Optuna's own times are a host's local ones.
BEGUN, ENDED = "begun", "ended"
# A trial that took its worker down so many times (out of memory, say) has failed for good.
RETRIES = 10


def history(trial: FrozenTrial) -> Sequence[int]:
    """Numbers of the interrupted trials that this one repeats, the first one first."""
    found: list[int] = trial.system_attrs.get("retry_history", [])
    return found


def interrupted(trial: FrozenTrial) -> bool:
    """Whether the trial failed because its worker died, and another is to repeat it."""
    from optuna.trial import TrialState

    return trial.state == TrialState.FAIL and ERROR not in trial.user_attrs and len(history(trial)) < RETRIES


def counts(trial: FrozenTrial) -> bool:
    """Whether the trial is one of those that the spec asks for: neither waiting nor repeated by another."""
    from optuna.trial import TrialState

    return trial.state != TrialState.WAITING and not interrupted(trial)


def is_owned(trial: FrozenTrial) -> bool:
    """Whether a worker has the trial for its own; what repeats a trial has inherited that one's attributes."""
    owner = trial.user_attrs.get(OWNER)
    return owner is not None and owner[1] == trial.number


def seconds(trial: FrozenTrial) -> float:
    """Time that a trial took, up to now for one that runs; 0 where a clock was set back in between."""
    begun, ended = trial.user_attrs.get(BEGUN), trial.user_attrs.get(ENDED)
    if begun is not None and (ended is not None or trial.datetime_complete is None):
        return max(0.0, (ended or time.time()) - begun)
    # Of a study from before there were such attributes, or of a trial that another worker ended.
    if trial.datetime_start is None:
        return 0.0
    return max(0.0, ((trial.datetime_complete or datetime.now()) - trial.datetime_start).total_seconds())


def spent(trials: Sequence[FrozenTrial]) -> timedelta:
    """Time in trials."""
    return timedelta(seconds=sum(map(seconds, trials)))
