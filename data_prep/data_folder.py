"""The user's folder of data, which the environment variable GRBENCH_DATA names."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "GRBENCH_DATA"


def data_folder() -> Path | None:
    """The folder as an absolute path; None where the variable is not set.

    Raises:
        FileNotFoundError: it names no folder.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    folder = Path(named).resolve()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{VARIABLE} is {named}, which is no folder; expected one that holds data, or none named"
        )
    return folder


def beside_sequences(folder: Path, name: str) -> Path:
    """The file `name`, in any case of letters, among the folder's sequences.

    Raises:
        FileNotFoundError: there is none.
    """
    for file in sorted((folder / "sequences").glob("*")):
        if file.name.lower() == name.lower():
            return file
    raise FileNotFoundError(f"{folder}/sequences has no {name.lower()} in any case of letters; expected one, or a path")
