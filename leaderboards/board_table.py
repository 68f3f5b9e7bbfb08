"""Tables from records: one row per experiment and config, its seeds averaged; rendered, never edited by hand."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from leaderboards import cards, cold_items, escape, formats, ledger, verdicts
from leaderboards.notes import BEATS_NO_FLOOR, BEST_FLOOR, row_notes
from leaderboards.record import PROTOCOL, CorpusInfo, Record
from leaderboards.rows import Apart, Board, Pair, Row, titled
from leaderboards.statistics import SEEDS_FOR_VARIANCE, Interval

SHOWN = {"recall@5": "Recall@5", "ndcg@5": "NDCG@5", "recall@10": "Recall@10", "ndcg@10": "NDCG@10"}
SHOWN_UNSEEN = {"recall@10_unseen": "Recall@10 unseen", "ndcg@10_unseen": "NDCG@10 unseen"}
EVERY_SHOWN = SHOWN | SHOWN_UNSEEN

CEILING, RANKED, APART = "ceiling", "ranked", "not comparable"

OVER_FLOOR = "Over best floor"
# Columns of what not every board has: ranks among unseen items, rows that train nothing, and a second row.
IF_KNOWN = {name: (name, f"{name}_std") for name in SHOWN_UNSEEN} | {
    name: (name, f"{name}_low", f"{name}_high", f"{name}_p") for name in ("over_floor", "to_best")
}
# Columns that a terminal has no room for.
BOARD_ONLY = (*SHOWN_UNSEEN.values(), "Interval", OVER_FLOOR, "Expansions", "Beam 20", "Vectors")
RIGHT = (*EVERY_SHOWN.values(), "Interval", OVER_FLOOR, "Seeds", "Seconds", "Certified", "Expansions", "Beam 20")
RIGHT += (*cold_items.NUMBERS, cold_items.OTHERS)

HEADER = "<!-- Rendered from the records by `make board`. Do not edit: the next rendering replaces it. -->"
LEGEND = (
    f"Means over seeds, ± the standard deviation from {SEEDS_FOR_VARIANCE} seeds on, sorted by NDCG@10. Unseen: by the "
    "rank among the items that are not in the user's history; papers differ in which rank they take. Interval: 95%, of "
    f"NDCG@10, two-level bootstrap over users and seeds; below {SEEDS_FOR_VARIANCE} seeds over users alone. Seconds: "
    "training and ranking of the test users, mean per seed. Certified: share of users whose rank is proven to be that "
    "in the full ranking. Expansions: prefixes that the exact search expanded per user. Beam 20: NDCG@10 of the same "
    "weights by a beam of 20 with the trie, less the exact one."
)
LEGEND_OF_FLOORS = (
    f" {OVER_FLOOR}: NDCG@10 less that of the best row that trains nothing, on the same users, its interval and p. "
    "Beats none: no row that trains nothing is shown to be worse."
)
COMPARED = (
    "Differences of NDCG@10 on the same users. p: signs of the users' differences flipped, the noise of seeds added. "
    "p and the 95% interval are adjusted for all pairs of this board at once (single-step, by the largest of all), so "
    "an interval leaves out 0 just where p is below .05. Effect: Cohen's d over users. Detectable: the smallest true "
    f"difference that is so found with a chance of 80%. Where a row has fewer than {SEEDS_FOR_VARIANCE} seeds, this is "
    "about the trained weights, not about the method."
)
PUBLISHED = (
    "z: ours less the published number over our standard error, of users and, from "
    f"{SEEDS_FOR_VARIANCE} seeds on, of seeds. Reproduced: our 90% interval lies within "
    f"{verdicts.REPRODUCED_WITHIN:.0%} of the number; within noise: it lies in our 95% interval (Student's t). "
    "Seen items: whether the paper ranks those of the history (kept) or skips them (masked); ours is then ranked among "
    f"the others. {verdicts.TRANSCRIBED}: not read in the paper itself, but transcribed by others."
)


# Of rows that are on a board and not ranked.
SET_APART = "Set apart, for the board is about another content of the corpus, or of another protocol"
NOT_COMPARABLE = "Not comparable with the rows above: another content of the corpus, or another protocol."

Line = dict[Hashable, Any]


def table(board: Board) -> pd.DataFrame:
    """One line per row in the order of `Board.rows`, unformatted; above them the corpus's ceiling, if it has one.

    Returns:
        Columns `standing` (ceiling, ranked, not comparable), `experiment`, `model`, `key`, `protocol`, `fingerprint`;
        `recall@5`, `ndcg@5`,
        `recall@10`, `ndcg@10`, `recall@10_unseen`, `ndcg@10_unseen` (not under protocol v1), each followed by
        `<name>_std` (NaN below 3 seeds); `ndcg@10_low`, `ndcg@10_high` (95%);
        `over_floor`, `over_floor_low`, `over_floor_high`, `over_floor_p`: NDCG@10 less that of the best floor, its
        interval and p, both adjusted for all pairs of the board (NaN for that floor and for rows that are not
        comparable; no such columns without floors); `to_best`, ...: the same of the difference to the first row;
        `seeds`; `seconds` (training and test, mean per seed); `certified_share` (0..1); `expansions` and
        `beam20_gap` (NaN without codes); `vectors`; `notes` (a list).

    Raises:
        ValueError: there is no run.
    """
    lines = [_line(board, row) for row in board.rows]
    ceiling = board.subject.corpus.ceiling
    first = [_ceiling_line(ceiling)] if ceiling else []
    frame = pd.DataFrame(first + lines, columns=list(lines[0])).astype({"seeds": "Int64"})
    unknown = [column for name, columns in IF_KNOWN.items() if frame[name].isna().all() for column in columns]
    return frame.drop(columns=unknown)


def console(frame: pd.DataFrame) -> str:
    """The `table` for a terminal: what was measured, without intervals, vectors and notes; which rows are set apart."""
    ranked, apart = _by_standing(frame)
    shown = []
    for line in ranked:
        shown.append({title: text for title, text in _texts(line).items() if title not in BOARD_ONLY})
    grid = _grid(shown, "simple")
    if not apart:
        return grid
    names = [f"{line['experiment']} {line['key']} ({graded_on(line)})" for line in apart]
    return f"{grid}\n\n{SET_APART}: {', '.join(names)}"


def legend(frame: pd.DataFrame) -> str:
    """What the columns of a `table` say."""
    return LEGEND + LEGEND_OF_FLOORS if "over_floor" in frame else LEGEND


def markdown(board: Board) -> str:
    """The `table` for the repository: what was ranked, the rows and their footnotes, differences, published numbers."""
    frame, corpus = table(board), board.subject.corpus
    parts = [HEADER, f"# {corpus.name}", _described(corpus), *_rows_in_markdown(frame, corpus.name), legend(frame)]
    best = [pair for pair in board.pairs if pair.better is board.rows[0]]
    if best:
        differences = _grid([_difference(pair) for pair in best], "github")
        parts += ["## Differences to the best row", differences, COMPARED]
    said = verdicts.verdicts(board.rows)
    if said:
        parts += ["## Published and ours", verdicts.table(said, "github"), PUBLISHED]
    parts += _cold_in_markdown(board)
    facts = diagnostics(board)
    if facts:
        parts += ["## The corpus", "\n".join(f"- {label}: {text}" for label, text in facts.items())]
    return "\n\n".join(parts) + "\n"


def _cold_in_markdown(board: Board) -> list[str]:
    found = cold_items.cold_items(board)
    if found is None:
        return []
    lines = [{**line, "Experiment": escape.markdown(line["Experiment"])} for line in found.lines]
    return [f"## {found.title}", _grid(lines, "github"), cold_items.SAYS]


def diagnostics(board: Board) -> dict[str, str]:
    """What the committed card says of the corpus's order, ties and transitions; nothing under an earlier protocol."""
    subject = board.subject
    return cards.diagnostics(subject.corpus.name) if subject.protocol == PROTOCOL else {}


