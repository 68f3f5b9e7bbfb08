"""A run as it happens, for Weights & Biases. A mirror, never the record: it can be lost without loss.

wandb has a process of its own, wandb-core, and is spoken to in a thread, within W&B's own time limits. So it can be
missing, slow, hang or crash, and the run it follows neither fails nor waits: calls are queued, and the run goes on
without W&B, after one line that says why.

Offline everything lies beneath `<work>/wandb`, for `wandb sync`. A cell that was killed goes on under the id it had.
Online, W&B itself then resumes the run; offline, each attempt leaves a file, and `wandb sync` adds those of one id to
one run, in the order of their start.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks import provenance
from benchmarks.resolved_row import ResolvedRow, published_config
from benchmarks.tracking.background_logger import BackgroundLogger
from benchmarks.tracking.metric_names import STEP
from benchmarks.tracking.training_metrics import TrainingMetrics
from benchmarks.training.fit import process_rank
from data_prep.corpus import Corpus
from leaderboards import store
from leaderboards.record import PROTOCOL, Record

if TYPE_CHECKING:
    import wandb

OFF = "off"
MODES = ("offline", "online", OFF)
PROJECT = "grbench"
# What a sweep tries to raise; the summary of a trial has it, and so has a record's.
OBJECTIVE = "valid/ndcg@10"
# Kinds of runs, W&B's job types.
EXPERIMENT, TRIAL = "experiment", "trial"
# Longest that wandb waits for its server, to begin and to end a run, and that an ended run waits for wandb.
SERVER_SECONDS, END_SECONDS = 20, 30.0


def mode(asked: str | None, corpus: Corpus) -> str:
    """One of `MODES`: what was asked for, else `off` on a generated corpus and without wandb, else `offline`.

    Raises:
        ValueError: tracking was asked for, and wandb is not installed.
    """
    # A folder `wandb` in the working directory would pass for a package without a file.
    found = importlib.util.find_spec("wandb")
    installed = found is not None and found.origin is not None
    if asked is None:
        if corpus.card["origin"].startswith("generated") or os.environ.get("WANDB_MODE") == "disabled":
            return OFF
        if not installed:
            print("not tracked: wandb is not installed", file=sys.stderr)
        return "offline" if installed else OFF
    if asked != OFF and not installed:
        raise ValueError(f"--track {asked} needs wandb, which is not installed; pip install wandb, or --track {OFF}")
    return asked


@contextlib.contextmanager
def follow(row: ResolvedRow, seed: int, study: str | None = None, trial: int | None = None) -> Iterator[Tracker]:
    """What a run is followed by, as `Bench.track` says; of a sweep's trial, under the names of study and trial.

    The run is named once there is something to log. A run that fails is left marked as crashed.
    """
    tracker = Tracker()
    if row.bench.track != OFF and process_rank(row.bench.hardware) == 0:
        tracker = tracker_of(_start(row, seed, study, trial))
    try:
        yield tracker
    finally:
        tracker.close()


def tracker_of(about: Mapping[str, Any]) -> Tracker:
    """Follows the run that `about` describes, as `_begin` takes it."""
    return Tracker(BackgroundLogger(f"tracking of {about['name']}", lambda: _begin(**about), END_SECONDS))


class Tracker:
    """The harness's side of a tracked run; without a logger it does nothing."""

    def __init__(self, logger: BackgroundLogger | None = None) -> None:
        self.logger = logger

    def watch(self, stage: str) -> Sequence[TrainingMetrics]:
        """For `Fit.watch`."""
        return [TrainingMetrics(stage, self.logger)] if self.logger else []

    def record(self, path: Path) -> None:
        """Ends the run with its record as summary, and record, ranks and code card as an artifact."""
        if self.logger and path.exists():
            record = store.read(path)
            self.logger.finish(lambda run: _log_record(run, record, path))

    def summary(self, values: Mapping[str, float]) -> None:
        """Ends the run with these values as summary: of a trial, which has no record."""
        if self.logger:
            self.logger.finish(lambda run: run.summary.update(dict(values)))

    def close(self) -> None:
        """Waits for wandb, a while."""
        if self.logger:
            self.logger.close()


