"""Tables from records: one row per experiment and config, its seeds averaged; rendered, never edited by hand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from leaderboards.metrics import interval, ndcg
from leaderboards.record import CorpusInfo, Record
from leaderboards.store import Run, read_board, write_text

SHOWN = {"recall@5": "Recall@5", "ndcg@5": "NDCG@5", "recall@10": "Recall@10", "ndcg@10": "NDCG@10"}
RANKED_BY = "ndcg@10"
# A standard deviation over fewer seeds says nothing.
STD_FROM_SEEDS = 3

CEILING, RANKED, APART = "ceiling", "ranked", "not comparable"

# Columns that a terminal has no room for.
BOARD_ONLY = ("Interval", "Expansions", "Beam 20", "Vectors")
RIGHT = (*SHOWN.values(), "Interval", "Seeds", "Seconds", "Certified", "Expansions", "Beam 20")

HEADER = "<!-- Rendered from the records by `python -m leaderboards`. Do not edit: the next rendering replaces it. -->"
LEGEND = (
    f"Means over seeds, ± the standard deviation from {STD_FROM_SEEDS} seeds on, sorted by NDCG@10. Interval: 95%, of "
    "NDCG@10, two-level bootstrap over users and seeds. Seconds: training and ranking of the test users, mean per "
    "seed. Certified: share of users whose list provably equals the full ranking. Expansions: prefixes "
    "that the exact search expanded per user. Beam 20: NDCG@10 of the same weights by a beam of 20 with the trie, less "
    "the exact one."
)


def table(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per experiment and config key, unformatted.

    Rows that share protocol and corpus fingerprint with the latest run are ranked by NDCG@10, beneath the corpus's
    ceiling where it has one; the others follow, marked as not comparable.

    Args:
        runs: of one corpus, at least one, as from `record.read_board`.

    Returns:
        Columns `standing` (ceiling, ranked, not comparable), `experiment`, `model`, `key`, `protocol`, `fingerprint`;
        `recall@5`, `ndcg@5`,
        `recall@10`, `ndcg@10`, each followed by `<name>_std` (NaN below 3 seeds); `ndcg@10_low`, `ndcg@10_high` (95%);
        `seeds`; `seconds` (training and test, mean per seed); `certified_share` (0..1); `expansions` and
        `beam20_gap` (NaN without codes); `vectors`; `notes` (a list).

    Raises:
        ValueError: there is no run.
    """
    if not runs:
        raise ValueError("there are no runs to make a table of; expected at least one")
    latest = _latest(runs)
    cells: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in runs:
        cells[*_ground(run.record), run.record.experiment, run.record.model, run.record.key].append(run)
    rows = [_row(cell, comparable=_ground(cell[0].record) == _ground(latest)) for cell in cells.values()]
    rows.sort(key=lambda row: (row["standing"] == APART, -row[RANKED_BY], row["experiment"], row["key"]))
    first = [_ceiling_row(latest.corpus.ceiling)] if latest.corpus.ceiling else []
    return pd.DataFrame(first + rows, columns=list(rows[0])).astype({"seeds": "Int64"})


def console(frame: pd.DataFrame) -> str:
    """The `table` for a terminal: what was measured, without interval, vectors and notes."""
    rows = [_texts(row) for row in frame.to_dict("records") if row["standing"] != APART]
    return _grid([{title: text for title, text in row.items() if title not in BOARD_ONLY} for row in rows], "simple")


def markdown(frame: pd.DataFrame, corpus: CorpusInfo) -> str:
    """The `table` for the repository: what was ranked, the rows, their footnotes.

    Args:
        frame: as from `table`.
        corpus: of the latest run.
    """
    notes = list(dict.fromkeys(note for row_notes in frame["notes"] for note in row_notes))
    ranked, apart = (
        [row for row in frame.to_dict("records") if (row["standing"] == APART) is far] for far in (False, True)
    )
    parts = [
        HEADER,
        f"# {corpus.name}",
        f"{corpus.users:,} users, {corpus.items:,} items, {corpus.interactions:,} interactions, from {corpus.source}; "
        f"fingerprint `{corpus.fingerprint[:12]}`.",
        _grid([_linked(row, corpus.name, notes) for row in ranked], "github"),
    ]
    if apart:
        title = "Not comparable with the rows above: another content of the corpus, or another protocol."
        rows = [_linked(row, corpus.name, notes) | {"Graded on": _graded_on(row)} for row in apart]
        parts += [title, _grid(rows, "github")]
    parts += ["\n".join(f"{number}. {note}" for number, note in enumerate(notes, 1))] if notes else []
    return "\n\n".join([*parts, LEGEND]) + "\n"


