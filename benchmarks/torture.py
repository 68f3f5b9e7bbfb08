"""Torture: the bench is killed at random moments and begun again, over and over; nothing may be lost or change.

A round is one cell on the embedded corpus in an empty folder, data preparation included. It is killed a few times in
each phase and then left to end. Phases are told from outside, by the files that are there.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from tabulate import tabulate
from tqdm import tqdm

from benchmarks.provenance import ROOT

# data: files and prepared corpus; record: ranks and record; tables: all that is rendered of them.
PHASES = ("data", "tokenizer", "recommender", "grading", "record", "tables")
KILLS_PER_PHASE = 2
# One start in so many is of a new interpreter; the others are copies of this one, which has its libraries loaded.
FRESH_ONE_IN = 10
# A start that takes longer hangs.
LONGEST_SECONDS = 300.0
POLL_SECONDS = 0.002
# A tokenizer and a recommender with several epochs each, in seconds.
COMMAND = (
    *("bench", "--models", "tiger", "--jobs", "1", "--board", "board", "--work", "work", "--set"),
    *("tokenizer_epochs=20", "tokenizer_check=1", "tokenizer.codes=32", "batch_size=2048", "steps=24", "lr=0.02"),
    *("t5.width=8", "t5.inner=16", "t5.heads=1", "t5.encoder_layers=1", "t5.decoder_layers=1", "history=3"),
)
RECORD = "board/*/*/*/seed-0.json"
LOG, TEMPORARY = "log", "tmp"


@dataclass
class Figures:
    """What a torture found.

    Attributes:
        kills: by phase.
        fresh: those among them that hit a new interpreter.
        losses: one sentence for each thing that was lost, changed or left behind.
    """

    kills: Counter[str] = field(default_factory=Counter)
    fresh: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    seconds: float = 0.0
    losses: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [[phase, self.kills[phase], self.fresh[phase]] for phase in PHASES]
        table = tabulate(lines, ("Killed in", "Kills", "New interpreters"))
        total = f"{self.kills.total()} kills in {self.rounds} rounds, {self.seconds:.0f} s"
        return "\n".join([*(f"lost: {loss}" for loss in self.losses), table, "", f"{total}: {len(self.losses)} losses"])


def torture(kills: int, seed: int = 0, work: Path | None = None) -> Figures:
    """Kills the bench so many times, and holds each round against one that was left alone.

    Args:
        seed: of the moments; the machine's pace has a say in them too.
        work: an empty folder, which stays; by default a temporary one, which stays only if something was lost.

    Raises:
        ValueError: the folder is not empty, or the bench that was left alone failed.
    """
    if work and work.exists() and any(work.iterdir()):
        raise ValueError(f"{work} is not empty; expected an empty folder, or none")
    folder = work or Path(tempfile.mkdtemp(prefix="grbench-torture-"))
    figures, draw, began = Figures(), random.Random(seed), time.perf_counter()
    # The copies find these loaded. Nothing of them may run here before the last copy is made: threads are not copied.
    import models.tiger  # noqa: F401

    durations = _straight(folder / "straight")
    with tqdm(total=kills, desc="torture", unit="kill") as bar:
        while figures.kills.total() < kills:
            figures.rounds += 1
            _round(folder / f"round-{figures.rounds}", kills, durations, draw, figures, bar)
    for number in range(1, figures.rounds + 1):
        figures.losses += _problems(folder / f"round-{number}", folder / "straight")
    figures.seconds = time.perf_counter() - began
    if not work and not figures.losses:
        shutil.rmtree(folder)
    return figures


def phase(folder: Path) -> str:
    """Where a bench is, or was when it was killed."""
    if next(folder.glob(RECORD), None):
        return "tables"
    if (folder / "board").is_dir():
        return "record"
    if not next(folder.glob("runs/corpora/*/*/card.json"), None):
        return "data"
    return ("tokenizer", "recommender", "grading")[len(list(folder.glob("work/fits/*/done.json")))]


def _straight(folder: Path) -> dict[str, float]:
    """Runs the bench without a kill; seconds of each phase."""
    child, since = _start(folder, fresh=False), time.perf_counter()
    durations = dict.fromkeys(PHASES, 0.0)
    while (ended := _ended(child)) is None:
        now = time.perf_counter()
        durations[phase(folder)] += now - since
        since = now
        time.sleep(POLL_SECONDS)
    if ended:
        raise ValueError(f"the bench failed without a kill: {_last_line(folder)}")
    return durations


def _round(
    folder: Path, kills: int, durations: dict[str, float], draw: random.Random, figures: Figures, bar: tqdm[NoReturn]
) -> None:
    ended = None
    for number, wanted in enumerate(wanted for wanted in PHASES for _ in range(KILLS_PER_PHASE)):
        if figures.kills.total() == kills:
            break
        # Every start but the first of a round can be a new interpreter's; over the rounds each phase has some.
        fresh = number > 0 and (number + figures.rounds) % FRESH_ONE_IN == 0
        ended = _killed(_start(folder, fresh), folder, wanted, draw.uniform(0, durations[wanted]))
        if ended is not None:
            # It was faster than the one that was left alone.
            break
        was = phase(folder)
        figures.kills[was] += 1
        figures.fresh[was] += fresh
        bar.update()
    if not ended:
        ended = _killed(_start(folder, fresh=False), folder, PHASES[-1], LONGEST_SECONDS)
    if ended != 0:
        figures.losses.append(f"{folder} ended with {ended}: {_last_line(folder)}")


def _killed(child: int, folder: Path, wanted: str, delay: float) -> int | None:
    """Kills a bench and all its processes `delay` seconds into a phase; the exit status where it ended before."""
    latest = time.perf_counter() + LONGEST_SECONDS
    while not _reached(folder, wanted) and time.perf_counter() < latest:
        if (ended := _ended(child)) is not None:
            return ended
        time.sleep(POLL_SECONDS)
    latest = time.perf_counter() + delay
    while time.perf_counter() < latest:
        if (ended := _ended(child)) is not None:
            return ended
        time.sleep(min(POLL_SECONDS, delay))
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _reached(folder: Path, wanted: str) -> bool:
    """Whether a bench is in a phase or beyond it, and at work: what it loads comes before its first line."""
    at_work = wanted == "data" or (folder / LOG).stat().st_size > 0
    return at_work and (folder / "runs").is_dir() and PHASES.index(phase(folder)) >= PHASES.index(wanted)


def _start(folder: Path, fresh: bool) -> int:
    """Begins the bench in a session of its own; its process id."""
    (folder / TEMPORARY).mkdir(parents=True, exist_ok=True)
    (folder / LOG).write_bytes(b"")
    child = os.fork()
    if child:
        return child
    try:
        _become(folder, fresh)
    finally:
        os._exit(1)


def _become(folder: Path, fresh: bool) -> NoReturn:
    os.setsid()
    os.chdir(folder)
    # Whatever a library leaves where temporary files belong is found too.
    os.environ.update(TMPDIR=str(folder.resolve() / TEMPORARY), PYTHONUNBUFFERED="1", PYTHONPATH=str(ROOT))
    tempfile.tempdir = None
    log = os.open(LOG, os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if fresh:
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks", *COMMAND])
    from benchmarks.__main__ import main

    sys.stdout, sys.stderr = open(1, "w", buffering=1), open(2, "w", buffering=1)  # noqa: SIM115
    os._exit(main(list(COMMAND)))


def _ended(child: int) -> int | None:
    """The exit status, None while it runs."""
    pid, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if pid else None


def _last_line(folder: Path) -> str:
    return next(reversed((folder / LOG).read_text().splitlines()), "it said nothing")


def _problems(folder: Path, straight: Path) -> Iterator[str]:
    """How the outcome of a round differs from that of a bench that was left alone."""
    from leaderboards.store import read_run
    from leaderboards.verify import verify

    left = [*folder.glob("**/.*"), *folder.glob("**/*.part"), *(folder / TEMPORARY).iterdir()]
    yield from (f"{path} was left behind" for path in left)
    try:
        yield from verify(folder / "board")[0]
        found, expected = (
            read_run(place / "board", target).record.result()
            for place in (folder, straight)
            for target in place.glob(RECORD)
        )
        if found != expected:
            yield f"{folder}: the record's result is not that of {straight}"
    except (ValueError, OSError) as error:
        yield f"{folder}: {error}"
    for weights in straight.glob("work/fits/*/*.safetensors"):
        same = folder / weights.relative_to(straight)
        if not same.exists() or same.read_bytes() != weights.read_bytes():
            yield f"{same} is not what {weights} is"