def _start(row: ResolvedRow, seed: int, study: str | None, trial: int | None) -> dict[str, Any]:
    """What a W&B run begins with. No path of this machine and no command, which may hold a password, is in it."""
    bench, experiment, corpus, key = row.bench, row.experiment, row.eval_corpus, row.key
    origin = provenance.of(bench.hardware, bench.board)
    cell = [corpus.name, key, seed, origin.git_commit, origin.git_dirty_sha256, study, trial]
    sweep = {} if study is None else {"study": study, "trial": trial}
    name = f"{experiment.model}-{key}-s{seed}"
    return {
        "mode": bench.track,
        "root": str(bench.work.resolve()),
        "id": hashlib.sha256(json.dumps(cell).encode()).hexdigest()[:16],
        "name": name if study is None else f"{name}-t{trial}",
        "group": study or f"{corpus.name}/{key}",
        "job_type": EXPERIMENT if study is None else TRIAL,
        "tags": _fitting([PROTOCOL, corpus.name, experiment.model, *([study] if study else [])]),
        "config": {
            **published_config(experiment),
            "cell": {
                "protocol": PROTOCOL,
                "corpus": corpus.name,
                "fingerprint": corpus.fingerprint,
                "model": experiment.model,
                "experiment": experiment.name,
                "key": key,
                "seed": seed,
                **sweep,
            },
            "provenance": origin.model_dump(mode="json", exclude={"command"}),
        },
    }


def tags(record: Record) -> list[str]:
    """Protocol, corpus, model, and what a reader of the row must know of."""
    stand_in = any(info is not None and info.stand_in for info in (record.vectors, record.collaborative))
    return _fitting([record.protocol, record.corpus.name, record.model, *["stand-in"] * stand_in])


def _fitting(names: Sequence[str]) -> list[str]:
    """W&B refuses a run with a tag of more than 64 characters."""
    return [name[:64] for name in names]


def summary(record: Record) -> dict[str, Any]:
    """The record's metrics, diagnostics, search, code card and cost: `test/ndcg@10`, `cost/stages/1/seconds`."""
    parts = {"valid", "test", "valid_users", "diagnostics", "search", "code_card", "cost"}
    left_out: Any = {"cost": {"stages": {"__all__": {"quality", "losses", "checked"}}}}
    return dict(_flat(record.model_dump(mode="json", include=parts, exclude=left_out)))


def _flat(values: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves under their paths; places of a list count from 1."""
    if isinstance(values, list):
        values = {str(place): value for place, value in enumerate(values, start=1)}
    if not isinstance(values, dict):
        yield name, values
        return
    for key, value in values.items():
        yield from _flat(value, f"{name}/{key}" if name else key)


def _log_record(run: wandb.Run, record: Record, path: Path) -> None:
    import wandb

    run.summary.update(summary(record))
    run.tags = tuple(dict.fromkeys([*(run.tags or ()), *tags(record)]))
    artifact = wandb.Artifact(str(run.name), type="row")
    artifact.add_file(str(path.resolve()), "record.json")
    artifact.add_file(str(path.resolve().with_suffix(".ranks.parquet")), "ranks.parquet")
    if record.code_card is not None:
        card = Path(run.dir, "code_card.json")
        card.write_text(json.dumps(record.code_card, indent=2))
        artifact.add_file(str(card))
    run.log_artifact(artifact)


@contextlib.contextmanager
def _temporary_files_in(root: str) -> Iterator[None]:
    """wandb has folders for temporary files, which a killed run leaves: beneath its own, not among everybody's."""
    folder, before = Path(root, "wandb/temporary"), tempfile.tempdir
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(folder.absolute())
    try:
        yield
    finally:
        tempfile.tempdir = before


def _begin(root: str, mode: Literal["offline", "online"], **about: Any) -> wandb.Run:
    """A W&B run that writes beneath `root/wandb` alone. Raises what wandb raises, and a ValueError without a login."""
    with _temporary_files_in(root):
        return _init(root, mode, **about)


def _init(root: str, mode: Literal["offline", "online"], **about: Any) -> wandb.Run:
    folder = Path(root, "wandb")
    # wandb would go elsewhere, without a word, where it cannot write, and makes the inner ones for this user alone.
    (folder / "cache/wandb/logs").mkdir(parents=True, exist_ok=True)
    for name in ("CACHE", "DATA", "ARTIFACT"):
        os.environ.setdefault(f"WANDB_{name}_DIR", str(folder / name.lower()))
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    if not os.environ.get("WANDB_SERVICE"):
        from wandb.sdk.lib.service import service_process

        # wandb ends a service of its own when Python exits, and waits for it however long that takes. This one ends
        # by itself when this process has.
        service_process.start(wandb.Settings()).token.save_to_env()
    wandb.setup(wandb.Settings(silent=True))
    # It would ask for a key where the run has a terminal.
    if mode == "online" and not wandb.login(prompt=False, verify=False):
        raise ValueError("wandb has no API key; expected one from `wandb login`")
    run = wandb.init(
        dir=root,
        mode=mode,
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        reinit="create_new",
        resume="allow",
        settings=wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            finish_timeout=SERVER_SECONDS,
            finish_timeout_raises=True,
            host="",
            init_timeout=SERVER_SECONDS,
            save_code=False,
            silent=True,
            # A run is not to be stopped from outside.
            stop_fn=lambda: None,
            use_dot_wandb=False,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        ),
        **about,
    )
    run.define_metric("*", step_metric=STEP)
    return run
