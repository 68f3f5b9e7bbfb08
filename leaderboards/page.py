"""A board as one HTML file that needs no network: table, rows in full, any two compared, published numbers, plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from leaderboards import board, plots, verdicts
from leaderboards.record import Record
from leaderboards.rows import Pair, Row, pairs, rows_of, subject
from leaderboards.slices import Slice, slices
from leaderboards.statistics import SEEDS_FOR_VARIANCE, Difference, Interval, differences, interval, sample
from leaderboards.store import Run

# Of intervals by slice: half a unit of the last digit that is printed, at most.
DIGITS = 5


def html(runs: Sequence[Run]) -> str:
    """The page of one corpus.

    Args:
        runs: of one corpus, at least one, as from `store.read_board`.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("leaderboards", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    rows, frame = rows_of(runs), board.table(runs)
    ranked = [row for row in rows if row.ranked]
    # Facts of users and targets; every run on a corpus has the same.
    parts = slices(ranked[0].runs[0].ranks)
    said = verdicts.verdicts(rows)
    return environment.get_template("page.html.j2").render(
        corpus=subject(runs).corpus,
        protocol=subject(runs).protocol,
        columns=board.columns(frame),
        lines=board.lines(frame),
        details=[_details(row, parts) for row in rows],
        cost=Markup(plots.inlined(plots.cost(ranked), "cost", "NDCG@10 of each row over the seconds it took")),
        verdicts=said,
        published=board.PUBLISHED,
        comparisons=_comparisons(rows, parts),
        names={_id(row): f"{row.title} ({row.record.key})" for row in ranked},
        legend=board.LEGEND,
        compared=board.COMPARED,
        seeds_for_variance=SEEDS_FOR_VARIANCE,
    )


def _id(row: Row) -> str:
    return f"{row.record.model}-{row.record.key}"


def _details(row: Row, parts: Sequence[Slice]) -> dict[str, Any]:
    """What the page tells of one row."""
    first, own = row.record, parts if row.ranked else slices(row.runs[0].ranks)
    name, intervals = _id(row), [interval(row.gains[:, part.users]) for part in own]
    drawn = plots.slices(row, own, intervals)
    return {
        "id": name,
        "name": row.title,
        "key": first.key,
        "seeds": [run.record.seed for run in row.runs],
        "notes": board.row_notes(row),
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
        "by_slice": Markup(plots.inlined(drawn, f"{name}-slices", f"{row.title}: NDCG@10 by slice")),
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
        known = [run.record.diagnostics[name] for run in row.runs if name in run.record.diagnostics]
        shared = [key for key in known[0] if all(key in values for values in known)]
        mean = {key: float(np.mean([values[key] for values in known])) for key in shared}
        invalid = mean.get("invalid", mean.get("invalid_share"))
        line = {"Ranked by": name} | {key: f"{mean[key]:.4f}" for key in ("recall@10", "ndcg@10") if key in mean}
        lines.append(line | {"Names no item": "" if invalid is None else f"{invalid:.2%}"})
    return lines


def _codes(record: Record) -> list[dict[str, str]]:
    """The code card, what it says of each level: a line per level."""
    card = record.code_card or {}
    listed = {name: values for name, values in card.items() if isinstance(values, list)}
    levels = range(max((len(values) for values in listed.values()), default=0))
    return [
        {"Level": str(level + 1)}
        | {_plain(name): _number(values[level]) if level < len(values) else "" for name, values in listed.items()}
        for level in levels
    ]


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


def _comparisons(rows: Sequence[Row], parts: Sequence[Slice]) -> dict[str, Any]:
    """What the page's script shows of two rows: the slices, and a line per pair of rows."""
    ranked = [row for row in rows if row.ranked]
    by_slice = [differences([sample(row.gains[:, part.users]) for row in ranked]) for part in parts]
    return {
        "slices": [[f"{part.family}: {part.name}", int(part.users.sum())] for part in parts],
        "pairs": [_comparison(pair, there) for pair, *there in zip(pairs(rows), *by_slice, strict=True)],
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
        "p": board.p_text(pair.p),
        "differs": pair.p < board.SIGNIFICANT,
        "effect": found.effect,
        "detectable": found.detectable,
        "methods": found.methods,
        "slices": [[round(value, DIGITS) for value in (there.difference, *there.interval)] for there in by_slice],
    }


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
