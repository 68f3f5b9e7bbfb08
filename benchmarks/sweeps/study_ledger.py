"""What a sweep did, kept beside the board; all of its trials, and the winner that rows are made with."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import AwareDatetime, JsonValue, NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError

from benchmarks.best_config import TunedConfig
from benchmarks.experiments import Experiment, last_part
from benchmarks.sweeps import trial_state
from benchmarks.sweeps.study_spec import PRUNER, SAMPLER
from benchmarks.sweeps.trial_queue import TrialQueue
from data_prep.atomic import write_text
from leaderboards.ledger import SWEEPS
from leaderboards.record import Name, Provenance, Section, Sha256

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

Values = dict[str, bool | int | float | str]
State = Literal["complete", "pruned", "failed", "interrupted", "running", "waiting"]


class TrialLine(Section):
    """One trial.

    Attributes:
        value: validation NDCG@10; of a pruned trial the last that was reported, if any.
        seconds: None for one that has not ended, or whose end nobody saw.
        error: why it failed for good.
        repeats: number of the interrupted trial that it repeats.
        source: hash of the code it ran on.
    """

    number: NonNegativeInt
    state: State
    value: float | None
    params: Values
    seconds: NonNegativeFloat | None
    epochs: NonNegativeInt | None
    error: str | None
    repeats: NonNegativeInt | None
    source: str | None


class Ledger(Section):
    """One study.

    Attributes:
        asked: trials that were to end.
        hours: of the trials whose end their worker saw, summed over workers; wall_hours, from the first one's start to
            the last one's end.
        states: number of trials by state; interrupted ones are repeated by others and count for nothing.
        space: name -> distribution, as Optuna writes it.
        default: the trial of the untuned values; best: the winner. None where it did not complete.
    """

    schema_version: Literal[1] = 1
    study: str
    experiment: str
    model: Name
    corpus: Name
    fingerprint: Sha256
    settings: list[str]
    seed: NonNegativeInt
    asked: PositiveInt
    hours_asked: float | None
    hours: NonNegativeFloat
    wall_hours: NonNegativeFloat
    states: dict[str, NonNegativeInt]
    space: dict[str, dict[str, JsonValue]]
    sampler: str
    pruner: str
    optuna: str
    default: TrialLine | None
    best: TrialLine | None
    trials: list[TrialLine]
    provenance: Provenance
    ended_at: AwareDatetime

    @property
    def ended(self) -> int:
        """Trials that ended for good."""
        return sum(self.states.get(state, 0) for state in ("complete", "pruned", "failed"))


def path(board: Path, corpus: str, study: str, ending: str = "json") -> Path:
    """Where the ledger of a study lies, and its page with the ending `html`."""
    return board / f"{corpus}{SWEEPS}" / f"{study}.{ending}"


def ledger(queue: TrialQueue, experiment: Experiment, provenance: Provenance) -> Ledger:
    """What the study says of itself by now.

    Args:
        experiment: untuned.
    """
    import optuna
    from optuna.distributions import distribution_to_json

    trials, spec = queue.trials(), queue.spec
    lines = [_line(trial) for trial in trials]
    begun = [start for trial in trials if (start := trial_state.begun(trial))]
    # Whose worker died, of that one another worker's clock, or nobody, knows the end.
    own = [trial for trial in trials if not trial_state.died(trial)]
    ended = [end for trial in own if (end := trial_state.ended(trial))]
    last = max(ended) if ended else min(begun, default=time.time())
    complete = [line for line in lines if line.state == "complete" and line.value is not None]
    defaults = {trial.number for trial in trials if trial.user_attrs.get(trial_state.DEFAULT)}
    return Ledger(
        study=queue.study.study_name,
        experiment=experiment.name,
        model=experiment.model,
        corpus=spec.corpus,
        fingerprint=spec.fingerprint,
        settings=[_published(text) for text in spec.settings],
        seed=spec.seed,
        asked=spec.trials,
        hours_asked=spec.hours,
        hours=sum(line.seconds or 0 for line in lines) / 3600,
        # A clock may have been set back in between, as in autumn.
        wall_hours=max(0.0, last - min(begun, default=last)) / 3600,
        states=dict(sorted(Counter(line.state for line in lines).items())),
        space={name: json.loads(distribution_to_json(found)) for name, found in queue.space.items()},
        sampler=SAMPLER,
        pruner=PRUNER,
        optuna=optuna.__version__,
        default=next((line for line in complete if line.number in defaults), None),
        best=best_of(lines),
        trials=lines,
        provenance=provenance,
        ended_at=datetime.fromtimestamp(last).astimezone().replace(microsecond=0),
    )


def best_of(lines: Sequence[TrialLine]) -> TrialLine | None:
    """The best complete trial, the first of equal ones."""
    complete = [line for line in lines if line.state == "complete" and line.value is not None]
    return max(complete, key=lambda line: (line.value, -line.number), default=None)


def tuned_config(ledger: Ledger) -> TunedConfig:
    """
    Raises:
        ValueError: no trial completed.
    """
    best = ledger.best
    if best is None or best.value is None:
        first = next((f": {line.error}" for line in ledger.trials if line.error), "")
        raise ValueError(f"no trial of study {ledger.study} completed, so there is no winner{first}")
    return TunedConfig(
        study=ledger.study,
        trial=best.number,
        trials=ledger.ended,
        value=best.value,
        settings=ledger.settings,
        params=best.params,
    )


def lost(board: Path, ledger: Ledger) -> int:
    """Trials that ended by an earlier ledger of the study, and are not in this one: it was begun again from nothing."""
    try:
        earlier = Ledger.model_validate_json(path(board, ledger.corpus, ledger.study).read_bytes())
    except (FileNotFoundError, ValidationError):
        # Of a damaged one nothing can be lost any more.
        return 0
    # Code of before had other digits of the seconds.
    here, there = ([line.model_copy(update={"seconds": None}) for line in each.trials] for each in (ledger, earlier))
    return sum(line.state not in ("running", "waiting") and line not in here for line in there)


def write(board: Path, ledger: Ledger) -> Path:
    """Writes the ledger, in place of an earlier one of the same study."""
    target = path(board, ledger.corpus, ledger.study)
    write_text(target, ledger.model_dump_json(indent=2) + "\n")
    return target


def _published(text: str) -> str:
    name, sign, value = text.partition("=")
    # JSON's quotes of a path go with its folders.
    value = value.strip('"') if "/" in value else value
    return f"{name}{sign}{last_part(value)}"


def _line(trial: FrozenTrial) -> TrialLine:
    interrupted, history = trial_state.interrupted(trial), trial_state.history(trial)
    attributes: dict[str, Any] = trial.user_attrs
    error = attributes.get(trial_state.ERROR)
    names: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "pruned", "RUNNING": "running", "WAITING": "waiting"}
    state = "interrupted" if interrupted else names.get(trial.state.name, "failed")
    if state == "failed" and error is None:
        error = f"its worker died {len(history) + 1} times"
    own = state in ("complete", "pruned", "failed")
    return TrialLine(
        number=trial.number,
        state=state,
        value=trial.value if own else None,
        params=trial.params,
        seconds=trial_state.seconds(trial) if own and not trial_state.died(trial) else None,
        epochs=attributes.get("epochs") if own else None,
        error=error,
        repeats=history[-1] if history else None,
        source=attributes.get(trial_state.SOURCE),
    )
