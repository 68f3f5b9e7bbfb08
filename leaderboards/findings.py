"""Findings: what all boards say together, as tables within a page of prose.

The prose is written by people, the tables are made from the records. A page has places for tables, each between
`<!-- table: NAME -->` and `<!-- end of table -->`.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from tabulate import tabulate

from leaderboards import board_table, escape, formats, verdicts
from leaderboards.cold_items import cold_items
from leaderboards.metrics import UNSEEN
from leaderboards.published import leads
from leaderboards.record import canonical_json
from leaderboards.rows import RANKED_BY, SOFTMAX, Board, Row, loss, titles
from leaderboards.statistics import Interval, Sample, Values, interval, interval_of, sample, standard_error
from leaderboards.store import read_board
from leaderboards.verdicts import NOT_COMPARABLE, Verdict

# What the rows of a board are held against where a paper holds generative models against it.
BESIDE = "sasrec"
# Fewer say next to nothing of how far apart they are.
FEWEST_SEEDS = 3
BEGIN, END = "<!-- table: {} -->", "<!-- end of table -->"
BEGUN = BEGIN.partition("{")[0]
PLACE = re.compile(r"<!-- table: (\S+) -->\n.*?" + re.escape(END), re.DOTALL)
NONE = "No row yet."

Line = dict[str, str]


def read(folder: Path) -> dict[str, Board]:
    """The boards of a folder by corpus, but for the generated ones, of which no paper speaks.

    Raises:
        FileNotFoundError: there is none.
    """
    boards = {corpus: Board(read_board(folder, corpus)) for corpus in board_table.corpora(folder)}
    real = {name: board for name, board in boards.items() if not board.subject.corpus.source.startswith("generated")}
    if not real:
        raise FileNotFoundError(f"no record of a run on a corpus that is not generated in {folder}")
    return real


def filled(page: str, boards: Mapping[str, Board]) -> str:
    """A page with its tables made again.

    Raises:
        ValueError: it has no place for a table, one for a table that there is not, or one without its end.
    """
    asked = PLACE.findall(page)
    begun, ended = page.count(BEGUN), page.count(END)
    if {begun, ended} != {len(asked)}:
        raise ValueError(
            f"the page has {begun} beginnings and {ended} ends of tables, {len(asked)} of them together; expected "
            f"{BEGIN.format('NAME')} and {END}, each a line, before the next begins"
        )
    unknown = sorted(set(asked) - set(TABLES))
    if unknown or not asked:
        found = f"a table {unknown[0]!r}" if unknown else "no table"
        raise ValueError(f"the page asks for {found}; possible: {BEGIN.format('NAME')}, {', '.join(TABLES)}")

    def made(place: re.Match[str]) -> str:
        lines = list(TABLES[place[1]](boards))
        text = tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True) if lines else NONE
        return f"{BEGIN.format(place[1])}\n{text}\n{END}"

    return PLACE.sub(made, page)


def published(boards: Mapping[str, Board]) -> Iterator[Line]:
    """Each published number of which a row can speak, and ours."""
    for found in boards.values():
        for said in _comparable(found):
            metric = said.metric + UNSEEN * (said.seen_items == "masked")
            bounds = interval(said.row.values(metric))
            yield {
                **_named(found, said.row),
                "Paper": said.source,
                "Metric": said.metric,
                "Published": formats.plain(said.published),
                "Ours": formats.plain(said.ours),
                "95% interval": formats.interval(bounds),
                "Verdict": escape.markdown(said.verdict),
            }


def order(boards: Mapping[str, Board]) -> Iterator[Line]:
    """Of every two models of one paper, whether ours come in its order, by the board's own test. By either rank, for
    few papers say which they take. Of an experiment with several rows the best on validation speaks."""
    for corpus, found in boards.items():
        unseen = found.among_unseen()
        by_paper: dict[str, dict[str, Verdict]] = defaultdict(dict)
        for said in _comparable(found):
            if said.metric == RANKED_BY:
                numbers = by_paper[said.source]
                numbers[said.row.name] = max(numbers.get(said.row.name, said), said, key=lambda one: _valid(one.row))
        for paper, of_models in by_paper.items():
            for first, second in itertools.combinations(of_models.values(), 2):
                if first.published != second.published:
                    better, worse = sorted((first, second), key=lambda said: -said.published)
                    yield {
                        "Corpus": corpus,
                        "Paper": paper,
                        "Its order": f"{escape.markdown(better.row.title)} before {escape.markdown(worse.row.title)}",
                        "By": formats.signed(better.published - worse.published),
                        "Seeds": f"{len(better.row.runs)}, {len(worse.row.runs)}",
                        **_ours(found, better.row, worse.row, "Ours"),
                        **_ours(unseen, better.row, worse.row, "Unseen"),
                    }


def losses(boards: Mapping[str, Board]) -> Iterator[Line]:
    """What another loss is worth to a model that is otherwise the same, beside the softmax over all items; trained in
    the same precision where there is such a row."""
    for corpus, found in boards.items():
        unseen = found.among_unseen()
        alike: dict[str, list[Row]] = defaultdict(list)
        for row in found.ranked:
            record = row.record
            others = {name: value for name, value in record.config.items() if name != "loss"}
            alike[canonical_json([record.model, others, record.inputs])].append(row)
        for rows in alike.values():
            of_softmax = [row for row in rows if loss(row.record) == SOFTMAX]
            for row in rows if 0 < len(of_softmax) < len(rows) else []:
                alike_in_all = (one for one in of_softmax if one.record.precision == row.record.precision)
                other = next(alike_in_all, of_softmax[0])
                yield {
                    "Corpus": corpus,
                    "Model": row.record.model,
                    "Loss": escape.markdown(loss(row.record)),
                    "Precision": str(row.record.precision),
                    "Seeds": str(len(row.runs)),
                    "Recall@10": formats.plain(float(row.values("recall@10").mean())),
                    **_over(found, row, other, ""),
                    **_over(unseen, row, other, ", unseen"),
                }


def beams(boards: Mapping[str, Board]) -> Iterator[Line]:
    """What the same weights score by the beams that papers use, less the exact ranking, where all of it is."""
    for found, row in _rows(boards):
        exact = _mean(row, lambda record: record.test["ndcg@10"])
        gaps = {name: gap for name in row.record.diagnostics if not np.isnan(gap := _by_beam(row, name) - exact)}
        if gaps and all(run.record.search.certified_share == 1 for run in row.runs):
            texts = {escape.markdown(name): formats.signed(gap) for name, gap in gaps.items()}
            yield {**_named(found, row), "NDCG@10, exact": formats.plain(exact), **texts}


def floors(boards: Mapping[str, Board]) -> Iterator[Line]:
    """Trained rows beside the best row that trains nothing, by either rank."""
    for found in boards.values():
        unseen = found.among_unseen()
        for row in found.ranked:
            if not row.is_floor and found.best_floor:
                yield {**_named(found, row), **_over_floor(found, row, ""), **_over_floor(unseen, row, ", unseen")}


def transitions(boards: Mapping[str, Board]) -> Iterator[Line]:
    """Users whose last item was followed by the target somewhere in training, which can be known by heart, and the
    others (Ding et al., KDD 2026, arXiv 2603.19809, whose SASRec learns by the softmax as well). The best on the
    others first."""
    for found in boards.values():
        known, new = found.where("transition_seen", True), found.where("transition_seen", False)
        other = beside(found)
        if known and new and other:
            for row in new.ranked:
                yield {
                    **_named(found, row),
                    **_over(known, row, other, ", known"),
                    **_over(new, row, other, ", new"),
                    **_over(new.among_unseen(), row, other, ", new, unseen"),
                }


def complements(boards: Mapping[str, Board]) -> Iterator[Line]:
    """What a row has among its first ten and SASRec has not, of all targets; of SASRec itself, what another seed of it
    has not."""
    for found in boards.values():
        other = beside(found)
        for row in found.ranked:
            if other and (row is not other or len(row.runs) > 1):
                unseen = _beyond(row, other, ", unseen") if found.among_unseen() else {}
                yield {**_named(found, row), **_beyond(row, other, ""), **unseen}


def seeds(boards: Mapping[str, Board]) -> Iterator[Line]:
    """How far apart the seeds of a trained row are on the same users, beside what other users would change."""
    for found, row in _rows(boards):
        if len(row.runs) >= FEWEST_SEEDS and not row.is_floor and row.values("recall@10").any():
            yield {**_named(found, row), **_spread(row, "NDCG@10"), **_spread(row, "Recall@10")}


def steps(boards: Mapping[str, Board]) -> Iterator[Line]:
    """From a model to the next one of a paper's table, whatever boards there are."""
    for (kind, metric), found in leads().groupby(["kind", "metric"], sort=False):
        if str(metric).endswith("@10") and kind != "reproduction":
            yield {
                "Tables": str(kind),
                "Metric": str(metric),
                "Papers": str(found["paper"].nunique()),
                "Steps": str(len(found)),
                "Median": f"{found['lead'].median():.1%}",
                **{f"Below {below:.0%}": f"{(found['lead'] < below).mean():.0%}" for below in (0.02, 0.05, 0.1)},
            }


