"""The loss's pair: both sides have the same loss and gradients to find, or there is no pair."""

from __future__ import annotations

import pytest
from torch import Tensor

from benchmarks.perf import loss as loss_module
from benchmarks.perf.loss import all_logits, loss_cpu


def test_it_is_timed_in_both_formats() -> None:
    found = loss_cpu(positions=30, items=200)
    assert [one.name for one in found] == ["loss_cpu", "loss_cpu_32"]
    for one, number in zip(found, ("bf16", "float32"), strict=True):
        assert one.unit == "s"
        assert min(one.ours, one.baseline) > 0
        assert f"{number}, 30 positions and 200 items" in one.note


def test_sides_that_disagree_make_no_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(states: Tensor, catalogue: Tensor, target: Tensor) -> Tensor:
        return all_logits(states, catalogue, (target + 1) % len(catalogue))

    monkeypatch.setattr(loss_module, "all_logits", other)
    with pytest.raises(ValueError, match=r"the losses are .*; expected the same"):
        loss_cpu(positions=30, items=200)
