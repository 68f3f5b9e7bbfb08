"""Small pictures as SVG of a few hundred bytes, so that a page can hold some for each of many rows.

Their colours and letters are the page's: the classes `ink`, `bar`, `curve`, `dotted` are in its style sheet.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup, escape

from leaderboards import formats
from leaderboards.metrics import MAX_RANK
from leaderboards.record import Stage
from leaderboards.rows import Row
from leaderboards.statistics import Interval, Values

WIDTH, HEIGHT = 300, 180
# Left of the drawn area, right of it, above and beneath: room for the axes' numbers.
LEFT, RIGHT, TOP, BENEATH = 44, 44, 30, 34
# Of a learning curve.
POINTS = 50


class Scale(NamedTuple):
    """Values `low` to `high` as places `start` to `end` of a picture."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> str:
        whole = self.high / 2 - self.low / 2
        share = (value / 2 - self.low / 2) / whole if whole > 0 else 0.5
        return f"{self.start + share * (self.end - self.start):.1f}".removesuffix(".0")

    @property
    def ticks(self) -> list[float]:
        """At most five round values within."""
        if self.high <= self.low:
            return [self.low]
        rough = self.high / 4 - self.low / 4
        if rough < sys.float_info.min:
            return [self.low]
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * of for of in (1, 2, 5, 10) if unit * of >= rough * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [place * step for place in range(first, last + 1)]


def ranks(row: Row) -> Markup:
    """Where targets stand in the lists: share of users by rank, mean over seeds."""
    shares, beyond = rank_shares(row)
    x = Scale(0.5, MAX_RANK + 0.5, LEFT, WIDTH - 8)
    y = Scale(0, max(float(shares.max()), 1e-9), HEIGHT - BENEATH, TOP)
    bars = "".join(f"M{x(rank)} {y(0)}V{y(share)}" for rank, share in enumerate(shares, 1) if share)
    title = f"rank of the target; beyond {MAX_RANK}: {beyond:.0f}% of users"
    drawn = [_left(y, "% of users"), _bottom(x, (1, 10, 20, 30, 40, MAX_RANK), "rank"), _path("bar", bars)]
    return _picture(f"{row.title}: share of users by rank", title, drawn)


def rank_shares(row: Row) -> tuple[Values, float]:
    """Percent of users by the rank of their target, `[MAX_RANK]`, mean over seeds; and of those beyond."""
    found = np.stack([np.bincount(run.ranks["rank"].to_numpy(), minlength=MAX_RANK + 1) for run in row.runs])
    shares = 100 * found.mean(0) / row.record.corpus.users
    return shares[1:], float(shares[0])


def curve(title: str, stage: Stage) -> Markup:
    """Loss and selection value of a stage over its epochs, at most `POINTS` of each; a dotted line: the epoch kept."""
    x = Scale(1, max(2, stage.epochs), LEFT, WIDTH - RIGHT)
    loss = _scale_of(stage.losses)
    kept = f"M{x(stage.best_epoch)} {TOP}V{HEIGHT - BENEATH}"
    drawn = [
        _left(loss, "loss"),
        _bottom(x, [tick for tick in x.ticks if tick.is_integer()], "epoch"),
        _path("dotted", kept),
    ]
    drawn.append(_path("ink", _line(x, loss, list(range(1, stage.epochs + 1)), stage.losses)))
    if stage.quality:
        quality = _scale_of(stage.quality)
        drawn += [_right(quality, "selected by"), _path("curve", _line(x, quality, stage.checked, stage.quality))]
    return _picture(f"{title}: training loss and validation by epoch, {stage.name}", stage.name, drawn)


def span(mean: float, bounds: Interval, widest: float) -> Markup:
    """An interval with its mean on a line from 0 to `widest`, beside numbers that say the same."""
    x = Scale(0, widest, 3, 117)
    line = _path("curve", f"M{x(bounds.low)} 7H{x(bounds.high)}")
    dot = f'<circle class="dot" cx="{x(mean)}" cy="7" r="3"/>'
    return Markup(f'<svg class="span" viewBox="0 0 120 14" aria-hidden="true">{line}{dot}</svg>')


def _scale_of(values: Sequence[float]) -> Scale:
    return Scale(min(values), max(values), HEIGHT - BENEATH, TOP)


def _line(x: Scale, y: Scale, places: Sequence[int], values: Sequence[float]) -> str:
    chosen = np.unique(np.linspace(0, len(places) - 1, min(len(places), POINTS)).astype(int)).tolist()
    return "M" + "L".join(f"{x(places[place])} {y(values[place])}" for place in chosen)


def _path(kind: str, drawn: str) -> str:
    return f'<path class="{kind}" d="{drawn}"/>'


def _text(x: str, y: str, text: str, anchor: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _number(value: float) -> str:
    return formats.plain(value, 0) if abs(value) >= 1000 else f"{value:.3g}"


def _left(y: Scale, label: str) -> str:
    texts = [_text(str(LEFT - 5), f"{float(y(tick)) + 3:.0f}", _number(tick), "end") for tick in y.ticks]
    return _path("axis", f"M{LEFT} {TOP}V{HEIGHT - BENEATH}") + "".join(texts) + _text("2", "23", label, "start")


def _right(y: Scale, label: str) -> str:
    place = WIDTH - RIGHT + 5
    texts = [_text(str(place), f"{float(y(tick)) + 3:.0f}", _number(tick), "start") for tick in y.ticks]
    return f'<g class="other">{"".join(texts)}{_text(str(WIDTH - 2), "23", label, "end")}</g>'


def _bottom(x: Scale, ticks: Iterable[float], label: str) -> str:
    foot, middle = HEIGHT - BENEATH, f"{(x.start + x.end) / 2:.0f}"
    texts = [_text(x(tick), str(foot + 13), _number(tick), "middle") for tick in ticks]
    return (
        _path("axis", f"M{x.start} {foot}H{x.end}") + "".join(texts) + _text(middle, str(HEIGHT - 6), label, "middle")
    )


def _picture(says: str, title: str, drawn: Sequence[str]) -> Markup:
    """An element of a page, read out as `says`."""
    head = _text(str(WIDTH // 2), "10", title, "middle")
    frame = f'<svg class="chart" role="img" aria-label="{escape(says)}" viewBox="0 0 {WIDTH} {HEIGHT}">'
    return Markup(f"{frame}{head}{''.join(drawn)}</svg>")