def csv(board: Board) -> str:
    """The `table` for machines."""
    frame = table(board)
    flat = frame.assign(experiment=frame["experiment"].map(escape.line), notes=frame["notes"].map("; ".join))
    return flat.to_csv(index=False, float_format="%.6f", lineterminator="\n")


def corpora(folder: Path) -> list[str]:
    """Names of the corpora that the board in a folder has records of."""
    return sorted({target.relative_to(folder).parts[0] for target in ledger.records(folder)})


def _described(corpus: CorpusInfo) -> str:
    return (
        f"{corpus.users:,} users, {corpus.items:,} items, {corpus.interactions:,} interactions, "
        f"from {escape.markdown(corpus.source)}; fingerprint `{corpus.fingerprint[:12]}`."
    )


def _rows_in_markdown(frame: pd.DataFrame, corpus: str) -> list[str]:
    """The ranked rows, those apart where there are any, and the footnotes of both."""
    footnotes = list(dict.fromkeys(note for notes in frame["notes"] for note in notes))
    ranked, apart = _by_standing(frame)
    parts = [_grid([_linked(line, corpus, footnotes) for line in ranked], "github")]
    if apart:
        linked = [_linked(line, corpus, footnotes) | {"Graded on": graded_on(line)} for line in apart]
        parts += [NOT_COMPARABLE, _grid(linked, "github")]
    if footnotes:
        parts.append("\n".join(f"{number}. {escape.markdown(note)}" for number, note in enumerate(footnotes, 1)))
    return parts


