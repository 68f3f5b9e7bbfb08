"""Dashboards show every metric that a run logs, are the same at every call, and need no server to be looked at."""

from __future__ import annotations

import json
import re
import socket
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import models
from benchmarks.__main__ import main
from benchmarks.sweeps.search_space import tuned_fields
from benchmarks.tracking import wandb_dashboards, wandb_run
from benchmarks.tracking.metric_names import METRICS, NUMBERED
from benchmarks.tracking.wandb_run import summary
from leaderboards import store

# A generative model's record, as it was committed.
RECORDS = sorted(Path("leaderboards/v1/all_beauty/tiger").glob("*/seed-0.json"))


@pytest.fixture(scope="module")
def defined(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a dry run prints, without network or login."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", None)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("WANDB_API_KEY", raising=False)
        printed = [wandb_dashboards.made("", "grbench", ["all_beauty", "planted"], dry_run=True) for _ in range(2)]
    assert printed[0] == printed[1]
    return json.loads(printed[0])


def kinds(thing: Any, kind: str) -> list[dict[str, Any]]:
    """All objects of a kind, wherever they lie."""
    if isinstance(thing, list):
        return [found for value in thing for found in kinds(value, kind)]
    if not isinstance(thing, dict):
        return []
    own = [thing] if thing.get("kind") == kind else []
    return own + [found for value in thing.values() for found in kinds(value, kind)]


def grids(defined: Any) -> dict[str, dict[str, Any]]:
    """Panel grids of the report by the heading above them."""
    blocks = defined["report"]["blocks"]
    return {one["text"]: two for one, two in pairwise(blocks) if two["kind"] == "PanelGrid"}


def logged(stage: str) -> list[str]:
    return [f"{stage}/{name}{'/2' if name in NUMBERED else ''}" for name in METRICS]


@pytest.mark.parametrize("stage", ["recommender", "warm-up", "collaborative-recommender"])
def test_the_workspace_has_a_panel_for_every_metric(defined: Any, stage: str) -> None:
    panels = [panel["metric_regex"] for panel in kinds(defined["workspace"], "LinePlot")]
    assert len(panels) == len(METRICS)
    for name in logged(stage):
        assert len([panel for panel in panels if re.search(panel, name)]) == 1, name
    assert {panel["x"] for panel in kinds(defined, "LinePlot")} == {"step"}


def test_every_model_every_corpus_and_every_sweep_has_its_part(defined: Any) -> None:
    parts = grids(defined)
    swept = [name for name in models.names() if any(tuned_fields(models.load(name).Config()))]
    assert list(parts) == [*models.names(), "all_beauty", "planted", *(f"Sweep of {name}" for name in swept)]
    for name in models.names():
        panels = [panel["metric_regex"] for panel in kinds(parts[name], "LinePlot")]
        assert all(any(re.search(panel, metric) for panel in panels) for metric in logged("recommender"))
        assert kinds(parts[name], "Runset")[0]["filters"] == f"Metric(\"Tags\") in ['{name}']"
    sweep = kinds(parts["Sweep of tiger"], "Runset")[0]["filters"]
    assert sweep == "Metric(\"Tags\") in ['tiger'] and Metric(\"JobType\") == 'trial'"


def test_bars_are_of_what_a_summary_holds(defined: Any) -> None:
    assert RECORDS, "tests run in the project's folder"
    found = summary(store.read(RECORDS[0]))
    shown = {name for panel in kinds(defined, "BarPlot") for name in panel["metrics"]}
    assert shown == {name for names in wandb_dashboards.RESULTS.values() for name in names}
    assert shown <= set(found)
    assert wandb_run.OBJECTIVE in found


def test_a_sweep_shows_what_is_tuned(defined: Any) -> None:
    (plot,) = kinds(grids(defined)["Sweep of etegrec"], "ParallelCoordinatesPlot")
    shown = [(column["metric"]["kind"], column["metric"]["name"]) for column in plot["columns"]]
    options = ["tokenizer.commitment", "t5.dropout", "cycle", "sia_weight", "psa_weight", "lr", "tokenizer_lr"]
    assert shown == [*(("Config", option) for option in options), ("SummaryMetric", "valid/ndcg@10")]
    (importance,) = kinds(grids(defined)["Sweep of etegrec"], "ParameterImportancePlot")
    assert importance["with_respect_to"] == "valid/ndcg@10"


def test_the_library_takes_them(defined: Any) -> None:
    """What would be sent to the server can be made of them."""
    sent = wandb_dashboards.workspace("me", "grbench")._to_model().model_dump_json(by_alias=True)
    assert all(json.dumps(wandb_dashboards.pattern(name))[1:-1] in sent for name in METRICS)
    made: Any = wandb_dashboards.report("me", "grbench", ["all_beauty"])
    report = made._to_model()
    assert report.model_dump_json(by_alias=True).count("panel-grid") == len(grids(defined)) - 1


def test_the_command_prints_them(capsys: pytest.CaptureFixture[str], defined: Any) -> None:
    assert main(["dashboards", "--dry-run", "--corpora", "all_beauty", "planted"]) == 0
    assert json.loads(capsys.readouterr().out) == defined


def test_saving_needs_an_entity(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboards"]) == 2
    assert capsys.readouterr().err.startswith("error: saving dashboards needs --entity")


def test_saving_needs_a_login(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert main(["dashboards", "--entity", "me"]) == 2
    assert "error: the dashboards of me/grbench were not saved: No API key configured" in capfd.readouterr().err


def test_what_is_saved_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from wandb_workspaces.reports.v2.interface import Report
    from wandb_workspaces.workspaces import Workspace

    saved: list[object] = []
    for kind in (Workspace, Report):
        monkeypatch.setattr(kind, "save", lambda self: saved.append(self))
        monkeypatch.setattr(kind, "url", property(lambda self: f"https://server/{type(self).__name__}"))
    assert main(["dashboards", "--entity", "me", "--project", "mine"]) == 0
    assert [type(each).__name__ for each in saved] == ["Workspace", "Report"]
    assert all((each.entity, each.project) == ("me", "mine") for each in saved)  # type: ignore[attr-defined]
    assert capsys.readouterr().out == "https://server/Workspace\nhttps://server/Report\n"
