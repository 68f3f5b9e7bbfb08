"""Rows: the runs of one configuration, one for each seed, and the values that all statistics are made of."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from leaderboards import cards
from leaderboards.metrics import UNSEEN, per_user
from leaderboards.record import TUNED, Record
from leaderboards.statistics import (
    SIGNIFICANT,
    Comparison,
    Family,
    Interval,
    Sample,
    Values,
    compare_samples,
    detectable,
    family,
    interval,
    sample,
    simultaneous_interval,
)
from leaderboards.store import Run

RANKED_BY = "ndcg@10"
# The loss of a model's rows where a config says none.
SOFTMAX = "ce"
# How the note of a row begins that tells which settings it has otherwise than its experiment.
OVERRIDDEN = "overridden:"


@dataclass(frozen=True)
class Row:
    """One row of a board.

    Attributes:
        runs: of one model and key, by seed; the first names the experiment, for two names may have one config.
        ranked: of the protocol and the content of the corpus that the board is about (`subject`).
        metric: by which it is ranked and compared.
    """

    runs: list[Run]
    ranked: bool
    metric: str = RANKED_BY

    @property
    def record(self) -> Record:
        """The first seed's; for what all have in common."""
        return self.runs[0].record

    @property
    def name(self) -> str:
        return self.record.experiment

    @property
    def title(self) -> str:
        """What tells it from the row of the same experiment with its defaults."""
        return titled(self.name, self.record.notes)

    @property
    def is_floor(self) -> bool:
        return not self.record.is_trained

    @cached_property
    def gains(self) -> Values:
        """`[S, U]` of its metric, NDCG@10 on the boards that are rendered."""
        return self.values(self.metric)

    @cached_property
    def gains_sha256(self) -> str:
        """Hash of `gains`."""
        return hashlib.sha256(f"{self.gains.shape}".encode() + self.gains.tobytes()).hexdigest()

    @cached_property
    def sample(self) -> Sample:
        """What comparisons need of `gains`."""
        return sample(self.gains)

    @property
    def bounds(self) -> Interval:
        """Interval of the mean of `gains`; drawn once, however often a board is rendered."""
        if self.gains_sha256 not in _bounds:
            _bounds[self.gains_sha256] = interval(self.gains)
        return _bounds[self.gains_sha256]

    def values(self, metric: str) -> Values:
        """`[S, U]` a metric of each user under each seed.

        Raises:
            KeyError: of ranks among unseen items, which protocol v1 has not.
        """
        column = f"rank{UNSEEN}" if metric.endswith(UNSEEN) else "rank"
        return np.stack([per_user(metric, run.ranks[column].to_numpy()) for run in self.runs])


def loss(record: Record) -> str:
    """By which the model of a row was trained."""
    return str(record.config.get("loss", SOFTMAX))


def titled(experiment: str, notes: Sequence[str]) -> str:
    """An experiment as tables name it: `tiger`, `tiger, epochs=3` where that is not its own, or `tiger, tuned`."""
    for note in notes:
        if note.startswith(OVERRIDDEN):
            return f"{experiment}, {note.removeprefix(OVERRIDDEN).strip()}"
    return experiment + ", tuned" * any(note.startswith(TUNED) for note in notes)


def titles(rows: Sequence[Row]) -> list[str]:
    """What tells rows from one another where no key stands beside them: with its key, where two have one title."""
    count = Counter(row.title for row in rows)
    return [row.title if count[row.title] == 1 else f"{row.title} ({row.record.key})" for row in rows]


class Pair(NamedTuple):
    """Two ranked rows of a board.

    Attributes:
        better, worse: by the mean.
        found: better less worse, by the board's metric; these two alone.
        p: of `found`, adjusted for all pairs of the board.
        interval: of the difference, 95% for all pairs of the board at once; without 0 where `p` is below 5%.
        detectable: the smallest true difference that is found among all pairs of the board with a chance of 80%.
    """

    better: Row
    worse: Row
    found: Comparison
    p: float
    interval: Interval
    detectable: float

    @property
    def differs(self) -> bool:
        return self.p < SIGNIFICANT


class Apart(NamedTuple):
    """How a row stands to another: the difference, row less other, its interval and p as `Pair` has them."""

    difference: float
    interval: Interval
    p: float

    @property
    def differs(self) -> bool:
        return self.p < SIGNIFICANT


