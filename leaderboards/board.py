"""Tables from records: one row per experiment and config, its seeds averaged; rendered, never edited by hand."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tabulate import tabulate

from leaderboards import escape, verdicts
from leaderboards.record import UNKNOWN, Record
from leaderboards.rows import Pair, Row, pairs, rows_of, subject, titled
from leaderboards.statistics import SEEDS_FOR_VARIANCE
from leaderboards.statistics import SIGNIFICANT as SIGNIFICANT  # also for whoever prints a pair
from leaderboards.store import Run

SHOWN = {"recall@5": "Recall@5", "ndcg@5": "NDCG@5", "recall@10": "Recall@10", "ndcg@10": "NDCG@10"}
SHOWN_UNSEEN = {"recall@10_unseen": "Recall@10 unseen", "ndcg@10_unseen": "NDCG@10 unseen"}
EVERY_SHOWN = SHOWN | SHOWN_UNSEEN

CEILING, RANKED, APART = "ceiling", "ranked", "not comparable"

# Columns that a terminal has no room for.
BOARD_ONLY = (*SHOWN_UNSEEN.values(), "Interval", "Expansions", "Beam 20", "Vectors")
RIGHT = (*EVERY_SHOWN.values(), "Interval", "Seeds", "Seconds", "Certified", "Expansions", "Beam 20")

SORTED_BY = {title: name for name, title in EVERY_SHOWN.items()} | {
    "Interval": "ndcg@10_low",
    "Seeds": "seeds",
    "Seconds": "seconds",
    "Certified": "certified_share",
    "Expansions": "expansions",
    "Beam 20": "beam20_gap",
}

HEADER = "<!-- Rendered from the records by `make board`. Do not edit: the next rendering replaces it. -->"
LEGEND = (
    f"Means over seeds, ± the standard deviation from {SEEDS_FOR_VARIANCE} seeds on, sorted by NDCG@10. Unseen: by the "
    "rank among the items that are not in the user's history; papers differ in which rank they take. Interval: 95%, of "
    f"NDCG@10, two-level bootstrap over users and seeds; below {SEEDS_FOR_VARIANCE} seeds over users alone. Seconds: "
    "training and ranking of the test users, mean per seed. Certified: share of users whose list provably equals the "
    "full ranking. Expansions: prefixes that the exact search expanded per user. Beam 20: NDCG@10 of the same weights "
    "by a beam of 20 with the trie, less the exact one."
)
COMPARED = (
    "Differences of NDCG@10 on the same users. p: signs of the users' differences flipped, the noise of "
    "seeds added, adjusted for all pairs of this board (Holm). Effect: Cohen's d over users. Detectable: the smallest "
    f"true difference that is found with a chance of 80%. Where a row has fewer than {SEEDS_FOR_VARIANCE} seeds, its "
    "line speaks of the trained weights, not of the method."
)
PUBLISHED = (
    "z: ours less the published number over our standard error, of users and, from "
    f"{SEEDS_FOR_VARIANCE} seeds on, of seeds. Reproduced: our 90% interval lies within "
    f"{verdicts.REPRODUCED_WITHIN:.0%} of the number; within noise: |z| below {verdicts.SIGNIFICANT}. "
    "Seen items: whether the paper ranks those of the history (kept) or skips them (masked); ours is then ranked among "
    f"the others. {verdicts.TRANSCRIBED}: not read in the paper itself, but transcribed by others."
)


# Of rows that are on a board and not ranked.
SET_APART = "Set apart, for the board is about another content of the corpus, or of another protocol"


def table(runs: Sequence[Run]) -> pd.DataFrame:
    """One line per row in the order of `rows_of`, unformatted; above them the corpus's ceiling, if it has one.

    Args:
        runs: of one corpus, at least one, as from `store.read_board`.

    Returns:
        Columns `standing` (ceiling, ranked, not comparable), `experiment`, `model`, `key`, `protocol`, `fingerprint`;
        `recall@5`, `ndcg@5`,
        `recall@10`, `ndcg@10`, `recall@10_unseen`, `ndcg@10_unseen` (not under protocol v1), each followed by
        `<name>_std` (NaN below 3 seeds); `ndcg@10_low`, `ndcg@10_high` (95%);
        `seeds`; `seconds` (training and test, mean per seed); `certified_share` (0..1); `expansions` and
        `beam20_gap` (NaN without codes); `vectors`; `notes` (a list).

    Raises:
        ValueError: there is no run.
    """
    ceiling = subject(runs).corpus.ceiling if runs else None
    lines = [_line(row) for row in rows_of(runs)]
    first = [_ceiling_line(ceiling)] if ceiling else []
    frame = pd.DataFrame(first + lines, columns=list(lines[0])).astype({"seeds": "Int64"})
    unknown = [name for name in SHOWN_UNSEEN if frame[name].isna().all()]
    return frame.drop(columns=[column for name in unknown for column in (name, f"{name}_std")])


def console(frame: pd.DataFrame) -> str:
    """The `table` for a terminal: what was measured, without interval, vectors and notes; which rows are set apart."""
    rows = frame.to_dict("records")
    ranked = [_texts(row) for row in rows if row["standing"] != APART]
    grid = _grid([{title: text for title, text in row.items() if title not in BOARD_ONLY} for row in ranked], "simple")
    apart = [f"{row['experiment']} {row['key']} ({_graded_on(row)})" for row in rows if row["standing"] == APART]
    return grid + (f"\n\n{SET_APART}: {', '.join(apart)}" if apart else "")


class Column(NamedTuple):
    title: str
    right: bool


class Cell(NamedTuple):
    """Attributes: text, as printed; value, what a column is sorted by, empty where nothing was measured."""

    text: str
    value: float | str


class Line(NamedTuple):
    """Attributes: id, of the row, empty of the ceiling; ranked, comparable with the others, as the ceiling is."""

    id: str
    ranked: bool
    cells: list[Cell]


def columns(frame: pd.DataFrame) -> list[Column]:
    """Titles of `lines`."""
    return [Column(title, title in RIGHT) for title in _texts(frame.to_dict("records")[0])]


def lines(frame: pd.DataFrame) -> list[Line]:
    """The `table` for a page: each cell as text, and as what it is sorted by."""
    found = []
    for row in frame.to_dict("records"):
        texts = _texts(row)
        values = [row[SORTED_BY[title]] if title in SORTED_BY else text for title, text in texts.items()]
        cells = [
            Cell(text, "" if pd.isna(value) else value) for text, value in zip(texts.values(), values, strict=True)
        ]
        name = f"{row['model']}-{row['key']}" if row["key"] else ""
        found.append(Line(name, row["standing"] != APART, cells))
    return found


def markdown(runs: Sequence[Run]) -> str:
    """The `table` for the repository: what was ranked, the rows and their footnotes, differences, published numbers."""
    frame, rows, corpus = table(runs), rows_of(runs), subject(runs).corpus
    notes = list(dict.fromkeys(note for row_notes in frame["notes"] for note in row_notes))
    ranked, apart = (
        [line for line in frame.to_dict("records") if (line["standing"] == APART) is far] for far in (False, True)
    )
    parts = [
        HEADER,
        f"# {corpus.name}",
        f"{corpus.users:,} users, {corpus.items:,} items, {corpus.interactions:,} interactions, "
        f"from {escape.markdown(corpus.source)}; fingerprint `{corpus.fingerprint[:12]}`.",
        _grid([_linked(line, corpus.name, notes) for line in ranked], "github"),
    ]
    if apart:
        title = "Not comparable with the rows above: another content of the corpus, or another protocol."
        lines = [_linked(line, corpus.name, notes) | {"Graded on": _graded_on(line)} for line in apart]
        parts += [title, _grid(lines, "github")]
    parts += ["\n".join(f"{number}. {escape.markdown(note)}" for number, note in enumerate(notes, 1))] if notes else []
    parts.append(LEGEND)
    best = [pair for pair in pairs(rows) if pair.better is rows[0]]
    if best:
        parts += ["## Differences to the best row", _grid([_difference(pair) for pair in best], "github"), COMPARED]
    said = verdicts.verdicts(rows)
    if said:
        parts += ["## Published and ours", verdicts.table(said, "github"), PUBLISHED]
    return "\n\n".join(parts) + "\n"


def csv(runs: Sequence[Run]) -> str:
    """The `table` for machines."""
    frame = table(runs)
    flat = frame.assign(notes=frame["notes"].map("; ".join))
    return flat.to_csv(index=False, float_format="%.6f", lineterminator="\n")


def corpora(board: Path) -> list[str]:
    """Names of the corpora that the board has records of."""
    return sorted({target.relative_to(board).parts[0] for target in board.glob("*/*/*/seed-*.json")})


def _ceiling_line(ceiling: dict[str, float]) -> dict[str, Any]:
    texts = dict.fromkeys(("model", "key", "protocol", "fingerprint", "vectors"), "")
    return {"standing": CEILING, "experiment": CEILING, **texts, "notes": []} | ceiling


def _line(row: Row) -> dict[str, Any]:
    records = [run.record for run in row.runs]
    values = {name: np.array([record.test.get(name, np.nan) for record in records]) for name in EVERY_SHOWN}
    line: dict[str, Any] = {"standing": RANKED if row.ranked else APART}
    line |= {name: getattr(row.record, name) for name in ("experiment", "model", "key", "protocol")}
    line["fingerprint"] = row.record.corpus.fingerprint
    for name, v in values.items():
        line |= {name: float(v.mean()), f"{name}_std": v.std(ddof=1) if len(v) >= SEEDS_FOR_VARIANCE else np.nan}
    return line | {
        "ndcg@10_low": row.bounds.low,
        "ndcg@10_high": row.bounds.high,
        "seeds": len(records),
        "seconds": float(np.mean([seconds(record) for record in records])),
        "certified_share": float(np.mean([record.search.certified_share for record in records])),
        "expansions": float(np.mean([_number(record.search.mean_expansions) for record in records])),
        "beam20_gap": float(np.mean([_beam_gap(record) for record in records])),
        "vectors": ", ".join(str(info) for info in (row.record.vectors, row.record.collaborative) if info),
        "notes": row_notes(row),
    }


def _difference(pair: Pair) -> dict[str, str]:
    found = pair.found
    return {
        "Experiment": escape.markdown(pair.worse.title),
        "Key": pair.worse.record.key,
        "Difference": f"{-found.difference:+.4f}",
        "Interval": f"{-found.interval.high:+.4f} to {-found.interval.low:+.4f}",
        "p": p_text(pair.p),
        "Effect": f"{-found.effect:+.2f}",
        "Detectable": f"{found.detectable:.4f}",
        "Says": "differs" if pair.p < SIGNIFICANT else "not shown to differ",
    }


def p_text(p: float) -> str:
    return "< .001" if p < 0.001 else f"{p:.3f}"


def seconds(record: Record) -> float:
    """What a run took: training, and one pass over the test users."""
    return record.cost.train_seconds + record.corpus.users / record.cost.evaluate_users_per_second


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _beam_gap(record: Record) -> float:
    beam = record.diagnostics.get("beam20/trie", {})
    return _number(beam.get("ndcg@10")) - record.test["ndcg@10"]


def row_notes(row: Row) -> list[str]:
    """The notes of all seeds, and where their item vectors are not the same to the last digit."""
    notes = [note for run in row.runs for note in notes_of(run.record)]
    seeds: dict[str, list[str]] = {}
    for record in (run.record for run in row.runs):
        # Trained vectors are each seed's own.
        if record.vectors and record.vectors.recipe and "model" not in record.vectors.recipe:
            seeds.setdefault(record.vectors.sha256[:12], []).append(str(record.seed))
    if len(seeds) > 1:
        each = "; ".join(f"{digest}, seed {' '.join(of)}" for digest, of in seeds.items())
        notes.append(f"item vectors were computed by several processors, with other last digits: {each}")
    return list(dict.fromkeys(notes))


def notes_of(record: Record) -> list[str]:
    """What a reader of the row must know: the run's own notes, and what else its record tells."""
    notes = list(record.notes)
    # A row on unseen users says itself who validated: none of those it is graded on.
    if "seen_users" not in record.diagnostics and record.valid_users < record.corpus.users:
        notes.append(f"validation during training on {record.valid_users:,} of {record.corpus.users:,} users")
    if record.provenance.git_dirty_sha256:
        notes.append("run from a checkout with uncommitted changes")
    if record.provenance.git_commit == UNKNOWN:
        notes.append("made outside a git checkout: commit unknown")
    if record.provenance.git_commit_told:
        notes.append("run outside a checkout; its commit was told, not read")
    return notes


