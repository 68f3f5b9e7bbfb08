"""The filters' pairs: both sides have the same states to find, or there is no pair."""

from __future__ import annotations

import pytest
from torch import Tensor

from benchmarks.perf import filters
from models.caser import Caser


def test_both_are_timed() -> None:
    found = filters.filters_cpu(prefixes=30)
    assert [one.name for one in found] == ["fourier_cpu", "convolutions_cpu"]
    for one in found:
        assert one.unit == "s"
        assert min(one.ours, one.baseline) > 0
        assert "30 " in one.note


def test_sides_that_disagree_make_no_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    right = filters.by_height

    def other(model: Caser, history: Tensor) -> Tensor:
        return right(model, history.flip(0))

    monkeypatch.setattr(filters, "by_height", other)
    with pytest.raises(ValueError, match="the states of convolutions_cpu are not those of the other side"):
        filters.filters_cpu(prefixes=30)
