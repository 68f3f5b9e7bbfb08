"""A row's model to ask: `from grbench import load`. The command `grbench` has those of all packages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grbench.served import Recommendation, Served, load

__all__ = ["Recommendation", "Served", "load"]


def __getattr__(name: str) -> Any:
    """Loaded when it is asked for: the command's help does not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from grbench import served

    return getattr(served, name)
