"""The example notebook: executed as it stands, in order and without an error, by code that there is."""

from __future__ import annotations

import ast
import builtins
import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs/example.ipynb"
CELLS: list[dict[str, Any]] = json.loads(NOTEBOOK.read_bytes())["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]
NAMES = [cell["id"] for cell in CODE]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def said(output: dict[str, Any]) -> str:
    """The text of an output, of whatever kind."""
    data = output.get("data", {})
    return "".join(output.get("text", [])) + "".join(
        "".join(data.get(kind, [])) for kind in ("text/plain", "text/html")
    )


def test_it_was_executed_once_from_the_first_cell_to_the_last() -> None:
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))


@pytest.mark.parametrize("cell", CODE, ids=NAMES)
def test_a_cell_has_outputs_and_no_error(cell: dict[str, Any]) -> None:
    assert cell["outputs"]
    assert all(output["output_type"] != "error" for output in cell["outputs"])
    text = "".join(map(said, cell["outputs"]))
    assert "error: " not in text
    # What the command would say in place of an error of its own is its status.
    assert not re.search(r"^[12]$", text, flags=re.M)


@pytest.mark.parametrize("cell", CODE, ids=NAMES)
def test_what_a_cell_imports_is_there(cell: dict[str, Any]) -> None:
    for node in ast.walk(ast.parse(source(cell))):
        match node:
            case ast.Import():
                assert all(importlib.import_module(alias.name) for alias in node.names)
            case ast.ImportFrom(module=str(module)):
                loaded = importlib.import_module(module)
                missing = [alias.name for alias in node.names if not hasattr(loaded, alias.name)]
                assert all(importlib.import_module(f"{module}.{name}") for name in missing)


def test_a_name_is_bound_before_it_is_used() -> None:
    """A cell that was edited after the notebook had run is found here, not by its reader."""
    bound = set(dir(builtins))
    for cell in CODE:
        nodes = list(ast.walk(ast.parse(source(cell))))
        bound |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        bound |= {
            (alias.asname or alias.name).split(".")[0]
            for node in nodes
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        assert used <= bound, cell["id"]


def test_it_shows_what_its_headings_promise() -> None:
    shown = {cell["id"]: "".join(map(said, cell["outputs"])) for cell in CODE}
    assert re.search(r"tiger +[0-9a-f]{12} +0\.\d{4}", shown["train-models"])
    assert re.search(r"95% interval: -?0\.\d{4} to 0\.\d{4}, p = ", shown["compare"])
    assert "certified" in shown["recommend"]
    assert re.search(r"\d+ \d+ \d+", shown["read-codes"])
    (plot,) = [cell for cell in CODE if cell["id"] == "plot-slices"]
    assert any("image/png" in output.get("data", {}) for output in plot["outputs"])


def test_it_is_small_and_names_no_folder_of_the_machine_that_executed_it() -> None:
    assert NOTEBOOK.stat().st_size < 300_000
    text = "\n".join(said(output) for cell in CODE for output in cell["outputs"])
    assert re.findall(r"(?<![\w./<])/(?:[\w.-]+/)+", text) == []


def test_what_it_links_to_is_there() -> None:
    for cell in CELLS:
        for target in re.findall(r"\]\(([^)]+)\)", source(cell)):
            assert (NOTEBOOK.parent / target).is_file(), target
