"""Studies on PostgreSQL: workers of any host, some of them killed; every trial accounted for, none run twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock
from uuid import uuid4

import pytest
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DBAPIError

from benchmarks.__main__ import main
from benchmarks.sweeps import local_workers, storage
from benchmarks.sweeps.storage import MISSED, database, heartbeats
from benchmarks.sweeps.trial_queue import TrialQueue
from benchmarks.sweeps.trial_state import OWNER, counts, history, interrupted
from benchmarks.user_errors import hidden, hidden_of_url
from tests.scripts import toy_sweep
from tests.scripts.toy_sweep import HEARTBEAT, open_toy

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
WORKERS, KILLED = 8, 3
# Seconds after which a silent worker is known to be dead.
SILENCE = MISSED * HEARTBEAT + 1


@pytest.fixture
def toy(postgres: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server's URL, and a study's name of the test's own."""
    monkeypatch.setattr(toy_sweep, "NAME", f"toy-{uuid4().hex[:8]}")
    return postgres


def worker(url: str, name: str, trials: int, seconds: float, log: Path) -> subprocess.Popen[bytes]:
    script = (
        "import sys; from pathlib import Path; from tests.scripts import toy_sweep as toy\n"
        "toy.NAME = sys.argv[2]\ntoy.work(sys.argv[1], int(sys.argv[3]), float(sys.argv[4]), Path(sys.argv[5]))"
    )
    command = [sys.executable, "-c", script, url, name, str(trials), str(seconds), str(log)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)


def running(queue: TrialQueue) -> dict[int, FrozenTrial]:
    """Process -> the trial it works on."""
    found = (trial for trial in queue.trials() if trial.state == TrialState.RUNNING and OWNER in trial.user_attrs)
    return {int(trial.user_attrs[OWNER][0].split("-")[-2]): trial for trial in found}


def test_eight_workers_of_which_three_are_killed(toy: str, tmp_path: Path) -> None:
    name, trials, log = toy_sweep.NAME, 14, tmp_path / "log"
    queue = open_toy(toy, trials, name)
    crew = [worker(toy, name, trials, 1.0, log) for _ in range(WORKERS)]
    killed: dict[int, FrozenTrial] = {}
    while len(killed) < KILLED:
        time.sleep(0.05)
        assert any(process.poll() is None for process in crew)
        process, trial = next(((p, t) for p, t in running(queue).items() if p not in killed), (None, None))
        if process and trial:
            os.kill(process, signal.SIGKILL)
            killed[process] = trial
    codes = [process.wait(timeout=120) for process in crew]
    assert sorted(codes) == [-signal.SIGKILL] * KILLED + [0] * (WORKERS - KILLED)
    found = queue.trials()
    assert all(trial.state.is_finished() for trial in found)
    assert [counts(trial) for trial in found].count(True) == trials
    assert all(trial.state == TrialState.COMPLETE for trial in found if counts(trial))
    lost = {trial.number for trial in found if interrupted(trial)}
    assert lost == {trial.number for trial in killed.values()}
    repeats = {history(trial)[-1]: trial for trial in found if history(trial)}
    assert repeats.keys() == lost
    assert all(repeats[number].params == found[number].params for number in lost)
    # No values were worth anything twice: nothing was run to its end by two workers.
    ended = [line.split()[1:] for line in log.read_text().splitlines() if line.startswith("ended")]
    assert len(ended) == len({x for _, x in ended}) == trials
    assert {int(number) for number, _ in ended} == {trial.number for trial in found if counts(trial)}


def test_a_server_that_restarts(own_postgres: tuple[str, Callable[[str], None]], tmp_path: Path) -> None:
    """Workers wait for it; what they could not tell it is found again."""
    url, do = own_postgres
    trials, log = 8, tmp_path / "log"
    open_toy(url, trials, "restarted")
    crew = [worker(url, "restarted", trials, 0.5, log) for _ in range(2)]
    while len(running(open_toy(url, trials, "restarted"))) < len(crew):  # both have come to the study
        time.sleep(0.05)
        assert all(process.poll() is None for process in crew)
    do("stop")
    time.sleep(1.5)
    do("start")
    assert [process.wait(timeout=60) for process in crew] == [0, 0]
    found = open_toy(url, trials, "restarted").trials()
    assert all(trial.state.is_finished() for trial in found)
    assert [counts(trial) for trial in found].count(True) == trials
    assert {trial.state for trial in found if counts(trial)} == {TrialState.COMPLETE}


