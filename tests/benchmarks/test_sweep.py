"""Sweeps on a file: spaces, worth, pruning, ledgers and winners; nothing is lost when anybody is killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import make_dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import optuna
import pytest
import pytorch_lightning as pl
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

import data_prep
import models
from benchmarks import best_config, model_inputs, provenance, record_fields
from benchmarks.__main__ import main
from benchmarks.commands import sweep_commands
from benchmarks.evaluate import Grader
from benchmarks.experiments import Experiment, complete
from benchmarks.hardware import Hardware
from benchmarks.resolved_row import resolve
from benchmarks.run import run
from benchmarks.settings import Bench
from benchmarks.sweeps import local_workers, storage, study_ledger, study_spec, trial_queue
from benchmarks.sweeps import study as study_module
from benchmarks.sweeps.local_workers import attempt
from benchmarks.sweeps.objective import STAGE, Objective, Reporter
from benchmarks.sweeps.report import html
from benchmarks.sweeps.search_space import defaults_of, space_of, tuned_fields
from benchmarks.sweeps.storage import JournalLock, in_folder, worker_lock
from benchmarks.sweeps.study import WorkerSettings, conclude, join, sweep
from benchmarks.sweeps.study_ledger import Ledger, TrialLine, best_of, path
from benchmarks.sweeps.study_spec import SPEC, UNPRUNED, WARM_UP, StudySpec, attributes, pruner, study_name
from benchmarks.sweeps.trial_queue import TrialQueue
from benchmarks.sweeps.trial_state import BEGUN, DEFAULT, ENDED, RETRIES, SOURCE, counts, history, interrupted, seconds
from benchmarks.training.fit import Fit
from data_prep.corpus import Corpus
from leaderboards import board_table, source, store, tables
from leaderboards.record import TUNED, Stage
from leaderboards.rows import titled
from leaderboards.verify import verify
from models import sasrec
from models.api import Recommender, tuned
from models.popularity import Config, Popularity
from tests.leaderboards.test_record import run_of
from tests.scripts.toy_sweep import dies, open_toy

ROOT = Path(__file__).resolve().parents[2]
TOY = ROOT / "tests/scripts/toy_sweep.py"
SETTINGS = ("epochs=2", "inner=16", "layers=1", "width=16")
TIGER = ("tokenizer_epochs=3", "tokenizer.codes=16", "steps=2", "t5.width=16", "t5.inner=16", "t5.encoder_layers=1")


@pytest.fixture(scope="module")
def corpus(tiny_corpus: Corpus) -> Corpus:
    """The tiny corpus under a name that has small configs."""
    return replace(tiny_corpus, name="all_beauty")


def spec(corpus: Corpus, **more: Any) -> StudySpec:
    return StudySpec("sasrec", corpus.name, corpus.fingerprint, SETTINGS, **{"trials": 3, **more})


@pytest.fixture(scope="module")
def swept(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[WorkerSettings, Ledger]:
    """A real sweep of three trials, and where it ran."""
    settings = WorkerSettings(tmp_path_factory.mktemp("work"))
    return settings, sweep(settings, spec(corpus), corpus)


def asked(params: Mapping[str, Any]) -> optuna.Trial:
    """A trial of these values."""
    study = optuna.create_study(direction="maximize")
    study.enqueue_trial(dict(params))
    return study.ask({name: FloatDistribution(0, value + 1) for name, value in params.items()})


# The space


def test_the_space_is_what_the_model_says() -> None:
    assert space_of(complete("sasrec", "musical_instruments")) == {
        "width": CategoricalDistribution([64, 128, 256]),
        "layers": IntDistribution(1, 4),
        "dropout": FloatDistribution(0.1, 0.7),
        "lr": FloatDistribution(1e-4, 1e-2, log=True),
    }


def test_fields_of_the_tokenizer_are_dotted() -> None:
    space = space_of(complete("letter", "musical_instruments"))
    assert space.keys() == {"tokenizer.alignment", "tokenizer.diversity", "temperature", "lr", "t5.dropout"}
    assert defaults_of(complete("letter", "musical_instruments"), space)["tokenizer.alignment"] == 0.02


@pytest.mark.parametrize(
    ("name", "settings", "left"),
    [
        ("decor-fusion-composition", (), {"alpha", "lr", "tokenizer.commitment", "t5.dropout"}),
        ("sasrec", ("lr=0.01", "width=64"), {"layers", "dropout"}),
        ("decor-base-unseen-users", (), {"lr", "tokenizer.commitment", "t5.dropout"}),
    ],
)
def test_what_is_fixed_is_not_searched(name: str, settings: tuple[str, ...], left: set[str]) -> None:
    assert space_of(complete(name, "musical_instruments", settings), settings).keys() == left


def test_what_a_name_fixes_at_full_size_is_searched_where_it_has_small_sizes() -> None:
    at_small_size = space_of(complete("tiger-paper", "all_beauty", tuned=False), at_small_size=True)
    assert at_small_size.keys() == {"lr", "t5.dropout", "tokenizer.commitment", "weight_decay"}
    assert "lr" not in space_of(complete("tiger-paper", "beauty_2014", tuned=False))


def test_a_sweep_of_a_name_leaves_it_what_makes_it_another() -> None:
    settings = ("temperature=0.9",)
    with pytest.raises(ValueError, match=r"letter-tau-0.5 is letter with a temperature of its own, .*; expected no"):
        space_of(complete("letter-tau-0.5", "beauty_2014", settings), settings)


def test_the_space_holds_the_defaults() -> None:
    space = space_of(complete("sasrec", "musical_instruments", ["width=16", "layers=6", "lr=0.1"]))
    assert space["width"] == CategoricalDistribution([16, 64, 128, 256])
    assert space["layers"] == IntDistribution(1, 6)
    assert space["lr"] == FloatDistribution(1e-4, 0.1, log=True)


def searched(default: Any, **search: Any) -> dict[str, Any]:
    """The space of a model with one option, `size`."""
    config = make_dataclass("Config", [("size", Any, tuned(default, **search))], frozen=True)
    return space_of(Experiment("mine", "mine", config()))


@pytest.mark.parametrize(
    ("field", "distribution"),
    [
        (lambda: searched(3, low=3, high=9, step=2), IntDistribution(3, 9, step=2)),
        (lambda: searched(2, low=0.5, high=2), FloatDistribution(0.5, 2.0)),
        (lambda: searched("ce", choices=("ce", "bce")), CategoricalDistribution(["ce", "bce"])),
        (lambda: searched(False, choices=[True, False]), CategoricalDistribution([True, False])),
    ],
)
def test_what_a_field_can_be_searched_in(field: Callable[[], dict[str, Any]], distribution: Any) -> None:
    assert field() == {"size": distribution}


PLAIN, FORMS = "booleans, numbers or strings, which alone", "low and high, with log or step where wanted, or a list of"
RANGE = "numbers, low <= default <= high, and low above 0 with log"


@pytest.mark.parametrize(
    ("default", "search", "said"),
    [
        (None, {"choices": [None, 10]}, f"size is None, searched by tuned(None, choices=[None, 10]); expected {PLAIN}"),
        (10, {"choices": [None, 10]}, f"size is 10, searched by tuned(10, choices=[None, 10]); expected {PLAIN}"),
        ((64,), {"choices": [(64,), (32, 32)]}, f"tuned((64,), choices=[(64,), (32, 32)]); expected {PLAIN}"),
        (5, {"choices": [10, 20]}, "tuned(5, choices=[10, 20]); expected a default that is among the choices"),
        (5, {"choices": []}, "tuned(5, choices=[]); expected a default that is among the choices"),
        (5, {"choices": 5}, f"tuned(5, choices=5); expected {FORMS}"),
        (5, {"choices": [5], "low": 1}, f"tuned(5, choices=[5], low=1); expected {FORMS}"),
        (30, {"low": 100, "high": 10}, f"tuned(30, low=100, high=10); expected {RANGE}"),
        (30, {"low": 100, "high": 200}, f"tuned(30, low=100, high=200); expected {RANGE}"),
        (0.0, {"low": 0.0, "high": 1.0, "log": True}, f"tuned(0.0, low=0.0, high=1.0, log=True); expected {RANGE}"),
        (None, {"low": 1, "high": 5}, f"tuned(None, low=1, high=5); expected {RANGE}"),
        (3, {"low": "1", "high": 5}, f"tuned(3, low='1', high=5); expected {RANGE}"),
        (3, {}, f"tuned(3); expected {FORMS}"),
        (2, {"lo": 1, "hi": 5}, f"tuned(2, lo=1, hi=5); expected {FORMS}"),
        (2, {"low": 1}, f"tuned(2, low=1); expected {FORMS}"),
        (2, {"low": 1, "high": 4, "log": True, "step": 2}, f"log=True, step=2); expected {FORMS}"),
    ],
)
def test_what_cannot_be_searched_is_told_with_its_field(default: Any, search: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        searched(default, **search)
    assert str(error.value).startswith("mine option size is ")
    assert "\n" not in str(error.value)


def test_a_small_configs_own_value_is_searched_too() -> None:
    config = make_dataclass("Config", [("size", Any, tuned(10, choices=[5, 10]))], frozen=True)
    with pytest.raises(ValueError, match=r"^mine option size is None, searched by tuned\(10, choices=\[5, 10\]\); "):
        space_of(Experiment("mine", "mine", config(None)))


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("corpus", ["all_beauty", "musical_instruments"])
def test_every_model_can_be_searched(name: str, corpus: str) -> None:
    experiment = complete(name, corpus, tuned=False)
    unread = getattr(experiment.config, "unread", ())
    fields = [field.name for field in tuned_fields(experiment.config) if field.name not in unread]
    assert not fields or list(space_of(experiment)) == fields


def test_what_nothing_reads_is_not_searched() -> None:
    """The clusters of GRID read no commitment, and a file of codes leaves LETTER no tokenizer."""
    with pytest.raises(ValueError, match=r"^tiger-grid has no tuned field to search"):
        space_of(complete("tiger-grid", "beauty_2014", tuned=False))
    small = space_of(complete("tiger-grid", "all_beauty", tuned=False), at_small_size=True)
    assert small.keys() == {"lr", "t5.dropout", "weight_decay"}
    of_file = space_of(complete("letter-authors-codes", "beauty_2014", tuned=False))
    assert not [option for option in of_file if option.startswith("tokenizer.")]
    assert "temperature" in of_file
    joint, alternating = (complete(name, "beauty_2014", tuned=False) for name in ("etegrec-joint", "etegrec"))
    assert space_of(joint).keys() == space_of(alternating).keys() - {"cycle"}


def test_nothing_to_search(tmp_path: Path, corpus: Corpus) -> None:
    nothing = StudySpec("popularity", corpus.name, corpus.fingerprint)
    with pytest.raises(ValueError, match=r"^popularity has no tuned field to search; a sweep needs at least one$"):
        sweep(WorkerSettings(tmp_path), nothing, corpus)


def test_another_plan_is_another_study(corpus: Corpus) -> None:
    space = {"lr": FloatDistribution(0.1, 1.0)}
    first = study_name(spec(corpus), "key", space)
    assert first.startswith("sasrec-all_beauty-")
    others = [
        study_name(spec(corpus, seed=1), "key", space),
        study_name(spec(corpus), "other", space),
        study_name(spec(corpus), "key", {"lr": FloatDistribution(0.1, 2.0)}),
    ]
    assert len({first, *others}) == 4
    # Neither the host's ways nor a stop by hours make it another one.
    assert study_name(spec(corpus, trials=40, hours=2.0, source="local", heartbeat=5), "key", space) == first


# What a trial is worth


def test_the_defaults_come_first_and_nothing_ends_below_them(swept: tuple[WorkerSettings, Ledger]) -> None:
    _, ledger = swept
    assert ledger.default is not None
    assert ledger.best is not None
    assert ledger.trials[0] == ledger.default
    assert ledger.default.params == {"dropout": 0.5, "lr": 5e-4}
    assert ledger.states == {"complete": 3}
    values = [line.value for line in ledger.trials if line.value is not None]
    assert ledger.best.value == max(values) >= values[0]
    assert len(set(values)) > 1


def test_a_trials_worth_is_the_validation_metric_of_its_row(
    swept: tuple[WorkerSettings, Ledger], corpus: Corpus, tmp_path: Path
) -> None:
    _, ledger = swept
    for line in ledger.trials:
        settings = [*SETTINGS, *(f"{name}={value!r}" for name, value in line.params.items())]
        record = store.read(run(Bench(tmp_path, tmp_path), corpus, complete("sasrec", corpus.name, settings), 0))
        assert record.valid["ndcg@10"] == line.value
        assert sum(stage.epochs for stage in record.cost.stages) == line.epochs


def test_no_trial_sees_the_test_part(
    swept: tuple[WorkerSettings, Ledger], corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ledger = swept
    last = corpus.offsets[1:] - 1
    flat = corpus.flat.copy()
    flat[last] = flat[last] % corpus.items + 1
    other = replace(corpus, flat=flat)
    assert other.fingerprint != corpus.fingerprint
    parts, make = list[str](), Grader.__init__

    def noted(self: Grader, corpus: Corpus, part: Any, *rest: Any, **more: Any) -> None:
        parts.append(part)
        make(self, corpus, part, *rest, **more)

    monkeypatch.setattr(Grader, "__init__", noted)
    again = sweep(WorkerSettings(tmp_path), spec(other), other)
    assert [(line.params, line.value) for line in again.trials] == [(line.params, line.value) for line in ledger.trials]
    assert set(parts) == {"valid"}
    fields = json.dumps([line.model_dump(exclude={"params"}) for line in again.trials])
    assert "test" not in fields


def test_values_that_were_tried_train_once(
    swept: tuple[WorkerSettings, Ledger], corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, ledger = swept
    monkeypatch.setattr(Fit, "_train", None)
    experiment = complete("sasrec", corpus.name, SETTINGS)
    objective = Objective(Bench(settings.work, settings.work), corpus, experiment, 0)
    assert objective(asked(ledger.trials[1].params)) == ledger.trials[1].value


def test_a_diverged_training_is_a_failed_trial(tmp_path: Path, corpus: Corpus) -> None:
    experiment = complete("tiger", corpus.name, [*TIGER, "warmup=1"])
    objective = Objective(Bench(tmp_path, tmp_path), corpus, experiment, 0)
    queue = open_toy(str(tmp_path / "study"), 2)
    trial = queue.claim("worker").trial
    assert trial is not None
    said = attempt(queue, lambda _: objective(asked({"tokenizer.lr": 1e30})), trial)
    assert "the training of tiger trial 0 tokenizer has diverged" in said
    (found,) = queue.trials()
    assert found.state == TrialState.FAIL
    assert "has diverged" in found.user_attrs["error"]
    assert counts(found)
    # It is not tried again.
    assert queue.claim("worker").trial is not None
    assert len(queue.trials()) == 2
    assert not history(queue.trials()[1])


def test_a_study_whose_trainings_all_diverge_has_no_winner(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data_prep, "load", lambda name, source, cache: corpus)
    folders = ["--work", str(tmp_path), "--board", str(tmp_path / "board"), "--best", str(tmp_path / "best")]
    options = ["--model", "sasrec", "--corpus", "all_beauty", "--trials", "2", *folders]
    assert main(["sweep", *options, "--set", *SETTINGS, "lr=1e20"]) == 2
    said = capsys.readouterr().err
    diverged = r"the training of sasrec trial \d recommender has diverged: its (?:loss|quality) is nan in epoch \d"
    assert len(re.findall(rf"trial \d: failed: {diverged}", said)) == 2
    assert re.search(rf"error: no trial of study \S+ completed, so there is no winner: {diverged}$", said.strip())
    (written,) = tmp_path.glob("board/all_beauty.sweeps/*.json")
    made = Ledger.model_validate_json(written.read_text())
    assert (made.states, made.best) == ({"failed": 2}, None)
    assert not (tmp_path / "best").exists()


def test_only_the_recommenders_own_checks_are_reported(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_inputs, "SMALL_STEPS", 3)
    experiment = complete("tiger-sas", corpus.name, [*TIGER, "warmup=1"])
    trial = optuna.create_study(direction="maximize").ask()
    stages = list[Stage]()
    monkeypatch.setattr(Fit, "_report", lambda self: stages.append(self.stages[-1]))
    worth = Objective(Bench(tmp_path, tmp_path), corpus, experiment, 0)(trial)
    # The SASRec behind the vectors is chosen by its loss, and so is the tokenizer.
    assert [stage.name for stage in stages] == ["vectors-recommender", "tokenizer", "recommender"]
    assert max(stages[0].quality) < 0
    (found,) = trial.study.get_trials()
    assert found.intermediate_values == {2 * STAGE + n: value for n, value in enumerate(stages[2].quality)}
    assert all(0 <= value <= 1 for value in found.intermediate_values.values())
    assert 0 <= worth <= 1


# Pruning


@pytest.fixture
def curves() -> optuna.Study:
    """A study in which as many trials have ended as pruning needs, with a quality of .5 at each of ten checks."""
    study = optuna.create_study(direction="maximize", pruner=pruner())
    for _ in range(UNPRUNED):
        trial = study.ask()
        for check in range(10):
            trial.report(0.5, STAGE + check)
        study.tell(trial, 0.5)
    return study


def recommender() -> Recommender:
    return Popularity(Config(), torch.zeros(3))


def checks_until_pruned(trial: optuna.Trial, quality: float, module: pl.LightningModule) -> int | None:
    reporter, stage = Reporter(trial, 1), Stage.begun("recommender")
    for check in range(10):
        stage.quality.append(quality)
        try:
            reporter.checked(stage, module)
        except optuna.TrialPruned:
            return check + 1
    return None


def test_a_trial_that_lags_is_pruned_after_its_warm_up(curves: optuna.Study) -> None:
    assert checks_until_pruned(curves.ask(), 0.4, recommender()) == WARM_UP + 1
    assert checks_until_pruned(curves.ask(), 0.6, recommender()) is None


def test_the_defaults_and_losses_are_never_pruned(curves: optuna.Study) -> None:
    curves.enqueue_trial({}, user_attrs={DEFAULT: True})
    assert checks_until_pruned(curves.ask(), 0.1, recommender()) is None
    trial = curves.ask()
    assert checks_until_pruned(trial, -3.0, pl.LightningModule()) is None
    assert curves.get_trials()[trial.number].intermediate_values == {}


def test_stages_are_compared_with_like_stages(curves: optuna.Study) -> None:
    trial = curves.ask()
    reporter, stage = Reporter(trial, 2), Stage.begun("finish", quality=[0.1] * 9)
    reporter.checked(stage, recommender())
    assert sorted(curves.get_trials()[trial.number].intermediate_values) == [2 * STAGE + n for n in range(9)]


def test_a_resumed_training_reports_its_past(curves: optuna.Study) -> None:
    trial = curves.ask()
    Reporter(trial, 1).checked(Stage.begun("recommender", quality=[0.1, 0.2, 0.3, 0.7]), recommender())
    found = curves.get_trials()[trial.number].intermediate_values
    assert found == {STAGE: 0.1, STAGE + 1: 0.2, STAGE + 2: 0.3, STAGE + 3: 0.7}


# Trials that are handed out, lost and found


def worked(folder: Path, trials: int, stop: int | None = None, **more: Any) -> list[Any]:
    """A toy study worked on in this process, by claims that may stop in the midst; its trials."""
    queue = open_toy(str(folder), trials, **more)
    for _ in range(stop or trials):
        trial, _ = queue.claim("worker")
        if trial is None:
            break
        queue.end(trial, -abs(trial.params["x"] - 0.3))
    return list(queue.trials())


def test_a_study_that_was_interrupted_draws_what_another_would(tmp_path: Path) -> None:
    whole = worked(tmp_path / "whole", 14)
    worked(tmp_path / "parts", 14, stop=4)
    # Two workers die one after the other in the midst of a trial.
    for worker in ("one", "two"):
        assert open_toy(str(tmp_path / "parts"), 14).claim(worker).trial is not None
    worked(tmp_path / "parts", 14, stop=7)
    parts = worked(tmp_path / "parts", 14)
    assert [trial.params for trial in parts if counts(trial)] == [trial.params for trial in whole]
    assert len(parts) == 16
    assert len({trial.params["x"] for trial in whole}) == 14
    assert whole[0].params == {"x": 0.0}
    assert [trial.params for trial in worked(tmp_path / "seed", 14, seed=1)] != [trial.params for trial in whole]


def test_trials_are_counted_exactly(tmp_path: Path) -> None:
    queue = open_toy(str(tmp_path), 2)
    first, second = queue.claim("one"), queue.claim("two")
    assert first.trial is not None
    assert second.trial is not None


@pytest.mark.slow
def test_hours_stop_a_study(tmp_path: Path) -> None:
    # The first trial begins when no time is spent yet.
    assert len(worked(tmp_path, 30, hours=1e-9)) == 1
    assert len(worked(tmp_path, 30, hours=1.0)) == 30


def test_a_trial_that_takes_its_workers_down_is_given_up(tmp_path: Path) -> None:
    queue = open_toy(str(tmp_path), 2)
    # Nobody holds the lock of any of these workers.
    numbers = [claim.trial.number for n in range(RETRIES + 2) if (claim := queue.claim(f"worker {n}")).trial]
    assert numbers == list(range(RETRIES + 2))
    found = queue.trials()
    assert [interrupted(trial) for trial in found] == [True] * RETRIES + [False, False]
    assert all(trial.params == {"x": 0.0} for trial in found[:-1])
    assert found[-1].params != {"x": 0.0}
    assert found[RETRIES].state == TrialState.FAIL


def toy(command: str, folder: Path, trials: int, seconds: float, log: Path) -> subprocess.Popen[str]:
    arguments = [sys.executable, str(TOY), command, str(folder), str(trials), str(seconds), str(log)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True)


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise TimeoutError


def owners(folder: Path) -> list[int]:
    """Processes that work on trials."""
    trials = open_toy(str(folder), 1).study.get_trials() if (folder / "journal.log").exists() else []
    running = (trial.user_attrs.get("owner") for trial in trials if trial.state == TrialState.RUNNING)
    return [int(owner[0].split("-")[-2]) for owner in running if owner]


def accounted(folder: Path, trials: int, log: Path, lost: int) -> None:
    """Every trial has ended; those that were lost, and no others, were repeated, with the same values."""
    found = open_toy(str(folder), trials).trials()
    assert sum(counts(trial) for trial in found) == trials
    assert all(trial.state == TrialState.COMPLETE for trial in found if counts(trial))
    repeats = {history(trial)[-1]: trial.params for trial in found if history(trial)}
    assert repeats == {trial.number: trial.params for trial in found if interrupted(trial)}
    assert len(repeats) == lost
    ended = [line.split()[2] for line in log.read_text().splitlines() if line.startswith("ended")]
    assert len(ended) == len(set(ended)) == trials


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on(tmp_path: Path) -> None:
    folder, log = tmp_path / "study", tmp_path / "log"
    with toy("work", folder, 3, 60, log) as process:
        until(lambda: log.exists())
        process.kill()
    with toy("work", folder, 3, 0.01, log) as again:
        assert again.wait(60) == 0
    accounted(folder, 3, log, lost=1)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(tmp_path: Path) -> None:
    folder, log = tmp_path / "study", tmp_path / "log"
    open_toy(str(folder), 4)
    with toy("pool", folder, 4, 1.5, log) as pool:
        victim = until(lambda: owners(folder))[0]
        os.kill(victim, signal.SIGKILL)
        _, said = pool.communicate(timeout=120)
    assert pool.returncode == 0, said
    assert "was killed (SIGKILL); another begins" in said
    assert owners(folder) == []


@pytest.mark.slow
def test_workers_that_die_before_they_begin_are_not_replaced_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_workers, "RETRIES", 1)
    queue = SimpleNamespace(spec=SimpleNamespace(trials=3), ended=lambda: 0)
    said = r"3 workers were killed one after the other \(SIGSEGV\) and no trial ended"
    with pytest.raises(ChildProcessError, match=said):
        local_workers.run_all(dies, 1, cast(TrialQueue, queue))


@pytest.mark.slow
def test_a_worker_that_is_killed_while_it_writes_keeps_nobody_from_writing(tmp_path: Path) -> None:
    with toy("tell", tmp_path / "study", 1, 0, tmp_path / "log") as pool:
        _, said = pool.communicate(timeout=60)
    assert pool.returncode == 0, said
    assert said.count("was killed (SIGKILL); another begins") == 1


@pytest.mark.slow
def test_workers_end_with_the_sweep_that_was_killed(tmp_path: Path) -> None:
    folder, log = tmp_path / "study", tmp_path / "log"
    with toy("pool", folder, 2, 60, log) as pool:
        until(lambda: log.exists() and len(log.read_text().splitlines()) == 2)
        orphans = owners(folder)
        pool.kill()
        until(lambda: all(not Path(f"/proc/{orphan}").exists() for orphan in orphans), 10)
    assert len(orphans) == 2
    with toy("work", folder, 2, 0.01, log) as again:
        assert again.wait(60) == 0
    accounted(folder, 2, log, lost=2)


def test_the_locks_of_a_dead_process_are_free(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from benchmarks.sweeps.storage import JournalLock, in_folder\n"
        "folder = Path(sys.argv[1])\nlock = JournalLock(folder / 'journal.log')\n"
        "with in_folder(folder).lock():\n    lock.acquire()\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    began = time.monotonic()
    lock = JournalLock(tmp_path / "journal.log")
    with in_folder(tmp_path).lock():
        assert lock.acquire()
        lock.release()
    assert time.monotonic() - began < 1


def test_a_line_that_was_cut_short_is_dropped(tmp_path: Path) -> None:
    first = worked(tmp_path, 5, stop=2)
    journal = tmp_path / "journal.log"
    with journal.open("ab") as file:
        file.write(b'{"op_code":4,"worker_id":"half a li')
    whole = worked(tmp_path, 5)
    assert [trial.params for trial in whole[:2]] == [trial.params for trial in first]
    assert len(whole) == 5
    assert all(json.loads(line) for line in journal.read_text().splitlines())
    # Without that, Optuna reads no further than the half line.
    with journal.open("ab") as file:
        file.write(b"half a li")
    backend = JournalFileBackend(str(journal))
    backend.append_logs([{"op_code": 0}])
    backend.append_logs([{"op_code": 0}])
    with pytest.raises(ValueError):
        list(backend.read_logs(0))


def test_a_line_cut_after_its_first_letter_is_dropped(tmp_path: Path) -> None:
    journal = tmp_path / "journal.log"
    journal.write_bytes(b"{")
    storage._cut_half_line(journal)
    assert journal.read_bytes() == b""


@pytest.mark.parametrize("line", [b"12", b'{"a": 1}', b"garbage", b"", b"\xe9", b"[" * 99_999])
def test_a_damaged_line_of_a_journal_is_named(tmp_path: Path, line: bytes) -> None:
    worked(tmp_path, 5, stop=1)
    journal = tmp_path / "journal.log"
    first, rest = journal.read_bytes().split(b"\n", 1)
    journal.write_bytes(b"\n".join([first, line, rest]))
    with pytest.raises(ValueError, match=r"journal.log, line 2 is b'.*; expected a JSON object with an op_code"):
        open_toy(str(tmp_path), 5)


def test_where_nothing_can_be_written_no_trial_is_begun(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data_prep, "load", lambda name, source, cache: corpus)
    (tmp_path / "file").write_text("")
    options = ["--model", "sasrec", "--corpus", "all_beauty", "--trials", "1", "--work", str(tmp_path / "work")]
    for given in (["--best", str(tmp_path / "file")], ["--board", str(tmp_path / "file")]):
        assert main(["sweep", *options, "--set", *SETTINGS, *given]) == 2
        assert f"error: {tmp_path / 'file'} cannot be written; expected a folder for" in capsys.readouterr().err
    assert not list((tmp_path / "work").glob("sweeps/*"))


def test_two_sweeps_of_one_study_at_once(swept: tuple[WorkerSettings, Ledger], corpus: Corpus) -> None:
    settings, ledger = swept
    with (
        study_module._exclusive(settings, ledger.study),
        pytest.raises(OSError, match=rf"^study {ledger.study} is being run by another process"),
    ):
        sweep(settings, spec(corpus), corpus)


def test_a_finished_study_runs_nothing_again(
    swept: tuple[WorkerSettings, Ledger], corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, ledger = swept
    monkeypatch.setattr(Objective, "__call__", None)
    again = sweep(settings, spec(corpus), corpus)
    assert again.trials == ledger.trials
    assert again.hours == ledger.hours == sum(line.seconds or 0 for line in ledger.trials) / 3600


def test_a_worker_with_another_corpus_is_turned_away(
    swept: tuple[WorkerSettings, Ledger], tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, ledger = swept
    flat = tiny_corpus.flat[::-1].copy()
    monkeypatch.setattr(data_prep, "load", lambda name, source, cache: replace(tiny_corpus, flat=flat))
    with pytest.raises(ValueError, match=rf"has the fingerprint .* here; study {ledger.study} is on"):
        join(settings, ledger.study)
    with pytest.raises(ValueError, match="no study 'another' is kept there"):
        join(settings, "another")


def test_a_worker_with_other_defaults_or_vectors_is_turned_away_before_it_claims_a_trial(
    swept: tuple[WorkerSettings, Ledger], loaded: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, ledger = swept
    monkeypatch.setattr(TrialQueue, "claim", None)

    def other(spec: StudySpec, corpus: Corpus) -> Experiment:
        return complete(spec.experiment, corpus, [*spec.settings, "inner=99"])

    monkeypatch.setattr(study_module, "untuned", other)
    with pytest.raises(ValueError, match=rf"study {ledger.study} would be sasrec-all_beauty-\w+ on this host"):
        join(settings, ledger.study)


def test_a_sweep_of_unseen_users_names_the_one_to_make(corpus: Corpus, tmp_path: Path) -> None:
    asked_for = replace(spec(corpus), experiment="sasrec-unseen-users")
    with pytest.raises(ValueError, match="sasrec-unseen-users uses what a sweep of sasrec has found"):
        sweep(WorkerSettings(tmp_path), asked_for, corpus)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte"),
        MemoryError(),
    ],
)
def test_values_for_which_memory_is_too_small_are_a_failed_trial(
    error: Exception, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(sasrec, "train", fails)
    objective = Objective(Bench(tmp_path, tmp_path), corpus, complete("sasrec", corpus.name, SETTINGS), 0)
    with pytest.raises(ValueError, match=r"^out of memory: "):
        objective(asked({}))


def test_a_worker_lock_is_held_while_it_lives(tmp_path: Path) -> None:
    queue = open_toy(str(tmp_path), 1)
    with worker_lock(tmp_path, "alive"):
        assert queue.claim("alive").trial is not None
        assert queue.claim("other") == (None, False)
    again = queue.claim("other").trial
    assert again is not None
    assert history(queue.trials()[again.number]) == [0]


def test_a_bug_in_an_objective_is_no_failed_trial(tmp_path: Path) -> None:
    queue = open_toy(str(tmp_path), 1)

    def broken(trial: optuna.Trial) -> float:
        raise RuntimeError("ours")

    with pytest.raises(RuntimeError, match="ours"):
        local_workers.work(queue, broken, "worker", worker_lock(tmp_path, "worker"))
    assert queue.claim("other").trial is not None
    assert [interrupted(trial) for trial in queue.trials()] == [True, False]


# Ledger, winner, page


def line(number: int, value: float | None, state: Any = "complete", **more: Any) -> TrialLine:
    known = {"params": {}, "seconds": 1.0, "epochs": 1, "error": None, "repeats": None, "source": None}
    return TrialLine(number=number, state=state, value=value, **{**known, **more})


def test_the_best_is_complete_and_the_first_of_equals() -> None:
    lines = [line(0, 0.1), line(1, 0.3), line(2, 0.9, "pruned"), line(3, 0.3), line(4, None, "failed")]
    assert best_of(lines) == lines[1]
    assert best_of(lines[4:]) is None


def test_a_study_without_a_complete_trial_has_no_winner(swept: tuple[WorkerSettings, Ledger], tmp_path: Path) -> None:
    _, ledger = swept
    failed = ledger.model_copy(
        update={"best": None, "default": None, "trials": [line(0, None, "failed", error="no vectors there")]}
    )
    with pytest.raises(ValueError, match=r"no trial of study .* completed, so there is no winner: no vectors there$"):
        conclude(failed, tmp_path, tmp_path / "best")
    assert path(tmp_path, "all_beauty", ledger.study).exists()
    assert not (tmp_path / "best").exists()


def test_the_board_is_not_disturbed(swept: tuple[WorkerSettings, Ledger], corpus: Corpus, tmp_path: Path) -> None:
    _, ledger = swept
    run(Bench(tmp_path / "board", tmp_path), corpus, complete("popularity", corpus.name), 0)
    tables.render(tmp_path / "board", corpus.name)
    before = verify(tmp_path / "board")
    written = conclude(ledger, tmp_path / "board", tmp_path / "best")
    assert written == [
        tmp_path / f"board/all_beauty.sweeps/{ledger.study}.json",
        tmp_path / f"board/all_beauty.sweeps/{ledger.study}.html",
        tmp_path / "board/all_beauty.sha256",
        tmp_path / "best/all_beauty/sasrec.toml",
    ]
    assert before == verify(tmp_path / "board") == ([], 1)
    assert board_table.corpora(tmp_path / "board") == tables.corpora(tmp_path / "board") == ["all_beauty"]
    assert store.parse(Ledger, written[0]) == ledger


def test_more_trials_go_on_with_a_study(swept: tuple[WorkerSettings, Ledger], corpus: Corpus, tmp_path: Path) -> None:
    settings, before = swept
    shutil.copytree(settings.work, tmp_path / "work")
    after = sweep(WorkerSettings(tmp_path / "work"), spec(corpus, trials=before.asked + 1), corpus)
    assert (after.study, after.asked, after.ended) == (before.study, before.asked + 1, before.asked + 1)
    assert [found.params for found in after.trials[: before.asked]] == [found.params for found in before.trials]
    written = conclude(before, tmp_path / "board", tmp_path / "best")
    assert conclude(after, tmp_path / "board", tmp_path / "best") == written
    assert best_config.read(written[-1]).trials == after.ended


@pytest.mark.slow
def test_a_sweep_of_one_trial_takes_no_winners_place(
    swept: tuple[WorkerSettings, Ledger], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, ledger = swept
    known = best_config.TunedConfig(study="thirty", trial=3, trials=30, value=0.07, settings=[], params={"lr": 0.002})
    target = best_config.path("all_beauty", "sasrec", tmp_path / "best")
    best_config.write(target, known)
    smoke = ledger.model_copy(update={"settings": ["epochs=1"]})
    assert target not in conclude(smoke, tmp_path / "board", tmp_path / "best")
    assert best_config.read(target) == known
    assert f"{target} keeps 0.0700 of 30 trials (study thirty), not " in capsys.readouterr().err
    assert target in conclude(smoke, tmp_path / "board", tmp_path / "best", replace=True)
    assert best_config.read(target).study == ledger.study
    assert target in conclude(ledger, tmp_path / "board", tmp_path / "best"), "it is of the same study"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"trials": 31}, True),
        ({"value": 0.2, "settings": []}, True),
        ({"value": 0.2, "trials": 29}, False),
        ({"value": 0.1, "trials": 31}, False),
        ({"study": "s-2", "value": 0.2}, True),
        ({"study": "s-2", "value": 0.125}, False),
        ({"study": "s-2", "value": 0.2, "trials": 29}, False),
        ({"study": "s-2", "value": 0.2, "settings": []}, False),
    ],
)
def test_which_winner_gives_way(changes: dict[str, Any], expected: bool) -> None:
    known = best_config.TunedConfig(study="s-1", trial=3, trials=30, value=0.125, settings=["epochs=7"], params={})
    assert known.model_copy(update=changes).replaces(known) == expected


def test_a_study_that_was_begun_again_from_nothing_takes_no_ledgers_place(
    swept: tuple[WorkerSettings, Ledger], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, ledger = swept
    written = conclude(ledger, tmp_path / "board", tmp_path / "best")
    before = [file.read_bytes() for file in written]
    first = ledger.model_copy(update={"trials": ledger.trials[:1], "states": {"complete": 1}})
    assert conclude(first, tmp_path / "board", tmp_path / "best") == []
    assert [file.read_bytes() for file in written] == before
    assert f"{written[0]} has 2 trials that ended and are not among these: it stays" in capsys.readouterr().err
    assert written[0] in conclude(first, tmp_path / "board", tmp_path / "best", replace=True)


def test_a_sweep_publishes_no_folder_and_no_winner_for_a_file_of_this_machine(
    swept: tuple[WorkerSettings, Ledger], corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, ledger = swept
    shutil.copytree(settings.folder(ledger.study), tmp_path / "study")
    kept = in_folder(tmp_path / "study")
    space = space_of(complete("sasrec", corpus.name, SETTINGS, tuned=False), SETTINGS, at_small_size=True)
    queue = TrialQueue(trial_queue.find(kept, ledger.study), kept, space)
    told = replace(spec(corpus), settings=("codes=/home/me/mine.tsv", "lr=0.01"))
    queue.study.set_user_attr(SPEC, attributes(told))
    made = study_ledger.ledger(queue, complete("sasrec", corpus.name), ledger.provenance)
    assert made.settings == ["codes=mine.tsv", "lr=0.01"]
    written = conclude(made, tmp_path / "board", tmp_path / "best")
    assert not (tmp_path / "best").exists()
    assert "no winner is written: codes=mine.tsv names files of this machine alone" in capsys.readouterr().err
    assert not [file for file in written if b"/home/me" in file.read_bytes()]


def test_rows_tell_what_a_sweep_had_fixed() -> None:
    found = best_config.TunedConfig(study="s-1", trial=3, trials=30, value=0.125, settings=["patience=4"], params={})
    assert found.note() == f"{TUNED} 30 trials under patience=4 (study s-1)"
    assert found.model_copy(update={"settings": []}).note() == f"{TUNED} 30 trials (study s-1)"


@pytest.mark.parametrize(
    ("stamps", "ended", "expected"),
    [
        # Optuna's times are a host's own: a clock that goes back in autumn, and a host of another zone.
        ({}, "02:10", 0.0),
        ({BEGUN: 1_000.0, ENDED: 1_060.0}, "02:10", 60.0),
        ({BEGUN: 1_000.0, ENDED: 990.0}, "02:10", 0.0),
        ({}, "02:51", 60.0),
    ],
)
def test_a_trial_takes_no_less_than_no_time(stamps: dict[str, float], ended: str, expected: float) -> None:
    begin, end = (datetime.fromisoformat(f"2026-10-25 {text}") for text in ("02:50", ended))
    trial = optuna.trial.create_trial(value=0.1, user_attrs=stamps)
    trial.datetime_start, trial.datetime_complete, trial.number = begin, end, 0
    assert seconds(trial) == expected
    assert study_ledger._line(trial).seconds == expected


def test_a_trial_that_runs_on_another_host_has_taken_what_it_has() -> None:
    trial = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs={BEGUN: time.time() - 100})
    trial.datetime_start = datetime.now() + timedelta(hours=9)
    assert 100 <= seconds(trial) < 150


def test_hosts_of_two_zones_work_side_by_side(
    swept: tuple[WorkerSettings, Ledger], corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute each, at once, nine hours apart by their clocks."""
    settings, ledger = swept
    kept = settings.open_storage(ledger.study, 30)
    queue = TrialQueue(trial_queue.find(kept, ledger.study), kept, {})
    trials = list[optuna.trial.FrozenTrial]()
    for hours in (0, 9):
        trial = optuna.trial.create_trial(value=0.1, user_attrs={BEGUN: 1_000.0, ENDED: 1_060.0})
        trial.datetime_start = datetime(2026, 11, 30, 12) + timedelta(hours=hours)
        trial.datetime_complete, trial.number = trial.datetime_start + timedelta(minutes=1), len(trials)
        trials.append(trial)
    # Whose worker has died, of that the host that finds it has written its own time.
    dead = optuna.trial.create_trial(state=TrialState.FAIL, user_attrs={BEGUN: 1_000.0})
    dead.datetime_start, dead.datetime_complete, dead.number = trials[0].datetime_start, trials[1].datetime_complete, 2
    trials.append(dead)
    monkeypatch.setattr(TrialQueue, "trials", lambda self: trials)
    made = study_ledger.ledger(queue, complete("sasrec", corpus.name), ledger.provenance)
    assert [made.hours, made.wall_hours] == pytest.approx([2 / 60, 1 / 60])
    assert made.ended_at.timestamp() == 1_060