def _by_standing(frame: pd.DataFrame) -> tuple[list[Line], list[Line]]:
    """Lines of the rows that are ranked, the ceiling among them, and of those that are not."""
    apart = frame["standing"] == APART
    return frame[~apart].to_dict("records"), frame[apart].to_dict("records")


def _ceiling_line(ceiling: dict[str, float]) -> dict[str, Any]:
    texts = dict.fromkeys(("model", "key", "protocol", "fingerprint", "vectors"), "")
    return {"standing": CEILING, "experiment": CEILING, **texts, "notes": []} | ceiling


def _line(board: Board, row: Row) -> dict[str, Any]:
    records = [run.record for run in row.runs]
    line: dict[str, Any] = {"standing": RANKED if row.ranked else APART}
    line |= {name: getattr(row.record, name) for name in ("experiment", "model", "key", "protocol")}
    line["fingerprint"] = row.record.corpus.fingerprint
    for name in EVERY_SHOWN:
        by_seed = np.array([record.test.get(name, np.nan) for record in records])
        line[name] = float(by_seed.mean())
        line[f"{name}_std"] = by_seed.std(ddof=1) if len(by_seed) >= SEEDS_FOR_VARIANCE else np.nan
    return line | {
        "ndcg@10_low": row.bounds.low,
        "ndcg@10_high": row.bounds.high,
        **_apart("over_floor", board.over_best_floor(row)),
        **_apart("to_best", board.to_best(row)),
        "seeds": len(records),
        "seconds": seconds(row),
        "certified_share": float(np.mean([record.search.certified_share for record in records])),
        "expansions": float(np.mean([_number(record.search.mean_expansions) for record in records])),
        "beam20_gap": float(np.mean([_beam_gap(record) for record in records])),
        "vectors": ", ".join(str(info) for info in (row.record.vectors, row.record.collaborative) if info),
        "notes": row_notes(board, row),
    }


def _apart(name: str, found: Apart | None) -> dict[str, float]:
    values = (found.difference, *found.interval, found.p) if found else (np.nan,) * 4
    return dict(zip(IF_KNOWN[name], values, strict=True))


