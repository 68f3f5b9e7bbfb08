"""Executes the notebook beside it and writes it with its outputs; `make notebook` does, with nbclient and ipykernel."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().with_name("example.ipynb")


def main() -> None:
    """An error in a cell ends it and leaves the file as it is; so does an output that names a folder of here."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    told = dict(notebook.metadata)
    folder = {"metadata": {"path": str(NOTEBOOK.parent)}}
    # Of tqdm, which would draw its bars with another package; no bar is drawn.
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"
    NotebookClient(notebook, timeout=None, record_timing=False, coalesce_streams=True, resources=folder).execute()
    # Without the version of Python, which the next one who executes it need not have.
    notebook.metadata = nbformat.from_dict(told)
    text = nbformat.writes(notebook)
    for place in (NOTEBOOK.parents[1], sys.prefix, Path.home()):
        if told_of := [line.strip() for line in text.splitlines() if f"{place}/" in line]:
            sys.exit(f"error: an output names a folder of this machine: {told_of[0]}")
    NOTEBOOK.write_text(f"{text}\n")


if __name__ == "__main__":
    main()