def test_a_ledger_with_other_digits_is_gone_on_with(swept: tuple[WorkerSettings, Ledger], tmp_path: Path) -> None:
    _, ledger = swept
    others = [each.model_copy(update={"seconds": (each.seconds or 0) + 2e-7}) for each in ledger.trials]
    study_ledger.write(tmp_path, ledger.model_copy(update={"trials": others}))
    assert study_ledger.lost(tmp_path, ledger) == 0


def test_nobody_saw_the_end_of_what_took_its_worker_down() -> None:
    """A host nine hours on by its clock has found it."""
    repeated = {"retry_history": list(range(RETRIES))}
    stamp = {BEGUN: time.time() - 60}
    trial = optuna.trial.create_trial(state=TrialState.FAIL, user_attrs=stamp, system_attrs=repeated)
    trial.datetime_start, trial.number = datetime.now(), RETRIES
    trial.datetime_complete = datetime.now() + timedelta(hours=9)
    line = study_ledger._line(trial)
    assert (line.state, line.seconds) == ("failed", None)
    # A budget ends where every trial takes its worker down, and no sooner.
    assert 60 <= seconds(trial) < 120


@pytest.mark.parametrize(
    ("typed", "kept"),
    [('codes="/a/mine.tsv"', "codes=mine.tsv"), ("codes=/a/mine.tsv", "codes=mine.tsv"), ("lr=1e-3", "lr=1e-3")],
)
def test_a_ledger_names_no_folder(typed: str, kept: str) -> None:
    assert study_ledger._published(typed) == kept


