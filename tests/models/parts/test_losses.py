"""The blocked softmax over a catalogue against torch's own, in value and in both gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.parts import losses
from models.parts.losses import catalogue_cross_entropy

ROWS, ITEMS, WIDTH = 13, 7, 4


def inputs(scale: float = 1.0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(ROWS, WIDTH, generator=generator, dtype=dtype) * scale
    items = torch.randn(ITEMS, WIDTH, generator=generator, dtype=dtype)
    target = torch.randint(0, ITEMS, (ROWS,), generator=generator)
    return states.requires_grad_(), items.requires_grad_(), target


def gradients(loss: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, tensors)


@pytest.mark.parametrize("block", [1, 4, 5, 13, 100])
@pytest.mark.parametrize("upstream", [1.0, -2.5])
def test_equals_torch(block: int, upstream: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "LOGITS", block * ITEMS)
    states, items, target = inputs(dtype=torch.float64)
    ours = catalogue_cross_entropy(states, items, target)
    torchs = F.cross_entropy(states @ items.T, target)
    torch.testing.assert_close(ours, torchs)
    expected = gradients(upstream * torchs, states, items)
    for found, wanted in zip(gradients(upstream * ours, states, items), expected, strict=True):
        assert float(wanted.abs().max()) > 0.01
        torch.testing.assert_close(found, wanted)


def test_a_catalogue_larger_than_a_block_goes_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    states, items, target = inputs()
    whole = catalogue_cross_entropy(states, items, target)
    monkeypatch.setattr(losses, "LOGITS", ITEMS // 2)
    torch.testing.assert_close(catalogue_cross_entropy(states, items, target), whole)


@pytest.mark.parametrize("scale", [1e2, 1e5, 1e15])
def test_extreme_logits(scale: float) -> None:
    states, items, target = inputs(scale)
    ours, torchs = catalogue_cross_entropy(states, items, target), F.cross_entropy(states @ items.T, target)
    torch.testing.assert_close(ours, torchs)
    found, expected = gradients(ours, states, items), gradients(torchs, states, items)
    for ours_grad, torchs_grad in zip(found, expected, strict=True):
        assert ours_grad.isfinite().all()
        torch.testing.assert_close(ours_grad, torchs_grad)


def test_a_certain_target_costs_nothing() -> None:
    loss = catalogue_cross_entropy(torch.tensor([[1e4]]), torch.tensor([[1.0], [0.0], [-1.0]]), torch.tensor([0]))
    assert float(loss) == 0.0
