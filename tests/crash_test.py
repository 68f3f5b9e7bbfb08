"""`make torture`: benches and a sweep are killed at random moments and begun again; nothing may be lost or change.

A round is one cell of a bench, or one sweep, on the embedded corpus in an empty folder, data preparation included. It
is killed a few times in each phase and then left to end. Phases are told from outside, by the files that are there.

A third of the kills meet the parent of a bench's workers alone: none of them may be left at work.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, NoReturn

from tabulate import tabulate
from tqdm import tqdm

from benchmarks.__main__ import main as benchmarks_main
from benchmarks.commands.options import positive
from benchmarks.provenance import ROOT
from benchmarks.user_errors import user_message

# One start in so many is of a new interpreter; the others are copies of this one, which has its libraries loaded.
FRESH_ONE_IN = 10
# A start that takes longer hangs.
LONGEST_SECONDS = 300.0
POLL_SECONDS = 0.002
# Workers whose parent was killed may take so long to end.
ORPHAN_SECONDS = 10.0
PLACES = ("--board", "board", "--work", "work")
# A tokenizer and a recommender with several epochs each, in seconds.
TIGER = (
    *("tokenizer_epochs=20", "tokenizer_check=1", "tokenizer.codes=32", "batch_size=2048", "steps=24", "lr=0.02"),
    *("t5.width=8", "t5.inner=16", "t5.heads=1", "t5.encoder_layers=1", "t5.decoder_layers=1", "history=3"),
)
SASREC = ("epochs=10", "batch_size=256", "width=16", "inner=16", "layers=1")
RECORD, LEDGER, WINNER = "board/*/*/*/seed-*.json", "board/*.sweeps/*.json", "best/*/*.toml"
LOG, TEMPORARY = "log", "tmp"


@dataclass(frozen=True)
class Job:
    """What is killed.

    Attributes:
        command: arguments of `python -m benchmarks`.
        phases: in their order.
        kills: in each phase of a round.
        phase: where a job is, or was when it was killed, by its folder.
        differences: of a round's folder from that of a job that was left alone, a sentence each.
        parent_alone: whether its workers are to notice themselves that it was killed.
    """

    name: str
    command: tuple[str, ...]
    phases: tuple[str, ...]
    kills: int
    phase: Callable[[Path], str]
    differences: Callable[[Path, Path], Iterator[str]]
    parent_alone: bool = False


@dataclass
class Figures:
    """What a torture found.

    Attributes:
        kills: by phase.
        fresh: those among them that hit a new interpreter.
        losses: one sentence for each thing that was lost, changed or left behind.
        orphans: processes that were left at work by those that were killed.
    """

    kills: Counter[str] = field(default_factory=Counter)
    fresh: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    seconds: float = 0.0
    losses: list[str] = field(default_factory=list)
    orphans: int = 0

    def __str__(self) -> str:
        phases = [phase for job in JOBS for phase in job.phases]
        lines = [[phase, self.kills[phase], self.fresh[phase]] for phase in phases]
        table = tabulate(lines, ("Killed in", "Kills", "New interpreters"))
        total = f"{self.kills.total()} kills in {self.rounds} rounds, {self.seconds:.0f} s"
        found = f"{total}: {len(self.losses)} losses, {self.orphans} orphans"
        return "\n".join([*(f"lost: {loss}" for loss in self.losses), table, "", found])


def torture(kills: int, seed: int = 0, work: Path | None = None) -> Figures:
    """Kills bench and sweep so many times, and holds each round against one that was left alone.

    Args:
        seed: of the moments; the machine's pace has a say in them too.
        work: an empty folder, which stays; by default a temporary one, which stays only if something was lost.

    Raises:
        ValueError: the folder is not empty, or a job that was left alone failed.
    """
    if work and work.exists() and any(work.iterdir()):
        raise ValueError(f"{work} is not empty; expected an empty folder, or none")
    folder = work or Path(tempfile.mkdtemp(prefix="grbench-torture-"))
    figures, draw, began = Figures(), random.Random(seed), time.perf_counter()
    # The copies find these loaded. Nothing of them may run here before the last copy is made: threads are not copied.
    import models.tiger  # noqa: F401

    durations = {job.name: _straight(job, folder / job.name) for job in JOBS}
    rounds: list[tuple[Job, Path]] = []
    with tqdm(total=kills, desc="torture", unit="kill") as bar:
        for figures.rounds, job in enumerate(cycle(JOBS), start=1):
            rounds.append((job, folder / f"round-{figures.rounds}"))
            _round(*rounds[-1], durations[job.name], draw, figures, bar)
            if figures.kills.total() == kills:
                break
    for job, place in rounds:
        figures.losses += _problems(job, place, folder / job.name)
    figures.seconds = time.perf_counter() - began
    if not work and not figures.losses and not figures.orphans:
        shutil.rmtree(folder)
    return figures


def _phase_of_bench(folder: Path) -> str:
    """data: files and prepared corpus; record: ranks and record; tables: all that is rendered of them."""
    if next(folder.glob(RECORD), None):
        return "tables"
    if (folder / "board").is_dir():
        return "record"
    if not next(folder.glob("work/corpora/*/*/card.json"), None):
        return "data"
    return ("tokenizer", "recommender", "grading")[len(list(folder.glob("work/fits/*/done.json")))]


def _phase_of_sweep(folder: Path) -> str:
    """trials: data and all trials; winner: ledger, page and winner."""
    return "winner" if next(folder.glob(LEDGER), None) else "trials"


def _phase_of_pair(folder: Path) -> str:
    """workers: data, and what begins the workers; cells: they are at work, which their progress tells."""
    return "cells" if b"sasrec seed" in (folder / LOG).read_bytes() else "workers"


def _straight(job: Job, folder: Path) -> dict[str, float]:
    """Runs a job without a kill; seconds of each phase."""
    durations, since = dict.fromkeys(job.phases, 0.0), time.perf_counter()
    with _begun(job, folder, fresh=False) as child:
        while (ended := _ended(child)) is None:
            now = time.perf_counter()
            durations[job.phase(folder)] += now - since
            since = now
            time.sleep(POLL_SECONDS)
    if ended:
        raise ValueError(f"the {job.name} failed without a kill: {_last_line(folder)}")
    return durations


def _round(
    job: Job, folder: Path, durations: dict[str, float], draw: random.Random, figures: Figures, bar: tqdm[NoReturn]
) -> None:
    ended = None
    for number, wanted in enumerate(wanted for wanted in job.phases for _ in range(job.kills)):
        if figures.kills.total() == bar.total:
            break
        # Every start but the first of a round can be a new interpreter's; over the rounds each phase has some.
        fresh = number > 0 and (number + figures.rounds) % FRESH_ONE_IN == 0
        # What a start gets done stays done, so that the starts of a phase share its duration.
        ended = _killed(job, folder, fresh, wanted, draw.uniform(0, durations[wanted] / job.kills), figures)
        if ended is not None:
            # It was faster than the one that was left alone.
            break
        was = job.phase(folder)
        figures.kills[was] += 1
        figures.fresh[was] += fresh
        bar.update()
    if not ended:
        ended = _killed(job, folder, False, job.phases[-1], LONGEST_SECONDS, figures)
    if ended != 0:
        figures.losses.append(f"{folder} ended with {ended}: {_last_line(folder)}")


def _killed(job: Job, folder: Path, fresh: bool, wanted: str, delay: float, figures: Figures) -> int | None:
    """Begins a job and kills it `delay` seconds into a phase, all its processes or the first alone; the exit status
    where it ended before."""
    latest = time.perf_counter() + LONGEST_SECONDS
    with _begun(job, folder, fresh) as child:
        while not _reached(job, folder, wanted) and time.perf_counter() < latest:
            if (ended := _ended(child)) is not None:
                return ended
            time.sleep(POLL_SECONDS)
        latest = time.perf_counter() + delay
        while time.perf_counter() < latest:
            if (ended := _ended(child)) is not None:
                return ended
            time.sleep(min(POLL_SECONDS, delay))
    (os.kill if job.parent_alone else os.killpg)(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if job.parent_alone:
        figures.orphans += len(orphans(child, ORPHAN_SECONDS))
    return None


def orphans(session: int, seconds: float) -> list[int]:
    """Processes of a session whose first has ended that are there after so many seconds; they are killed."""
    latest = time.perf_counter() + seconds
    while (left := members(session)) and time.perf_counter() < latest:
        time.sleep(0.05)
    for process in left:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return left


def members(session: int) -> list[int]:
    """Processes of a session that have not ended."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            # Behind the name, which may hold anything: state, parent, group, session.
            state, _, _, its_session, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(its_session) == session and state not in "ZX":
                found.append(int(entry.name))
    return found


