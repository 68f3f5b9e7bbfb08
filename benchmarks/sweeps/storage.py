"""Where studies lie: a file that the processes of one machine share, or a PostgreSQL that any hosts reach.

Both tell a dead worker from a slow one. On a file, each worker holds a lock of its own, which the system frees when the
process dies however it dies. On PostgreSQL, workers give signs of life, Optuna's heartbeat.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from benchmarks.sweeps.trial_state import OWNER, RETRIES
from benchmarks.user_errors import hidden

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial
    from sqlalchemy import Engine
    from sqlalchemy.engine import URL

POSTGRES = ("postgresql", "postgresql+psycopg")
# A URL whose user and password end at its only @, and which ends where a text goes on.
_PLAIN = re.compile(r"([^?@\s]*@)?[^@\s]*")
# Signs of life that may be missed before a worker counts as dead.
MISSED = 4
# A host that vanishes while it holds the lock is noticed by the server within a minute.
CONNECTION = "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"


@dataclass(frozen=True)
class StudyStorage:
    """Where a study is kept.

    Attributes:
        lock: held by one worker at a time, and by none that is dead.
        is_dead: whether the worker of a running trial is known to have died.
        beat: gives a sign of life for a running trial.
        interval: seconds between two signs; None where none are needed.
        fail_stale: fails running trials whose signs are missing.
        is_unreachable: whether an error says that the study cannot be reached, maybe for a while only.
    """

    backend: BaseStorage
    lock: Callable[[], AbstractContextManager[Any]]
    is_dead: Callable[[FrozenTrial], bool] = lambda trial: False
    beat: Callable[[Trial], None] = lambda trial: None
    interval: int | None = None
    fail_stale: Callable[[Study], None] = lambda study: None
    is_unreachable: Callable[[Exception], bool] = lambda error: False


@contextmanager
def heartbeats(storage: StudyStorage, trial: Trial) -> Iterator[None]:
    """Gives signs of life for a trial, from a thread of its own, while the block lasts."""
    if storage.interval is None:
        yield
        return
    ended = threading.Event()

    def give() -> None:
        while not ended.wait(storage.interval):
            try:
                storage.beat(trial)
            except Exception as error:
                # A database that restarts is back for the next sign; until then the trial may be taken back.
                warnings.warn(f"no sign of life for trial {trial.number}: {hidden(str(error))}", stacklevel=1)

    thread = threading.Thread(target=give, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def in_folder(folder: Path) -> StudyStorage:
    """A study in a folder of a local or shared file system: Optuna's journal, with locks that end with their owner."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    (folder / "workers").mkdir(parents=True, exist_ok=True)
    journal = folder / "journal.log"
    # Optuna's base class of such locks is not public.
    lock: Any = JournalLock(journal)
    _check_journal(journal)
    storage = JournalStorage(JournalFileBackend(str(journal), lock))
    return StudyStorage(storage, lambda: FileLock(folder / "claim.lock"), lambda trial: _is_free(folder, trial))


def _check_journal(journal: Path) -> None:
    """
    Raises:
        ValueError: a line is no entry of Optuna's journal; the last may be half written.
    """
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if not isinstance(entry, dict) or "op_code" not in entry:
            raise ValueError(f"{journal}, line {number} is {line[:100]!r}; expected a JSON object with an op_code")


def worker_lock(folder: Path, worker: str) -> FileLock:
    """What a worker of a study in a folder holds while it lives."""
    return FileLock(folder / "workers" / worker)


def _is_free(folder: Path, trial: FrozenTrial) -> bool:
    """Whether nobody holds the lock of the trial's worker."""
    lock = worker_lock(folder, trial.user_attrs[OWNER][0])
    try:
        with lock.acquire(timeout=0):
            Path(lock.lock_file).unlink()
            return True
    except Timeout:
        return False


