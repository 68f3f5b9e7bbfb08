"""A board as one HTML file that needs no network: the answer first, then the table, rows in full, any two compared."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from leaderboards import board_table, charts, cold_items, commands, formats, page_table, plots, templates, verdicts
from leaderboards.answer import answer
from leaderboards.notes import badge, row_notes
from leaderboards.page_table import row_id
from leaderboards.record import BOARD, Record
from leaderboards.rows import Board, Pair, Row, titles
from leaderboards.slices import Slice, slices
from leaderboards.statistics import SEEDS_FOR_VARIANCE, Difference, Interval, differences, interval, sample

# Slices are told to the page's script in units of this: a tenth of the last digit that is printed.
UNIT = 1e-5


class Links(NamedTuple):
    """What a page leads to beside its own board.

    Attributes:
        folder: of the board, as a command of a reader is to name it.
        home: file name of the page over all corpora, empty where there is none.
        corpora: name -> file name, of the boards beside it.
        studies: name of a study -> file name of its page or ledger.
    """

    folder: Path
    home: str
    corpora: Mapping[str, str]
    studies: Mapping[str, str]


# Of a page that stands alone.
ALONE = Links(BOARD, "", {}, {})


def html(board: Board, links: Links = ALONE) -> str:
    """The page of one corpus.

    Raises:
        ValueError: there is no run.
    """
    frame, said, ranked = board_table.table(board), verdicts.verdicts(board.rows), board.ranked
    # Facts of users and targets; every run on a corpus has the same.
    parts = slices(ranked[0].runs[0].ranks)
    notes = dict.fromkeys(note for row in board.rows for note in row_notes(board, row))
    return templates.render(
        "page.html.j2",
        corpus=board.subject.corpus,
        protocol=board.subject.protocol,
        diagnostics=board_table.diagnostics(board),
        links=links,
        answer=answer(board, said),
        best=row_id(ranked[0]),
        table=page_table.table(board, frame, said, links.folder, links.studies),
        notes=[(badge(note), note) for note in notes],
        details=[_details(board, row, parts, links.folder) for row in board.rows],
        cost=Markup(plots.inlined(plots.cost(ranked), "cost", "NDCG@10 of each row over the seconds it took")),
        verdicts=said,
        published=board_table.PUBLISHED,
        cold=cold_items.cold_items(board),
        cold_says=cold_items.SAYS,
        comparisons=_comparisons(board, parts),
        names=[(row_id(row), title) for row, title in zip(ranked, titles(ranked), strict=True)],
        legend=board_table.legend(frame),
        compared=board_table.COMPARED,
        seeds_for_variance=SEEDS_FOR_VARIANCE,
        formats=formats,
    )


def _details(board: Board, row: Row, parts: Sequence[Slice], folder: Path) -> dict[str, Any]:
    """What the page tells of one row."""
    first = row.record
    own = parts if row.ranked else slices(row.runs[0].ranks)
    intervals = [interval(row.gains[:, part.users]) for part in own]
    widest = max(bounds.high for bounds in intervals)
    return {
        "id": row_id(row),
        "name": row.title,
        "key": first.key,
        "records": page_table.records(row),
        "commands": {
            "Again, by the code of its commit": commands.reproduce(row, folder),
            "The experiment by the code and the defaults of now": commands.bench(row, folder),
        },
        "notes": row_notes(board, row),
        "config": first.config,
        "vectors": [info for info in (first.vectors, first.collaborative) if info],
        "provenance": _provenance(row),
        "costs": _costs(row),
        "curves": [charts.curve(row.title, stage) for stage in first.cost.stages if stage.losses],
        "beams": _beams(row),
        "codes": _codes(first),
        "index": _index(first),
        "slices": [_slice(row, part, bounds, widest) for part, bounds in zip(own, intervals, strict=True)],
        "ranks": charts.ranks(row),
    }


def _provenance(row: Row) -> dict[str, str]:
    """Facts of all seeds, the different ones in order."""
    records = [run.record for run in row.runs]
    origins = [record.provenance for record in records]
    facts = {
        "commit": [origin.git_commit[:12] + (" with changes" if origin.git_dirty_sha256 else "") for origin in origins],
        "command": [origin.command for origin in origins],
        "started": [f"{origin.started_at:%Y-%m-%d %H:%M} UTC" for origin in origins],
        "device": [f"{origin.device}, {origin.threads} threads, {origin.precision}" for origin in origins],
        "versions": [", ".join(f"{name} {version}" for name, version in origin.versions.items()) for origin in origins],
        "Python": [f"{origin.python} on {origin.platform}" for origin in origins],
        "lock file": [origin.lock_sha256[:12] for origin in origins],
        "corpus fingerprint": [record.corpus.fingerprint for record in records],
        "ranks": [record.ranks_sha256[:12] for record in records],
    }
    return {name: "; ".join(dict.fromkeys(values)) for name, values in facts.items()}


def _costs(row: Row) -> list[dict[str, str]]:
    lines = []
    for record in (run.record for run in row.runs):
        spent = record.cost
        stages = ", ".join(
            f"{stage.name}: {stage.epochs} epochs, best {stage.best_epoch}" + (", reused" if stage.reused else "")
            for stage in spent.stages
        )
        lines.append(
            {
                "Seed": str(record.seed),
                "NDCG@10": formats.plain(record.test["ndcg@10"]),
                "Validation": formats.plain(record.valid["ndcg@10"]),
                "Training, s": formats.plain(spent.train_seconds, 0),
                "Users/s": formats.plain(spent.evaluate_users_per_second, 0),
                "Memory, GiB": formats.plain(spent.peak_memory_bytes / 2**30, 2),
                "Parameters": f"{spent.parameters:,}",
                "Stages": stages,
            }
        )
    return lines


def _beams(row: Row) -> list[dict[str, str]]:
    """The same weights by the beams that papers use, and on other users: means over seeds."""
    lines = []
    for name in row.record.diagnostics:
        by_seed = [run.record.diagnostics[name] for run in row.runs if name in run.record.diagnostics]
        shared = [key for key in by_seed[0] if all(key in values for values in by_seed)]
        mean = {key: float(np.mean([values[key] for values in by_seed])) for key in shared}
        line = {"Ranked by": name}
        for key in ("recall@10", "ndcg@10"):
            line[key] = formats.plain(mean[key]) if key in mean else ""
        invalid = mean.get("invalid")
        line["Names no item"] = "" if invalid is None else f"{invalid:.2%}"
        lines.append(line)
    return lines


def _codes(record: Record) -> list[dict[str, str]]:
    """The code card, what it says of each level: a line per level."""
    card = record.code_card or {}
    listed = {name: values for name, values in card.items() if isinstance(values, list)}
    lines = []
    for level in range(max((len(values) for values in listed.values()), default=0)):
        line = {"Level": str(level + 1)}
        for name, values in listed.items():
            line[_spaced(name)] = _number(values[level]) if level < len(values) else ""
        lines.append(line)
    return lines


def _index(record: Record) -> str:
    """The code card, what it says of all levels."""
    card = record.code_card or {}
    facts = [(name, value) for name, value in card.items() if not isinstance(value, list) and name != "levels"]
    return "; ".join(f"{_spaced(name)}: {_number(value)}" for name, value in facts)


def _slice(row: Row, part: Slice, bounds: Interval, widest: float) -> dict[str, str]:
    mean = float(row.gains[:, part.users].mean())
    return {
        "Slice": f"{part.family}: {part.name}",
        "Users": f"{int(part.users.sum()):,}",
        "NDCG@10": formats.plain(mean),
        "Interval": formats.interval(bounds),
        "": charts.span(mean, bounds, widest),
    }


def _comparisons(board: Board, parts: Sequence[Slice]) -> dict[str, Any]:
    """What the page's script shows of two rows: the slices, NDCG@10 of each row in them, and a line per pair of rows.

    Pairs are in the order of `itertools.combinations` of the rows; of 40 rows there are 780, so they have no names.
    """
    ranked, by_slice = board.ranked, list[list[Difference]]()
    for part in parts:
        by_slice.append(differences([sample(row.gains[:, part.users]) for row in ranked]))
    couples = list(itertools.combinations(ranked, 2))
    assert [(pair.better, pair.worse) for pair in board.pairs] == couples
    means = [[_units(float(row.gains[:, part.users].mean())) for part in parts] for row in ranked]
    return {
        "unit": UNIT,
        "slices": [[f"{part.family}: {part.name}", int(part.users.sum())] for part in parts],
        "means": means,
        "pairs": [_comparison(pair, there) for pair, *there in zip(board.pairs, *by_slice, strict=True)],
    }


def _comparison(pair: Pair, by_slice: Sequence[Difference]) -> list[Any]:
    """Difference, interval, p, whether it differs, effect, detectable difference, whether it is about methods; then the
    ends of the interval of each slice."""
    found = pair.found
    numbers = [round(value, 6) for value in (found.difference, *pair.interval)]
    facts = [formats.p_is(pair.p), int(pair.differs), round(found.effect, 3), round(pair.detectable, 6)]
    ends = [_units(end) for there in by_slice for end in there.interval]
    return [*numbers, *facts, int(found.methods), ends]


def _units(value: float) -> int:
    return round(value / UNIT)


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
