"""Raw reviews -> a Corpus. `load(name)` gives one, `names()` says which there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_prep.amazon2023 import names
    from data_prep.prepare import load

__all__ = ["load", "names"]


def __getattr__(name: str) -> Any:
    # Imported when asked for: `load` needs torch, which a command line that only prints names should not wait for.
    if name == "names":
        from data_prep.amazon2023 import names

        return names
    if name == "load":
        from data_prep.prepare import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