def _reached(job: Job, folder: Path, wanted: str) -> bool:
    """Whether a job is in a phase or beyond it, and at work: what it loads comes before its first line."""
    at_work = wanted == job.phases[0] or (folder / LOG).stat().st_size > 0
    return at_work and (folder / "work").is_dir() and job.phases.index(job.phase(folder)) >= job.phases.index(wanted)


@contextmanager
def _begun(job: Job, folder: Path, fresh: bool) -> Iterator[int]:
    """A job's process id; where the torture itself is interrupted, the job ends with it."""
    child = start(job, folder, fresh)
    try:
        yield child
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        raise


def start(job: Job, folder: Path, fresh: bool) -> int:
    """Begins a job in a session of its own; its process id."""
    (folder / TEMPORARY).mkdir(parents=True, exist_ok=True)
    (folder / LOG).write_bytes(b"")
    child = os.fork()
    if child:
        return child
    try:
        _become(job, folder, fresh)
    finally:
        os._exit(1)


def _become(job: Job, folder: Path, fresh: bool) -> NoReturn:
    os.setsid()
    os.chdir(folder)
    # Whatever a library leaves where temporary files belong is found too.
    os.environ.update(TMPDIR=str(folder.resolve() / TEMPORARY), PYTHONUNBUFFERED="1", PYTHONPATH=str(ROOT))
    # These trainings take seconds, and are to be killed between states and while one is written.
    os.environ["GRBENCH_SAVE_SECONDS"] = "0"
    tempfile.tempdir = None
    # A copy has its parent's lock of the bars, which would stay taken where it is killed while it draws.
    tqdm.set_lock(threading.RLock())
    log = os.open(LOG, os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if fresh:
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks", *job.command])
    sys.stdout, sys.stderr = open(1, "w", buffering=1), open(2, "w", buffering=1)  # noqa: SIM115
    os._exit(benchmarks_main(list(job.command)))


def _ended(child: int) -> int | None:
    """The exit status, None while it runs."""
    pid, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if pid else None


def _last_line(folder: Path) -> str:
    return next(reversed((folder / LOG).read_text().splitlines()), "it said nothing")


def _problems(job: Job, folder: Path, straight: Path) -> Iterator[str]:
    """How the outcome of a round differs from that of a job that was left alone."""
    left = [*folder.glob("**/.*"), *folder.glob("**/*.part"), *(folder / TEMPORARY).iterdir()]
    yield from (f"{path} was left behind" for path in left)
    try:
        yield from job.differences(folder, straight)
    except (ValueError, OSError) as error:
        yield f"{folder}: {error}"
    for weights in straight.glob("work/fits/*/*.safetensors"):
        same = folder / weights.relative_to(straight)
        if not same.exists() or same.read_bytes() != weights.read_bytes():
            yield f"{same} is not what {weights} is"


def _differences_of_bench(folder: Path, straight: Path) -> Iterator[str]:
    from leaderboards.store import read_run
    from leaderboards.verify import verify

    def results(place: Path) -> list[dict[str, Any]]:
        return [read_run(place / "board", target).record.result() for target in sorted(place.glob(RECORD))]

    yield from verify(folder / "board")[0]
    if results(folder) != results(straight):
        yield f"{folder}: the records' results are not those of {straight}"


def _differences_of_sweep(folder: Path, straight: Path) -> Iterator[str]:
    """Of the trials that ended, in their order, and of the winner; a killed trial is repeated under another number."""
    from benchmarks import best_config
    from benchmarks.sweeps.study_ledger import Ledger

    def outcome(place: Path) -> tuple[list[Any], object]:
        (ledger,), (winner,) = place.glob(LEDGER), place.glob(WINNER)
        lines = Ledger.model_validate_json(ledger.read_text()).trials
        ended = [line for line in lines if line.state in ("complete", "pruned", "failed")]
        best = best_config.read(winner).model_dump(exclude={"trial"})
        return [(line.params, line.state, line.value, line.epochs) for line in ended], best

    if outcome(folder) != outcome(straight):
        yield f"{folder}: the sweep's trials or winner are not those of {straight}"


JOBS: tuple[Job, ...] = (
    Job(
        "bench",
        ("bench", "--models", "tiger", "--jobs", "1", *PLACES, "--set", *TIGER),
        ("data", "tokenizer", "recommender", "grading", "record", "tables"),
        2,
        _phase_of_bench,
        _differences_of_bench,
    ),
    # On a real corpus it would be followed with W&B, which leaves files of its own.
    Job(
        "sweep",
        ("sweep", "--model", "tiger", "--trials", "4", *PLACES, "--best", "best", "--track", "off", "--set", *TIGER),
        ("trials", "winner"),
        4,
        _phase_of_sweep,
        _differences_of_sweep,
    ),
    # Two cells and a worker for each.
    Job(
        "pair",
        ("bench", "--models", "sasrec", "--seeds", "2", "--jobs", "2", *PLACES, "--set", *SASREC),
        ("workers", "cells"),
        5,
        _phase_of_pair,
        _differences_of_bench,
        parent_alone=True,
    ),
)


def main(arguments: list[str] | None = None) -> int:
    """Exit status 1 where something was lost or left at work."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash_test", description=__doc__)
    parser.add_argument("--kills", type=positive, default=100, help="so many in all")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--work", type=Path, help="an empty folder, which stays (default: a temporary one)")
    options = parser.parse_args(arguments)
    try:
        figures = torture(options.kills, options.seed, options.work)
    except (ValueError, OSError) as error:
        print(f"error: {user_message(error)}", file=sys.stderr)
        return 2
    print(figures)
    return 1 if figures.losses or figures.orphans else 0


if __name__ == "__main__":
    sys.exit(main())
