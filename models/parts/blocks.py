"""T5's blocks with transformers' weights and results, in fewer passes over memory.

Beside matrix products a step spends its time on what lies between them. So the functions here have their gradients
written out: RMS norm in half the passes, attention with one copy of queries, keys and values, dropout without a tensor
of factors. Products take autocast's format, the residual stream stays float32. Tests hold them to the library's blocks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from models.parts.dropout import kept, zero_
from models.parts.precision import product_format


class Bias(NamedTuple):
    """Position bias and mask, which are added to attention scores.

    Attributes:
        learned: by relative position.
        masked: the same for each of R rows, or one for all, in the format of scores; -inf where not allowed.
    """

    learned: Float[Tensor, "1 H W W"]
    masked: Float[Tensor, "R H W W"]


def position_bias(attention: Any, allowed: Bool[Tensor, "R W W"]) -> Bias:
    """The bias of T5's first block, which all others share; `allowed`: who may attend to whom."""
    width = allowed.shape[-1]
    learned = attention.compute_bias(width, width)
    return Bias(learned, learned.to(product_format(learned)).masked_fill(~allowed[:, None], -torch.inf))


def self_attention(layer: Any, x: Float[Tensor, "R W D"], bias: Bias, dropout: float) -> Float[Tensor, "R W D"]:
    """Output of a `T5LayerSelfAttention` before its residual connection. `dropout`: of the attention weights."""
    attention = layer.SelfAttention
    # One product instead of three.
    weight = torch.cat([attention.q.weight, attention.k.weight, attention.v.weight])
    read = _attend(F.linear(normed(layer.layer_norm, x), weight), bias, dropout)
    return F.linear(read.values, attention.o.weight * read.scale)


def feed_forward(layer: Any, x: Float[Tensor, "R W D"], dropout: float) -> Float[Tensor, "R W D"]:
    """Output of a `T5LayerFF` before its residual connection. `dropout`: of the hidden layer."""
    dense = layer.DenseReluDense
    hidden = _relu_dropout(dense.wi(normed(layer.layer_norm, x)), dropout)
    return F.linear(hidden.values, dense.wo.weight * hidden.scale)


def normed(norm: Any, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
    """Output of a `T5LayerNorm`, in the format of the matrix product that comes next."""
    made: Tensor = _RmsNorm.apply(x, norm.weight, norm.variance_epsilon, product_format(x))  # type: ignore[no-untyped-call]
    return made


class _Dropped(NamedTuple):
    """Values with zeros where they were dropped, and the factor by which the others are still to be scaled: that is
    done to the weights of the product they go into, which are fewer."""

    values: Tensor
    scale: float


def _relu_dropout(x: Float[Tensor, "... D"], dropout: float) -> _Dropped:
    """ReLU, then dropout; overwrites `x`."""
    keep = kept(x.shape, dropout, x.device)
    return _Dropped(_ReluDropout.apply(x, keep.mask), keep.scale)  # type: ignore[no-untyped-call]


def _attend(qkv: Float[Tensor, "R W C"], bias: Bias, dropout: float) -> _Dropped:
    """Attention outputs, `[R, W, H * d]`. T5 does not scale scores."""
    rows, width, heads = *qkv.shape[:2], bias.learned.shape[1]
    if qkv.is_cpu:
        # The library's fused kernel has no dropout there.
        keep = kept((rows * heads, width, width), dropout, qkv.device)
        return _Dropped(_Attention.apply(qkv, *bias, keep.mask), keep.scale)  # type: ignore[no-untyped-call]
    query, key, value = qkv.view(rows, width, 3, heads, -1).permute(2, 0, 3, 1, 4)
    read = F.scaled_dot_product_attention(query, key, value, bias.masked, dropout, scale=1.0)
    return _Dropped(read.transpose(1, 2).flatten(2), 1.0)


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        mean = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1])
        inverse = mean.add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return (x * inverse).mul_(weight).to(dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, weight, inverse = ctx.saved_tensors
        unit, grad = x * inverse, grad.to(x.dtype)
        grad_weight = (grad * unit).flatten(0, -2).sum(0)
        grad = grad * weight
        along = (grad * unit).mean(-1, keepdim=True)
        return torch.addcmul(grad, unit, along, value=-1).mul_(inverse), grad_weight, None, None


class _ReluDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: Tensor | None) -> Tensor:
        made = zero_(x.clamp_min_(0), keep)
        ctx.mark_dirty(made)
        ctx.save_for_backward(made)
        return made

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        # What was dropped is 0 as well.
        return torch.ops.aten.threshold_backward(grad, *ctx.saved_tensors, 0), None


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, learned: Tensor, masked: Tensor, keep: Tensor | None) -> Tensor:
        rows, width, heads = *qkv.shape[:2], learned.shape[1]
        heads_first = qkv.view(rows, width, 3, heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = heads_first.contiguous().flatten(1, 2)
        scores = torch.baddbmm(masked.expand(rows, -1, -1, -1).flatten(0, 1), query, key.mT)
        share = scores.softmax(-1)
        weight = share if keep is None else zero_(share.clone(), keep)
        ctx.save_for_backward(query, key, value, share, weight, keep)
        ctx.heads = heads
        return _merged((weight @ value)[None], heads)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        query, key, value, share, weight, keep = ctx.saved_tensors
        rows, width = grad.shape[:2]
        grad = grad.view(rows, width, ctx.heads, -1).transpose(1, 2).flatten(0, 1)
        grad_qkv = query.new_empty(3, *query.shape)
        torch.bmm(weight.mT, grad, out=grad_qkv[2])
        grad_share = zero_(grad @ value.mT, keep)
        grad_scores = torch.ops.aten._softmax_backward_data(grad_share, share, -1, share.dtype)
        torch.bmm(grad_scores, key, out=grad_qkv[0])
        torch.bmm(grad_scores.mT, query, out=grad_qkv[1])
        # Of the bias before it was masked; `masked` itself is the same weights.
        grad_bias = grad_scores.view(rows, ctx.heads, width, width).sum(0, keepdim=True, dtype=torch.float32)
        return _merged(grad_qkv, ctx.heads), grad_bias, None, None


def _merged(parts: Float[Tensor, "n Q W d"], heads: int) -> Float[Tensor, "R W C"]:
    return parts.unflatten(1, (-1, heads)).permute(1, 3, 0, 2, 4).flatten(2)
