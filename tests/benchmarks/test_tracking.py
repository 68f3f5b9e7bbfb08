"""Runs followed offline are read back with W&B's own reader; a W&B that fails in any way changes nothing but itself."""

from __future__ import annotations

import contextlib
import http.server
import importlib.machinery
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import safetensors.torch

from benchmarks import model_inputs
from benchmarks.__main__ import main
from benchmarks.experiments import Experiment, complete
from benchmarks.resolved_row import resolve
from benchmarks.run import run_seed
from benchmarks.settings import Bench
from benchmarks.sweeps.study import WorkerSettings, sweep
from benchmarks.sweeps.study_spec import StudySpec
from benchmarks.tracking import background_logger, wandb_run
from benchmarks.tracking.metric_names import METRICS, NUMBERED
from benchmarks.training.checkpoint_callback import Watcher
from data_prep.corpus import Corpus
from leaderboards import store
from leaderboards.record import Record, Stage
from tests import scripts

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SASREC = ("epochs=3", "width=16", "inner=16", "layers=1")
GENERATOR = ("steps=4", "t5.width=16", "t5.inner=16", "t5.encoder_layers=1", "t5.decoder_layers=1")
TOKENIZER = ("tokenizer_epochs=2", "tokenizer.codes=8", "tokenizer.hidden=[16]")
LEARNING = ("tokenizer.codes=16", "warm_epochs=1", "finish_epochs=1", "tokenizer_lr=0.02", "warmup=0")
CELLS = {
    "sasrec": SASREC,
    "letter": (*TOKENIZER, *GENERATOR),
    "etegrec": (*TOKENIZER, *LEARNING, *GENERATOR),
    "pit-coevolving": (*TOKENIZER, "warm_steps=4", *GENERATOR),
}
# What each of them trains, in turn, and how many levels its codes have there; 0 for none.
STAGES = {
    "sasrec": {"recommender": 0},
    "letter": {"collaborative-recommender": 0, "tokenizer": 4, "recommender": 4},
    "etegrec": {"tokenizer": 3, "together": 4, "finish": 4},
    "pit-coevolving": {"tokenizer": 4, "warm-up": 4, "dynamic": 4},
}
GROUPS = {"together": 2, "warm-up": 2, "dynamic": 2}


def inspect(file: Path, *more: str) -> list[str]:
    """What W&B's own reader prints of an offline file: records a line each, or with `-summary` the run's state."""
    from wandb.util import get_core_path

    command = [get_core_path(), "leet", "inspect", "-json", "-no-observability", *more, "-run-file", str(file)]
    home = {**os.environ, "HOME": str(file.parent)}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=home).stdout.splitlines()


def exit_code(file: Path) -> object:
    """Of a file that may still be written to; None while it is."""
    return json.loads("".join(inspect(file, "-summary"))).get("exit_code")


def wait_for(come: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not come():
        assert time.monotonic() < deadline
        time.sleep(0.1)


class Read:
    """An offline run, as W&B's own reader has it."""

    def __init__(self, file: Path) -> None:
        # wandb's process says that a run has ended before it has written the last of it.
        wait_for(lambda: exit_code(file) is not None)
        self.records = [json.loads(line) for line in inspect(file)]
        self.state = json.loads("".join(inspect(file, "-summary")))
        (self.run,) = self.of("run")[:1]
        self.history = [record["item"] for record in self.of("history")]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [record[kind] for record in self.records if record["type"] == kind]

    def curve(self, name: str) -> list[float]:
        return [item[name] for item in self.history if name in item]

    @property
    def logged(self) -> set[str]:
        return {name for item in self.history for name in item if not name.startswith("_")}


def files(work: Path) -> list[Path]:
    return sorted(work.glob("wandb/offline-run-*/run-*.wandb"))


def cell(bench: Bench, corpus: Corpus, experiment: Experiment, seed: int = 0, **more: Any) -> Record:
    """As `benchmarks.execution.local` runs a cell."""
    for name in ("CACHE", "DATA", "ARTIFACT"):
        os.environ.pop(f"WANDB_{name}_DIR", None)
    row = resolve(bench, corpus, experiment)
    with wandb_run.follow(row, seed, **more) as tracker:
        path = run_seed(row, seed, watch=tracker.watch)
        tracker.record(path)
    return store.read(path)


@pytest.fixture(scope="module", autouse=True)
def _short_trainings_of_item_vectors() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_inputs, "SMALL_STEPS", 3)
        yield