@dataclass(frozen=True)
class Board:
    """The rows of a corpus and how they compare, found out once for all that is rendered of them.

    Attributes:
        runs: of one corpus, at least one, as from `store.read_board`.
        metric: by which rows are ranked and compared.
    """

    runs: Sequence[Run]
    metric: str = RANKED_BY

    @cached_property
    def subject(self) -> Record:
        return subject(self.runs)

    @cached_property
    def rows(self) -> list[Row]:
        """As `rows_of`, whose ValueError it raises."""
        return rows_of(self.runs, self.metric)

    @property
    def ranked(self) -> list[Row]:
        return [row for row in self.rows if row.ranked]

    @cached_property
    def pairs(self) -> list[Pair]:
        """Every two ranked rows."""
        return [self._pair(better, worse) for better, worse in itertools.combinations(self.ranked, 2)]

    @property
    def best_floor(self) -> Row | None:
        """Of the ranked rows that nothing was trained for the first one, if there is any."""
        return next((row for row in self.ranked if row.is_floor), None)

    def apart(self, row: Row, other: Row | None) -> Apart | None:
        """How a ranked row stands to another, by this board's metric; None where the two have no pair."""
        records = [each.record for each in (row, other) if each]
        both = [each for each in self.ranked if any(each.record is record for record in records)]
        if len(both) < 2:
            return None
        # No other pair is computed: a page asks for a few of the many that a large board has.
        pair = self._pair(*both)
        if pair.better.record is row.record:
            return Apart(pair.found.difference, pair.interval, pair.p)
        return Apart(-pair.found.difference, -pair.interval, pair.p)

    def among_unseen(self) -> Board | None:
        """The same runs by their ranks among unseen items; None of protocol v1, which has no such ranks."""
        metric = self.metric + UNSEEN
        return Board(self.runs, metric) if metric in self.subject.test else None

    def own(self, row: Row) -> Row:
        """A ranked row of another board of these runs, by this board's metric and on its users."""
        return next(each for each in self.ranked if each.record is row.record)

    def where(self, fact: str, value: bool | int) -> Board | None:
        """The ranked rows on the users whose ranks have this value of a fact; None where there is no such user."""
        runs = [run for row in self.ranked for run in row.runs]
        parts = [run._replace(ranks=run.ranks.filter(pc.equal(run.ranks[fact], value))) for run in runs]
        return Board(parts, self.metric) if all(part.ranks.num_rows for part in parts) else None

    def over_best_floor(self, row: Row) -> Apart | None:
        """How a row stands to the best floor; None for that floor itself and where the two have no pair."""
        return self.apart(row, self.best_floor)

    def to_best(self, row: Row) -> Apart | None:
        """How a row stands to the first one; None for that one itself and where the two have no pair."""
        return self.apart(row, self.rows[0])

    def beats_no_floor(self, row: Row) -> bool:
        """Whether a ranked row stands beside floors, none of which is shown to be worse."""
        beaten = any(pair.better is row and pair.worse.is_floor and pair.differs for pair in self.pairs)
        return row.ranked and self.best_floor is not None and not beaten

    def _pair(self, better: Row, worse: Row) -> Pair:
        """Two ranked rows, in their order; compared once, however often a board is rendered."""
        common, compared = self._family, _compared(better, worse)
        bounds = _interval_of(better, worse, compared, common.level)
        least = detectable(compared.standard_error, compared.dof, common.level)
        return Pair(better, worse, compared, common.adjusted(compared.p), bounds, least)

    @cached_property
    def _family(self) -> Family:
        """Of all ranked rows, at least two."""
        key = tuple(row.gains_sha256 for row in self.ranked)
        if key not in _families:
            _families[key] = family([row.sample for row in self.ranked])
        return _families[key]


def rows_of(runs: Sequence[Run], metric: str = RANKED_BY) -> list[Row]:
    """The rows of a board, the best by a metric first, then those that cannot be ranked with them.

    Rows are ranked together that share protocol and corpus fingerprint with `subject`.

    Raises:
        ValueError: there is no run.
    """
    if not runs:
        raise ValueError("there are no runs to make a table of; expected at least one")
    ground = _ground(subject(runs))
    cells: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.record.seed):
        cells[*_ground(run.record), run.record.model, run.record.key].append(run)
    rows = [Row(cell, _ground(cell[0].record) == ground, metric) for cell in cells.values()]
    return sorted(rows, key=lambda row: (not row.ranked, -float(row.gains.mean()), row.name, row.record.key))


def subject(runs: Sequence[Run]) -> Record:
    """The latest record of what a board is about: the protocol that most of its rows share, and of the contents of the
    corpus the one that its committed card tells of, else the one that most rows share; of two that as many share, the
    one that was there first. A newcomer, whatever its clock says, moves no other row.
    """
    rows = {(_ground(run.record), run.record.model, run.record.key) for run in runs}
    shared = Counter(ground for ground, _, _ in rows)
    protocols = Counter(protocol for (protocol, _), _, _ in rows)
    carded = set[str]().union(*(cards.fingerprints(name) for name in {run.record.corpus.name for run in runs}))
    by_start = sorted((run.record for run in runs), key=lambda record: record.provenance.started_at)
    first = dict.fromkeys(map(_ground, by_start))
    ground = max(first, key=lambda ground: (protocols[ground[0]], ground[1] in carded, shared[ground]))
    return next(record for record in reversed(by_start) if _ground(record) == ground)


# By the content of a row, of both, of all.
_bounds: dict[str, Interval] = {}
_known: dict[tuple[str, str], Comparison] = {}
_intervals: dict[tuple[str, str, float], Interval] = {}
_families: dict[tuple[str, ...], Family] = {}


def _compared(better: Row, worse: Row) -> Comparison:
    key = (better.gains_sha256, worse.gains_sha256)
    if key not in _known:
        _known[key] = compare_samples(better.sample, worse.sample)
    return _known[key]


def _interval_of(better: Row, worse: Row, found: Comparison, level: float) -> Interval:
    key = (better.gains_sha256, worse.gains_sha256, level)
    if key not in _intervals:
        _intervals[key] = simultaneous_interval(better.sample, worse.sample, found, level)
    return _intervals[key]


def _ground(record: Record) -> tuple[str, str]:
    """What two rows must share to be compared."""
    return record.protocol, record.corpus.fingerprint