def cold(boards: Mapping[str, Board]) -> Iterator[Line]:
    """The rows that find targets which are in no user's training part."""
    for corpus, found in boards.items():
        section = cold_items(found)
        for line in section.lines if section else []:
            if line["Recall@50"] != formats.plain(0):
                yield {"Corpus": corpus, **line, "Experiment": escape.markdown(line["Experiment"])}


def cost(boards: Mapping[str, Board]) -> Iterator[Line]:
    """What a seed of a trained row took."""
    for found, row in _rows(boards):
        if not row.is_floor:
            yield {
                **_named(found, row),
                "Hours": f"{board_table.seconds(row) / 3600:.2f}",
                "Epochs, last stage": f"{_mean(row, lambda record: record.cost.stages[-1].epochs):.0f}",
                "Users/s": f"{_mean(row, lambda record: record.cost.evaluate_users_per_second):,.0f}",
                "Memory, GiB": f"{_mean(row, lambda record: record.cost.peak_memory_bytes) / 2**30:.1f}",
                "Parameters": f"{row.record.cost.parameters:,}",
            }


TABLES: dict[str, Callable[[Mapping[str, Board]], Iterator[Line]]] = {
    "published": published,
    "order": order,
    "losses": losses,
    "beams": beams,
    "floors": floors,
    "transitions": transitions,
    "complements": complements,
    "seeds": seeds,
    "steps": steps,
    "cold": cold,
    "cost": cost,
}


