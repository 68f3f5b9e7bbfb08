"""T5's blocks in few passes: gradients by finite differences, transformers' blocks, and dropout by its
formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import T5Config, T5Model

from models.parts import blocks
from models.parts.blocks import feed_forward, normed, position_bias, self_attention
from models.parts.dropout import Kept, kept
from tests.factories import shaken

WIDTH, PLACES, HEADS = 8, 5, 2
ALLOWED = torch.tensor([[1, 1, 2, 2, 2], [1, 1, 1, 1, 0]])
ALLOWED = ALLOWED[:, :, None] == ALLOWED[:, None]
MASK = torch.zeros(ALLOWED.shape, dtype=torch.float64).masked_fill(~ALLOWED, -torch.inf)[:, None]


@pytest.fixture
def block() -> Any:
    torch.manual_seed(0)
    config = T5Config(vocab_size=3, d_model=WIDTH, d_kv=3, d_ff=12, num_layers=1, num_heads=HEADS, dropout_rate=0.0)
    made: Any = T5Model(config).double().encoder.block[0]
    return shaken(made)


def near(one: Tensor, two: Tensor) -> None:
    """The library's norm is float32 inside."""
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


def stream() -> Tensor:
    return torch.randn(len(ALLOWED), PLACES, WIDTH, dtype=torch.float64, requires_grad=True)


def attention(block: Any, x: Tensor, dropout: float) -> Tensor:
    return self_attention(block.layer[0], x, position_bias(block.layer[0].SelfAttention, ALLOWED), dropout)


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_are_those_of_finite_differences(block: Any, dropout: float) -> None:
    dense = block.layer[1]

    def both(x: Tensor, *_: Tensor) -> Tensor:
        torch.manual_seed(1)  # the same masks every time
        return attention(block, x, dropout) + feed_forward(dense, x, dropout)

    weights = [weight for weight in block.parameters() if weight.requires_grad]
    assert len(weights) == 9
    assert torch.autograd.gradcheck(both, (stream(), *weights))


def test_without_dropout_they_are_the_librarys(block: Any) -> None:
    x = stream()
    theirs = block.layer[0](x, attention_mask=MASK)[0]
    near(x + attention(block, x, 0.0), theirs)
    near(x + feed_forward(block.layer[1], x, 0.0), block.layer[1](x))
    near(normed(block.layer[1].layer_norm, x), block.layer[1].layer_norm(x))


def test_dropout_is_of_weights_and_hidden_values(block: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The formula, with the masks that were drawn, scaled."""
    x, drawn = stream(), []

    def noted(*arguments: Any) -> Kept:
        drawn.append(kept(*arguments))
        return drawn[-1]

    monkeypatch.setattr(blocks, "kept", noted)
    attended, fed = attention(block, x, 0.25), feed_forward(block.layer[1], x, 0.25)
    layer = block.layer[0].SelfAttention
    q, k, v = (
        part(block.layer[0].layer_norm(x)).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        for part in (layer.q, layer.k, layer.v)
    )
    weight = (q @ k.mT + layer.compute_bias(PLACES, PLACES) + MASK).softmax(-1)
    read = (weight * factors(drawn[0], weight)) @ v
    near(attended, layer.o(read.transpose(1, 2).flatten(2)))
    dense = block.layer[1].DenseReluDense
    hidden = F.relu(dense.wi(block.layer[1].layer_norm(x)))
    near(fed, dense.wo(hidden * factors(drawn[1], hidden)))


def factors(drawn: Kept, like: Tensor) -> Tensor:
    assert drawn.mask is not None
    assert 0 < int(drawn.mask.sum()) < drawn.mask.numel()
    assert drawn.scale == pytest.approx(4 / 3)
    return drawn.mask.view(like.shape) * drawn.scale


def test_products_take_the_format_of_autocast_and_the_stream_does_not(block: Any) -> None:
    x = stream().detach().float()
    block.float()
    exact = attention(block, x, 0.0) + feed_forward(block.layer[1], x, 0.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert normed(block.layer[0].layer_norm, x).dtype == torch.bfloat16
        near = attention(block, x, 0.0) + feed_forward(block.layer[1], x, 0.0)
    assert near.dtype == torch.bfloat16
    assert (x + near).dtype == torch.float32
    assert 0 < float((near - exact).detach().norm() / exact.norm()) < 0.02
