"""A plan: the rows of a board that are wanted, in order, with the published numbers they aim at; `make plan PLAN=FILE`.

It runs for days, over many starts of the same command: what has a record is left out, what was interrupted goes on.

    corpus = "beauty_2014"

    [[rows]]
    experiment = "letter-authors-codes"
    seeds = 3
    aim = {"recall@10" = 0.0672, "ndcg@10" = 0.0364, of = "LETTER, by a third party"}
"""

from __future__ import annotations

import dataclasses
import shutil
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails
from tabulate import tabulate

import data_prep
from benchmarks import experiments
from benchmarks.config import check_each_once, near
from benchmarks.execution.cell import Cell
from benchmarks.execution.local import run_all
from benchmarks.record_fields import notes
from benchmarks.resolved_row import ResolvedRow, resolve
from benchmarks.run import nearest_folder
from benchmarks.settings import Bench, prepared
from benchmarks.training_precision import Choice
from data_prep import own_corpus
from data_prep.corpus import Corpus
from data_prep.files import check_file
from leaderboards.metrics import NAMES, UNSEEN_NAMES
from leaderboards.rows import RANKED_BY, Row, titled
from leaderboards.statistics import interval
from leaderboards.store import Run, read, read_run
from leaderboards.verdicts import NOT_COMPARABLE, judged, reasons_against_any

State = Literal["done", "running", "begun", "to do"]
STRICT = ConfigDict(extra="forbid")
METRICS = (*NAMES, *UNSEEN_NAMES)
# A training keeps two states of 200 MB at most and its stages' weights; what is written is whole before it replaces.
SPACE_OF_A_JOB = 1 << 30
# Key of an aim that names whose numbers it holds.
OF = "of"


@dataclass(frozen=True, config=STRICT)
class Wanted:
    """A row of a plan.

    Attributes:
        experiment: its name.
        corpus: the plan's, unless it has its own.
        seeds: 0..n-1.
        settings: `key=value`, as `make bench SET=...` takes them.
        precision: auto, 32 or bf16, of this row whatever the command says.
        aim: the published numbers by metric, and in `of` whose they are.
    """

    experiment: str
    corpus: str | None = None
    seeds: Annotated[int, Field(ge=1, strict=True)] = 1
    settings: tuple[str, ...] = ()
    precision: Choice | None = None
    # With bool among the types, true is kept and refused; without it would become 1.0.
    aim: Mapping[str, float | str | bool] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, config=STRICT)
class Plan:
    """Attributes: rows, in the order in which they are to be made; corpus, of rows that name none."""

    rows: tuple[Wanted, ...]
    corpus: str | None = None


class Planned(NamedTuple):
    """A row of a plan. Attributes: wanted; corpus, the whole one; row, what it comes to."""

    wanted: Wanted
    corpus: Corpus
    row: ResolvedRow

    @property
    def seeds(self) -> range:
        return range(self.wanted.seeds)

    @property
    def title(self) -> str:
        """As a board names the row."""
        return titled(self.row.experiment.name, notes(self.row.experiment, self.corpus, None))

    def finished(self) -> list[Path]:
        """Records that are there."""
        return [path for path in map(self.row.record_path, self.seeds) if path.exists()]


class Standing(NamedTuple):
    """Attributes: state of a cell; says, what it took, or how far it is and how long it may take."""

    state: State
    says: str


def load(file: Path, bench: Callable[[str, Choice | None], Bench], source: str) -> list[Planned]:
    """The rows of a plan, each checked against models, corpora and item vectors before any is trained.

    Args:
        bench: what the trainings on a corpus share, in a precision or that of the command.

    Raises:
        ValueError, OSError: the plan cannot be read or carried out; names the file and the row.
    """
    plan, corpora, benches = _parsed(file), cache(prepared), cache(bench)
    found: list[Planned] = []
    for number, wanted in enumerate(plan.rows, 1):
        where = f"{file}, row {number} ({wanted.experiment})"
        name = wanted.corpus or plan.corpus
        if name is None:
            raise ValueError(f"{where}: no corpus; expected one in the row or in the plan")
        try:
            _check_aim(wanted.aim)
            if own_corpus.given(name):
                raise ValueError(
                    f"corpus {name!r} is a file of your own, and a plan is of named corpora; expected one of "
                    f"{', '.join(data_prep.names())}"
                )
            setting = benches(name, wanted.precision)
            corpus = corpora(setting.work, name, source)
            check_each_once(wanted.settings)
            experiment = experiments.complete(wanted.experiment, corpus, wanted.settings, tuned=False)
            row = resolve(setting.for_vectors(getattr(experiment.config, "vectors", None)), corpus, experiment)
            # Tells whether the inputs are there, too.
            places = [earlier.row.record_path(0) for earlier in found]
            if (place := row.record_path(0)) in places:
                raise ValueError(f"it is row {places.index(place) + 1} again; expected a row once, with all its seeds")
        except (ValueError, OSError) as error:
            raise ValueError(f"{where}: {error}") from error
        found.append(Planned(wanted, corpus, row))
    return found