def _difference(pair: Pair) -> dict[str, str]:
    found = pair.found
    return {
        "Experiment": escape.markdown(pair.worse.title),
        "Key": pair.worse.record.key,
        "Difference": formats.signed(-found.difference),
        "Interval": formats.signed_interval(-pair.interval),
        "p": formats.p_value(pair.p),
        "Effect": formats.signed(-found.effect, 2),
        "Detectable": formats.plain(pair.detectable),
        "Says": "differs" if pair.differs else "not shown to differ",
    }


def seconds(row: Row) -> float:
    """What a run took, mean per seed: training, and one pass over the test users."""
    users, costs = row.record.corpus.users, [run.record.cost for run in row.runs]
    return float(np.mean([cost.train_seconds + users / cost.evaluate_users_per_second for cost in costs]))


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _beam_gap(record: Record) -> float:
    beam = record.diagnostics.get("beam20/trie", {})
    return _number(beam.get("ndcg@10")) - record.test["ndcg@10"]


def _texts(line: Line) -> dict[str, str]:
    """A line of the `table` as it is printed: title -> text."""
    measured = line["standing"] != CEILING
    texts = {"Experiment": titled(line["experiment"], line["notes"]), "Key": line["key"]}
    for name, title in EVERY_SHOWN.items():
        if name in line:
            texts[title] = _mean(line[name], line[f"{name}_std"])
        if name == "ndcg@10" and "over_floor" in line:
            texts[OVER_FLOOR] = _over_floor(line)
    return texts | {
        "Interval": formats.interval(Interval(line["ndcg@10_low"], line["ndcg@10_high"])) if measured else "",
        "Seeds": str(line["seeds"]) if measured else "",
        "Seconds": _amount(line["seconds"]),
        "Certified": percent(line["certified_share"]) if measured else "",
        "Expansions": _amount(line["expansions"]),
        "Beam 20": "" if np.isnan(line["beam20_gap"]) else formats.signed(line["beam20_gap"]),
        "Vectors": line["vectors"],
    }


def _over_floor(line: Line) -> str:
    if np.isnan(line["over_floor"]):
        return "best floor" if BEST_FLOOR in line["notes"] else ""
    bounds = Interval(line["over_floor_low"], line["over_floor_high"])
    says = f"{formats.signed_interval(bounds)}, {formats.p_is(line['over_floor_p'])}"
    text = f"{formats.signed(line['over_floor'])} ({says})"
    return f"{text}, beats none" if BEATS_NO_FLOOR in line["notes"] else text


def _mean(mean: float, std: float) -> str:
    if np.isnan(mean):
        return ""
    return formats.plain(mean) if np.isnan(std) else f"{formats.plain(mean)} ± {formats.plain(std)}"


def _amount(value: float) -> str:
    return "" if np.isnan(value) else formats.amount(value)


def percent(share: float) -> str:
    """Rounded down: 100% is said of all users only."""
    return "100%" if share == 1 else f"{np.floor(share * 1000) / 10:.1f}%"


def _linked(line: Line, corpus: str, footnotes: Sequence[str]) -> dict[str, str]:
    """A line for Markdown: its key leads to its records, its notes to the footnotes."""
    key = f"[{line['key']}]({corpus}/{line['model']}/{line['key']})" if line["key"] else ""
    numbers = ", ".join(str(footnotes.index(note) + 1) for note in line["notes"])
    texts = {title: escape.markdown(text) for title, text in _texts(line).items()}
    return texts | {"Key": key, "Notes": numbers}


def graded_on(line: Mapping[Any, Any]) -> str:
    """Protocol and content of the corpus of a line of the `table`."""
    return f"{line['protocol']}, {line['fingerprint'][:12]}"


def _grid(lines: list[dict[str, str]], style: str) -> str:
    align = ["right" if title in RIGHT else "left" for title in lines[0]]
    return tabulate(lines, headers="keys", tablefmt=style, disable_numparse=True, colalign=align)
