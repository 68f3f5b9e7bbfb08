"""What a module was made from, in whatever way its constructor takes it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.api import Ranking, Recommender
from models.parts.construction import Step, construction, remembered, remembers_construction


@remembers_construction
class Sized(nn.Module):
    def __init__(self, width: int, *more: int, rate: float = 0.5, **others: Any) -> None:
        super().__init__()

    @remembered
    def grow(self, by: int = 1) -> None:
        """A later stage."""


@remembers_construction
class Grown(Sized):
    def __init__(self, width: int) -> None:
        super().__init__(width, rate=0.1)
        self.grow(2)


class Plain(Recommender):
    """Without a constructor."""

    def rank(self, history: Tensor, k: int) -> Ranking:
        every = torch.arange(1, k + 1).expand(len(history), -1)
        return Ranking(every, -every.float(), torch.ones(len(history), dtype=torch.bool))


def test_defaults_and_stages() -> None:
    module = Sized(3)
    module.grow()
    assert construction(module) == (Step("__init__", {"width": 3, "rate": 0.5}), Step("grow", {"by": 1}))


def test_keywords_stand_under_their_own_names() -> None:
    assert construction(Sized(3, rate=0.1, depth=2)) == (Step("__init__", {"width": 3, "rate": 0.1, "depth": 2}),)


def test_a_constructor_calls_what_is_beneath_it_itself() -> None:
    assert construction(Grown(3)) == (Step("__init__", {"width": 3}),)


def test_a_model_needs_no_constructor() -> None:
    assert construction(Plain()) == (Step("__init__", {}),)


def test_who_does_not_remember_is_told() -> None:
    with pytest.raises(ValueError, match="what a Linear was made from is not known"):
        construction(nn.Linear(1, 1))