def render(board: Path, corpus: str) -> list[Path]:
    """Write `<board>/<corpus>.md` and `.csv` from the records; the same records give the same bytes.

    Returns:
        The files written.

    Raises:
        FileNotFoundError: there is no record on that corpus.
        ValueError: a record or its ranks are damaged.
    """
    runs = read_board(board, corpus)
    frame = table(runs)
    flat = frame.assign(notes=frame["notes"].map("; ".join))
    contents = {
        board / f"{corpus}.md": markdown(frame, _latest(runs).corpus),
        board / f"{corpus}.csv": flat.to_csv(index=False, float_format="%.6f", lineterminator="\n"),
    }
    for target, content in contents.items():
        write_text(target, content)
    return list(contents)


def corpora(board: Path) -> list[str]:
    """Names of the corpora that the board has records of."""
    return sorted({target.relative_to(board).parts[0] for target in board.glob("*/*/*/seed-*.json")})


def _latest(runs: Sequence[Run]) -> Record:
    return max((run.record for run in runs), key=lambda record: record.provenance.started_at)


def _ground(record: Record) -> tuple[str, str]:
    """What two rows must share to be compared."""
    return record.protocol, record.corpus.fingerprint


def _ceiling_row(ceiling: dict[str, float]) -> dict[str, Any]:
    texts = dict.fromkeys(("model", "key", "protocol", "fingerprint", "vectors"), "")
    return {"standing": CEILING, "experiment": CEILING, **texts, "notes": []} | ceiling


def _row(runs: list[Run], comparable: bool) -> dict[str, Any]:
    """One row from runs that differ in their seed alone."""
    records = [run.record for run in runs]
    values = {name: np.array([record.test[name] for record in records]) for name in SHOWN}
    bounds = interval(np.stack([ndcg(run.ranks["rank"].to_numpy(), 10) for run in runs]))
    row: dict[str, Any] = {"standing": RANKED if comparable else APART}
    row |= {name: getattr(records[0], name) for name in ("experiment", "model", "key", "protocol")}
    row["fingerprint"] = records[0].corpus.fingerprint
    for name, v in values.items():
        row |= {name: float(v.mean()), f"{name}_std": v.std(ddof=1) if len(v) >= STD_FROM_SEEDS else np.nan}
    return row | {
        "ndcg@10_low": bounds.low,
        "ndcg@10_high": bounds.high,
        "seeds": len(runs),
        "seconds": float(np.mean([_seconds(record) for record in records])),
        "certified_share": float(np.mean([record.search.certified_share for record in records])),
        "expansions": float(np.mean([_number(record.search.mean_expansions) for record in records])),
        "beam20_gap": float(np.mean([_beam_gap(record) for record in records])),
        "vectors": ", ".join(str(info) for info in (records[0].vectors, records[0].collaborative) if info),
        "notes": list(dict.fromkeys(note for record in records for note in _notes(record))),
    }


def _seconds(record: Record) -> float:
    return record.cost.train_seconds + record.corpus.users / record.cost.evaluate_users_per_second


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _beam_gap(record: Record) -> float:
    beam = record.diagnostics.get("beam20/trie")
    return beam["ndcg@10"] - record.test["ndcg@10"] if beam else np.nan


def _notes(record: Record) -> list[str]:
    """What a reader of the row must know: the run's own notes, and what else its record tells."""
    notes = list(record.notes)
    # A row on unseen users says itself who validated: none of those it is graded on.
    if "seen_users" not in record.diagnostics and record.valid_users < record.corpus.users:
        notes.append(f"validation during training on {record.valid_users:,} of {record.corpus.users:,} users")
    if record.provenance.git_dirty_sha256:
        notes.append("run from a checkout with uncommitted changes")
    return notes


def _texts(row: dict[Hashable, Any]) -> dict[str, str]:
    """A row as it is printed: title -> text."""
    measured = row["standing"] != CEILING
    return {
        "Experiment": row["experiment"],
        "Key": row["key"],
        **{title: _mean(row[name], row[f"{name}_std"]) for name, title in SHOWN.items()},
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
    return _texts(row) | {"Key": key, "Notes": numbers}


def _graded_on(row: dict[Hashable, Any]) -> str:
    return f"{row['protocol']}, {row['fingerprint'][:12]}"


def _grid(rows: list[dict[str, str]], style: str) -> str:
    align = ["right" if title in RIGHT else "left" for title in rows[0]]
    return tabulate(rows, headers="keys", tablefmt=style, disable_numparse=True, colalign=align)
