"""Which trials count, and which were interrupted and are repeated by another."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
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
    return died(trial) and len(history(trial)) < RETRIES


def died(trial: FrozenTrial) -> bool:
    """Whether its worker died, so that nobody saw its end."""
    from optuna.trial import TrialState

    return trial.state == TrialState.FAIL and ERROR not in trial.user_attrs


def counts(trial: FrozenTrial) -> bool:
    """Whether the trial is one of those that the spec asks for: neither waiting nor repeated by another."""
    from optuna.trial import TrialState

    return trial.state != TrialState.WAITING and not interrupted(trial)


def is_owned(trial: FrozenTrial) -> bool:
    """Whether a worker has the trial for its own; what repeats a trial has inherited that one's attributes."""
    owner = trial.user_attrs.get(OWNER)
    return owner is not None and owner[1] == trial.number


def begun(trial: FrozenTrial) -> float | None:
    """When a worker took it, in seconds since 1970; by Optuna's time where a study is older than the attribute."""
    start = trial.datetime_start.timestamp() if trial.datetime_start else None
    return float(trial.user_attrs.get(BEGUN, start)) if start else None


def ended(trial: FrozenTrial) -> float | None:
    """When it ended, likewise; by Optuna's time, too, where another than its worker ended it, whose zone may put it in
    the time to come."""
    end = trial.datetime_complete.timestamp() if trial.datetime_complete else None
    return float(trial.user_attrs.get(ENDED, min(end, time.time()))) if end else None


def seconds(trial: FrozenTrial) -> float:
    """Time that a trial took, up to now for one that runs; 0 where a clock was set back in between.

    In whole microseconds, as Optuna's are: a ledger's lines stay what they were.
    """
    start = begun(trial)
    return 0.0 if start is None else round(max(0.0, (ended(trial) or time.time()) - start), 6)


def spent(trials: Sequence[FrozenTrial]) -> timedelta:
    """Time in trials."""
    return timedelta(seconds=sum(map(seconds, trials)))
