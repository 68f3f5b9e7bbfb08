"""Pictures as SVG: text stays text, and the same figure gives the same bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import escape
from matplotlib import rc_context

from leaderboards.board import seconds
from leaderboards.metrics import MAX_RANK
from leaderboards.rows import Row, titles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from leaderboards.record import Stage
    from leaderboards.slices import Slice
    from leaderboards.statistics import Interval

# Drawn in this colour, what is ink takes the colour of the text around the picture, light or dark.
INK = "#010203"
BAR = "#3b7dd8"
# Of a learning curve: a page holds many.
POINTS = 50
STYLE: Any = {
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "grbench",
    "svg.fonttype": "none",
    "font.size": 9,
}


def panels(*titles: str, width: float = 4.2, height: float = 3.4) -> tuple[Figure, list[Axes]]:
    """A figure of panels side by side, without a window system behind it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * len(titles), height), layout="constrained")
    axes = list(figure.subplots(1, len(titles), squeeze=False)[0])
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def grouped(axis: Axes, places: Any, series: Mapping[str, Any], spread: Mapping[str, Any] | None = None) -> None:
    """Bars of several series side by side at each place.

    Args:
        places: `[X]` numbers one apart.
        series: label -> `[X]` heights.
        spread: label -> `[2, X]` how far an interval reaches below and above, of those series that have one.
    """
    width = 0.8 / len(series)
    for number, (label, heights) in enumerate(series.items()):
        x = np.asarray(places) + (number - len(series) / 2 + 0.5) * width
        axis.bar(x, heights, width, yerr=(spread or {}).get(label), capsize=3, label=label)


def svg(figure: Figure) -> str:
    """A figure as a file of its own."""
    drawn = io.BytesIO()
    with rc_context({"svg.hashsalt": "grbench", "svg.fonttype": "none"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue().decode()


def inlined(figure: Figure, name: str, says: str) -> str:
    """A figure as an element of a page: transparent, in the page's ink, read out as `says`.

    Args:
        name: starts the ids within it, which must be different in all pictures of a page.
    """
    figure.patch.set_alpha(0)
    for axis in figure.axes:
        axis.patch.set_alpha(0)
    text = svg(figure)
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    size = re.search(r'width="[\d.]+pt" height="[\d.]+pt"', text)
    assert size is not None
    return text.replace(size[0], f'role="img" aria-label="{escape(says)}"', 1)


def cost(rows: Sequence[Row]) -> Figure:
    """NDCG@10 of the ranked rows over the seconds that a seed took."""
    with rc_context(STYLE):
        figure, (axis,) = panels("", width=6.4, height=3.8)
        for title, row in zip(titles(rows), rows, strict=True):
            spent = max(0.1, float(np.mean([seconds(run.record) for run in row.runs])))
            mean, bounds = float(row.gains.mean()), row.bounds
            spread = [[mean - min(mean, bounds.low)], [max(mean, bounds.high) - mean]]
            axis.errorbar([spent], [mean], spread, marker="o", color=BAR, ecolor=BAR, capsize=3, linewidth=1)
            axis.annotate(title, (spent, mean), (5, 4), textcoords="offset points", parse_math=False)
        axis.set_xscale("log")
        axis.margins(x=0.18)
        axis.set_xlabel("seconds of training and ranking, mean per seed")
        axis.set_ylabel("NDCG@10, 95% interval")
    return figure


def ranks(row: Row) -> Figure:
    """Where targets stand in the lists: share of users by rank, mean over seeds."""
    found = np.stack([np.bincount(run.ranks["rank"].to_numpy(), minlength=MAX_RANK + 1) for run in row.runs])
    shares = 100 * found.mean(0) / row.record.corpus.users
    with rc_context(STYLE):
        figure, (axis,) = panels(f"rank of the target; beyond {MAX_RANK}: {shares[0]:.0f}% of users", height=2.6)
        axis.bar(np.arange(1, MAX_RANK + 1), shares[1:], color=BAR, width=0.85)
        axis.set_xlabel("rank")
        axis.set_ylabel("% of users")
    return figure


def curves(stages: Sequence[Stage]) -> Figure:
    """Loss and selection value of stages over their epochs, at most `POINTS` of each; a dotted line: the epoch kept."""
    with rc_context(STYLE):
        figure, axes = panels(*(stage.name for stage in stages), width=3.4, height=2.6)
        for axis, stage in zip(axes, stages, strict=True):
            _thinned(axis, range(1, stage.epochs + 1), stage.losses, color=INK, linewidth=0.8)
            axis.axvline(stage.best_epoch, color=INK, linewidth=0.8, linestyle=":")
            axis.set_xlabel("epoch")
            axis.set_ylabel("training loss")
            quality = axis.twinx()
            _thinned(quality, stage.checked, stage.quality, color=BAR)
            quality.set_ylabel("selected by", color=BAR)
            quality.spines[["top"]].set_visible(False)
    return figure


def _thinned(axis: Axes, x: Sequence[int], y: Sequence[float], **style: Any) -> None:
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), POINTS)).astype(int))
    axis.plot(np.asarray(x)[kept], np.asarray(y)[kept], **style)


def slices(row: Row, parts: Sequence[Slice], intervals: Sequence[Interval]) -> Figure:
    """NDCG@10 of each slice with its interval, the whole row as a line."""
    names = [f"{part.family}: {part.name}" for part in parts]
    with rc_context(STYLE):
        figure, (axis,) = panels("NDCG@10 by slice, 95% interval", width=5.6, height=0.7 + 0.22 * len(parts))
        for place, (part, bounds) in enumerate(zip(parts, intervals, strict=True)):
            mean = float(row.gains[:, part.users].mean())
            axis.plot([bounds.low, bounds.high], [place, place], color=BAR, linewidth=1.5)
            axis.plot([mean], [place], marker="o", markersize=4, color=BAR)
        axis.axvline(float(row.gains.mean()), color=INK, linewidth=0.8, linestyle=":")
        axis.set_yticks(range(len(parts)), names)
        axis.invert_yaxis()
    return figure
