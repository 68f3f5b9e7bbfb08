"""A study as one HTML file that needs no network, made from its ledger alone."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.colors import LinearSegmentedColormap

from benchmarks.sweeps.study_ledger import Ledger, path
from data_prep.atomic import write_text
from leaderboards import templates
from leaderboards.plots import BAR, INK, STYLE, inlined

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from optuna.study import Study

# Values that differ; fewer show nothing.
FEWEST = 3
METRIC = "validation NDCG@10"
# Importances compare the best share of the complete trials with all of them; fewer than so many say little.
BEST_SHARE, FEW_BEST = 0.1, 10
# From a worse value to a better one, to be told apart on white and on black.
WORSE_TO_BETTER = LinearSegmentedColormap.from_list("worse to better", ["#8d97a5", BAR, "#e8590c"])


def write(board: Path, ledger: Ledger) -> Path:
    """Writes the page beside the ledger."""
    target = path(board, ledger.corpus, ledger.study, "html")
    write_text(target, html(ledger))
    return target


def html(ledger: Ledger) -> str:
    """The page of one study."""
    ranges = [
        {
            "name": name,
            "range": _range(space["attributes"]),
            "default": _of(ledger.default, name),
            "best": _of(ledger.best, name),
        }
        for name, space in ledger.space.items()
    ]
    return templates.render(
        "report.html.j2",
        "benchmarks.sweeps",
        ledger=ledger,
        ranges=ranges,
        metric=METRIC,
        caveat=_caveat(ledger),
        pictures=[(title, Markup(picture)) for title, picture in _pictures(ledger)],
        number=_number,
    )


def study_of(ledger: Ledger) -> Study:
    """The trials as an Optuna study in memory, all but the complete ones as failed."""
    import optuna
    from optuna.distributions import json_to_distribution
    from optuna.trial import TrialState

    space = {name: json_to_distribution(json.dumps(found)) for name, found in ledger.space.items()}
    study = optuna.create_study(storage=optuna.storages.InMemoryStorage(), direction="maximize")
    for line in ledger.trials:
        complete = line.state == "complete" and line.value is not None
        study.add_trial(
            optuna.create_trial(
                state=TrialState.COMPLETE if complete else TrialState.FAIL,
                value=line.value if complete else None,
                params=line.params if complete else None,
                distributions=space if complete else None,
            )
        )
    return study


def _caveat(ledger: Ledger) -> str:
    """What a reader of the importances must know where they rest on few trials; empty of many."""
    complete = sum(line.state == "complete" for line in ledger.trials)
    best = max(1, math.ceil(BEST_SHARE * complete))
    if best >= FEW_BEST:
        return ""
    return (
        f"Importances of few trials are a hint, no finding: PED-ANOVA sets the best tenth, here {best} of {complete} "
        "complete trials, beside all of them."
    )


def _pictures(ledger: Ledger) -> list[tuple[str, str]]:
    """Title and SVG of what can be drawn."""
    from optuna.visualization import matplotlib as draw

    if len({line.value for line in ledger.trials if line.state == "complete"}) < FEWEST:
        return []
    study = study_of(ledger)
    drawn: list[tuple[str, str, Callable[[], Axes]]] = [
        (
            "history",
            "History: complete trials, and the best so far",
            lambda: draw.plot_optimization_history(study, target_name=METRIC),
        ),
        (
            "importance",
            "Importance of each option for the value (PED-ANOVA)",
            lambda: draw.plot_param_importances(study),
        ),
        (
            "parallel",
            "Parallel coordinates: a line per complete trial",
            lambda: draw.plot_parallel_coordinate(study, target_name=METRIC),
        ),
    ]
    return [(title, _inlined(name, title, plot)) for name, title, plot in drawn]


def _inlined(name: str, title: str, plot: Callable[[], Axes]) -> str:
    """An Optuna plot in the page's colours, without a window system behind it."""
    import matplotlib.pyplot as plt

    # Optuna's plots are experimental, and take a style for the whole process.
    with rc_context(STYLE), plt.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure: Any = plot().figure
        _recolour(figure)
        plt.close(figure)
        return inlined(figure, name, title)


def _recolour(figure: Figure) -> None:
    # Where there are several axes, they are those of a plot of parallel coordinates.
    figure.set_size_inches(5.6 if len(figure.axes) == 1 else 8.4, 3.6)
    for axis in figure.axes:
        axis.set_title("")
        axis.set_title("", loc="left")
        axis.grid(visible=False)
        axis.tick_params(colors=INK, which="both", labelsize=8)
        axis.xaxis.label.set(color=INK, fontsize=9)
        axis.yaxis.label.set(color=INK, fontsize=9)
        for spine in axis.spines.values():
            spine.set_color(INK)
        for text in axis.texts:
            text.set(color=INK, fontsize=8)
        for lines in axis.collections:
            if lines.get_array() is not None:
                lines.set_cmap(WORSE_TO_BETTER)
        legend = axis.get_legend()
        if legend:
            legend.remove()
    figure.set_layout_engine("tight")


def _range(attributes: Any) -> str:
    """A distribution's attributes for a reader."""
    if "choices" in attributes:
        return ", ".join(_number(value) for value in attributes["choices"])
    return f"{_number(attributes['low'])} to {_number(attributes['high'])}" + (", log" if attributes["log"] else "")


def _of(line: Any, name: str) -> str:
    return _number(line.params.get(name)) if line else ""


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
