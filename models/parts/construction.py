"""What a module was made from, kept with it: who has that and the weights makes it again, without any corpus."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

from torch import nn

F = TypeVar("F", bound=Callable[..., Any])
M = TypeVar("M", bound=type[nn.Module])

CONSTRUCTOR = "__init__"


class Step(NamedTuple):
    """A call that made a module what it is.

    Attributes:
        method: its constructor, or what began a later stage of it.
        arguments: by name, defaults among them.
    """

    method: str
    arguments: dict[str, Any]


def remembered(method: F) -> F:
    """A method whose calls are steps of its module's construction."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        result = method(self, *args, **kwargs)
        # A constructor has called what is beneath it, another constructor or a stage, and will call it again.
        earlier = () if method.__name__ == CONSTRUCTOR else self.__dict__.get("_steps", ())
        # Not through torch, which would register modules among the arguments.
        self.__dict__["_steps"] = (*earlier, Step(method.__name__, _by_name(bound)))
        return result

    vars(call)["remembered"] = True
    return cast("F", call)


def _by_name(bound: inspect.BoundArguments) -> dict[str, Any]:
    """What a method was given beside its module; those of `**kwargs` under their own names."""
    _, *given = bound.arguments.items()
    arguments = dict(given)
    for name, parameter in bound.signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments |= arguments.pop(name)
        elif parameter.kind is parameter.VAR_POSITIONAL and not arguments[name]:
            del arguments[name]
    return arguments


def remembers_construction(kind: M) -> M:
    """A class of modules whose constructor is `remembered`."""
    setattr(kind, CONSTRUCTOR, remembered(vars(kind).get(CONSTRUCTOR, kind.__init__)))
    return kind


def construction(module: nn.Module) -> tuple[Step, ...]:
    """The steps that made a module, its constructor first.

    Raises:
        ValueError: its class is not of those that remember them.
    """
    steps: tuple[Step, ...] = module.__dict__.get("_steps", ())
    if not steps:
        raise ValueError(
            f"what a {type(module).__name__} was made from is not known; expected @remembers_construction on its class"
        )
    return steps
