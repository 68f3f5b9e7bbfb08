"""Calls as tasks of Ray, on the cores and GPUs of many machines.

A task whose worker or machine dies is begun again elsewhere; a call that raises is not. Every machine needs this code
and its packages. Folders that all machines see at the same place are used as they are; a cell on a machine that does
not see them works in a folder of its own and sends its record back.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import pyarrow as pa

from benchmarks.execution import worker_process
from benchmarks.execution.cell import Cell, Results, run_cell, silence_lightning
from benchmarks.hardware import Hardware
from benchmarks.provenance import ROOT
from benchmarks.settings import Bench
from leaderboards.record import Record
from leaderboards.store import read_run, write

L = TypeVar("L")

MISSING = "a cluster needs the package ray, which is not installed: pip install 'grbench[cluster]'"
# Times that a task is begun again after the death of its worker or machine.
RETRIES = 10
# Settings of this process that tasks need too.
PASSED_ON = ("GRBENCH_DATA", "WANDB_MODE", "WANDB_PROJECT")


class Outcome(NamedTuple):
    """Attributes: value, what a call returned; error, what it raised."""

    value: Any
    error: BaseException | None


def tasks(
    address: str, function: Callable[..., Any], calls: Mapping[L, Sequence[object]], hardware: Hardware
) -> Iterator[tuple[L, Outcome]]:
    """Calls a function as Ray tasks; gives each call's label and outcome as it ends.

    Args:
        address: as `ray.init` has it: `auto`, `host:port`, `ray://host:port`, or `local` for a cluster of this machine.
        calls: label -> arguments.
        hardware: of each call: its threads are CPUs, its devices GPUs where there are any.

    Raises:
        ValueError: Ray is not installed.
        ConnectionError: there is no cluster at the address.
    """
    ray = _joined(address)
    needs = {"num_cpus": hardware.threads, "num_gpus": hardware.devices if hardware.device.type == "cuda" else 0}
    remote = ray.remote(max_retries=RETRIES, **needs)(_there)
    waiting = {remote.remote(Path.cwd(), sys.argv, function, *given): label for label, given in calls.items()}
    try:
        while waiting:
            for ended in ray.wait(list(waiting), timeout=worker_process.WAKE_SECONDS)[0]:
                yield waiting.pop(ended), _outcome(ray, ended)
    finally:
        for left in waiting:
            ray.cancel(left, force=True)


def cells_in_cluster(address: str, setting: Bench, corpus: str, source: str, cells: Sequence[Cell]) -> Results:
    """Runs cells as tasks; their records lie on the board of this process.

    Raises:
        ValueError, ConnectionError: as `tasks`.
    """
    shared = dataclasses.replace(setting, board=setting.board.resolve(), work=setting.work.resolve())
    marks = [folder / f".seen-{uuid4().hex}" for folder in (shared.board, shared.work)]
    for mark in marks:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    calls = {cell: (shared, corpus, source, cell, marks) for cell in cells}
    try:
        for cell, outcome in tasks(address, _cell, calls, setting.hardware):
            if outcome.value is not None:
                text, ranks = outcome.value
                write(setting.board, Record.model_validate_json(text), ranks)
            yield cell, outcome.error
    finally:
        for mark in marks:
            mark.unlink(missing_ok=True)


def workers_in_cluster(address: str, hardware: Hardware, worker: Callable[[], None], jobs: int) -> None:
    """Runs `worker()` as so many tasks until all have ended.

    Raises:
        ValueError, ConnectionError: as `tasks`.
        ChildProcessError: a worker could not go on.
    """
    for number, outcome in tasks(address, worker, dict.fromkeys(range(1, jobs + 1), ()), hardware):
        if outcome.error is not None:
            raise ChildProcessError(f"worker {number} of the sweep could not go on: {outcome.error}")


def _there(home: Path, typed: list[str], function: Callable[..., Any], *arguments: object) -> Any:
    """A call on some machine, in the folder that the command was run in: prepared corpora lie beneath it.

    Args:
        typed: the command, which a record tells; Ray's own has addresses, and a password where there is one.
    """
    sys.argv = typed
    place = home if home.is_dir() else Path(tempfile.gettempdir()) / "grbench"
    place.mkdir(parents=True, exist_ok=True)
    os.chdir(place)
    silence_lightning()
    return function(*arguments)


def _cell(setting: Bench, corpus: str, source: str, cell: Cell, marks: Sequence[Path]) -> tuple[str, pa.Table] | None:
    """A cell on some machine; its record and ranks where that machine does not see board and trainings."""
    if all(mark.exists() for mark in marks):
        run_cell(setting, corpus, source, cell)
        return None
    # A board of an earlier bench would give its record for this one's.
    with tempfile.TemporaryDirectory() as board:
        own = dataclasses.replace(setting, board=Path(board), work=Path.cwd() / "runs")
        made = read_run(own.board, run_cell(own, corpus, source, cell))
    return made.record.model_dump_json(), made.ranks


def _joined(address: str) -> Any:
    """Ray's module, connected."""
    try:
        import ray
    except ImportError:
        raise ValueError(MISSING) from None
    if not ray.is_initialized():
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        ray.init(
            address=address, runtime_env={"env_vars": {"PYTHONPATH": path, **passed}}, logging_level=logging.WARNING
        )
    return ray


def _outcome(ray: Any, ended: Any) -> Outcome:
    try:
        return Outcome(ray.get(ended), None)
    except ray.exceptions.RayTaskError as error:
        return Outcome(None, error.cause)
    except ray.exceptions.RayError as error:
        return Outcome(None, ChildProcessError(f"its worker was lost {RETRIES + 1} times: {error}"))