def test_a_study_that_stays_lost_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    error = DBAPIError("SELECT 1", {}, Exception("gone\nfor good"))
    queue = mock.Mock(spec=TrialQueue, storage=mock.Mock(is_unreachable=lambda found: found is error))
    queue.claim.side_effect = error
    monkeypatch.setattr(local_workers, "PATIENCE", 0.05)
    monkeypatch.setattr(local_workers, "POLL", 0.02)
    with pytest.raises(OSError, match=r"^the study cannot be reached: \(builtins.Exception\) gone$"):
        local_workers.work(queue, mock.Mock(), "me")
    assert queue.claim.call_count > 2
    assert capsys.readouterr().err.count("cannot be reached") == 1


def test_what_a_worker_found_that_was_thought_dead_counts_for_nothing(toy: str) -> None:
    queue = open_toy(toy, 1, toy_sweep.NAME)
    trial, _ = queue.claim("slow")
    assert trial is not None
    # No sign of life in all this time: its host was asleep, say.
    time.sleep(SILENCE)
    again, _ = queue.claim("quick")
    assert again is not None
    assert (again.number, again.params) == (1, trial.params)
    assert not queue.end(trial, 1.0)
    assert queue.end(again, 2.0)
    assert [(found.state, found.value) for found in queue.trials()] == [
        (TrialState.FAIL, None),
        (TrialState.COMPLETE, 2.0),
    ]
    assert queue.claim("quick").done


def test_signs_of_life_keep_a_slow_trial(toy: str) -> None:
    queue = open_toy(toy, 1, toy_sweep.NAME)
    trial, _ = queue.claim("slow")
    assert trial is not None
    with heartbeats(queue.storage, trial):
        time.sleep(SILENCE)
        assert queue.claim("other") == (None, False)
    assert queue.end(trial, 1.0)


def test_a_worker_that_died_while_it_took_a_trial(toy: str) -> None:
    queue = open_toy(toy, 2, toy_sweep.NAME)
    # Killed before its first sign of life, of which Optuna alone would never hear again.
    taken = queue.study.ask({**queue.space})
    again, _ = queue.claim("worker")
    assert again is not None
    assert history(queue.trials()[again.number]) == [taken.number]
    assert again.params == taken.params


def test_a_trial_given_up_halfway_is_queued_again(toy: str) -> None:
    queue = open_toy(toy, 1, toy_sweep.NAME)
    first, _ = queue.claim("one")
    assert first is not None
    # Who failed it died before it queued it again.
    queue.study.tell(first.number, state=TrialState.FAIL)
    again, _ = queue.claim("two")
    assert again is not None
    assert history(queue.trials()[again.number]) == [first.number]


