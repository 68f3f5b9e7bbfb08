"""Which trials count, and which were interrupted and are repeated by another."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

# Attributes of a trial: its worker and own number; why it failed for good; that it is the defaults; the code it ran on.
OWNER, ERROR, DEFAULT, SOURCE = "owner", "error", "default", "source"
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


def spent(trials: Sequence[FrozenTrial]) -> timedelta:
    """Time in trials, up to now for those that run."""
    now = datetime.now()
    return sum(
        ((trial.datetime_complete or now) - trial.datetime_start for trial in trials if trial.datetime_start),
        timedelta(),
    )