@pytest.fixture(scope="module")
def corpus(tiny_corpus: Corpus) -> Corpus:
    """The tiny corpus under a name that has small configs."""
    return replace(tiny_corpus, name="all_beauty")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "board", tmp_path / "work", track="offline")


@pytest.fixture
def sasrec(corpus: Corpus) -> Experiment:
    return complete("sasrec", corpus.name, SASREC)


Followed = Callable[[str], tuple[Read, Record, Path]]


@pytest.fixture(scope="module")
def followed(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Followed:
    """A cell of `CELLS`, run once: what W&B has of it, its record, and the folder it worked in."""
    done: dict[str, tuple[Read, Record, Path]] = {}

    def one(name: str) -> tuple[Read, Record, Path]:
        if name not in done:
            folder = tmp_path_factory.mktemp("followed")
            bench = Bench(folder / "board", folder / "work", track="offline")
            record = cell(bench, corpus, complete(name, corpus.name, CELLS[name]))
            (file,) = files(bench.work)
            done[name] = (Read(file), record, folder)
        return done[name]

    return one


def promised(stage: str, levels: int) -> set[str]:
    """Full names of what a stage logs."""
    found = set()
    for name in METRICS:
        count = GROUPS.get(stage, 1) if name == "lr" else levels
        if name not in NUMBERED:
            found |= {f"{stage}/{name}"} if levels or "codes" not in name else set()
        else:
            found |= {f"{stage}/{name}/{number}" for number in range(1, count + 1)}
    return found


@pytest.mark.parametrize("name", CELLS)
def test_every_metric_is_logged_under_its_stage(followed: Followed, name: str) -> None:
    read, record, _ = followed(name)
    wanted = set().union(*(promised(*stage) for stage in STAGES[name].items()))
    assert read.logged == wanted | {"step", "epoch"}
    for stage, done in zip(STAGES[name], record.cost.stages, strict=True):
        assert read.curve(f"{stage}/quality") == pytest.approx(done.quality)
        steps = [item["step"] for item in read.history if f"{stage}/loss" in item]
        assert steps == sorted(steps)
    # The metric that all are shown over.
    assert [metric["step_metric"] for metric in read.of("metric") if metric.get("glob_name") == "*"] == ["step"]


@pytest.mark.parametrize("name", CELLS)
def test_the_record_is_the_summary(followed: Followed, name: str) -> None:
    read, record, _ = followed(name)
    summary = read.state["summary"]
    for part in ("test", "valid"):
        for metric, value in getattr(record, part).items():
            assert summary[f"{part}/{metric}"] == pytest.approx(value)
    for search, scores in record.diagnostics.items():
        assert summary[f"diagnostics/{search}/ndcg@10"] == pytest.approx(scores["ndcg@10"])
    assert summary["cost/parameters"] == record.cost.parameters
    assert summary["cost/stages/1/seconds"] == pytest.approx(record.cost.stages[0].seconds)
    assert ("code_card/entropy/1" in summary) == (record.code_card is not None)
    assert not [name for name in summary if re.search("/(losses|checked|quality)/", name)], "they are curves"
    assert read.state["exit_code"] == 0


def test_a_run_says_what_it_is(followed: Followed, corpus: Corpus) -> None:
    read, record, folder = followed("letter")
    key = record.key
    assert read.run["display_name"] == f"letter-{key}-s0"
    assert read.run["run_group"] == f"all_beauty/{key}"
    assert (read.run["job_type"], read.run["project"]) == ("experiment", "grbench")
    assert read.state["tags"] == ["v2", "all_beauty", "letter", "stand-in"]
    config = read.run["config"]["update"]
    about, origin = config.pop("cell"), config.pop("provenance")
    config.pop("_wandb")
    assert config == record.config
    assert (about["model"], about["experiment"], about["key"], about["seed"]) == ("letter", "letter", key, 0)
    assert about["fingerprint"] == corpus.fingerprint
    assert origin["git_commit"] == record.provenance.git_commit
    assert origin["versions"] == record.provenance.versions
    assert "command" not in origin
    told = json.dumps([kind for kind in read.records if kind["type"] != "artifact"])
    assert str(folder) not in told
    assert str(ROOT) not in told


def test_what_a_paper_leaves_open_is_no_tag(followed: Followed) -> None:
    assert followed("pit-coevolving")[0].state["tags"] == ["v2", "all_beauty", "pit", "stand-in"]


def test_record_ranks_and_code_card_are_an_artifact(followed: Followed) -> None:
    read, record, folder = followed("letter")
    (artifact,) = read.of("artifact")
    assert (artifact["name"], artifact["type"]) == (f"letter-{record.key}-s0", "row")
    staged = {entry["path"]: Path(entry["local_path"]) for entry in artifact["manifest"]["contents"]}
    place = store.path(folder / "board", "all_beauty", "letter", record.key, 0)
    assert staged["record.json"].read_bytes() == place.read_bytes()
    assert staged["ranks.parquet"].read_bytes() == place.with_suffix(".ranks.parquet").read_bytes()
    assert json.loads(staged["code_card.json"].read_text()) == record.code_card
    assert all(path.is_relative_to(folder / "work/wandb") for path in staged.values())


def test_a_row_without_codes_has_no_code_card(followed: Followed) -> None:
    (artifact,) = followed("sasrec")[0].of("artifact")
    assert [entry["path"] for entry in artifact["manifest"]["contents"]] == ["ranks.parquet", "record.json"]


def test_churn_is_what_the_model_itself_counts(followed: Followed) -> None:
    read, record, folder = followed("pit-coevolving")
    weights = [safetensors.torch.load_file(file) for file in (folder / "work/fits").glob("*/best.safetensors")]
    (own,) = [state["churn"].tolist() for state in weights if "churn" in state]
    best = record.cost.stages[-1].best_epoch
    assert read.curve("dynamic/codes/churn")[:best] == pytest.approx(own[:best])


def test_names_change_while_etegrec_learns_and_no_more_at_its_end(followed: Followed) -> None:
    read, _, _ = followed("etegrec")
    assert max(read.curve("together/codes/churn")) > 0
    assert set(read.curve("finish/codes/churn")) == {0.0}


@pytest.mark.parametrize("name", ["letter", "etegrec"])
def test_tracking_changes_no_number(followed: Followed, corpus: Corpus, tmp_path: Path, name: str) -> None:
    _, record, _ = followed(name)
    plain = Bench(tmp_path / "board", tmp_path / "work")
    untracked = cell(plain, corpus, complete(name, corpus.name, CELLS[name]))
    assert untracked.result() == record.result(), "that is all but cost and provenance, and the hash of the ranks"
    assert [stage.quality for stage in untracked.cost.stages] == [stage.quality for stage in record.cost.stages]
    assert not (plain.work / "wandb").exists()


class StopError(Exception):
    """Stands for whatever ends a run."""


def test_a_run_that_was_stopped_goes_on_under_its_id(bench: Bench, corpus: Corpus, sasrec: Experiment) -> None:
    class Stop(Watcher):
        def checked(self, stage: Stage, module: pl.LightningModule) -> None:
            if stage.epochs == 2:
                raise StopError

    with pytest.raises(StopError), wandb_run.follow(resolve(bench, corpus, sasrec), 0) as tracker:
        run_seed(resolve(bench, corpus, sasrec), 0, watch=lambda stage: [*tracker.watch(stage), Stop()])
    wait_for(lambda: [exit_code(file) for file in files(bench.work)] == [1])
    record = cell(bench, corpus, sasrec)
    first, second = (Read(file) for file in files(bench.work))
    assert first.run["run_id"] == second.run["run_id"]
    assert second.run["resume"] is True
    assert first.curve("recommender/quality") + second.curve("recommender/quality") == pytest.approx(
        record.cost.stages[0].quality
    )
    assert second.history[0]["step"] > first.history[-1]["step"]
    assert second.state["exit_code"] == 0


def test_no_folder_of_this_machine_is_sent(bench: Bench, corpus: Corpus, tmp_path: Path) -> None:
    file = tmp_path / "codes.tsv"
    file.write_text("".join(f"{item}\t{number}\n" for number, item in enumerate(corpus.item_ids)))
    tiger = complete("tiger", corpus, ["vectors=null", f"codes={file}"])
    told = wandb_run._start(resolve(bench, corpus, tiger), 0, None, None)["config"]
    assert told["codes"] == "codes.tsv"
    assert str(tmp_path) not in json.dumps(told)


def test_another_seed_or_trial_is_another_run(bench: Bench, corpus: Corpus, sasrec: Experiment) -> None:
    other = replace(sasrec, config=replace(sasrec.config, lr=0.5))
    given: list[tuple[Any, int, Any, Any]] = [(sasrec, 0, None, None), (sasrec, 1, None, None), (other, 0, None, None)]
    given += [(sasrec, 0, "study", 0), (sasrec, 0, "study", 1), (sasrec, 0, "more", 0)]
    ids = [wandb_run._start(resolve(bench, corpus, experiment), *one)["id"] for experiment, *one in given]
    assert len(set(ids)) == len(ids)
    assert ids[0] == wandb_run._start(resolve(bench, corpus, sasrec), 0, None, None)["id"]


def test_a_trial_is_linked_to_its_study(bench: Bench, corpus: Corpus, sasrec: Experiment) -> None:
    with wandb_run.follow(resolve(bench, corpus, sasrec), 0, study="all_beauty-sasrec", trial=3) as tracker:
        tracker.summary({wandb_run.OBJECTIVE: 0.25})
    (file,) = files(bench.work)
    read = Read(file)
    assert (read.run["run_group"], read.run["job_type"]) == ("all_beauty-sasrec", "trial")
    assert read.run["display_name"].endswith("-s0-t3")
    assert "all_beauty-sasrec" in read.run["tags"]
    about = read.run["config"]["update"]["cell"]
    assert (about["study"], about["trial"]) == ("all_beauty-sasrec", 3)
    assert read.state["summary"][wandb_run.OBJECTIVE] == 0.25
    assert read.state["exit_code"] == 0


def test_the_trials_of_a_sweep_are_followed(tmp_path: Path, corpus: Corpus) -> None:
    spec = StudySpec("sasrec", corpus.name, corpus.fingerprint, ("epochs=2", "width=16", "layers=1"), trials=2)
    made = sweep(WorkerSettings(tmp_path, track="offline"), spec, corpus)
    found = [Read(file) for file in files(tmp_path)]
    values = {read.run["config"]["update"]["cell"]["trial"]: read.state["summary"] for read in found}
    assert {trial: summary[wandb_run.OBJECTIVE] for trial, summary in values.items()} == {
        line.number: line.value for line in made.trials
    }
    assert {read.run["run_group"] for read in found} == {made.study}
    assert all(len(read.curve("recommender/quality")) == 2 and read.state["exit_code"] == 0 for read in found)


class Fake(types.ModuleType):
    """A package `wandb` that works, but for the call that is replaced; it is its own run and artifact."""

    summary: dict[str, Any]
    tags: tuple[str, ...] = ()
    name = "fake"

    def __init__(self) -> None:
        super().__init__("wandb")
        self.summary = {}

    def _give_itself(self, *args: Any, **kwargs: Any) -> Fake:
        return self

    Settings = Artifact = setup = init = _give_itself
    define_metric = add_file = log = log_artifact = finish = _give_itself


def hang(*args: Any, **kwargs: Any) -> None:
    time.sleep(1000)


def failing(error: BaseException) -> Callable[..., None]:
    def call(*args: Any, **kwargs: Any) -> None:
        raise error

    return call


FAILURES = {
    "init raises": ("init", failing(OSError("no route\nto host")), "no route"),
    "init hangs": ("init", hang, "it did not end within"),
    "log raises": ("log", failing(RuntimeError()), "RuntimeError"),
    "log hangs": ("log", hang, "it did not end within"),
    "log_artifact raises": ("log_artifact", failing(ValueError("too large")), "too large"),
    "finish hangs": ("finish", hang, "it did not end within"),
    "finish exits": ("finish", failing(SystemExit(3)), "3"),
}


def fake_wandb(monkeypatch: pytest.MonkeyPatch, call: str = "", does: Callable[..., None] | None = None) -> None:
    fake = Fake()
    if does:
        setattr(fake, call, does)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: importlib.machinery.ModuleSpec(name, None, origin="x")
    )
    monkeypatch.setenv("WANDB_SERVICE", "of the fake")