def beside(board: Board) -> Row | None:
    """The ranked row that the others are held against where a paper holds generative models against it: SASRec's. Of
    several the best on validation."""
    return max((row for row in board.ranked if row.title == BESIDE), key=_valid, default=None)


def _comparable(board: Board) -> list[Verdict]:
    return [said for said in verdicts.verdicts(board.ranked) if not said.verdict.startswith(NOT_COMPARABLE)]


def _ours(board: Board | None, better: Row, worse: Row, title: str) -> Line:
    """How two rows stand to each other on a board, and whether that is a paper's order."""
    found = board.apart(better, worse) if board else None
    if found is None:
        return {}
    says = "not told apart" if not found.differs else "the same" if found.difference > 0 else "the other way"
    return {title: formats.signed(found.difference), f"{title}, p": formats.p_value(found.p), f"{title} say": says}


def _over(board: Board | None, row: Row, other: Row, rank: str) -> Line:
    """How a row stands to another one on a board, of any part of the users; beside itself it has its number alone."""
    if board is None:
        return {}
    found = board.apart(row, other)
    return {
        f"NDCG@10{rank}": formats.plain(float(board.own(row).gains.mean())),
        f"Difference{rank}": formats.signed(found.difference) if found else "",
        f"95% interval{rank}": formats.signed_interval(found.interval) if found else "",
    }