class JournalLock:
    """A lock of the journal that the system frees when its owner dies; Optuna's own, a link, would stay.

    Who takes it cuts off the half line that a writer killed in the act has left, which no reader could read on from.
    """

    def __init__(self, journal: Path) -> None:
        self.journal, self.file = journal, FileLock(journal.with_suffix(".lock"))

    def acquire(self) -> bool:
        self.file.acquire()
        _cut_half_line(self.journal)
        return True

    def release(self) -> None:
        self.file.release()


def _cut_half_line(journal: Path) -> None:
    with journal.open("rb+") as file:
        size = file.seek(0, 2)
        if not size:
            return
        file.seek(size - 1)
        if file.read(1) != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


def in_database(url: str, name: str, heartbeat: int) -> StudyStorage:
    """A study on PostgreSQL.

    Args:
        url: `postgresql://user@host/database`.
        name: of the study.
        heartbeat: seconds between signs of life; who misses four is dead.

    Raises:
        ValueError: the URL is of another database, or the drivers are not installed.
        OSError: the server cannot be reached.
    """
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials

    address = database(url)
    from sqlalchemy import create_engine
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    options: Any = {"pool_pre_ping": True, "connect_args": {"options": CONNECTION, "connect_timeout": 20}}
    try:
        # Two that make the tables of a new database at once would fail.
        with _advisory_lock(create_engine(address, **options), _lock_key("tables")):
            storage = RDBStorage(
                address.render_as_string(hide_password=False),
                options,
                heartbeat_interval=heartbeat,
                grace_period=MISSED * heartbeat,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=RETRIES),
            )
    except (SQLAlchemyError, StorageInternalError) as error:
        raise OSError(hidden(f"no studies can be kept on {address}: {str(error).splitlines()[0]}")) from None
    return StudyStorage(
        storage,
        lambda: _advisory_lock(storage.engine, _lock_key(name)),
        beat=lambda trial: storage.record_heartbeat(trial._trial_id),
        interval=heartbeat,
        fail_stale=fail_stale_trials,
        is_unreachable=lambda error: isinstance(error, (DBAPIError, StorageInternalError)),
    )


def database(url: str) -> URL:
    """The URL of a PostgreSQL, with the driver that we use; prints without its password, but not without those among
    its parameters.

    Raises:
        ValueError: it is of something else, no URL, or one that can be read in two ways; says no password.
    """
    if not all(map(find_spec, ("sqlalchemy", "psycopg"))):
        raise ValueError("storage on PostgreSQL needs the packages sqlalchemy and psycopg")
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        # Its own words may quote a password, as a port that is no number.
        raise ValueError("storage is no URL; expected postgresql://user@host/database") from None
    if not _PLAIN.fullmatch(url):
        raise ValueError(
            "storage has an @, ? or blank within its user, password or parameters, so that a part of these would pass "
            "for the host; expected %40 for @, %3F for ? and %20 for a blank"
        )
    shown = hidden(str(address))
    if address.drivername.startswith("sqlite"):
        raise ValueError(
            f"storage {shown} is refused: SQLite locks its whole file and fails under several writers; leave storage "
            "out for a file of one machine, or give postgresql://user@host/database for many"
        )
    if address.drivername not in POSTGRES:
        raise ValueError(f"storage {shown} is no PostgreSQL; expected postgresql://user@host/database")
    return address.set(drivername="postgresql+psycopg")


def _lock_key(name: str) -> int:
    """A lock's 64-bit number on the server."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


@contextmanager
def _advisory_lock(engine: Engine, key: int) -> Iterator[None]:
    """A lock that the server frees when the connection of its owner ends."""
    from sqlalchemy import func, select

    with engine.connect() as connection:
        connection.execute(select(func.pg_advisory_lock(key)))
        # Without an open transaction meanwhile, which would keep old rows alive.
        connection.commit()
        try:
            yield
        finally:
            connection.execute(select(func.pg_advisory_unlock(key)))
            connection.commit()
