"""Dashboards as code: the W&B project's workspace and report, made of what runs log.

The workspace has a section per theme, over all runs, a line per row (the mean of its seeds). The report has the same
curves for each model and each corpus apart, and of every model's sweep what it varied and what came of it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import models
from benchmarks.sweeps.search_space import tuned_fields
from benchmarks.tracking.metric_names import METRICS, NUMBERED, STEP
from benchmarks.tracking.wandb_run import OBJECTIVE, TRIAL

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2.interface import Report
    from wandb_workspaces.workspaces import Workspace

NAME = "grbench"
# Bars of a section, by the names that a record's summary has.
RESULTS = {
    "Test": ("test/recall@5", "test/ndcg@5", "test/recall@10", "test/ndcg@10"),
    "Validation": (OBJECTIVE, "valid/recall@10"),
    "Diagnostics": ("diagnostics/beam20/trie/ndcg@10", "diagnostics/beam50/trie/ndcg@10", "search/certified_share"),
    "Cost": ("cost/train_seconds", "cost/peak_memory_bytes", "cost/evaluate_users_per_second", "cost/parameters"),
}
# Section -> metrics of `METRICS` that begin so.
CURVES = {
    "Training": ("loss", "quality"),
    "Codes": ("codes/",),
    "Optimizer": ("lr", "gradient_norm"),
    "Speed and memory": ("samples_per_second", "peak_memory_bytes"),
}


def workspace(entity: str, project: str) -> Workspace:
    """The project's workspace: all runs, grouped by row."""
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    sections = [ws.Section(name=name, panels=bars(names), is_open=name == "Test") for name, names in RESULTS.items()]
    sections += [ws.Section(name=name, panels=curves(*starts), is_open=True) for name, starts in CURVES.items()]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=sections,
        auto_generate_panels=False,
        settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=50),
        runset_settings=ws.RunsetSettings(
            groupby=[expr.Metric("Group")],
            order=[expr.Ordering(expr.Summary("test/ndcg@10"), ascending=False)],
            pinned_columns=["run:displayName", "summary:test/ndcg@10", f"summary:{OBJECTIVE}", "run:tags"],
        ),
    )


def report(entity: str, project: str, corpora: Sequence[str]) -> Report:
    """Curves and results of each model and each corpus, and the sweeps of each model."""
    from wandb_workspaces.reports.v2 import interface as wr

    blocks: list[Any] = [wr.TableOfContents(), wr.H1("Models")]
    every = [*bars(RESULTS["Test"]), *curves(*(start for starts in CURVES.values() for start in starts))]
    for model in models.names():
        blocks += [wr.H2(model), wr.PanelGrid(runsets=[_runs(model)], panels=every)]
    blocks.append(wr.H1("Corpora"))
    found = [*bars(name for names in RESULTS.values() for name in names), *curves("quality")]
    for corpus in corpora:
        blocks += [wr.H2(corpus), wr.PanelGrid(runsets=[_runs(corpus)], panels=found)]
    blocks.append(wr.H1("Sweeps"))
    for model in models.names():
        options = [field.name for field in tuned_fields(models.load(model).Config())]
        if options:
            trials = _runs(model, job_type=TRIAL)
            blocks += [wr.H2(f"Sweep of {model}"), wr.PanelGrid(runsets=[trials], panels=sweep(options))]
    return wr.Report(
        entity=entity,
        project=project,
        title=NAME,
        description="Made by `python -m benchmarks dashboards`.",
        blocks=blocks,
    )


def curves(*starts: str) -> list[Any]:
    """A panel for each metric of `METRICS` whose name begins so, with a line per stage that logs it, over steps."""
    from wandb_workspaces.reports.v2 import interface as wr

    chosen = {name: says for name, says in METRICS.items() if name.startswith(starts)}
    return [wr.LinePlot(title=says, x=STEP, metric_regex=pattern(name)) for name, says in chosen.items()]


def pattern(name: str) -> str:
    """Expression that the full names of a metric of `METRICS` match: of all stages, and of all groups or levels."""
    return rf"^[^/]+/{name}{'/[0-9]+' if name in NUMBERED else ''}$"


def bars(names: Iterable[str]) -> list[Any]:
    """A panel for each value of a summary, with a bar per row."""
    from wandb_workspaces.reports.v2 import interface as wr

    return [wr.BarPlot(title=name, metrics=[name], groupby=wr.Metric("Group")) for name in names]


def sweep(options: Sequence[str]) -> list[Any]:
    """What trials varied beside their objective, what mattered, and how the search went."""
    from wandb_workspaces.reports.v2 import interface as wr

    metrics: list[Any] = [*(wr.Config(option) for option in options), wr.SummaryMetric(OBJECTIVE)]
    columns = [wr.ParallelCoordinatesPlotColumn(metric=metric) for metric in metrics]
    return [
        wr.ParallelCoordinatesPlot(title="Options and objective", columns=columns),
        wr.ParameterImportancePlot(with_respect_to=OBJECTIVE),
        wr.ScatterPlot(title="Trials", x=wr.Config("cell.trial"), y=wr.SummaryMetric(OBJECTIVE)),
        wr.LinePlot(title="Quality of trials", x=STEP, metric_regex=pattern("quality")),
    ]


def _runs(tag: str, job_type: str | None = None) -> Any:
    """The runs with a tag, in the report's own project, a group per row; of trials each by itself."""
    from wandb_workspaces import expr
    from wandb_workspaces.reports.v2 import interface as wr

    chosen = [expr.Tags().isin([tag]), *([expr.Metric("JobType") == job_type] if job_type else [])]
    return wr.Runset(name=tag, filters=expr.And(*chosen), groupby=[] if job_type else ["group"])


def made(entity: str, project: str, corpora: Sequence[str], dry_run: bool) -> str:
    """Saves workspace and report and says where they can be seen; a dry run gives their definition instead: JSON, the
    same at every call, without a server.

    Raises:
        ValueError: no entity, not logged in, or the server refuses.
    """
    if dry_run:
        defined = {"workspace": workspace(entity, project), "report": report(entity, project, corpora)}
        return json.dumps(described(defined), indent=2, ensure_ascii=False)
    if not entity:
        raise ValueError("saving dashboards needs --entity, a user or team of W&B; --dry-run prints them instead")
    dashboards: list[Any] = [workspace(entity, project), report(entity, project, corpora)]
    try:
        for each in dashboards:
            each.save()
        return "\n".join(each.url for each in dashboards)
    except Exception as error:
        raise ValueError(f"the dashboards of {entity}/{project} were not saved: {error}") from error


def described(thing: Any) -> Any:
    """The public fields of the library's objects that say something, and their kind. Layouts are its own throughout."""
    if dataclasses.is_dataclass(thing):
        fields = {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)}
        said = {name: described(value) for name, value in fields.items() if name[0] != "_" and name != "layout"}
        return {"kind": type(thing).__name__} | {
            name: value for name, value in said.items() if value not in (None, "", [], {}, [None, None])
        }
    if isinstance(thing, dict):
        return {key: described(value) for key, value in thing.items()}
    return [described(value) for value in thing] if isinstance(thing, (list, tuple)) else thing