def _parsed(file: Path) -> Plan:
    check_file(file, "a plan in TOML")
    try:
        plan: Plan = TypeAdapter(Plan).validate_python(tomllib.loads(file.read_text()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{file} is no TOML: {error}") from error
    except ValidationError as error:
        raise ValueError(f"{file}: {_refused(error.errors()[0])}") from error
    if not plan.rows:
        raise ValueError(f"{file} has no rows; expected at least one [[rows]]")
    return plan


def _refused(error: ErrorDetails) -> str:
    """What is wrong with a key or a value, of a row by its number from 1."""
    where = ".".join(str(part + 1 if isinstance(part, int) else part) for part in error["loc"])
    if error["type"] == "unexpected_keyword_argument":
        possible = [field.name for field in dataclasses.fields(Wanted if len(error["loc"]) > 1 else Plan)]
        close = near(str(error["loc"][-1]), possible)
        return f"{where} is no key of a plan; {close}possible: {', '.join(possible)}"
    given = "" if error["type"] == "missing" else f" is {error['input']!r:.200}"
    return f"{where}{given}: {error['msg']}"


def _check_aim(aim: Mapping[str, object]) -> None:
    """
    Raises:
        ValueError: it names what is no metric, or what a metric cannot be.
    """
    if unknown := set(aim) - {*METRICS, OF}:
        raise ValueError(f"aim names {min(unknown)!r}; possible: {', '.join(METRICS)}, {OF}")
    for name, value in aim.items():
        if name == OF and not isinstance(value, str):
            raise ValueError(f"aim {OF} is {value!r}; expected a string")
        if name != OF and not (isinstance(value, float) and 0 <= value <= 1):
            raise ValueError(f"aim {name} is {value!r}; expected a number from 0 to 1")


def check_space(work: Path, jobs: int) -> None:
    """
    Raises:
        OSError: the disk of the folder of trainings has no room for as many at a time.
    """
    free, needed = shutil.disk_usage(nearest_folder(work)).free, jobs * SPACE_OF_A_JOB
    if free < needed:
        raise OSError(
            f"{work} has {free / 2**30:.1f} GiB of free space; expected at least {needed / 2**30:.0f} GiB for {jobs} "
            "trainings at a time"
        )


def carry_out(plan: Sequence[Planned], source: str, jobs: int, cluster: str | None = None) -> list[Cell]:
    """Runs what is missing, in the order of the plan; returns the cells that failed. What is left when
    `Bench.until` has come is none of them."""
    failed: list[Cell] = []
    # Neighbouring rows that have these in common share the jobs.
    for (bench, corpus), rows in groupby(plan, key=lambda planned: (planned.row.bench, planned.corpus.name)):
        cells = [
            Cell(planned.row.experiment, seed)
            for planned in rows
            for seed in planned.seeds
            if not planned.row.record_path(seed).exists()
        ]
        failed += run_all(bench, corpus, source, cells, jobs, cluster)
    return failed


def standing(planned: Planned, seed: int) -> Standing:
    """How far a cell has come."""
    path = planned.row.record_path(seed)
    if path.exists():
        return Standing("done", _hours(read(path).cost.train_seconds))
    place = planned.row.place(seed)
    told, running = place.read(), place.running()
    if told is None:
        spent = [read(path).cost.train_seconds for path in planned.finished()]
        other = f"about {_hours(sum(spent) / len(spent))}, as other seeds" if spent else ""
        return Standing("running" if running else "to do", other)
    says = f"{told.stage}, {told.epochs} of {told.of} epochs, at most {_hours(told.left)} more of this stage"
    return Standing("running" if running else "begun", says)


def states(plan: Sequence[Planned]) -> str:
    """A line per cell: the plan against what there is."""
    lines = [
        [planned.corpus.name, planned.title, seed, *standing(planned, seed)]
        for planned in plan
        for seed in planned.seeds
    ]
    return tabulate(lines, ["Corpus", "Experiment", "Seed", "State", "Hours, or how far"], disable_numparse=True)


def results(plan: Sequence[Planned]) -> str:
    """A line per number that is aimed at, and one for a row that aims at none."""
    head = ["Corpus", "Experiment", "Seeds", "Metric", "Aimed at", "Of", "Ours", "95% interval", "Verdict", "Hours"]
    return tabulate([line for row in plan for line in _lines(row)], head, disable_numparse=True)


def _lines(planned: Planned) -> list[list[str]]:
    row = planned.row
    runs = [read_run(row.bench.board, path) for path in planned.finished()]
    begin = [row.eval_corpus.name, planned.title, f"{len(runs)} of {planned.wanted.seeds}"]
    hours = _hours(sum(run.record.cost.train_seconds for run in runs)) if runs else ""
    aims: dict[str, float | str | None] = {**planned.wanted.aim}
    of = str(aims.pop(OF, ""))
    return [
        [*begin, metric, "" if aim is None else f"{aim:.4f}", of, *_ours(runs, metric, aim), hours]
        for metric, aim in (aims or {RANKED_BY: None}).items()
    ]


def _ours(runs: list[Run], metric: str, aim: object) -> list[str]:
    """Our value, its interval, and the verdict on the aim by the rule of the board's pages; what the row has otherwise
    than the paper that is aimed at is not known here."""
    if not runs:
        return ["", "", ""]
    values = Row(runs, ranked=True).values(metric)
    low, high = interval(values)
    says = judged(values, aim)[1] if isinstance(aim, float) else ""
    if says and (reasons := reasons_against_any(runs[0].record)):
        says = f"{NOT_COMPARABLE}: {'; '.join(reasons)}"
    return [f"{values.mean():.4f}", f"{low:.4f} to {high:.4f}", says]


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h"
