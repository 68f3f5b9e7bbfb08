"""A board as one HTML file that needs no network: table, rows in full, any two compared, published numbers, plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from leaderboards import board as tables
from leaderboards import plots, verdicts
from leaderboards.notes import row_notes
from leaderboards.record import Record
from leaderboards.rows import Board, Pair, Row
from leaderboards.slices import Slice, slices
from leaderboards.statistics import SEEDS_FOR_VARIANCE, Difference, Interval, differences, interval, sample

# Of intervals by slice: half a unit of the last digit that is printed, at most.
DIGITS = 5


def html(board: Board) -> str:
    """The page of one corpus.

    Raises:
        ValueError: there is no run.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("leaderboards", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    frame, ranked = tables.table(board), board.ranked
    # Facts of users and targets; every run on a corpus has the same.
    parts = slices(ranked[0].runs[0].ranks)
    return environment.get_template("page.html.j2").render(
        corpus=board.subject.corpus,
        protocol=board.subject.protocol,
        columns=tables.columns(frame),
        lines=tables.page_lines(frame),
        details=[_details(board, row, parts) for row in board.rows],
        cost=Markup(plots.inlined(plots.cost(ranked), "cost", "NDCG@10 of each row over the seconds it took")),
        verdicts=verdicts.verdicts(board.rows),
        published=tables.PUBLISHED,
        comparisons=_comparisons(board, parts),
        names={_id(row): f"{row.title} ({row.record.key})" for row in ranked},
        legend=tables.legend(frame),
        compared=tables.COMPARED,
        seeds_for_variance=SEEDS_FOR_VARIANCE,
    )


def _id(row: Row) -> str:
    return f"{row.record.model}-{row.record.key}"


def _details(board: Board, row: Row, parts: Sequence[Slice]) -> dict[str, Any]:
    """What the page tells of one row."""
    name, first = _id(row), row.record
    own = parts if row.ranked else slices(row.runs[0].ranks)
    intervals = [interval(row.gains[:, part.users]) for part in own]
    by_slice = plots.slices(row, own, intervals)
    return {
        "id": name,
        "name": row.title,
        "key": first.key,
        "seeds": [run.record.seed for run in row.runs],
        "notes": row_notes(board, row),
        "config": first.config,
        "vectors": [info for info in (first.vectors, first.collaborative) if info],
        "provenance": _provenance(row),
        "costs": _costs(row),
        "curves": _curves(row),
        "beams": _beams(row),
        "codes": _codes(first),
        "index": _index(first),
        "slices": [_slice(row, part, bounds) for part, bounds in zip(own, intervals, strict=True)],
        "ranks": Markup(plots.inlined(plots.ranks(row), f"{name}-ranks", f"{row.title}: share of users by rank")),
        "by_slice": Markup(plots.inlined(by_slice, f"{name}-slices", f"{row.title}: NDCG@10 by slice")),
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
                "NDCG@10": f"{record.test['ndcg@10']:.4f}",
                "Validation": f"{record.valid['ndcg@10']:.4f}",
                "Training, s": f"{spent.train_seconds:,.0f}",
                "Users/s": f"{spent.evaluate_users_per_second:,.0f}",
                "Memory, GiB": f"{spent.peak_memory_bytes / 2**30:.2f}",
                "Parameters": f"{spent.parameters:,}",
                "Energy, J": "" if spent.energy_joules is None else f"{spent.energy_joules:,.0f}",
                "Stages": stages,
            }
        )
    return lines


def _curves(row: Row) -> Markup | None:
    """The learning curves of the first seed, None where its record holds none."""
    stages = [stage for stage in row.record.cost.stages if stage.losses]
    if not stages:
        return None
    says = f"{row.title}: training loss and validation by epoch"
    return Markup(plots.inlined(plots.curves(stages), f"{_id(row)}-curves", says))


def _beams(row: Row) -> list[dict[str, str]]:
    """The same weights by the beams that papers use, and on other users: means over seeds."""
    lines = []
    for name in row.record.diagnostics:
        by_seed = [run.record.diagnostics[name] for run in row.runs if name in run.record.diagnostics]
        shared = [key for key in by_seed[0] if all(key in values for values in by_seed)]
        mean = {key: float(np.mean([values[key] for values in by_seed])) for key in shared}
        line = {"Ranked by": name}
        for key in ("recall@10", "ndcg@10"):
            if key in mean:
                line[key] = f"{mean[key]:.4f}"
        invalid = mean.get("invalid", mean.get("invalid_share"))
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
            line[_plain(name)] = _number(values[level]) if level < len(values) else ""
        lines.append(line)
    return lines


def _index(record: Record) -> str:
    """The code card, what it says of all levels."""
    card = record.code_card or {}
    facts = [(name, value) for name, value in card.items() if not isinstance(value, list) and name != "levels"]
    return "; ".join(f"{_plain(name)}: {_number(value)}" for name, value in facts)


def _slice(row: Row, part: Slice, bounds: Interval) -> dict[str, str]:
    return {
        "Slice": f"{part.family}: {part.name}",
        "Users": f"{int(part.users.sum()):,}",
        "NDCG@10": f"{row.gains[:, part.users].mean():.4f}",
        "Interval": f"{bounds.low:.4f}-{bounds.high:.4f}",
    }


def _comparisons(board: Board, parts: Sequence[Slice]) -> dict[str, Any]:
    """What the page's script shows of two rows: the slices, and a line per pair of rows."""
    by_slice = []
    for part in parts:
        by_slice.append(differences([sample(row.gains[:, part.users]) for row in board.ranked]))
    return {
        "slices": [[f"{part.family}: {part.name}", int(part.users.sum())] for part in parts],
        "pairs": [_comparison(pair, there) for pair, *there in zip(board.pairs, *by_slice, strict=True)],
    }


def _comparison(pair: Pair, by_slice: Sequence[Difference]) -> dict[str, Any]:
    """Numbers as they are printed."""
    found = pair.found
    return {
        "better": _id(pair.better),
        "worse": _id(pair.worse),
        "difference": found.difference,
        "low": found.interval.low,
        "high": found.interval.high,
        "p": tables.p_text(pair.p),
        "differs": pair.differs,
        "effect": found.effect,
        "detectable": found.detectable,
        "methods": found.methods,
        "slices": [[round(value, DIGITS) for value in (there.difference, *there.interval)] for there in by_slice],
    }


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
