"""DIN by hand, and who learns from its loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.parts.din import Din, ItemVectors, alignment

ITEMS, WIDTH = 12, 8
HISTORY = torch.tensor([[1, 0, 0], [5, 3, 11], [9, 9, 0]])
TARGET = torch.tensor([7, 1, 3])


@pytest.fixture
def items() -> ItemVectors:
    torch.manual_seed(0)
    return ItemVectors(torch.cat([torch.zeros(1, 6), torch.randn(ITEMS, 6)]), WIDTH)


@pytest.fixture
def din() -> Din:
    torch.manual_seed(1)
    return Din(WIDTH)


def test_an_items_vector_is_its_content_and_its_own(items: ItemVectors) -> None:
    item = torch.tensor([3, 1])
    raw = items.content[item] @ items.project.weight.T + items.own.weight[item]
    expected = F.layer_norm(raw, (WIDTH,), items.norm.weight, items.norm.bias)
    torch.testing.assert_close(items(item), expected)


def mlp(layers: Any, x: np.ndarray) -> np.ndarray:
    for layer in layers:
        linear = isinstance(layer, torch.nn.Linear)
        x = layer.weight.detach().numpy() @ x + layer.bias.detach().numpy() if linear else np.maximum(x, 0)
    return x


def by_hand(items: ItemVectors, din: Din, past: list[int], item: int) -> float:
    vectors = items(torch.arange(ITEMS + 1)).detach().numpy()
    x, pooled = vectors[item], np.zeros(WIDTH)
    for other in past:
        h = vectors[other]
        pooled = pooled + mlp(din.attention, np.concatenate([h, x, h - x, h * x])) * h
    return float(mlp(din.head, np.concatenate([pooled, x, pooled * x]))[0])


def test_the_loss_is_binary_cross_entropy_against_negatives(
    items: ItemVectors, din: Din, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A negative that is the target by chance counts as a target."""
    monkeypatch.setattr(torch, "randint", lambda *given, **options: torch.tensor([[7, 2, 4]] * 3))
    found = alignment(din, items, HISTORY, TARGET, 3).item()
    total = 0.0
    for row, target in zip(HISTORY.tolist(), TARGET.tolist(), strict=True):
        for item in (target, 7, 2, 4):
            logit = by_hand(items, din, [other for other in row if other], item)
            total += np.logaddexp(0, -logit if item == target else logit)
    assert found == pytest.approx(total / 12, rel=1e-4)


def test_negatives_are_any_items_and_no_padding(items: ItemVectors, din: Din, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, whole = list[torch.Tensor](), ItemVectors.forward

    def counted(self: ItemVectors, item: torch.Tensor) -> torch.Tensor:
        seen.append(item)
        return whole(self, item)

    monkeypatch.setattr(ItemVectors, "forward", counted)
    for _ in range(20):
        alignment(din, items, HISTORY, TARGET, 5)
    candidates = torch.cat(seen[1::2])
    assert torch.equal(candidates[:3, 0], TARGET)
    assert set(candidates[:, 1:].flatten().tolist()) == set(range(1, ITEMS + 1))


def test_candidates_learn_and_the_history_does_not(
    items: ItemVectors, din: Din, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "randint", lambda *given, **options: torch.full((3, 2), 8))
    alignment(din, items, HISTORY, TARGET, 2).backward()
    gradient = items.own.weight.grad
    assert gradient is not None
    assert gradient.abs().sum(1).nonzero().flatten().tolist() == [1, 3, 7, 8], "5, 9 and 11 are in histories alone"
    learn = (items.project.weight, items.norm.weight, *din.parameters())
    assert all(weight.grad is not None and weight.grad.any() for weight in learn)