@pytest.fixture(scope="module")
def result(followed: Followed) -> dict[str, Any]:
    return followed("sasrec")[1].result()


@pytest.mark.parametrize("failure", FAILURES)
def test_a_wandb_that_fails_is_told_once_and_fails_no_run(
    bench: Bench,
    corpus: Corpus,
    sasrec: Experiment,
    result: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    failure: str,
) -> None:
    call, does, reason = FAILURES[failure]
    fake_wandb(monkeypatch, call, does)
    # What hangs may be given up soon; what answers must have the time to.
    monkeypatch.setattr(wandb_run, "END_SECONDS", 0.3 if does is hang else 2.0)
    started = time.monotonic()
    record = cell(bench, corpus, sasrec)
    assert time.monotonic() - started < 20
    assert record.result() == result
    lines = [line for line in re.split(r"[\r\n]", capsys.readouterr().err) if " is off: " in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"tracking of sasrec-{record.key}-s0 is off: ")
    assert reason in lines[0]


def test_a_wandb_that_works_is_not_said_to_fail(
    bench: Bench,
    corpus: Corpus,
    sasrec: Experiment,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake_wandb(monkeypatch)
    cell(bench, corpus, sasrec)
    assert " is off" not in capsys.readouterr().err


@pytest.fixture
def server() -> Iterator[Callable[[str], str]]:
    """Makes the address of a server that answers nothing, 500 after a while, or is not there."""
    with contextlib.ExitStack() as stack:

        def make(kind: str) -> str:
            if kind == "refuses":
                return "http://127.0.0.1:9"

            class Handler(http.server.BaseHTTPRequestHandler):
                def do_POST(self) -> None:
                    time.sleep(1000 if kind == "is silent" else 0.5)
                    self.send_error(500)

                def log_message(self, *args: Any) -> None:
                    pass

            made = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
            made.daemon_threads, made.block_on_close = True, False
            threading.Thread(target=made.serve_forever, daemon=True).start()
            stack.callback(made.shutdown)
            return f"http://127.0.0.1:{made.server_port}"

        yield make


@pytest.fixture
def new_wandb() -> Iterator[None]:
    """wandb reads its environment once in a process. Its own process outlives a teardown while it waits for a server,
    and holds the id of the run that it waits for against all that come to it later."""
    import wandb

    wandb.teardown()
    os.environ.pop("WANDB_SERVICE", None)
    before = children()
    yield
    wandb.teardown()
    os.environ.pop("WANDB_SERVICE", None)
    for service in children() - before:
        os.kill(service, signal.SIGKILL)


@pytest.mark.usefixtures("new_wandb")
@pytest.mark.parametrize("kind", ["refuses", "is silent", "fails slowly"])
def test_a_server_out_of_reach_is_waited_for_a_while(
    bench: Bench,
    corpus: Corpus,
    sasrec: Experiment,
    result: dict[str, Any],
    server: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", server(kind))
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(wandb_run, "SERVER_SECONDS", 1)
    started = time.monotonic()
    record = cell(replace(bench, track="online"), corpus, sasrec)
    assert time.monotonic() - started < 15
    assert record.result() == result
    lines = [line for line in capfd.readouterr().err.splitlines() if "wandb" in line or "is off: " in line]
    assert len(lines) == 1


def children(parent: int | None = None) -> set[int]:
    """Processes of wandb that this process, or another, has begun."""
    command = ["ps", "-o", "pid=,comm=", "--ppid", str(parent or os.getpid())]
    found = subprocess.run(command, capture_output=True, text=True)
    return {int(line.split()[0]) for line in found.stdout.splitlines() if "wandb-core" in line}


@pytest.mark.usefixtures("new_wandb")
def test_a_process_of_wandb_that_was_killed_fails_no_run(
    bench: Bench,
    corpus: Corpus,
    sasrec: Experiment,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WANDB_SERVICE", "")
    before = children()
    with wandb_run.follow(resolve(bench, corpus, sasrec), 0) as tracker:
        assert tracker.logger is not None
        tracker.logger.log({"loss": 1.0})
        wait_for(lambda: bool(files(bench.work)))
        (service,) = children() - before
        os.kill(service, signal.SIGKILL)
        tracker.logger.log({"loss": 0.5})
        tracker.summary({})
    assert capfd.readouterr().err.count(" is off: ") == 1


def test_a_process_of_wandb_that_stands_still_holds_no_run_up(tmp_path: Path) -> None:
    command = scripts.command("followed_run", tmp_path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, cwd=ROOT, env=environment, **pipes, stderr=log) as run,  # type: ignore[call-overload]
    ):
        assert run.stdout.readline() == b"\n"
        (service,) = children(run.pid)
        os.kill(service, signal.SIGSTOP)
        try:
            run.stdin.close()
            assert run.wait(30) == 0
        finally:
            os.kill(service, signal.SIGKILL)
    assert (tmp_path / "log").read_text() == "tracking of run is off: it did not end within 1 seconds\n"


@pytest.mark.usefixtures("new_wandb")
def test_online_without_a_login_is_told(
    bench: Bench,
    corpus: Corpus,
    sasrec: Experiment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    cell(replace(bench, track="online"), corpus, sasrec)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "is off: " in line]
    assert "API key" in line


def test_calls_that_nobody_takes_do_not_pile_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(background_logger, "WAITING", 50)
    fake_wandb(monkeypatch, "init", hang)
    tracker = wandb_run.tracker_of({"name": "many", "root": str(tmp_path), "mode": "offline"})
    assert tracker.logger is not None
    started = time.monotonic()
    for step in range(2_000):
        tracker.logger.log({f"value-{place}": step for place in range(100)})
    tracker.close()
    assert time.monotonic() - started < 5
    assert capsys.readouterr().err == "tracking of many is off: 50 calls wait for it\n"


def test_off_starts_nothing(
    bench: Bench, corpus: Corpus, sasrec: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "Thread", None)
    with wandb_run.follow(resolve(replace(bench, track="off"), corpus, sasrec), 0) as tracker:
        assert list(tracker.watch("recommender")) == []
        tracker.record(tmp_path / "record.json")
        tracker.summary({})
    # Of several processes that train together the first is followed.
    monkeypatch.setattr(wandb_run, "process_rank", lambda hardware: 1)
    with wandb_run.follow(resolve(bench, corpus, sasrec), 0) as tracker:
        assert list(tracker.watch("recommender")) == []


def test_a_run_that_logs_nothing_leaves_nothing(bench: Bench, corpus: Corpus, sasrec: Experiment) -> None:
    with pytest.raises(StopError), wandb_run.follow(resolve(bench, corpus, sasrec), 0):
        raise StopError
    assert not (bench.work / "wandb").exists()


def generated(corpus: Corpus) -> Corpus:
    return replace(corpus, card={**corpus.card, "origin": "generated, ties shuffled"})


def test_what_is_followed_unless_one_says_so(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert wandb_run.mode(None, corpus) == "offline"
    assert wandb_run.mode(None, generated(corpus)) == "off"
    assert [wandb_run.mode(asked, generated(corpus)) for asked in wandb_run.MODES] == list(wandb_run.MODES)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_run.mode(None, corpus) == "off"


@pytest.mark.parametrize("found", [None, importlib.machinery.ModuleSpec("wandb", None)])
def test_without_wandb(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], found: Any
) -> None:
    """Not installed; or there is but a folder of that name."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    assert wandb_run.mode(None, corpus) == "off"
    assert capsys.readouterr().err == "not tracked: wandb is not installed\n"
    assert wandb_run.mode(None, generated(corpus)) == "off"
    assert wandb_run.mode("off", corpus) == "off"
    assert capsys.readouterr().err == ""
    with pytest.raises(ValueError, match="--track offline needs wandb, which is not installed"):
        wandb_run.mode("offline", corpus)


def test_the_command_says_in_one_sentence_that_wandb_is_missing(
    with_corpora: Callable[[Path], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    work = with_corpora(tmp_path / "work")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    given = ["--models", "popularity", "--board", str(tmp_path / "board"), "--work", str(work)]
    assert main(["bench", *given, "--track", "online"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --track online needs wandb")
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == [work]
    assert [path.name for path in work.iterdir()] == ["corpora"]
