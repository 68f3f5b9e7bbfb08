"""Pictures as SVG: text stays text, and the same figure gives the same bytes."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import escape
from matplotlib import rc_context

from leaderboards.board_table import seconds
from leaderboards.rows import Row, titles
from leaderboards.statistics import Values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Drawn in this colour, what is ink takes the colour of the text around the picture, light or dark.
INK = "#010203"
BAR = "#3b7dd8"
# Of a name in a picture; settings that are overridden can be many.
MOST_LETTERS = 40
STYLE: Any = {
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
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
    """NDCG@10 of the ranked rows over the seconds that a seed took; the more rows, the higher."""
    with rc_context(STYLE):
        figure, (axis,) = panels("", width=6.4, height=max(3.8, 0.2 * len(rows)))
        spent, means, bounds = [], [], [row.bounds for row in rows]
        for row, (low, high) in zip(rows, bounds, strict=True):
            x, mean = max(0.1, seconds(row)), float(row.gains.mean())
            spread = [[max(0, mean - low)], [max(0, high - mean)]]
            axis.errorbar([x], [mean], spread, marker="o", color=BAR, ecolor=BAR, capsize=3, linewidth=1)
            spent.append(x)
            means.append(mean)
        axis.set_xscale("log")
        axis.margins(x=0.18)
        axis.set_xlabel("seconds of training and ranking, mean per seed")
        axis.set_ylabel("NDCG@10, 95% interval")
        names = [name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}…" for name in titles(rows)]
        _name(figure, axis, names, np.column_stack([spent, means]), np.array(bounds))
    return figure


def _name(figure: Figure, axis: Axes, names: Sequence[str], points: Values, bounds: Values) -> None:
    """Writes the name of each point near it, where it covers no name, point or interval; a line leads from far ones.

    The first names choose first. What has no place at all is left out: no name is better than one that hides another.

    Args:
        points: `[N, 2]` in units of the data.
        bounds: `[N, 2]` ends of their vertical intervals.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    # The layout is found by drawing; from then on it stays.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    homes, feet, tops = (
        axis.transData.transform(np.column_stack([points[:, 0], y])) for y in (points[:, 1], *bounds.T)
    )
    taken = [*np.hstack([homes - 5, homes + 5]), *np.hstack([feet - 3, tops + 3])]
    for name, point, home in zip(names, points, homes, strict=True):
        label = axis.annotate(name, point, (0, 0), textcoords="offset points", va="bottom", parse_math=False)
        size = np.array(label.get_window_extent(renderer).size) + 2
        label.remove()
        place = _free(home, size, np.array(taken), np.array(axis.get_window_extent(renderer).extents))
        if place is None:
            continue
        taken.append(np.hstack([place, place + size]))
        offset = (place + 1 - home) * 72 / figure.dpi
        axis.annotate(name, point, offset, textcoords="offset points", va="bottom", parse_math=False)
        if _gap(home, place, size) > size[1]:
            lead = {"arrowstyle": "-", "linewidth": 0.4, "shrinkA": 0}
            axis.annotate("", point, offset, textcoords="offset points", arrowprops=lead)


def _free(home: Values, size: Values, taken: Values, frame: Values) -> Values | None:
    """Lower left corner of the box nearest to `home` that lies in `frame` and on nothing; None where there is none.

    Args:
        home: `[2]` a point, in pixels as all else.
        size: `[2]` of the box.
        taken: `[N, 4]` boxes: left, lower, right and upper end.
        frame: `[4]` such a box.
    """
    # On the right of its point, at its height.
    start = home + np.array([6, -size[1] / 2])
    x, y = (_steps(start[side], step, frame[side], frame[2 + side]) for side, step in ((0, 6.0), (1, size[1] / 2)))
    corners = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    inside = np.all((corners >= frame[:2]) & (corners + size <= frame[2:]), axis=1)
    corners = corners[inside]
    apart = (corners[:, None] >= taken[:, 2:]) | (corners[:, None] + size <= taken[:, :2])
    corners = corners[np.all(np.any(apart, axis=2), axis=1)]
    if not len(corners):
        return None
    return corners[np.argmin(_gap(home, corners, size))]


def _steps(start: float, step: float, low: float, high: float) -> Values:
    """Places a step apart, `start` among them, from `low` to `high`."""
    return start + step * np.arange(math.ceil((low - start) / step), (high - start) / step)


def _gap(home: Values, corner: Values, size: Values) -> Any:
    """Distance of a point from boxes, `[N, 2]` or one."""
    return np.linalg.norm(np.maximum(0, np.maximum(corner - home, home - corner - size)), axis=-1)