def _beyond(row: Row, other: Row, rank: str) -> Line:
    """The share of targets that are among the first ten of a row, and the share that are, but not of another row: the
    mean over every two of their seeds, of one row over every two different ones."""
    metric = "recall@10" + UNSEEN * bool(rank)
    own = row.values(metric)
    pairs = own[:, None] * (1 - other.values(metric))
    beyond = _of_own_pairs(pairs) if row is other else _of_pairs(pairs)
    low, high = interval_of(beyond)
    return {
        f"Recall@10{rank}": formats.plain(float(own.mean())),
        f"Beyond SASRec{rank}": formats.plain(float(beyond.per_user.mean())),
        f"95% interval{rank}": formats.interval(Interval(max(low, 0.0), high)),
    }


def _of_pairs(values: Values) -> Sample:
    """What is uncertain in the mean of `[S, S', U]` values of two rows' seeds, every two: users, and either's seeds."""
    first, second = sample(values.mean(1)), sample(values.mean(0))
    return first._replace(seed_variance=first.seed_variance + second.seed_variance)


def _of_own_pairs(values: Values) -> Sample:
    """The same of `[S, S, U]` values of every two seeds of one row, 0 of a seed with itself. A seed is in many pairs:
    what it moves is told by the mean without it (the jackknife's pseudo-values, Tukey 1958)."""
    seeds = len(values)
    of_seed = (values.sum(0) + values.sum(1)) / (2 * (seeds - 1))
    mean = of_seed.mean(0)
    # Of two seeds, whose variance is not asked for, nothing is left without one.
    return sample(mean + 2 * (seeds - 1) / max(1, seeds - 2) * (of_seed - mean))


def _spread(row: Row, title: str) -> Line:
    """The seeds' lowest and highest number, their standard deviation, and one seed's standard error over users, both in
    percent of the mean."""
    values = row.values(title.lower())
    of_seeds, mean = values.mean(1), values.mean()
    error = np.mean([standard_error(seed[None]).value for seed in values])
    return {
        title: f"{formats.plain(of_seeds.min())} to {formats.plain(of_seeds.max())}",
        f"{title}, seeds": f"{of_seeds.std(ddof=1) / mean:.1%}",
        f"{title}, users": f"{error / mean:.1%}",
    }


def _valid(row: Row) -> float:
    return _mean(row, lambda record: record.valid[RANKED_BY])


def _over_floor(board: Board | None, row: Row, rank: str) -> Line:
    """How a row stands to the best floor of a board."""
    if board is None or board.best_floor is None:
        return {}
    number, *difference = _over(board, row, board.best_floor, rank).items()
    return dict([number, (f"Best floor{rank}", escape.markdown(board.best_floor.title)), *difference])


def _by_beam(row: Row, name: str) -> float:
    """NDCG@10 under a diagnostic search, nan where that is none, or not of all seeds."""
    if not name.startswith("beam"):
        return math.nan
    return _mean(row, lambda record: record.diagnostics.get(name, {}).get("ndcg@10"))


def _rows(boards: Mapping[str, Board]) -> Iterator[tuple[Board, Row]]:
    return ((found, row) for found in boards.values() for row in found.ranked)


def _named(board: Board, row: Row) -> Line:
    named = zip(board.ranked, titles(board.ranked), strict=True)
    title = next(title for each, title in named if each.record is row.record)
    return {
        "Corpus": board.subject.corpus.name,
        "Experiment": escape.markdown(title),
        "Seeds": str(len(row.runs)),
    }


def _mean(row: Row, value: Callable[..., float | None]) -> float:
    values = [value(run.record) for run in row.runs]
    return float(np.mean([np.nan if found is None else found for found in values]))
