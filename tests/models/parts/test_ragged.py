"""Networks on rows of several lengths: the states that one padded pass gives, and less work."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.parts import ragged
from models.parts.ragged import packing, trimmed

LENGTHS = torch.tensor([5, 1, 9, 2, 2, 7, 1])


def running(x: Tensor) -> Tensor:
    """A causal network: a state is the square of the sum so far."""
    return x.cumsum(1).square()


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 32])
def test_states_and_gradients_are_those_of_one_pass(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ragged, "ROWS", rows)
    x = torch.randn(7, 11, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    inside = torch.arange(11) < LENGTHS[:, None]
    ours, whole = trimmed(running, LENGTHS, x), running(x)
    assert ours.shape == whole.shape
    assert torch.equal(ours[inside], whole[inside])
    assert not ours[:, 9:].any()
    gradients = [torch.autograd.grad((states * inside[..., None]).sum(), x)[0] for states in (ours, whole)]
    torch.testing.assert_close(*gradients)


def test_rows_are_computed_with_those_of_similar_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ragged, "ROWS", 3)
    seen = []

    def network(x: Tensor, y: Tensor) -> Tensor:
        assert torch.equal(x[..., 0], y)
        seen.append(tuple(y.shape))
        return x

    x = torch.randn(7, 11, 2)
    trimmed(network, LENGTHS, x, x[..., 0])
    assert seen == [(3, 2), (3, 7), (1, 9)]


def test_elsewhere_all_go_at_once() -> None:
    """A meta tensor has no values, so nothing is asked of the device."""
    seen = []

    def network(x: Tensor) -> Tensor:
        seen.append(tuple(x.shape))
        return x

    trimmed(network, LENGTHS.to("meta"), torch.zeros(7, 11, 2, device="meta"))
    assert seen == [(7, 11, 2)]


def test_packing_wastes_little_and_mixes_nothing() -> None:
    """By hand: rows of 9 hold 9; 7 and 2; 5, 2, 1 and 1."""
    mask = torch.arange(11) < LENGTHS[:, None]
    packed = packing(mask)
    assert packed.owner.tolist() == [
        [3, 3, 3, 3, 3, 3, 3, 3, 3],
        [6, 6, 6, 6, 6, 6, 6, 4, 4],
        [1, 1, 1, 1, 1, 5, 5, 2, 7],
    ]
    allowed = packed.allowed
    assert allowed.shape == (3, 9, 9)
    assert allowed[2, 6].tolist() == [False] * 5 + [True] * 2 + [False] * 2


@pytest.mark.parametrize("seed", range(5))
def test_unpacked_is_what_was_packed(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    length = torch.randint(1, 12, (40,), generator=generator)
    mask = torch.arange(14) < length[:, None]
    x = torch.randn(40, 14, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    packed = packing(mask)
    rows = packed.pack(x)
    assert rows.shape[1] == length.max()
    assert len(rows) <= -(-int(length.sum()) // int(length.max())) + 2, "two rows of waste at most"
    assert torch.equal(packed.owner.flatten().bincount()[1:], length)
    assert not rows[packed.owner == 0].any()
    back = packed.unpack(rows, 40)
    assert torch.equal(back[mask], x[mask])
    assert not back[~mask].any()
    upstream = torch.randn(back.shape, dtype=torch.float64, generator=generator)
    (gradient,) = torch.autograd.grad(back, x, upstream)
    assert torch.equal(gradient, upstream * mask[..., None])