def test_an_older_study_goes_on_with_its_ledger(
    swept: tuple[WorkerSettings, Ledger], corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its trials have Optuna's times alone."""
    settings, ledger = swept
    kept = settings.open_storage(ledger.study, 30)
    queue = TrialQueue(trial_queue.find(kept, ledger.study), kept, {})
    lasted = [timedelta(microseconds=829_349_113 * (number + 1)) for number in range(100)]
    trials = []
    for number, each in enumerate(lasted):
        trial = optuna.trial.create_trial(value=0.1)
        trial.datetime_start = datetime(2026, 6, 30, 12, microsecond=7_919 * number)
        trial.datetime_complete, trial.number = trial.datetime_start + each, number
        trials.append(trial)
    monkeypatch.setattr(TrialQueue, "trials", lambda self: trials)
    made = study_ledger.ledger(queue, complete("sasrec", corpus.name), ledger.provenance)
    assert [line.seconds for line in made.trials] == [each.total_seconds() for each in lasted]
    study_ledger.write(tmp_path, made)
    assert study_ledger.lost(tmp_path, made) == 0


def test_who_has_other_code_than_the_sweep_takes_no_trial(tmp_path: Path) -> None:
    queue = open_toy(str(tmp_path), 3)
    assert queue.claim("one").trial is not None
    queue.study.set_user_attr(SOURCE, "another")
    with pytest.raises(ValueError, match="this process has other code than the sweep of "):
        queue.claim("one")


def test_a_sweep_tells_its_board_and_whether_vectors_are_of_a_path(
    best: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_prep, "load", lambda name, source, cache: corpus)
    boards, told, of = list[Any](), list[Any](), provenance.of

    def noted(hardware: Hardware, board: Path | None = None) -> Any:
        boards.append(board)
        return of(hardware, board)

    def concluded(made: Ledger, *given: Any) -> list[Path]:
        told.append(given)
        return []

    monkeypatch.setattr(provenance, "of", noted)
    monkeypatch.setattr(study_module, "conclude", concluded)
    (tmp_path / "vectors.npz").touch()
    common = ["--model", "sasrec", "--corpus", "all_beauty", "--trials", "1", "--work", str(tmp_path / "work")]
    board = tmp_path / "board"
    for vectors in ([], ["--vectors-path", str(tmp_path / "vectors.npz")]):
        assert main(["sweep", *common, "--board", str(board), *vectors, "--set", *SETTINGS]) == 0
    assert board in boards
    assert [given[-1] for given in told] == [False, True]


@pytest.mark.parametrize(
    ("fixed", "of_a_path", "kept"),
    [
        (["vectors=folder"], True, False),
        (["vectors=npz"], True, False),
        (["vectors=npz"], False, True),
        (["codes=mine.tsv"], False, False),
        (['codes="letter"', "lr=0.1"], False, True),
        (["codes=null"], False, True),
    ],
)
def test_what_names_a_file_of_this_machine_is_no_winner(
    swept: tuple[WorkerSettings, Ledger], tmp_path: Path, fixed: list[str], of_a_path: bool, kept: bool
) -> None:
    ledger = swept[1].model_copy(update={"settings": fixed})
    conclude(ledger, tmp_path / "board", tmp_path / "best", of_a_path=of_a_path)
    assert (tmp_path / "best").exists() == kept


def test_a_worker_with_other_code_is_turned_away(
    swept: tuple[WorkerSettings, Ledger], loaded: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, ledger = swept
    monkeypatch.setattr(study_module, "prepared", None)
    monkeypatch.setattr(source, "of_folder", lambda root: "0" * 64)
    with pytest.raises(ValueError, match=f"this process has other code than the sweep of {ledger.study}"):
        join(settings, ledger.study)


def test_trials_of_other_code_are_told(
    swept: tuple[WorkerSettings, Ledger],
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings, _ = swept
    shutil.copytree(settings.work, tmp_path / "work")
    sweep(WorkerSettings(tmp_path / "work"), spec(corpus), corpus)
    assert "other code" not in capsys.readouterr().err
    monkeypatch.setattr(source, "of_folder", lambda root: "0" * 64)
    sweep(WorkerSettings(tmp_path / "work"), spec(corpus), corpus)
    assert "3 of 3 trials of this study ran on other code than this" in capsys.readouterr().err


def test_without_optuna_a_sweep_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sweep_commands, "find_spec", lambda name: None)
    assert main(["sweep", "--model", "sasrec", "--corpus", "planted", "--trials", "1"]) == 2
    assert "a sweep needs the package optuna, which is not installed: pip install" in capsys.readouterr().err


def test_no_password_is_written(
    swept: tuple[WorkerSettings, Ledger], corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, _ = swept
    monkeypatch.setattr(sys, "argv", ["benchmarks/__main__.py", "sweep", "--storage", "postgresql://me:hunter2@h/d"])
    found = sweep(settings, spec(corpus), corpus).provenance.command
    assert "hunter2" not in found
    assert "--storage postgresql://..." in found


def test_the_page_stands_alone(swept: tuple[WorkerSettings, Ledger]) -> None:
    _, ledger = swept
    text = "<script>alert(1)</script>"
    more = ledger.model_copy(update={"trials": [*ledger.trials, line(3, None, "failed", error=text, params={})]})
    page = html(more)
    assert text not in page
    assert "&lt;script&gt;alert(1)" in page
    assert page.count("<svg") == (3 if len({found.value for found in ledger.trials}) > 2 else 0)
    # Names of formats within pictures are no addresses that anything is loaded from.
    assert "<link" not in page
    assert not [part for part in ("src=", "@import", "url(http", 'href="http') if part in page]
    for found in ledger.trials:
        assert f'<th scope="row" class="number">{found.number}</th><td>{found.state}</td>' in page
        assert f"{found.value:.4f}" in page
    assert html(more) == page


def test_the_page_says_what_few_trials_are_worth_and_of_interrupted_ones_where_there_were(
    swept: tuple[WorkerSettings, Ledger],
) -> None:
    _, ledger = swept
    trials = [line(number, 0.1 + number / 1000, "complete", params=ledger.trials[0].params) for number in range(100)]
    few = html(ledger.model_copy(update={"trials": trials[:30], "states": {"complete": 30}}))
    assert "here 3 of 30 complete trials" in few
    assert "Interrupted" not in few
    many = html(ledger.model_copy(update={"trials": trials, "states": {"complete": 100, "interrupted": 1}}))
    assert "few trials" not in many
    assert "Interrupted trials lost their worker" in many


@pytest.fixture
def best(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(best_config, "BEST", tmp_path / "best")
    return tmp_path / "best"


def tuned_config(**params: Any) -> best_config.TunedConfig:
    return best_config.TunedConfig(study="s-1", trial=3, trials=30, value=0.125, settings=["epochs=7"], params=params)


def test_a_winner_survives_its_file(best: Path) -> None:
    found = tuned_config(lr=5e-05, loss='b"ce\\', flag=True, **{"tokenizer.codes": 64})
    best_config.write(best_config.path("c", "m"), found)
    assert best_config.read(best / "c/m.toml") == found


def test_winners_take_the_place_of_defaults(best: Path) -> None:
    best_config.write(best_config.path("all_beauty", "sasrec"), tuned_config(lr=0.004, dropout=0.3))
    tuned = complete("sasrec", "all_beauty")
    assert tuned.config == replace(sasrec.SMALL, lr=0.004, dropout=0.3, epochs=7)
    assert tuned.tuned_config is not None
    # A variant's own settings and explicit ones win over them.
    assert complete("sasrec-bce", "all_beauty").config == replace(tuned.config, loss="bce")
    assert complete("sasrec", "all_beauty", ["lr=0.1"]).config == replace(tuned.config, lr=0.1)
    assert complete("sasrec-unseen-users", "all_beauty").config == tuned.config
    assert complete("sasrec", "all_beauty", ["lr=0.1", "dropout=0", "epochs=1"]).tuned_config is None
    assert complete("sasrec", "all_beauty", ["lr=0.1"]).tuned_config is not None
    # Neither the untuned nor another corpus know of them.
    assert complete("sasrec", "all_beauty", tuned=False).config == complete("sasrec", "planted").config == sasrec.SMALL


def test_what_overrides_a_winner_is_said_and_not_called_tuned(best: Path, corpus: Corpus) -> None:
    best_config.write(best_config.path("all_beauty", "sasrec"), tuned_config(lr=0.004, dropout=0.3))

    def said(*settings: str) -> tuple[str, list[str]]:
        experiment = complete("sasrec", "all_beauty", settings)
        notes = record_fields.notes(experiment, corpus, None)
        return titled(experiment.name, notes), notes[1:]

    tuned = "tuned with 30 trials under epochs=7 (study s-1)"
    assert said() == ("sasrec, tuned", [tuned])
    assert said("epochs=3") == ("sasrec, epochs=3", ["overridden: epochs=3", tuned])
    # The default of the model is none of the tuned experiment; what the winner has already overrides nothing.
    assert said("lr=0.0005") == ("sasrec, lr=0.0005", ["overridden: lr=0.0005", tuned])
    assert said("lr=4e-3", "epochs=7") == ("sasrec, tuned", [tuned])
    # Where nothing is left of the winner, the row is held against the defaults.
    assert said("lr=0.0005", "dropout=0.5", "epochs=3") == ("sasrec, epochs=3", ["overridden: epochs=3"])


def test_a_corpus_with_an_ending_has_winners_of_its_own_or_those_of_the_whole(best: Path, corpus: Corpus) -> None:
    cold = replace(corpus, name="all_beauty_cold_items")
    best_config.write(best_config.path("all_beauty", "sasrec-bce"), tuned_config(lr=0.002))
    assert complete("sasrec-bce", cold).config.lr == complete("sasrec-bce", cold.name).config.lr == 0.002
    best_config.write(best_config.path(best_config.folder_of(cold.name, "f" * 64), "sasrec"), tuned_config(lr=0.004))
    assert complete("sasrec-bce", cold).config.lr == complete("sasrec-bce", cold.name).config.lr == 0.004
    assert complete("sasrec-bce", corpus).config.lr == 0.002


def test_a_variants_own_winner_comes_first(best: Path) -> None:
    best_config.write(best_config.path("all_beauty", "sasrec"), tuned_config(lr=0.004))
    best_config.write(best_config.path("all_beauty", "sasrec-bce"), tuned_config(lr=0.002))
    assert complete("sasrec-bce", "all_beauty").config.lr == 0.002
    assert complete("sasrec", "all_beauty").config.lr == 0.004


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[params]\nlr = 0.1\nbeam = 3", r"sasrec.toml has no option 'beam'; possible: batch_size"),
        ('[params]\nlr = "high"', r"sasrec.toml option lr is 'high'"),
        ("[params]\nlr = [1]", r"sasrec.toml does not fit at params.lr"),
        ("beams = 3\n[params]\nlr = 0.1", r"sasrec.toml does not fit at beams: Extra inputs"),
        ("params = 3 4", r"sasrec.toml is no TOML file"),
    ],
)
def test_a_wrong_winner_is_told_with_its_file(best: Path, text: str, says: str) -> None:
    (best / "all_beauty").mkdir(parents=True)
    head = 'study = "s"\ntrial = 1\ntrials = 2\nvalue = 0.1\n'
    (best / "all_beauty/sasrec.toml").write_text(head + text)
    with pytest.raises(ValueError, match=says) as raised:
        complete("sasrec", "all_beauty")
    assert "\n" not in str(raised.value) or "no TOML" in str(raised.value)


def test_vectors_and_references_are_untuned(best: Path, corpus: Corpus, tmp_path: Path) -> None:
    bench, experiment = Bench(tmp_path, tmp_path), complete("tiger-sas", "all_beauty")
    before = resolve(bench, corpus, experiment).key
    best_config.write(best_config.path("all_beauty", "sasrec"), tuned_config(lr=0.004))
    assert resolve(bench, corpus, experiment).key == before


@pytest.mark.slow
def test_the_command_and_the_row_it_tunes(
    best: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data_prep, "load", lambda name, source, cache: corpus)
    common = ["--corpus", "all_beauty", "--board", str(tmp_path / "board"), "--work", str(tmp_path / "work")]
    assert main(["sweep", "--model", "sasrec", "--trials", "2", *common, "--set", *SETTINGS]) == 0
    said = capsys.readouterr().out
    assert "2 of 2 trials ended (2 complete)" in said
    assert "defaults 0." in said
    found = best_config.read(best / "all_beauty/sasrec.toml")
    assert main(["bench", "--models", "sasrec", *common, "--jobs", "1"]) == 0
    assert main(["bench", "--models", "sasrec", *common, "--jobs", "1", "--untuned", "--set", *SETTINGS]) == 0
    records = [store.read(file) for file in (tmp_path / "board").glob("*/*/*/seed-0.json")]
    notes = {record.config["lr"]: record.notes for record in records}
    note = f"tuned with 2 trials under {' '.join(SETTINGS)} (study {found.study})"
    own = "overridden: epochs=2 inner=16 layers=1 width=16"
    assert note in notes[found.params["lr"]]
    assert note in (tmp_path / "board/all_beauty.md").read_text()
    tuned = next(record for record in records if note in record.notes)
    assert tuned.valid["ndcg@10"] == found.value
    assert [record.notes for record in records if record != tuned] in ([], [["small sizes", own]])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "sasrec", "--storage", "sqlite:///x.db"], "SQLite locks its whole file"),
        (["--model", "sasrec", "--devices", "2"], "--devices is 2; a sweep trains each trial on one device"),
        (["--model", "popularity"], "popularity has no tuned field"),
        (["--model", "sosrec"], "did you mean 'sasrec'"),
    ],
)
def test_a_users_mistake_is_one_sentence(
    arguments: list[str],
    says: str,
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(data_prep, "load", lambda name, source, cache: corpus)
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *arguments]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_hours_must_be_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sweep", "--model", "sasrec", "--budget", "soon"])
    assert "'soon' is not a number of hours above 0" in capsys.readouterr().err


