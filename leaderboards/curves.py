"""Learning curves: loss and validation of every stage of a run, epoch by epoch, as a CSV file beside its record."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from leaderboards.record import Record, Stage

COLUMNS = ("stage", "epoch", "loss", "quality")


def path(record: Path) -> Path:
    """Where the curves of a record lie."""
    return record.with_suffix(".curves.csv")


def table(record: Record) -> str | None:
    """The curves as CSV, a line per stage and epoch; None where the record is from before losses were kept.

    The columns: name of the stage; epoch, from 1; mean training loss of its batches; what the stage selects by after
    that epoch, empty where nobody looked: NDCG@10 on validation for a recommender, most often the negative loss for a
    tokenizer.
    """
    if not any(stage.losses for stage in record.cost.stages):
        return None
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for stage in record.cost.stages:
        lines.writerows([stage.name, *line] for line in _lines(stage))
    return text.getvalue()


def _lines(stage: Stage) -> list[tuple[int, float, float | str]]:
    """Epoch, loss and quality of one stage."""
    quality = dict(zip(stage.checked, stage.quality, strict=True))
    return [(epoch, loss, quality.get(epoch, "")) for epoch, loss in enumerate(stage.losses, 1)]