def test_the_lock_of_a_dead_worker_is_free(toy: str) -> None:
    script = (
        "import os, signal, sys; from benchmarks.sweeps.storage import in_database\n"
        "with in_database(sys.argv[1], sys.argv[2], 1).lock(): os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script, toy, toy_sweep.NAME], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    began = time.monotonic()
    with storage.in_database(toy, toy_sweep.NAME, 1).lock():
        assert time.monotonic() - began < 5


def test_no_server_is_told_in_a_sentence_without_the_password() -> None:
    with pytest.raises(OSError, match=r"no studies can be kept on .*me:\*\*\*@127.0.0.1") as raised:
        storage.in_database("postgresql://me:hunter2@127.0.0.1:1/none", "toy", 1)
    assert "hunter2" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite:///sweeps.db", "SQLite locks its whole file"),
        ("mysql://me@host/db", "is no PostgreSQL; expected postgresql://"),
        ("here", "storage is no URL"),
        # Some take a part of what is secret for a port or a host, which errors name.
        ("postgresql://me:hunter2", "storage is no URL"),
        ("postgresql://me:hunter2/h/db", "storage is no URL"),
        ("postgresql://me:x@hunter2@h/db", "expected %40 for @"),
        ("postgresql://h:5432/db?password=x@hunter2", "expected %40 for @"),
        ("postgresql://me:a hunter2@h/db", "%20 for a blank"),
        ("postgresql://me@h/db?password=a hunter2", "%20 for a blank"),
        ("sqlite:///x.db?password=hunter2", r"sqlite:///x.db\?password=\*\*\* is refused"),
        ("mysql://me:hunter2@h/db?x=1&sslpassword=hunter2", r"mysql://me:\*\*\*@h/db\?sslpassword=\*\*\*&x=1 is no"),
    ],
)
def test_other_storages_are_refused(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as raised:
        database(url)
    assert "hunter2" not in str(raised.value)


URLS = (
    "postgresql://me:hunter2@127.0.0.1:1/none",
    "postgresql://me@127.0.0.1:1/none?password=hunter2",
    "postgresql://me@127.0.0.1:1/none?connect_timeout=1&password=hunter2&sslpassword=hunter2",
    "postgresql://me@127.0.0.1:1/none?passwd=hunter2",
)


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize(
    "arguments",
    [("sweep-worker", "--study", "s", "--storage"), ("bench", "--models", "popularity", "--storage")],
    ids=["of no server", "of no option"],
)
def test_no_command_says_a_password(
    arguments: tuple[str, ...],
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        sys.exit(main([*arguments, url]))
    out, err = capfd.readouterr()
    assert "127.0.0.1:1/none" in err
    assert "***" in err
    assert "hunter2" not in out + err


@pytest.mark.parametrize("missing", ["sqlalchemy", "psycopg"])
def test_a_driver_that_is_missing_is_told(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "find_spec", lambda name: None if name == missing else True)
    with pytest.raises(ValueError, match=r"^storage on PostgreSQL needs the packages sqlalchemy and psycopg$"):
        database("postgresql://me@h/db")


NO_PASSWORD = (
    "https://host/file@rev: 404",
    "https://host:80/file of me@host",
    "http://host:8080, said a@b.org",
    "postgresql://h:5432 is away; tell a@b.org",
    "cannot reach postgresql://h:5432 (late); tell a@b.org",
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("to postgresql://me:x@y:z@h/db: refused", "to postgresql://me:***@h/db: refused"),
        ("h/db?a=1&PASSWORD=x&b=2 passwd=y", "h/db?a=1&PASSWORD=***&b=2 passwd=***"),
        ("postgresql://me@corp:x@h/db", "postgresql://me@corp:***@h/db"),
        ("postgresql://me:1234/x@h/db", "postgresql://me:***@h/db"),
        ("postgresql://me:x@/db", "postgresql://me:***@/db"),
        (
            "no postgresql://a:x@h1/db; try postgresql://b:y@h2/db",
            "no postgresql://a:***@h1/db; try postgresql://b:***@h2/db",
        ),
        (
            "to postgresql://me%40corp:x@h/d: (late) for me@corp",
            "to postgresql://me%40corp:***@h/d: (late) for me@corp",
        ),
        ("postgresql://h/d?password=ab'cd\"e", "postgresql://h/d?password=***"),
        ("h/d?password=a,b", "h/d?password=***"),
        ("h/d?password=a}b", "h/d?password=***"),
        *((text, text) for text in NO_PASSWORD),
        ('"postgresql://h/d?password=x", "trials": 3}', '"postgresql://h/d?password=***", "trials": 3}'),
    ],
)
def test_what_is_hidden_of_a_text(text: str, shown: str) -> None:
    assert hidden(text) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:a b/c@h/db", "postgresql://me:***@h/db"),
        ("postgresql://me:12 34@localhost", "postgresql://me:***@localhost"),
        ("postgresql://my name:p@ss word@h?a=1", "postgresql://my name:***@h?a=1"),
        ("postgresql://me@h/d?password=a b&x=1", "postgresql://me@h/d?password=***&x=1"),
        (
            "unrecognized arguments: --storage postgresql://me:12: 3@/db",
            "unrecognized arguments: --storage postgresql://me:***@/db",
        ),
    ],
)
def test_a_url_may_have_blanks(url: str, shown: str) -> None:
    assert hidden_of_url(url) == shown


def test_both_spellings_of_the_driver() -> None:
    assert database("postgresql://me@host/db") == database("postgresql+psycopg://me@host/db")


def test_worker_names_differ() -> None:
    assert local_workers.worker_name() != local_workers.worker_name()