def test_threads_sampler_and_pruner_make_another_study(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    space = {"lr": FloatDistribution(0.1, 1.0)}
    names = [study_name(spec(corpus), "key", space), study_name(spec(corpus, threads=2), "key", space)]
    for name in ("SAMPLER", "PRUNER"):
        with monkeypatch.context() as patched:
            patched.setattr(study_spec, name, "another")
            names.append(study_name(spec(corpus), "key", space))
    assert len(set(names)) == 4


def test_trials_that_ended_for_good_are_counted(swept: Any) -> None:
    states = {"complete": 1, "pruned": 2, "failed": 4, "interrupted": 8, "running": 16, "waiting": 32}
    ledger = swept[1].model_copy(update={"states": states})
    assert ledger.ended == study_ledger.tuned_config(ledger).trials == 7


def test_a_trial_says_which_it_repeats(tmp_path: Path) -> None:
    """The last one that was lost: nobody holds the lock of any of these workers."""
    queue = open_toy(str(tmp_path), 1)
    for number in range(3):
        assert queue.claim(f"worker {number}").trial is not None
    lines = [study_ledger._line(trial) for trial in queue.trials()]
    assert [(line.state, line.repeats) for line in lines] == [("interrupted", None), ("interrupted", 0), ("running", 1)]


def test_a_trial_computes_with_the_threads_of_its_study(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = list[int]()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    bench = Bench(tmp_path, tmp_path, hardware=Hardware("cpu", threads=3))
    Objective(bench, corpus, complete("popularity", corpus.name), 0)(asked({}))
    assert set(told) == {3}


def test_who_was_taken_for_dead_ends_nothing(tmp_path: Path) -> None:
    from tests.scripts.toy_sweep import open_toy

    queue = open_toy(str(tmp_path), 1)
    slow, heir = (queue.claim(worker).trial for worker in ("slow", "heir"))
    assert slow is not None
    assert heir is not None
    assert not queue.end(slow, 0.9)
    assert queue.end(heir, 0.1)
    assert [trial.value for trial in queue.trials()] == [None, 0.1]


def test_a_default_that_failed_is_none_of_a_ledger(tmp_path: Path) -> None:
    queue = open_toy(str(tmp_path), 2)
    for value in (None, 0.2):
        trial = queue.claim("worker").trial
        assert trial is not None
        queue.end(trial, value, error=None if value else "diverged")
    found = study_ledger.ledger(queue, complete("popularity", "all_beauty"), run_of().record.provenance)
    assert found.default is None
    assert found.best is not None
    assert found.best.number == 1