def _texts(row: dict[Hashable, Any]) -> dict[str, str]:
    """A row as it is printed: title -> text."""
    measured = row["standing"] != CEILING
    return {
        "Experiment": titled(row["experiment"], row["notes"]),
        "Key": row["key"],
        **{title: _mean(row[name], row[f"{name}_std"]) for name, title in EVERY_SHOWN.items() if name in row},
        "Interval": f"{row['ndcg@10_low']:.4f}-{row['ndcg@10_high']:.4f}" if measured else "",
        "Seeds": str(row["seeds"]) if measured else "",
        "Seconds": _amount(row["seconds"]),
        "Certified": _percent(row["certified_share"]) if measured else "",
        "Expansions": _amount(row["expansions"]),
        "Beam 20": "" if np.isnan(row["beam20_gap"]) else f"{row['beam20_gap']:+.4f}",
        "Vectors": row["vectors"],
    }


def _mean(mean: float, std: float) -> str:
    if np.isnan(mean):
        return ""
    return f"{mean:.4f}" if np.isnan(std) else f"{mean:.4f} ± {std:.4f}"


def _amount(value: float) -> str:
    if np.isnan(value):
        return ""
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def _percent(share: float) -> str:
    """Rounded down: 100% is said of all users only."""
    return "100%" if share == 1 else f"{np.floor(share * 1000) / 10:.1f}%"


def _linked(row: dict[Hashable, Any], corpus: str, notes: list[str]) -> dict[str, str]:
    """A row for Markdown: its key leads to its records, its notes to the footnotes."""
    key = f"[{row['key']}]({corpus}/{row['model']}/{row['key']})" if row["key"] else ""
    numbers = ", ".join(str(notes.index(note) + 1) for note in row["notes"])
    texts = {title: escape.markdown(text) for title, text in _texts(row).items()}
    return texts | {"Key": key, "Notes": numbers}


def _graded_on(row: dict[Hashable, Any]) -> str:
    return f"{row['protocol']}, {row['fingerprint'][:12]}"


def _grid(rows: list[dict[str, str]], style: str) -> str:
    align = ["right" if title in RIGHT else "left" for title in rows[0]]
    return tabulate(rows, headers="keys", tablefmt=style, disable_numparse=True, colalign=align)
